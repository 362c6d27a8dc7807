"""Fixtures for everything: a real PostgreSQL, a database per test, and the service on top of it."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from sms_foundation.core.config import Settings
from sms_foundation.core.db import Database, DatabaseUrl
from tests.support import postgres
from tests.support.service import Service, make_settings, running_service

postgres.forget_environment()

# A shared machine may stop for a moment: what takes long is a matter for benchmarks, not for tests.
hypothesis_settings.register_profile(
    "default", deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
hypothesis_settings.load_profile("default")


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Iterator[str]:
    """URL of the server; embedded, it is shared by all test processes and stopped by the last."""
    base = tmp_path_factory.getbasetemp()
    with postgres.lend_server(base if worker_id == "master" else base.parent) as server:
        yield server


@pytest.fixture(scope="session")
def template_database(postgres_server: str) -> str:
    """Name of the database, made by the migrations, that every test's own is cloned from."""
    return asyncio.run(postgres.make_template(postgres_server))


@pytest.fixture
async def database_url(postgres_server: str, template_database: str) -> AsyncIterator[DatabaseUrl]:
    """A new database with the schema and nothing in it."""
    url = await postgres.clone(postgres_server, template_database)
    yield url
    await postgres.drop(postgres_server, url)


@pytest.fixture
def settings() -> Settings:
    """Settings of a test run."""
    return make_settings()


@pytest.fixture
async def database(database_url: DatabaseUrl, settings: Settings) -> AsyncIterator[Database]:
    """Connections to the test's own database."""
    database = Database(database_url, settings)
    await database.open()
    yield database
    await database.close()


@pytest.fixture
async def service(settings: Settings, database_url: DatabaseUrl, database: Database) -> AsyncIterator[Service]:
    """The running service; a test module changes it by a `settings` fixture of its own."""
    async with running_service(settings, database_url, database) as service:
        yield service
