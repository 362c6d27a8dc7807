"""Both keepers of rates, each real, and as many instances of them as a test wants."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack

import pytest

from sms_foundation.core.config import Settings
from sms_foundation.core.db import Database, DatabaseUrl
from sms_foundation.core.rates.base import Rates
from sms_foundation.core.rates.postgres import PostgresRates
from sms_foundation.core.rates.redis import RedisRates
from tests.core.rates.redis_server import PROGRAM, RedisServer

OpenRates = Callable[[], Awaitable[Rates]]


@pytest.fixture(scope="session")
def redis_program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    if PROGRAM is None:
        pytest.skip("the program redis-server is not installed")
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()


@pytest.fixture
def redis_server(redis_program: RedisServer) -> RedisServer:
    """A running Redis with nothing in it."""
    redis_program.stop()
    redis_program.start()
    return redis_program


@pytest.fixture
async def open_postgres(database_url: DatabaseUrl, settings: Settings) -> AsyncIterator[OpenRates]:
    async with AsyncExitStack() as stack:

        async def open_one() -> Rates:
            database = Database(database_url, settings)
            await database.open()
            stack.push_async_callback(database.close)
            return PostgresRates(database)

        yield open_one


@pytest.fixture
async def open_redis(redis_server: RedisServer) -> AsyncIterator[OpenRates]:
    async with AsyncExitStack() as stack:

        async def open_one() -> Rates:
            rates = RedisRates(redis_server.url)
            stack.push_async_callback(rates.close)
            return rates

        yield open_one


@pytest.fixture(params=["postgres", "redis"])
def open_rates(request: pytest.FixtureRequest) -> OpenRates:
    """Opens one more instance of the service, with connections of its own, on the same cells."""
    opener: OpenRates = request.getfixturevalue(f"open_{request.param}")
    return opener


@pytest.fixture
async def rates(open_rates: OpenRates) -> Rates:
    return await open_rates()
