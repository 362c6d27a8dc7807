"""Limits of clients and numbers, exact over all instances, on a real PostgreSQL and a real Redis."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from uuid import uuid4

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from sms_foundation.auth.limits.limiter import Limiter
from sms_foundation.auth.limits.meter import Meter
from sms_foundation.auth.permissions import ALL
from sms_foundation.auth.principal import ClientKind, Principal
from sms_foundation.auth.refusals import Headers, RateLimitedError
from sms_foundation.core.clock import monotonic
from sms_foundation.core.db import Database, DatabaseUrl, parse_database_url
from sms_foundation.core.rates.postgres import PostgresRates
from tests.auth.limits.conftest import Store
from tests.support.outbound import CountingDatabase
from tests.support.processes import eventually
from tests.support.service import make_settings
from tests.support.tcp_gate import TcpGate

PHONE, OTHER_PHONE = "+14155550123", "+14155550199"


def client(name: str = "", limit: str | None = None) -> Principal:
    return Principal(
        client_id=name or str(uuid4()), kind=ClientKind.SERVICE, permissions=ALL, credential="key", limit=limit
    )


async def instance(store: Store, *, client_limit: str = "off", number_limit: str = "off") -> Limiter:
    return Limiter(Meter(await store.open()), client_limit=client_limit, number_limit=number_limit)


def limiter_of(meter: Meter, *, client_limit: str = "off", number_limit: str = "off") -> Limiter:
    return Limiter(meter, client_limit=client_limit, number_limit=number_limit)


async def is_admitted(limiter: Limiter, caller: Principal, units: int = 1) -> bool:
    try:
        await limiter.admit(caller, units)
    except RateLimitedError:
        return False
    return True


async def refusal(limiter: Limiter, caller: Principal, units: int = 1, *, already: int = 0) -> RateLimitedError:
    with pytest.raises(RateLimitedError) as caught:
        await limiter.admit(caller, units, already=already)
    return caught.value


def live(recipients: Sequence[str]) -> list[tuple[str, bool]]:
    """Messages that no test key sends."""
    return [(recipient, False) for recipient in recipients]


def value(headers: Headers, name: str) -> int:
    return int(dict(headers)[name.encode()])


def counted(name: str, limit: str) -> float:
    return REGISTRY.get_sample_value(name, {"limit": limit}) or 0.0


async def burst(limiters: Sequence[Limiter], caller: Principal, count: int) -> int:
    """Make so many requests at once, in turn at each instance; returns how many were admitted."""
    answers = await asyncio.gather(*(is_admitted(limiters[n % len(limiters)], caller) for n in range(count)))
    return sum(answers)


class TestAdmitAcrossInstances:
    async def test_of_400_at_once_over_two_instances_exactly_50_pass(self, store: Store) -> None:
        instances = [await instance(store, client_limit="50/1h") for _ in range(2)]

        assert await burst(instances, client(), 400) == 50

    async def test_of_400_against_50_in_10_seconds_50_pass_and_what_came_back_meanwhile(self, store: Store) -> None:
        instances = [await instance(store, client_limit="50/10s") for _ in range(2)]
        started = monotonic()

        admitted = await burst(instances, client(), 400)

        assert 50 <= admitted <= 50 + (monotonic() - started) * 50 / 10

    async def test_one_instance_sees_what_the_other_has_admitted(self, store: Store) -> None:
        one, other = [await instance(store, client_limit="10/1h") for _ in range(2)]
        caller = client()

        assert await burst([one], caller, 7) == 7
        assert value(await other.admit(caller), "ratelimit-remaining") == 2
        assert await burst([other], caller, 5) == 2

    async def test_clients_do_not_hinder_each_other(self, store: Store) -> None:
        limiter = await instance(store, client_limit="1/1h")

        assert await is_admitted(limiter, one := client())
        assert await is_admitted(limiter, client())
        assert not await is_admitted(limiter, one)


class TestAdmitLaw:
    @given(
        count=st.integers(1, 20),
        window_s=st.sampled_from([60, 600, 3600]),
        steps=st.lists(st.tuples(st.floats(0, 0.6), st.integers(1, 6)), min_size=1, max_size=25),
    )
    @settings(max_examples=25)
    async def test_no_stretch_of_time_sees_more_than_the_limit_and_what_came_back_in_it(
        self, store: Store, count: int, window_s: int, steps: list[tuple[float, int]]
    ) -> None:
        limiter = await instance(store, client_limit=f"{count}/{window_s}s")
        caller, skipped_s, started = client(), 0.0, monotonic()
        admitted: list[tuple[float, float, int]] = []

        for share, units in steps:
            await store.let_pass(share * window_s)
            skipped_s += share * window_s
            fresh = Limiter(limiter._meter, client_limit=f"{count}/{window_s}s", number_limit="off")
            before_s = skipped_s + monotonic() - started
            if units <= count and await is_admitted(fresh, caller, units):
                admitted.append((before_s, skipped_s + monotonic() - started, units))

        for first, last in itertools.combinations_with_replacement(range(len(admitted)), 2):
            stretch_s = admitted[last][1] - admitted[first][0]
            total = sum(units for _, _, units in admitted[first : last + 1])
            assert total <= count + stretch_s * count / window_s + 1e-6

    @given(count=st.integers(1, 40), window_s=st.sampled_from([7, 60, 3600]), units=st.integers(1, 60))
    @settings(max_examples=25)
    async def test_whoever_comes_back_after_retry_after_passes(
        self, store: Store, count: int, window_s: int, units: int
    ) -> None:
        limit = f"{count}/{window_s}s"
        limiter, caller = await instance(store, client_limit=limit), client()
        await limiter.admit(caller, count)
        error = await refusal(limiter, caller, units)

        await store.let_pass(error.retry_after_s or 0)

        assert await is_admitted(await instance(store, client_limit=limit), caller, units)

    @given(count=st.integers(1, 40), window_s=st.sampled_from([60, 3600]))
    @settings(max_examples=15)
    async def test_after_the_window_everything_is_back(self, store: Store, count: int, window_s: int) -> None:
        limit = f"{count}/{window_s}s"
        limiter, caller = await instance(store, client_limit=limit), client()
        await limiter.admit(caller, count)
        await store.let_pass(window_s + 0.001)
        anew = await instance(store, client_limit=limit)

        assert value(await anew.admit(caller, count), "ratelimit-remaining") == 0


class TestAdmit:
    async def test_answers_with_what_is_left(self, meter: Meter) -> None:
        limiter, caller = limiter_of(meter, client_limit="5/1h"), client()

        headers = [await limiter.admit(caller) for _ in range(2)]

        assert [value(each, "ratelimit-remaining") for each in headers] == [4, 3]
        assert [value(each, "ratelimit-reset") for each in headers] == [720, 1440]

    async def test_refusal_names_the_limit_and_says_when_to_come_back(self, meter: Meter) -> None:
        limiter, caller = limiter_of(meter, client_limit="2/1h"), client()
        await limiter.admit(caller, 2)
        before = counted("sms_rate_limited_total", "client")

        error = await refusal(limiter, caller)

        assert (error.status, error.code, error.retry_after_s) == (429, "sms.rate_limited", 1800)
        assert "this client's limit of 2/1h" in error.message
        assert dict(error.headers) == {
            b"ratelimit-limit": b"2",
            b"ratelimit-policy": b"2;w=3600",
            b"ratelimit-remaining": b"0",
            b"ratelimit-reset": b"3600",
        }
        assert counted("sms_rate_limited_total", "client") == before + 1

    async def test_a_client_that_has_to_wait_is_refused_without_asking_anybody(self, database_url: DatabaseUrl) -> None:
        database = CountingDatabase(database_url, make_settings())
        await database.open()
        limiter, caller = limiter_of(Meter(PostgresRates(database)), client_limit="1/1h"), client()
        assert await burst([limiter], caller, 2) == 1
        uses = database.uses

        errors = [await refusal(limiter, caller) for _ in range(50)]

        assert database.uses == uses
        assert {each.retry_after_s for each in errors} <= {3600, 3599, 3598}
        assert all(value(each.headers, "ratelimit-remaining") == 0 for each in errors)
        await database.close()

    async def test_what_was_refused_is_not_counted(self, store: Store) -> None:
        limiter, caller = await instance(store, client_limit="4/1h"), client()
        await limiter.admit(caller, 3)

        assert not await is_admitted(limiter, caller, 2)
        assert value(await limiter.admit(caller), "ratelimit-remaining") == 0

    async def test_client_with_a_limit_of_its_own_has_that(self, meter: Meter) -> None:
        limiter = limiter_of(meter, client_limit="1/1h")

        headers = await limiter.admit(client(limit="70/1m"))

        assert dict(headers)[b"ratelimit-policy"] == b"70;w=60"

    async def test_changed_limit_holds_at_once(self, meter: Meter) -> None:
        limiter, caller = limiter_of(meter, client_limit="1/1d"), client()
        await limiter.admit(caller)
        await refusal(limiter, caller)

        assert value(await limiter.admit(replace(caller, limit="10/1s")), "ratelimit-remaining") == 9

    @pytest.mark.parametrize(("general", "own"), [("off", None), ("1/1h", "off")])
    async def test_without_a_limit_nothing_is_asked_or_said(
        self, meter: Meter, database: Database, general: str, own: str | None
    ) -> None:
        limiter = limiter_of(meter, client_limit=general)

        assert [await limiter.admit(client("a", own)) for _ in range(3)] == [(), (), ()]
        assert await database.pool.fetchval("SELECT count(*) FROM rate_cells") == 0

    async def test_many_at_once_are_one_statement(self, database_url: DatabaseUrl) -> None:
        database = CountingDatabase(database_url, make_settings())
        await database.open()
        limiter = limiter_of(Meter(PostgresRates(database)), client_limit="1000/1h")
        callers = [client() for _ in range(8)]
        await asyncio.gather(*(limiter.admit(each) for each in callers))
        uses = database.uses

        await asyncio.gather(*(limiter.admit(callers[n % 8]) for n in range(60)))

        assert database.uses == uses + 1
        await database.close()


class TestAdmitBatches:
    """The gate counts the request; the rest is counted when it is known how many messages there are."""

    async def test_counts_every_message(self, meter: Meter) -> None:
        limiter, caller = limiter_of(meter, client_limit="100/1h"), client()
        await limiter.admit(caller)

        headers = await limiter.admit(caller, 29, already=1)

        assert value(headers, "ratelimit-remaining") == 70

    async def test_one_as_large_as_the_limit_passes_when_nothing_was_used(self, meter: Meter) -> None:
        limiter, caller = limiter_of(meter, client_limit="10/1h"), client()
        await limiter.admit(caller)
        assert value(await limiter.admit(caller, 9, already=1), "ratelimit-remaining") == 0

    async def test_one_larger_than_the_limit_passes_only_when_nothing_was_used(self, store: Store) -> None:
        limiter, caller = await instance(store, client_limit="10/1h"), client()
        await limiter.admit(caller)
        await limiter.admit(caller)
        await refusal(limiter, caller, 24, already=1)
        other = client()
        await limiter.admit(other)
        await limiter.admit(other, 24, already=1)

        assert (await refusal(limiter, other)).retry_after_s == 25 * 360 - 9 * 360

    @given(units=st.integers(2, 30), used=st.integers(0, 9))
    @settings(max_examples=25)
    async def test_whoever_comes_back_with_it_after_retry_after_passes(
        self, store: Store, units: int, used: int
    ) -> None:
        limiter, caller = await instance(store, client_limit="10/1h"), client()
        if used:
            await limiter.admit(caller, used)
        await limiter.admit(caller)
        try:
            await limiter.admit(caller, units - 1, already=1)
        except RateLimitedError as error:
            await store.let_pass(error.retry_after_s or 0)
            anew = await instance(store, client_limit="10/1h")
            await anew.admit(caller)
            await anew.admit(caller, units - 1, already=1)
        else:
            assert units + used <= 10 or used == 0


class TestAdmitNumbers:
    async def test_a_number_gets_so_many_from_all_instances_together(self, store: Store) -> None:
        instances = [await instance(store, number_limit="5/1h") for _ in range(2)]

        answers = await asyncio.gather(*(instances[n % 2].admit_numbers(live([PHONE])) for n in range(40)))

        assert sum(answer == [None] for answer in answers) == 5

    async def test_in_a_batch_those_over_the_limit_are_refused_alone_and_in_order(self, store: Store) -> None:
        limiter = await instance(store, number_limit="2/1h")

        answers = await limiter.admit_numbers(live([PHONE, OTHER_PHONE, PHONE, PHONE, OTHER_PHONE, PHONE]))

        assert [answer is None for answer in answers] == [True, True, True, False, True, False]

    async def test_refusal_shows_no_more_of_the_number_than_its_end(self, meter: Meter) -> None:
        limiter = limiter_of(meter, number_limit="1/1h")
        before = counted("sms_rate_limited_total", "number")

        _, error = await limiter.admit_numbers(live([PHONE, PHONE]))

        assert error is not None
        assert (error.status, error.code, error.retry_after_s) == (429, "sms.rate_limited", 3600)
        assert "0123" in error.message
        assert "1/1h" in error.message
        assert PHONE[:8] not in error.message
        assert counted("sms_rate_limited_total", "number") == before + 1

    async def test_whoever_comes_back_after_retry_after_passes(self, store: Store) -> None:
        limiter = await instance(store, number_limit="3/100s")
        *_, error = await limiter.admit_numbers(live([PHONE] * 4))
        assert error is not None
        await store.let_pass(error.retry_after_s or 0)

        assert await limiter.admit_numbers(live([PHONE])) == [None]

    async def test_a_phone_is_one_whatever_channel_it_is_reached_by(self, meter: Meter) -> None:
        limiter = limiter_of(meter, number_limit="1/1h")

        one, other = await limiter.admit_numbers(live([PHONE, f"whatsapp:{PHONE}"]))

        assert one is None
        assert other is not None

    async def test_messages_that_reach_nobody_are_counted_apart(self, meter: Meter) -> None:
        limiter = limiter_of(meter, number_limit="1/1h")

        assert [answer is None for answer in await limiter.admit_numbers([(PHONE, True)] * 2)] == [True, False]
        assert await limiter.admit_numbers(live([PHONE])) == [None]

    async def test_a_thousand_known_numbers_are_one_statement(self, database_url: DatabaseUrl) -> None:
        database = CountingDatabase(database_url, make_settings())
        await database.open()
        limiter = limiter_of(Meter(PostgresRates(database)), number_limit="60/1h")
        phones = [f"+1415{n:07}" for n in range(1000)]
        await limiter.admit_numbers(live(phones))
        uses = database.uses

        assert await limiter.admit_numbers(live(phones)) == [None] * 1000
        assert database.uses == uses + 1
        await database.close()

    async def test_without_a_limit_nothing_is_asked(self, meter: Meter, database: Database) -> None:
        assert await limiter_of(meter).admit_numbers(live([PHONE, PHONE])) == [None, None]
        assert await database.pool.fetchval("SELECT count(*) FROM rate_cells") == 0


class TestWithoutAnybodyToAsk:
    @pytest.fixture
    async def gate(self, database_url: DatabaseUrl) -> AsyncIterator[TcpGate]:
        async with TcpGate(database_url) as gate:
            yield gate

    @pytest.fixture
    async def limiter(self, gate: TcpGate) -> AsyncIterator[Limiter]:
        """Asks through `gate`, which is closed."""
        database = Database(parse_database_url(gate.url), make_settings())
        await database.open()
        meter = Meter(PostgresRates(database))
        yield limiter_of(meter, client_limit="1/1h", number_limit="1/1h")
        await meter.close()
        await database.close()

    async def test_nobody_is_stopped_and_that_is_counted_and_logged_once(self, limiter: Limiter) -> None:
        before = counted("sms_limits_not_asked_total", "client"), counted("sms_limits_not_asked_total", "number")
        with structlog.testing.capture_logs() as logs:
            answers = [await limiter.admit(client("a")) for _ in range(3)]
            numbers = await limiter.admit_numbers(live([PHONE] * 2)) + await limiter.admit_numbers(live([PHONE]))

        assert (answers, numbers) == ([(), (), ()], [None] * 3)
        after = counted("sms_limits_not_asked_total", "client"), counted("sms_limits_not_asked_total", "number")
        assert [end - start for start, end in zip(before, after, strict=True)] == [3, 3]
        warnings = [each for each in logs if each["event"] == "limits.not_asked"]
        assert [each["log_level"] for each in warnings] == ["warning"]
        assert PHONE not in str(warnings)

    async def test_limits_hold_again_once_somebody_can_be_asked(self, limiter: Limiter, gate: TcpGate) -> None:
        caller = client()
        assert await burst([limiter], caller, 5) == 5
        await gate.open()

        async def is_limited() -> bool:
            return not await is_admitted(limiter, caller)

        await eventually(is_limited, "the limit holds")
