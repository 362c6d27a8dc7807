"""Wrong credentials: so many from one address, and then none of its guesses are looked at."""

from collections.abc import AsyncIterator

import httpx
import pytest
from prometheus_client import REGISTRY

from sms_foundation.auth.keys.format import generate_key
from sms_foundation.auth.limits.failures import FailureLimit
from sms_foundation.auth.limits.meter import Meter
from sms_foundation.auth.refusals import RateLimitedError
from sms_foundation.core.config import Settings
from sms_foundation.core.db import Database, DatabaseUrl
from tests.auth.limits.conftest import Store
from tests.support.access import bearer, make_client, make_key
from tests.support.api import refused
from tests.support.processes import eventually
from tests.support.service import Service, make_settings, running_service

ADDRESS, OTHER_ADDRESS = "203.0.113.7", "203.0.113.8"


@pytest.fixture
def settings() -> Settings:
    """A service behind one proxy, which says where a call comes from."""
    return make_settings(work_in_process=False, open_access=False, forwarded_hops=1, failure_limit="30/1h")


def wrong_key() -> str:
    return generate_key(is_test=False).text


async def call(service: Service, key: str, address: str = ADDRESS) -> httpx.Response:
    return await service.client.get("/v1/sms", headers={**bearer(key), "X-Forwarded-For": address})


async def statuses(service: Service, count: int, address: str = ADDRESS) -> list[int]:
    return [(await call(service, wrong_key(), address)).status_code for _ in range(count)]


def counted(name: str, label: str, value: str) -> float:
    return REGISTRY.get_sample_value(name, {label: value}) or 0.0


class TestThroughTheGate:
    async def test_after_thirty_wrong_keys_an_address_is_answered_429(self, service: Service) -> None:
        assert set(await statuses(service, 30)) == {401}

        answer = await call(service, wrong_key())

        refused(answer, 429, "sms.rate_limited")
        assert 60 < int(answer.headers["retry-after"]) <= 120  # one of thirty comes back every two minutes
        assert "address" in answer.json()["error"]["message"]

    async def test_key_accepted_before_from_there_still_passes(self, service: Service, database: Database) -> None:
        key = await make_key(database, await make_client(database))
        assert (await call(service, key)).status_code == 200
        assert (await statuses(service, 31))[-1] == 429

        assert (await call(service, key)).status_code == 200

    async def test_key_not_seen_before_is_not_even_looked_up(self, service: Service, database: Database) -> None:
        key = await make_key(database, await make_client(database))
        assert (await statuses(service, 31))[-1] == 429
        lookups = counted("sms_auth_lookups_total", "kind", "key")

        assert (await call(service, key)).status_code == 429
        assert (await call(service, wrong_key())).status_code == 429
        assert counted("sms_auth_lookups_total", "kind", "key") == lookups

    async def test_other_addresses_are_not_affected(self, service: Service, database: Database) -> None:
        key = await make_key(database, await make_client(database))
        assert (await statuses(service, 31))[-1] == 429

        assert (await call(service, key, OTHER_ADDRESS)).status_code == 200
        assert await statuses(service, 1, OTHER_ADDRESS) == [401]

    async def test_whoever_has_no_credentials_is_not_counted(self, service: Service) -> None:
        headers = {"X-Forwarded-For": ADDRESS}
        answers = {(await service.client.get("/v1/sms", headers=headers)).status_code for _ in range(40)}

        assert answers == {401}
        assert await statuses(service, 1) == [401]

    async def test_every_instance_counts_the_same_failures(
        self, service: Service, settings: Settings, database_url: DatabaseUrl, database: Database
    ) -> None:
        async with running_service(settings, database_url, database) as other:
            assert set(await statuses(service, 20) + await statuses(other, 10)) == {401}

            assert await statuses(service, 1) == [429]
            assert await statuses(other, 1) == [429]

    async def test_is_counted_by_reason(self, service: Service) -> None:
        def now() -> list[float]:
            return [
                counted("sms_auth_failures_total", "reason", "unknown_key"),
                counted("sms_auth_failures_total", "reason", "blocked_address"),
                counted("sms_rate_limited_total", "limit", "address"),
            ]

        before = now()
        await statuses(service, 30)
        blocked = await statuses(service, 3)

        assert blocked == [429] * 3
        # The first of the three was looked up, and found to be one too many.
        assert [end - start for start, end in zip(before, now(), strict=True)] == [31, 3, 3]


class TestCount:
    @pytest.fixture
    async def limit(self, store: Store) -> AsyncIterator[FailureLimit]:
        meter = Meter(await store.open())
        yield FailureLimit(meter, "3/1h")
        await meter.close()

    async def fail(self, limit: FailureLimit, address: str, times: int) -> None:
        for _ in range(times):
            await limit.count(address)

    async def test_one_too_many_blocks_the_address_until_there_is_room(self, limit: FailureLimit, store: Store) -> None:
        await self.fail(limit, ADDRESS, 3)
        limit.check(ADDRESS)
        with pytest.raises(RateLimitedError) as caught:
            await limit.count(ADDRESS)
        assert caught.value.retry_after_s == 1200
        with pytest.raises(RateLimitedError):
            limit.check(ADDRESS)
        limit.check(OTHER_ADDRESS)

        await store.let_pass(1200)
        anew = FailureLimit(Meter(await store.open()), "3/1h")
        await anew.count(ADDRESS)

    async def test_addresses_of_one_ipv6_customer_count_as_one(self, limit: FailureLimit) -> None:
        await self.fail(limit, "2001:db8:0:1::1", 3)
        with pytest.raises(RateLimitedError):
            await limit.count("2001:db8:0:1:ffff::2")
        with pytest.raises(RateLimitedError):
            limit.check("2001:db8:0:1::3")
        await limit.count("2001:db8:0:2::1")

    async def test_whatever_is_no_address_is_one_group(self, limit: FailureLimit) -> None:
        for nonsense in ("", "\x00", "unix"):
            await limit.count(nonsense)
        with pytest.raises(RateLimitedError):
            await limit.count("something else")

    async def test_a_block_ends_by_itself(self, store: Store) -> None:
        limit = FailureLimit(Meter(await store.open()), "1/1s")
        with pytest.raises(RateLimitedError):
            await self.fail(limit, ADDRESS, 1000)
        with pytest.raises(RateLimitedError):
            limit.check(ADDRESS)

        async def may_try_again() -> bool:
            try:
                limit.check(ADDRESS)
            except RateLimitedError:
                return False
            return True

        await eventually(may_try_again, "the block ends")

    async def test_off_counts_nothing(self, store: Store) -> None:
        limit = FailureLimit(Meter(await store.open()), "off")
        await self.fail(limit, ADDRESS, 100)
        limit.check(ADDRESS)
