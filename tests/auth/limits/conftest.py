"""Limits on both keepers of rates, each real, with as many instances as a test wants and time that it can let pass."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Protocol

import pytest
from redis.asyncio import Redis

from sms_foundation.auth.limits.meter import Meter
from sms_foundation.core.config import Settings
from sms_foundation.core.db import Database, DatabaseUrl
from sms_foundation.core.rates.base import Rates
from sms_foundation.core.rates.postgres import PostgresRates
from sms_foundation.core.rates.redis import RedisRates
from tests.core.rates.conftest import redis_program, redis_server
from tests.core.rates.redis_server import RedisServer

__all__ = ["redis_program", "redis_server"]


class Store(Protocol):
    """Whoever keeps the cells."""

    async def open(self) -> Rates:
        """Return the view of one more instance of the service."""
        ...

    async def let_pass(self, seconds: float) -> None:
        """Have every cell as it is so much later."""
        ...


class PostgresStore:
    def __init__(self, url: DatabaseUrl, settings: Settings, database: Database, stack: AsyncExitStack) -> None:
        self._url = url
        self._settings = settings
        self._database = database
        self._stack = stack

    async def open(self) -> Rates:
        database = Database(self._url, self._settings)
        await database.open()
        self._stack.push_async_callback(database.close)
        return PostgresRates(database)

    async def let_pass(self, seconds: float) -> None:
        await self._database.pool.execute("UPDATE rate_cells SET tat = tat - $1 * interval '1 second'", seconds)


class RedisStore:
    def __init__(self, url: str, client: Redis, stack: AsyncExitStack) -> None:
        self._url = url
        self._client = client
        self._stack = stack

    async def open(self) -> Rates:
        rates = RedisRates(self._url)
        self._stack.push_async_callback(rates.close)
        return rates

    async def let_pass(self, seconds: float) -> None:
        for key in await self._client.keys():
            await self._client.decrby(key, round(seconds * 1_000_000))


@pytest.fixture
async def postgres_store(
    database_url: DatabaseUrl, settings: Settings, database: Database
) -> AsyncIterator[PostgresStore]:
    async with AsyncExitStack() as stack:
        yield PostgresStore(database_url, settings, database, stack)


@pytest.fixture
async def redis_store(redis_server: RedisServer) -> AsyncIterator[RedisStore]:
    async with AsyncExitStack() as stack:
        client: Redis = Redis.from_url(redis_server.url)
        stack.push_async_callback(client.aclose)
        yield RedisStore(redis_server.url, client, stack)


@pytest.fixture(params=["postgres", "redis"])
def store(request: pytest.FixtureRequest) -> Store:
    found: Store = request.getfixturevalue(f"{request.param}_store")
    return found


@pytest.fixture
async def meter(database: Database) -> AsyncIterator[Meter]:
    """Asks PostgreSQL."""
    meter = Meter(PostgresRates(database))
    yield meter
    await meter.close()
