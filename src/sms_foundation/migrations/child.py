"""Migrating from a process that serves: in a child, so that Alembic and SQLAlchemy never burden the parent."""

import asyncio
import sys

from sms_foundation.core.config import child_environment
from sms_foundation.core.db import DatabaseUrl
from sms_foundation.core.errors import StartupError


async def migrate_in_child(url: DatabaseUrl) -> None:
    """Run `sms-foundation migrate` on `url`. Raises StartupError with the child's own last line."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "sms_foundation",
        "migrate",
        env=child_environment(DATABASE_URL=url.dsn),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    if process.returncode:
        lines = output.decode(errors="replace").strip().splitlines()
        raise StartupError(lines[-1].removeprefix("error: ") if lines else f"exit status {process.returncode}")
