"""Which PostgreSQL the tests run on, and a fresh database for each test.

TEST_DATABASE_URL or DATABASE_URL names a server; otherwise a Docker engine that answers lends one; otherwise it is the
embedded one, without fsync. In all cases the schema is made by the migrations, once, and cloned.
"""

import asyncio
import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
from testcontainers.community.postgres import PostgresContainer

from sms_foundation.core.config import Settings
from sms_foundation.core.db import DatabaseUrl, parse_database_url
from sms_foundation.core.ids import new_id
from sms_foundation.core.local_postgres import LocalPostgres
from sms_foundation.migrations import runner
from sms_foundation.migrations.state import FOLDER

NAMED_SERVER = os.environ.get("TEST_DATABASE_URL") or os.environ.get("DATABASE_URL")


@contextmanager
def lend_server(folder: Path) -> Iterator[str]:
    """Yield the URL of a server that all test processes share; `folder` is common to them."""
    if NAMED_SERVER:
        yield parse_database_url(NAMED_SERVER).dsn
    elif _docker_answers():
        with PostgresContainer("postgres:15", driver=None) as container:
            yield container.get_connection_url()
    else:
        with LocalPostgres(folder / "postgres", fast=True) as server:
            yield server.url


def _docker_answers() -> bool:
    if os.environ.get("TEST_WITHOUT_DOCKER") or shutil.which("docker") is None:
        return False
    try:
        return subprocess.run(["docker", "info"], capture_output=True, timeout=10, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def database_named(server: str, name: str) -> str:
    """Return the server's URL with another database name."""
    return urlsplit(server)._replace(path=f"/{name}").geturl()


async def make_template(server: str) -> str:
    """Make the database that tests are cloned from, unless another process has; returns its name."""
    digest = hashlib.sha256()
    for path in sorted(FOLDER.glob("versions/*.py")):
        digest.update(path.read_bytes())
    name = f"sms_test_template_{digest.hexdigest()[:12]}"
    connection = await asyncpg.connect(server)
    try:
        await connection.execute(f'CREATE DATABASE "{name}"')
    except (asyncpg.DuplicateDatabaseError, asyncpg.UniqueViolationError):
        pass
    finally:
        await connection.close()
    await runner.upgrade(parse_database_url(database_named(server, name)))
    return name


async def clone(server: str, template: str) -> DatabaseUrl:
    """Make a new database with the schema and nothing in it."""
    name = f"sms_test_{new_id().hex}"
    connection = await asyncpg.connect(server)
    try:
        for _ in range(200):
            try:
                await connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
                break
            except asyncpg.ObjectInUseError:  # another process is still looking at the template
                await asyncio.sleep(0.05)
        else:
            raise RuntimeError("the template database stays in use")
    finally:
        await connection.close()
    return parse_database_url(database_named(server, name))


async def drop(server: str, url: DatabaseUrl) -> None:
    """Drop a test's database, whoever is still connected to it."""
    connection = await asyncpg.connect(server)
    try:
        await connection.execute(f'DROP DATABASE IF EXISTS "{urlsplit(url.dsn).path[1:]}" WITH (FORCE)')
    finally:
        await connection.close()


def forget_environment() -> None:
    """Unset every setting, so that what a developer has exported does not change what is tested."""
    for field in Settings.model_fields:
        os.environ.pop(field.upper(), None)
    for name in ("K_SERVICE", "CLOUD_RUN_JOB", "SMS_PG_BIN"):
        os.environ.pop(name, None)
