"""Messages count against the limit of their number once, however often and in which way they are asked for."""

import asyncio
import hashlib
import itertools
from collections.abc import Awaitable, Callable, Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from sms_foundation.auth.limits.limiter import Limiter
from sms_foundation.auth.limits.meter import Meter
from sms_foundation.auth.numbers.current import CurrentRules
from sms_foundation.auth.refusals import RateLimitedError
from sms_foundation.core.db import Database
from sms_foundation.core.rates.postgres import PostgresRates
from sms_foundation.messaging.outbound.accept import MessageAcceptor, Outcome, SendRequest
from sms_foundation.messaging.outbound.recipients import Recipients
from tests.support.outbound import CountingDatabase
from tests.support.service import make_settings

LIMIT = 5
Way = Callable[[MessageAcceptor, Database, Sequence[SendRequest]], Awaitable[None]]
_example = itertools.count(1)


def acceptor_of(database: Database, number_limit: str) -> MessageAcceptor:
    limiter = Limiter(Meter(PostgresRates(database)), client_limit="off", number_limit=number_limit)
    recipients = Recipients(CurrentRules(database), limiter)
    return MessageAcceptor(database, timeout_s=10, on_accepted=lambda: None, admit=recipients.admit)


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
    refusals = await acceptor.refusals(requests)
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


class TestLookingForRepetitions:
    async def test_is_one_question_for_all_of_a_commit_and_none_without_keys(self, database: Database) -> None:
        counting = CountingDatabase(database.url, make_settings(database_pool_size=2))
        await counting.open()
        limiter = Limiter(Meter(PostgresRates(database)), client_limit="off", number_limit="100/1h")
        recipients = Recipients(CurrentRules(database), limiter)
        acceptor = MessageAcceptor(counting, timeout_s=10, on_accepted=lambda: None, admit=recipients.admit)
        uses = []
        for keys in (["a", "b", "c"], [None, None, None]):
            before = counting.uses
            await acceptor.refusals([request("+14155550123", key) for key in keys])
            uses.append(counting.uses - before)
        await counting.close()

        assert uses == [1, 0]

    async def test_finds_what_this_client_asked_for_and_nothing_else(self, database: Database) -> None:
        acceptor = acceptor_of(database, "off")
        await one_by_one(acceptor, database, [request("+14155550123", "a"), request("+14155550123", None)])
        await acceptor.close()

        known = await acceptor.find_known([("client", "a"), ("client", "b"), ("other", "a"), ("client", "a")])

        assert known == {("client", "a")}
