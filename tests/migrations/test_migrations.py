"""The schema's history, on databases that begin empty."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from sms_foundation.core.db import DatabaseUrl, parse_database_url
from sms_foundation.core.errors import StartupError
from sms_foundation.migrations import runner
from sms_foundation.migrations.child import migrate_in_child
from sms_foundation.migrations.state import FOLDER, head_revision, schema_problem
from tests.support import postgres

ROOT = Path(__file__).parents[2]


@pytest.fixture
async def empty_url(postgres_server: str) -> AsyncIterator[DatabaseUrl]:
    url = await postgres.clone(postgres_server, "template1")
    yield url
    await postgres.drop(postgres_server, url)


@pytest.fixture
async def connection(empty_url: DatabaseUrl) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(empty_url.dsn)
    yield connection
    await connection.close()


async def tables(connection: asyncpg.Connection) -> set[str]:
    rows = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    return {row[0] for row in rows} - {"alembic_version"}


class TestUpgrade:
    async def test_ten_at_once_on_an_empty_database_make_one_schema(
        self, empty_url: DatabaseUrl, connection: asyncpg.Connection
    ) -> None:
        await asyncio.gather(*(runner.upgrade(empty_url) for _ in range(10)))

        assert await connection.fetch("SELECT version_num FROM alembic_version") == [(head_revision(),)]
        assert {"sms_messages", "sms_conversations", "sms_message_status_events", "work"} <= await tables(connection)

    async def test_processes_at_once_wait_for_each_other(self, empty_url: DatabaseUrl) -> None:
        await asyncio.gather(*(migrate_in_child(empty_url) for _ in range(3)))

    async def test_nothing_is_left_of_one_that_fails(
        self, empty_url: DatabaseUrl, connection: asyncpg.Connection
    ) -> None:
        await connection.execute("CREATE TABLE sms_messages (id int)")  # in the way of the last tables of the first one

        with pytest.raises(StartupError) as caught:
            await runner.upgrade(empty_url)

        text = str(caught.value)
        assert text.startswith(f"the database at {empty_url.safe_name} refuses the migrations: DuplicateTableError: ")
        assert "\n" not in text
        assert await tables(connection) == {"sms_messages"}
        assert await schema_problem(connection) == "the database is empty: run `sms-foundation migrate`"

    async def test_an_unreachable_database_is_one_clear_line(self, tmp_path: Path) -> None:
        url = parse_database_url(f"postgresql://u:secret@/sms?host={tmp_path}")

        with pytest.raises(
            StartupError, match=r"the database at .*/sms cannot be reached: FileNotFoundError"
        ) as caught:
            await runner.upgrade(url)

        assert "secret" not in str(caught.value)
        assert "\n" not in str(caught.value)


class TestMigrateTo:
    async def test_up_down_and_up_again(self, empty_url: DatabaseUrl, connection: asyncpg.Connection) -> None:
        await runner.upgrade(empty_url)
        made = await tables(connection)

        await runner.migrate_to(empty_url, revision="base")
        assert await tables(connection) == set()
        await runner.migrate_to(empty_url, revision="base")

        await runner.migrate_to(empty_url, revision=head_revision())
        assert await tables(connection) == made
        await runner.migrate_to(empty_url, revision="head")
        assert await runner.find_drift(empty_url) is None

    async def test_an_unknown_revision_is_one_clear_line(self, empty_url: DatabaseUrl) -> None:
        with pytest.raises(StartupError, match=r"^migrations: Can't locate revision identified by '9999'$"):
            await runner.migrate_to(empty_url, revision="9999")


class TestFindDrift:
    async def test_models_and_migrations_agree(self, empty_url: DatabaseUrl) -> None:
        await runner.upgrade(empty_url)

        assert await runner.find_drift(empty_url) is None

    @pytest.mark.parametrize(
        ("change", "trace"),
        [
            ("ALTER TABLE sms_conversations DROP COLUMN workflow_id", "workflow_id"),
            ("ALTER TABLE work ALTER COLUMN state SET DEFAULT 'dead'", "state"),
            ("DROP INDEX ix_work_due", "ix_work_due"),
        ],
    )
    async def test_a_difference_is_told(
        self, empty_url: DatabaseUrl, connection: asyncpg.Connection, change: str, trace: str
    ) -> None:
        await runner.upgrade(empty_url)
        await connection.execute(change)

        assert trace in (await runner.find_drift(empty_url) or "")

    async def test_the_plain_alembic_command_finds_none_either(self, empty_url: DatabaseUrl) -> None:
        await runner.upgrade(empty_url)
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-W", "error", "-m", "alembic", "check"),
            cwd=ROOT,
            env={**os.environ, "DATABASE_URL": empty_url.dsn},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        output, _ = await process.communicate()

        assert process.returncode == 0, output.decode()
        assert b"No new upgrade operations detected" in output


class TestSchemaProblem:
    async def test_an_empty_database_is_behind(self, connection: asyncpg.Connection) -> None:
        assert await schema_problem(connection) == "the database is empty: run `sms-foundation migrate`"

    async def test_an_older_schema_is_behind_and_a_current_or_newer_one_is_not(
        self, empty_url: DatabaseUrl, connection: asyncpg.Connection
    ) -> None:
        await runner.upgrade(empty_url)
        assert await schema_problem(connection) is None
        for revision, problem in (
            ("0000", f"the schema is at 0000, this version needs {head_revision()}: run `sms-foundation migrate`"),
            ("9999", None),
        ):
            await connection.execute("UPDATE alembic_version SET version_num = $1", revision)
            assert await schema_problem(connection) == problem

    async def test_a_schema_undone_to_nothing_is_empty(
        self, empty_url: DatabaseUrl, connection: asyncpg.Connection
    ) -> None:
        await runner.upgrade(empty_url)
        await runner.migrate_to(empty_url, revision="base")

        assert await schema_problem(connection) == "the database is empty: run `sms-foundation migrate`"


class TestMigrateInChild:
    async def test_passes_on_the_last_line_of_a_failure(self, tmp_path: Path) -> None:
        url = parse_database_url(f"postgresql://u:secret@/sms?host={tmp_path}")

        with pytest.raises(
            StartupError, match=r"^the database at .*/sms cannot be reached: FileNotFoundError"
        ) as caught:
            await migrate_in_child(url)

        assert "secret" not in str(caught.value)


class TestHistory:
    def test_is_one_line_of_numbers_each_with_a_lock_timeout(self) -> None:
        files = sorted(FOLDER.glob("versions/[0-9]*.py"))

        assert [path.name[:5] for path in files] == [f"{number:04d}_" for number in range(1, len(files) + 1)]
        for path in [*files, FOLDER / "script.py.mako"]:
            assert "lock_timeout" in path.read_text(), path.name


class TestServing:
    def test_loads_neither_alembic_nor_sqlalchemy(self) -> None:
        """They would cost a start half a second and 30 MiB."""
        code = (
            "import sys; import sms_foundation.app, sms_foundation.cli.serve, sms_foundation.cli.worker; "
            "print(sorted({name.partition('.')[0] for name in sys.modules} "
            "& {'alembic', 'sqlalchemy', 'twilio', 'httpx'}))"
        )
        output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

        assert output == "[]\n"
