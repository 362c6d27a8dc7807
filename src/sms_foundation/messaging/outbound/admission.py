"""Counting messages against the limits of their numbers: each once, however often it is asked for.

Which requests only repeat others is known for certain when they have been stored. So all are counted before, and what
repetitions used up is given back after; looking for them first would cost every message what few of them need.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import asyncpg

from sms_foundation.auth.refusals import RateLimitedError
from sms_foundation.core.clock import monotonic
from sms_foundation.core.db import Database, retry_races
from sms_foundation.messaging.outbound.asked import KeyOfClient, SendRequest

_FIND_KNOWN = """
SELECT i.client_id, i.key
FROM unnest($1::text[], $2::text[]) AS i(client_id, key)
    CROSS JOIN LATERAL (
        SELECT FROM sms_messages WHERE client_id = i.client_id AND idempotency_key = i.key OFFSET 0) AS m
"""


class NumberLimit(Protocol):
    """How often a number may be texted."""

    async def admit(self, requests: Sequence[SendRequest]) -> Sequence[RateLimitedError | None]:
        """Count each of `requests`; returns what stands against it, or None."""
        ...

    async def give_back(self, requests: Sequence[SendRequest], *, counted_at: float) -> None:
        """Count those no more that were let through at `counted_at` (monotonic)."""
        ...


@dataclass(slots=True)
class Count:
    """Requests of one commit, by their identity: those that were counted, at `at` (monotonic), and those refused.

    What is neither repeats a message that is known to be there.
    """

    at: float
    counted: dict[object, SendRequest] = field(default_factory=dict)
    refused: dict[object, RateLimitedError] = field(default_factory=dict)

    def refusal(self, request: SendRequest) -> RateLimitedError | None:
        """Return what stands against `request`."""
        return self.refused.get(request.identity)


class Admission:
    """Says which requests may be stored. `limit` None: all of them."""

    def __init__(self, database: Database, limit: NumberLimit | None) -> None:
        self._database = database
        self._limit = limit

    async def count(self, requests: Sequence[SendRequest]) -> Count:
        """Count the messages of `requests`; what turns out to repeat others is for the caller to `give_back`.

        Before one is refused, those that only repeat others have made room for it. Takes connections of its own: not
        to be called within a transaction.
        """
        count = Count(monotonic())
        if self._limit is None:
            return count
        distinct = _distinct(requests)
        await self._count(self._limit, count, distinct)
        if count.refused:
            await self._count_without_known(self._limit, count, distinct)
        return count

    async def give_back(self, count: Count, repetitions: Sequence[SendRequest]) -> None:
        """Count those of `repetitions` no more that were counted; what cannot be undone now stays counted."""
        vain = [each for each in repetitions if each.identity in count.counted]
        if vain and self._limit is not None:
            await self._limit.give_back(vain, counted_at=count.at)

    async def refusals(self, requests: Sequence[SendRequest]) -> list[RateLimitedError | None]:
        """Count the messages of `requests` that are new; returns what stands against each, or None.

        For requests that are stored in a transaction of the caller's, which could not give anything back: so
        repetitions are looked for first. Two processes that meet the same new message at the same moment both count it.
        Not to be called within a transaction.
        """
        if self._limit is None:
            return [None] * len(requests)
        known = await self.find_known(_keys(requests))
        new = {identity: each for identity, each in _distinct(requests).items() if identity not in known}
        count = Count(monotonic())
        await self._count(self._limit, count, new)
        return [count.refusal(each) for each in requests]

    async def find_known(self, keys: Sequence[KeyOfClient]) -> set[KeyOfClient]:
        """Return those of `keys` that have made a message before."""
        if not keys:
            return set()

        async def attempt() -> Sequence[asyncpg.Record]:
            async with self._database.connection() as connection:
                rows: Sequence[asyncpg.Record] = await connection.fetch(
                    _FIND_KNOWN, [client_id for client_id, _ in keys], [key for _, key in keys]
                )
            return rows

        return {(row["client_id"], row["key"]) for row in await retry_races(attempt)}

    async def _count_without_known(
        self, limit: NumberLimit, count: Count, distinct: Mapping[object, SendRequest]
    ) -> None:
        """Look for repetitions after all, give back what they used, and ask again for those that were refused."""
        known = await self.find_known(_keys(list(distinct.values())))
        await self.give_back(count, [each for identity, each in distinct.items() if identity in known])
        has_made_room = bool(known & count.counted.keys())
        again = {identity: distinct[identity] for identity in count.refused if identity not in known}
        for identity in known:
            count.counted.pop(identity, None)
            count.refused.pop(identity, None)
        if has_made_room and again:
            count.refused.clear()
            await self._count(limit, count, again)

    async def _count(self, limit: NumberLimit, count: Count, requests: Mapping[object, SendRequest]) -> None:
        if not requests:
            return
        answers = await limit.admit(list(requests.values()))
        for (identity, request), error in zip(requests.items(), answers, strict=True):
            if error is None:
                count.counted[identity] = request
            else:
                count.refused[identity] = error


def _distinct(requests: Sequence[SendRequest]) -> dict[object, SendRequest]:
    """Return the first of each identity, in order: who comes first is counted first."""
    first: dict[object, SendRequest] = {}
    for each in requests:
        first.setdefault(each.identity, each)
    return first


def _keys(requests: Sequence[SendRequest]) -> list[KeyOfClient]:
    return [(each.client_id, each.idempotency_key) for each in requests if each.idempotency_key is not None]
