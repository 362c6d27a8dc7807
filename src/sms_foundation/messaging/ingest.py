"""Storing inbound messages, exactly once, many per commit.

A message, its conversation and its work row are written by one statement. Whoever awaits `store` has an answer only
after the commit; a message whose provider id is known already changes nothing, not even the conversation.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from uuid import UUID

import asyncpg
import orjson

from sms_foundation.core.batching import Batcher
from sms_foundation.core.clock import monotonic, utc_now
from sms_foundation.core.db import Database, is_outage, retry_races
from sms_foundation.core.ids import new_id
from sms_foundation.core.saturation import Use
from sms_foundation.core.tracing.context import Origin, origin
from sms_foundation.core.work.queue import Work
from sms_foundation.messaging.jobs import MESSAGE_RECEIVED, RECEIPT_UNMATCHED
from sms_foundation.messaging.metrics import COMMIT_BATCH_SIZE, MESSAGES_STORED, STORE_SECONDS
from sms_foundation.providers.base import InboundSms

# More rows per statement cost more each: the join of a batch with its conversations is a nested loop.
_MAX_BATCH = 32
_batch_size = COMMIT_BATCH_SIZE.labels("inbound")
_store_seconds = STORE_SECONDS.labels("inbound")
_counter = cache(MESSAGES_STORED.labels)

# One statement, so that a batch costs one round trip. Messages known before are filtered first; one that another
# process is storing at this very moment violates the unique key, and the batch is tried again and then sees it: so a
# conversation never counts a message twice. Conversations are upserted in key order, or two batches could deadlock.
_STORE = """
WITH input AS MATERIALIZED (
    SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
                         $9::text[], $10::int[], $11::text[], $12::timestamptz[], $18::text[], $19::text[])
        WITH ORDINALITY AS t(id, conversation_id, phone, provider, provider_message_id, sender, recipient, content,
                             media, num_segments, raw, received_at, trace_context, request_id, position)
), fresh AS MATERIALIZED (
    SELECT i.*, row_number() OVER by_phone AS nth, count(*) OVER by_phone AS n,
           max(received_at) OVER by_phone AS last_received_at
    FROM input AS i
    WHERE NOT EXISTS (SELECT FROM sms_messages AS m
                      WHERE m.provider = i.provider AND m.provider_message_id = i.provider_message_id)
    WINDOW by_phone AS (PARTITION BY phone ORDER BY position ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)
), conversation AS (
    INSERT INTO sms_conversations AS c
        (id, phone_number_canonical, phone_number_original, message_count, last_message_at, created_at, updated_at)
    SELECT conversation_id, phone, sender, n, last_received_at, received_at, received_at
    FROM fresh WHERE nth = 1 ORDER BY phone
    ON CONFLICT (phone_number_canonical) DO UPDATE
    SET message_count = c.message_count + excluded.message_count,
        last_message_at = greatest(c.last_message_at, excluded.last_message_at), updated_at = excluded.updated_at
    RETURNING c.id, c.phone_number_canonical AS phone, c.message_count
), message AS (
    INSERT INTO sms_messages
        (id, conversation_id, conversation_seq, direction, provider, provider_message_id, from_number, to_number,
         message_content, media, num_segments, delivery_status, raw_webhook_data, created_at, updated_at,
         trace_context, request_id)
    SELECT f.id, c.id, c.message_count - f.n + f.nth, 'inbound', f.provider, f.provider_message_id, f.sender,
           f.recipient, f.content, f.media::jsonb, f.num_segments, 'received', f.raw::jsonb, f.received_at,
           f.received_at, f.trace_context, f.request_id
    FROM fresh AS f
        -- OFFSET 0 keeps the wide rows in the outer loop of the join: walking through them again for every row is a
        -- fifth of the whole statement.
        CROSS JOIN LATERAL (SELECT id, message_count FROM conversation WHERE phone = f.phone OFFSET 0) AS c
    RETURNING id, trace_context, request_id
), follow_up AS (
    INSERT INTO work (kind, ref_id, state, attempts, lease_token, lease_until, trace_context, request_id)
    SELECT $13, id, 'leased', 1, $14::uuid, now() + $15::interval, trace_context, request_id
    FROM message WHERE id = ANY($16::uuid[])
    UNION ALL
    SELECT $13, id, 'due', 0, NULL, NULL, trace_context, request_id FROM message WHERE NOT id = ANY($16::uuid[])
    RETURNING id, ref_id
), early_receipts AS (
    INSERT INTO work (kind, ref_id, trace_context, request_id)
    SELECT $17, e.id, f.trace_context, f.request_id
    FROM fresh AS f
        -- OFFSET 0 makes it a probe for each message: a join would walk through the index of all events. IS TRUE keeps
        -- the index on message_id out of it, which would find all that are not matched.
        CROSS JOIN LATERAL (
            SELECT id FROM sms_message_status_events
            WHERE provider_message_id = f.provider_message_id AND provider = f.provider
              AND (message_id IS NULL) IS TRUE OFFSET 0) AS e
)
SELECT ref_id, id FROM follow_up
"""


@dataclass(frozen=True, slots=True)
class Stored:
    """What became of one inbound message; `work` is leased to this process and can be run at once, if not None."""

    message_id: UUID | None
    work: Work | None

    @property
    def is_duplicate(self) -> bool:
        return self.message_id is None


_DUPLICATE = Stored(None, None)


@dataclass(frozen=True, slots=True)
class _Arrival:
    sms: InboundSms
    phone: str
    received_at: datetime
    cause: Origin


class MessageStore:
    """Stores inbound messages. `room` tells how many follow-ups this process can start at once; the rest stay due."""

    def __init__(
        self,
        database: Database,
        *,
        lease_token: UUID,
        lease: timedelta,
        room: Callable[[], int],
        timeout_s: float,
    ) -> None:
        self._database = database
        self._lease_token = lease_token
        self._lease = lease
        self._room = room
        self._batcher: Batcher[_Arrival, Stored] = Batcher(
            self._write,
            is_item_to_blame=lambda error: not is_outage(error),
            max_items=_MAX_BATCH,
            timeout_s=timeout_s,
            on_written=_batch_size.observe,
            tracer=database.tracer,
            name="inbound",
        )

    async def store(self, sms: InboundSms, *, phone: str) -> Stored:
        """Store `sms` under the conversation of `phone` (canonical) and return after the commit.

        Idempotent on (provider, provider_message_id), whichever process stored it first. Raises OverloadedError, an
        outage (`core.db.is_outage`), or what PostgreSQL has against this one message.
        """
        started = monotonic()
        result = await self._batcher.submit(_Arrival(sms, phone, utc_now(), origin()))
        _store_seconds.observe(monotonic() - started)
        _counter(sms.provider, "duplicate" if result.is_duplicate else "stored").inc()
        return result

    def use(self) -> Use:
        """Tell how many texts wait to be stored."""
        return self._batcher.use()

    async def close(self) -> None:
        """Wait until everything submitted is committed or refused."""
        await self._batcher.close()

    async def _write(self, batch: Sequence[_Arrival]) -> list[Stored]:
        first: dict[tuple[str, str], _Arrival] = {}
        for arrival in batch:
            first.setdefault((arrival.sms.provider, arrival.sms.provider_message_id), arrival)
        arrivals = list(first.values())
        ids = [new_id() for _ in arrivals]
        leased = self._room()
        arguments = self._arguments(arrivals, ids, leased)

        async def attempt() -> list[asyncpg.Record]:
            async with self._database.connection() as connection:
                rows: list[asyncpg.Record] = await connection.fetch(_STORE, *arguments)
                return rows

        work_ids: dict[UUID, int] = {row[0]: row[1] for row in await retry_races(attempt)}
        results: dict[int, Stored] = {}
        for index, (message_id, arrival) in enumerate(zip(ids, arrivals, strict=True)):
            if message_id in work_ids:
                work = Work(
                    work_ids[message_id], MESSAGE_RECEIVED, message_id, 1, self._lease_token, cause=arrival.cause
                )
                results[id(arrival)] = Stored(message_id, work if index < leased else None)
        return [results.get(id(arrival), _DUPLICATE) for arrival in batch]

    def _arguments(self, arrivals: Sequence[_Arrival], ids: Sequence[UUID], leased: int) -> list[object]:
        texts = [arrival.sms for arrival in arrivals]
        return [
            ids,
            [new_id() for _ in arrivals],
            [arrival.phone for arrival in arrivals],
            [sms.provider for sms in texts],
            [sms.provider_message_id for sms in texts],
            [sms.sender for sms in texts],
            [sms.recipient for sms in texts],
            [sms.body for sms in texts],
            [orjson.dumps(sms.media).decode() if sms.media else "[]" for sms in texts],
            [sms.num_segments for sms in texts],
            [sms.raw for sms in texts],
            [arrival.received_at for arrival in arrivals],
            MESSAGE_RECEIVED,
            self._lease_token,
            self._lease,
            ids[:leased],
            RECEIPT_UNMATCHED,
            [arrival.cause.trace_context for arrival in arrivals],
            [arrival.cause.request_id for arrival in arrivals],
        ]
