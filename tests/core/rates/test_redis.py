"""What only the keeper in Redis must do: survive restarts, leave no cells behind, say clearly when it is away."""

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from sms_foundation.core.errors import StartupError
from sms_foundation.core.rates.base import RatesUnavailableError, Slot, Wish
from sms_foundation.core.rates.redis import RedisRates
from tests.core.rates.redis_server import RedisServer

MINUTE = 60.0


def wish(key: str = "a", *, interval_s: float = MINUTE, horizon_s: float = 10_000.0) -> Wish:
    return Wish(key, interval_s, 1, horizon_s)


@pytest.fixture
async def rates(redis_server: RedisServer) -> AsyncIterator[RedisRates]:
    rates = RedisRates(redis_server.url)
    yield rates
    await rates.close()


@pytest.fixture
async def client(redis_server: RedisServer) -> AsyncIterator[Redis]:
    """Somebody else's connection."""
    client: Redis = Redis.from_url(redis_server.url)
    yield client
    await client.aclose()


class TestReserve:
    async def test_a_cell_lives_until_its_time_has_come(self, rates: RedisRates, client: Redis) -> None:
        await rates.reserve([wish(), wish(), wish(horizon_s=0)])

        (key,) = await client.keys()
        assert 119_000 < await client.pttl(key) <= 120_000

    async def test_works_after_the_server_has_forgotten_the_script(self, rates: RedisRates, client: Redis) -> None:
        await rates.reserve([wish()])
        await client.script_flush()

        assert await rates.reserve([wish("b")]) == [Slot(0)]

    async def test_an_unreachable_server_is_one_clear_error_until_it_is_back(
        self, rates: RedisRates, redis_server: RedisServer
    ) -> None:
        await rates.reserve([wish()])
        redis_server.stop()

        with pytest.raises(RatesUnavailableError, match="the Redis server that keeps rates: ConnectionError"):
            await rates.reserve([wish()])
        with pytest.raises(RatesUnavailableError):
            await rates.read(["a"])

        redis_server.start()
        assert await rates.reserve([wish("b")]) == [Slot(0)]

    async def test_a_connection_that_died_while_idle_is_replaced(
        self, rates: RedisRates, redis_server: RedisServer
    ) -> None:
        await rates.reserve([wish()])
        redis_server.stop()
        redis_server.start()

        assert await rates.reserve([wish("b")]) == [Slot(0)]

    async def test_a_server_that_refuses_is_unavailable_too(self, redis_server: RedisServer, client: Redis) -> None:
        await client.config_set("requirepass", "another")
        rates = RedisRates(redis_server.url.replace("//", "//user:secret@"))

        with pytest.raises(RatesUnavailableError, match="AuthenticationError") as caught:
            await rates.reserve([wish()])

        await rates.close()
        assert "secret" not in str(caught.value)


class TestUrl:
    def test_one_of_something_else_is_refused_without_repeating_it(self) -> None:
        with pytest.raises(StartupError, match="REDIS_URL must look like redis://") as caught:
            RedisRates("http://user:secret@host")

        assert "secret" not in str(caught.value)
