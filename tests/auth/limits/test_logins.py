"""Tries to log in, per person and address, and per person wherever they come from."""

from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from sms_foundation.auth.limits.logins import LoginLimit
from sms_foundation.auth.limits.meter import Meter
from sms_foundation.auth.refusals import RateLimitedError
from sms_foundation.core.config import Settings
from sms_foundation.core.db import Database, parse_database_url
from sms_foundation.core.rates.base import RatesUnavailableError
from sms_foundation.core.rates.postgres import PostgresRates
from tests.auth.limits.conftest import Store

EMAIL = "ana@example.com"
HOME, ELSEWHERE = "203.0.113.7", "198.51.100.1"


def counted(name: str, label: str, value: str) -> float:
    return REGISTRY.get_sample_value(name, {label: value}) or 0.0


class TestAdmit:
    @pytest.fixture
    async def limits(self, store: Store) -> tuple[LoginLimit, LoginLimit]:
        """Two instances."""
        meters = [Meter(await store.open()) for _ in range(2)]
        return LoginLimit(meters[0], "4/1h"), LoginLimit(meters[1], "4/1h")

    async def test_so_many_tries_and_then_429_on_every_instance(self, limits: tuple[LoginLimit, LoginLimit]) -> None:
        for turn in range(4):
            await limits[turn % 2].admit(EMAIL, HOME)
        for limit in limits:
            with pytest.raises(RateLimitedError) as caught:
                await limit.admit(EMAIL, HOME)
            assert (caught.value.status, caught.value.retry_after_s) == (429, 900)
            assert EMAIL not in caught.value.message
        await limits[0].admit("ben@example.com", HOME)

    async def test_tries_from_one_address_lock_nobody_out_elsewhere(
        self, limits: tuple[LoginLimit, LoginLimit]
    ) -> None:
        for _ in range(4):
            await limits[0].admit(EMAIL, ELSEWHERE)
        for _ in range(100):  # what its own limit refuses does not count against the person
            with pytest.raises(RateLimitedError):
                await limits[0].admit(EMAIL, ELSEWHERE)

        await limits[1].admit(EMAIL, HOME)

    async def test_from_all_addresses_together_there_are_ten_times_as_many(
        self, limits: tuple[LoginLimit, LoginLimit]
    ) -> None:
        for number in range(40):
            await limits[number % 2].admit(EMAIL, f"198.51.100.{number}")
        for limit in limits:
            with pytest.raises(RateLimitedError):
                await limit.admit(EMAIL, HOME)
        await limits[0].admit("ben@example.com", HOME)

    async def test_addresses_of_one_ipv6_network_are_one(self, limits: tuple[LoginLimit, LoginLimit]) -> None:
        for number in range(4):
            await limits[0].admit(EMAIL, f"2001:db8::{number}")
        with pytest.raises(RateLimitedError):
            await limits[1].admit(EMAIL, "2001:db8::ffff:1")

    async def test_after_retry_after_there_is_one_more(
        self, limits: tuple[LoginLimit, LoginLimit], store: Store
    ) -> None:
        for _ in range(4):
            await limits[0].admit(EMAIL, HOME)
        await store.let_pass(900)

        await limits[0].admit(EMAIL, HOME)
        with pytest.raises(RateLimitedError):
            await limits[0].admit(EMAIL, HOME)

    async def test_the_same_address_in_other_letters_is_the_same_person(
        self, limits: tuple[LoginLimit, LoginLimit]
    ) -> None:
        for spelling in (EMAIL, EMAIL.upper(), f" {EMAIL} ", EMAIL.title()):
            await limits[0].admit(spelling, HOME)
        with pytest.raises(RateLimitedError):
            await limits[0].admit(EMAIL, HOME)

    async def test_is_counted_by_reason(self, limits: tuple[LoginLimit, LoginLimit]) -> None:
        before = counted("sms_auth_failures_total", "reason", "too_many_logins")
        limited = counted("sms_rate_limited_total", "limit", "login")
        for _ in range(4):
            await limits[0].admit(EMAIL, HOME)
        with pytest.raises(RateLimitedError):
            await limits[0].admit(EMAIL, HOME)
        assert counted("sms_auth_failures_total", "reason", "too_many_logins") == before + 1
        assert counted("sms_rate_limited_total", "limit", "login") == limited + 1

    @pytest.mark.parametrize("email", ["", "\x00\ud800", "a" * 100_000])
    async def test_any_text_can_be_counted(self, meter: Meter, email: str) -> None:
        limit = LoginLimit(meter, "1/1h")
        await limit.admit(email, HOME)
        with pytest.raises(RateLimitedError):
            await limit.admit(email, HOME)

    async def test_address_is_not_to_be_read_where_tries_are_counted(self, meter: Meter, database: Database) -> None:
        await LoginLimit(meter, "1/1h").admit(EMAIL, HOME)
        keys = [row["key"] for row in await database.pool.fetch("SELECT key FROM rate_cells")]
        assert len(keys) == 2
        assert not any("ana" in key for key in keys)

    async def test_nobody_guesses_while_nobody_counts(self, settings: Settings, tmp_path: Path) -> None:
        database = Database(parse_database_url(f"postgresql://u:secret@/sms?host={tmp_path}"), settings)
        await database.open()
        with pytest.raises(RatesUnavailableError) as caught:
            await LoginLimit(Meter(PostgresRates(database)), "10/15m").admit(EMAIL, HOME)
        assert (caught.value.status, caught.value.retry_after_s) == (503, 5)
        await database.close()

    async def test_off_counts_nothing(self, meter: Meter, database: Database) -> None:
        for _ in range(20):
            await LoginLimit(meter, "off").admit(EMAIL, HOME)
        assert await database.pool.fetchval("SELECT count(*) FROM rate_cells") == 0
