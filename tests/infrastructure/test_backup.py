"""The commands of docs/operations.md that back up and restore, run as they stand there."""

import asyncio
import os
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest

from sms_foundation.core.config import Settings
from sms_foundation.core.db import DatabaseUrl, parse_database_url
from sms_foundation.core.ids import new_id
from sms_foundation.core.local_postgres_binaries import find_binaries
from sms_foundation.migrations.state import head_revision
from tests.support import postgres
from tests.support.processes import Processes
from tests.support.service import TENANT_PHONE, Service, make_settings

OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"


@pytest.fixture
def settings() -> Settings:
    """Nothing changes while the copy is made."""
    return make_settings(work_in_process=False)


def commands() -> str:
    """Return the block of the chapter on backups."""
    chapter = OPERATIONS.read_text().partition("## Backup and restore")[2].partition("\n## ")[0]
    found = re.search(r"```sh\n(.*?)```", chapter, re.DOTALL)
    assert found
    return found[1]


def _version(program: Path) -> int:
    """Return the major version of one of PostgreSQL's programs."""
    told = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"(\d+)[.\w]* *(?:\(.*\))?$", told.strip())
    assert found, told
    return int(found[1])


def programs_for(server: int) -> Path:
    """Return a folder with `pg_dump`, `pg_restore` and `psql` for a server of this version; skips without one."""
    named = shutil.which("pg_dump")
    folders = [find_binaries(major=None, account=None, only=None), *Path("/usr/lib/postgresql").glob("*/bin")]
    for folder in [*folders, *([] if named is None else [Path(named).parent])]:
        is_whole = all((folder / name).exists() for name in ("pg_dump", "pg_restore", "psql"))
        if is_whole and _version(folder / "pg_dump") == server:
            return folder
    pytest.skip(f"no pg_dump of version {server}, the server's, is installed here")


@pytest.fixture
async def restored_url(postgres_server: str) -> AsyncIterator[DatabaseUrl]:
    """A database without anything, not even the schema."""
    name = f"sms_restored_{new_id().hex}"
    connection = await asyncpg.connect(postgres_server)
    await connection.execute(f'CREATE DATABASE "{name}"')
    await connection.close()
    url = parse_database_url(postgres.database_named(postgres_server, name))
    yield url
    await postgres.drop(postgres_server, url)


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    processes = Processes(tmp_path)
    yield processes
    processes.end()


async def rows(url: DatabaseUrl) -> dict[str, list[str]]:
    """Return every row of every table."""
    connection = await asyncpg.connect(url.dsn)
    tables = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")
    found = {
        name: sorted(row[0] for row in await connection.fetch(f'SELECT t::text FROM "{name}" AS t'))
        for (name,) in tables
    }
    await connection.close()
    return found


class TestBackup:
    async def test_is_restored_into_a_new_database_on_which_the_service_starts(
        self, service: Service, restored_url: DatabaseUrl, processes: Processes, tmp_path: Path
    ) -> None:
        url = service.database.url
        folder = programs_for(int(await service.database.pool.fetchval("SHOW server_version_num")) // 10_000)
        await service.text("SM1", "is it all there?")
        await service.client.post("/v1/sms/send", json={"to": TENANT_PHONE, "message": "it is"})
        await service.database.pool.execute("INSERT INTO rate_cells (key, tat) VALUES ('number:x', now())")
        scripts = Path(sys.executable).parent
        result = await asyncio.to_thread(
            subprocess.run,
            ["sh", "-e", "-c", commands()],
            cwd=tmp_path,
            env={
                **os.environ,
                "PATH": f"{folder}:{scripts}:{os.defpath}",
                "DATABASE_URL": url.dsn,
                "RESTORED_URL": restored_url.dsn,
            },
            capture_output=True,
            text=True,
            check=False,
        )

        assert result.returncode == 0, result.stderr
        assert f"is at {head_revision()}" in result.stdout
        before, after = await rows(url), await rows(restored_url)
        assert before.pop("rate_cells") != []
        assert after.pop("rate_cells") == []
        assert after == before
        assert len(after["sms_messages"]) == 2
        restored = processes.serve(DATABASE_URL=restored_url.dsn, APP_ENV="local", WORK_IN_PROCESS="false")
        await restored.until_ready()
        assert (await restored.conversation(TENANT_PHONE))["message_count"] == 2
