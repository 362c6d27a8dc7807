"""Messages count against the limit of their number once, however often and in which way they are asked for."""

import asyncio
import hashlib
import itertools
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace

import asyncpg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sms_foundation.auth.limits.limiter import Limiter
from sms_foundation.auth.limits.meter import Meter
from sms_foundation.auth.numbers.current import CurrentRules
from sms_foundation.auth.refusals import RateLimitedError
from sms_foundation.core.db import Database
from sms_foundation.core.rates.postgres import PostgresRates
from sms_foundation.messaging.outbound.accept import MessageAcceptor
from sms_foundation.messaging.outbound.admission import Admission
from sms_foundation.messaging.outbound.asked import CONFLICT, Accepted, Outcome, SendRequest
from sms_foundation.messaging.outbound.recipients import Recipients
from tests.support.outbound import CountingDatabase
from tests.support.service import make_settings

LIMIT = 5
Way = Callable[[MessageAcceptor, Database, Sequence[SendRequest]], Awaitable[None]]
_example = itertools.count(1)


def acceptor_of(database: Database, number_limit: str) -> MessageAcceptor:
    limiter = Limiter(Meter(PostgresRates(database)), client_limit="off", number_limit=number_limit)
    recipients = Recipients(CurrentRules(database), limiter)
    return MessageAcceptor(database, timeout_s=10, on_accepted=lambda: None, limit=recipients)


def request(phone: str, key: str | None) -> SendRequest:
    return SendRequest(
        recipient=phone,
        content="Hello",
        encoding="GSM-7",
        num_segments=1,
        client_id="client",
        digest=hashlib.sha256(b"Hello").digest(),
        idempotency_key=key,
    )


async def send(acceptor: MessageAcceptor, request: SendRequest) -> Outcome | None:
    try:
        return await acceptor.accept(request)
    except RateLimitedError:
        return None


async def one_by_one(acceptor: MessageAcceptor, _: Database, requests: Sequence[SendRequest]) -> None:
    for each in requests:
        await send(acceptor, each)


async def at_once(acceptor: MessageAcceptor, _: Database, requests: Sequence[SendRequest]) -> None:
    await asyncio.gather(*(send(acceptor, each) for each in requests))


async def as_batch(acceptor: MessageAcceptor, database: Database, requests: Sequence[SendRequest]) -> None:
    refusals = await acceptor.admission.refusals(requests)
    async with database.transaction() as connection:
        await acceptor.accept_all(
            connection, [each for each, error in zip(requests, refusals, strict=True) if error is None]
        )


class TestLaw:
    @given(
        steps=st.lists(
            st.tuples(
                st.sampled_from([one_by_one, at_once, as_batch]),
                st.lists(st.sampled_from([None, "a", "b", "c", "d", "e", "f"]), min_size=1, max_size=5),
            ),
            min_size=1,
            max_size=8,
        )
    )
    @settings(max_examples=30)
    async def test_as_many_messages_are_stored_as_the_limit_says_whatever_is_repeated(
        self, database: Database, steps: list[tuple[Way, list[str | None]]]
    ) -> None:
        example = next(_example)
        phone = f"+1415{example:07}"
        acceptor = acceptor_of(database, f"{LIMIT}/24h")

        for way, names in steps:
            keys = [None if name is None else f"{example}-{name}" for name in names]
            await way(acceptor, database, [request(phone, key) for key in keys])
        await acceptor.close()

        asked = [name for _, names in steps for name in names]
        distinct = asked.count(None) + len({*asked} - {None})
        stored = await database.pool.fetchval("SELECT count(*) FROM sms_messages WHERE to_number = $1", phone)
        assert stored == min(distinct, LIMIT)


async def used(database: Database) -> int:
    """Return how many messages to the number count at this moment."""
    left_s = await database.pool.fetchval("SELECT extract(epoch FROM max(tat) - now())::float8 FROM rate_cells")
    return math.ceil((left_s or 0) / (24 * 3600 / LIMIT) - 0.001)


class TestRepetitions:
    async def test_give_back_what_they_used(self, database: Database) -> None:
        acceptor = acceptor_of(database, f"{LIMIT}/24h")
        once, twice = request("+14155550123", "a"), request("+14155550123", "a")
        await one_by_one(acceptor, database, [once, twice, twice])
        await acceptor.close()

        assert await used(database) == 1

    async def test_of_another_request_under_the_same_key_do_so_too(self, database: Database) -> None:
        acceptor = acceptor_of(database, f"{LIMIT}/24h")
        await acceptor.accept(request("+14155550123", "a"))
        other = replace(request("+14155550123", "a"), digest=hashlib.sha256(b"Other").digest())

        assert await acceptor.accept(other) is CONFLICT
        await acceptor.close()
        assert await used(database) == 1

    async def test_make_room_before_anybody_is_refused(self, database: Database) -> None:
        acceptor = acceptor_of(database, f"{LIMIT}/24h")
        await at_once(acceptor, database, [request("+14155550123", key) for key in "abcd"])
        outcomes = await asyncio.gather(*(send(acceptor, request("+14155550123", key)) for key in ["a", "b", "e", "f"]))
        await acceptor.close()

        assert [outcome is not None for outcome in outcomes] == [True, True, True, False]
        assert await used(database) == LIMIT

    async def test_are_answered_when_the_number_is_at_its_limit(self, database: Database) -> None:
        acceptor = acceptor_of(database, "1/24h")
        first = await acceptor.accept(request("+14155550123", "a"))
        again = await acceptor.accept(request("+14155550123", "a"))
        await acceptor.close()

        assert isinstance(first, Accepted)
        assert isinstance(again, Accepted)
        assert (again.message_id, again.is_replay) == (first.message_id, True)

    async def test_what_the_database_refuses_is_not_counted(self, database: Database) -> None:
        acceptor = acceptor_of(database, f"{LIMIT}/24h")
        broken = replace(request("+14155550123", "a"), digest=hashlib.sha256(b"Other").digest(), content="\x00")
        results = await asyncio.gather(
            acceptor.accept(broken), acceptor.accept(request("+14155550123", "b")), return_exceptions=True
        )
        await acceptor.close()

        assert isinstance(results[0], asyncpg.PostgresError)
        assert isinstance(results[1], Accepted)
        assert await used(database) == 1


class TestAskingTheDatabase:
    @pytest.fixture
    async def counting(self, database: Database) -> AsyncIterator[CountingDatabase]:
        counting = CountingDatabase(database.url, make_settings(database_pool_size=2))
        await counting.open()
        yield counting
        await counting.close()

    async def test_new_messages_are_counted_and_stored_and_nothing_is_looked_for(
        self, counting: CountingDatabase
    ) -> None:
        acceptor = acceptor_of(counting, "100/1h")
        uses = []
        for key in ("a", "b", "b"):
            before = counting.uses
            await acceptor.accept(request("+14155550123", key))
            uses.append(counting.uses - before)
        await acceptor.close()

        assert uses == [2, 2, 3]  # count, store, and give back

    async def test_a_batch_is_looked_for_at_once_and_only_by_its_keys(self, counting: CountingDatabase) -> None:
        limiter = Limiter(Meter(PostgresRates(counting)), client_limit="off", number_limit="off")
        admission = Admission(counting, Recipients(CurrentRules(counting), limiter))
        uses = []
        for keys in (["a", "b", "c"], [None, None, None]):
            before = counting.uses
            await admission.refusals([request("+14155550123", key) for key in keys])
            uses.append(counting.uses - before)

        assert uses == [1, 0]

    async def test_finds_what_this_client_asked_for_and_nothing_else(self, database: Database) -> None:
        acceptor = acceptor_of(database, "off")
        await one_by_one(acceptor, database, [request("+14155550123", "a"), request("+14155550123", None)])
        await acceptor.close()

        known = await acceptor.admission.find_known([("client", "a"), ("client", "b"), ("other", "a"), ("client", "a")])

        assert known == {("client", "a")}
