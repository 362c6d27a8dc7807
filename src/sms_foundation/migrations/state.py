"""Is the schema the one this code needs? Answered without loading Alembic, so that serving starts fast."""

from pathlib import Path

from sms_foundation.core.db import Connection

FOLDER = Path(__file__).parent


def head_revision() -> str:
    """Return the newest revision, the number that its file name begins with."""
    return max(path.name.split("_", 1)[0] for path in FOLDER.glob("versions/[0-9]*.py"))


async def schema_problem(connection: Connection) -> str | None:
    """Return None when the schema is current or newer, else one line that says what to do.

    Newer is fine: while a release is rolled out, migrations come before the last old process goes.
    """
    revision: str | None = None
    if await connection.fetchval("SELECT to_regclass('alembic_version') IS NOT NULL"):
        revision = await connection.fetchval("SELECT max(version_num) FROM alembic_version")
    if revision is None:
        return "the database is empty: run `sms-foundation migrate`"
    if revision >= head_revision():
        return None
    return f"the schema is at {revision}, this version needs {head_revision()}: run `sms-foundation migrate`"
