"""Accepting messages to be sent: the message, its place in the conversation and its work, in one commit for many.

Nothing is decided here about how it is sent: which provider, and when exactly, is for `dispatch` to say when its turn
comes. Whoever awaits `accept` has an answer only after the commit.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from uuid import UUID

import asyncpg
import orjson

from sms_foundation.auth.refusals import RateLimitedError
from sms_foundation.core.batching import Batcher
from sms_foundation.core.clock import monotonic, utc_now
from sms_foundation.core.db import Connection, Database, is_outage, retry_races
from sms_foundation.core.ids import new_id
from sms_foundation.core.saturation import Use
from sms_foundation.messaging.jobs import RELEASE_MESSAGE
from sms_foundation.messaging.metrics import COMMIT_BATCH_SIZE, MESSAGES_ACCEPTED, STORE_SECONDS
from sms_foundation.messaging.outbound.admission import Admission, NumberLimit
from sms_foundation.messaging.outbound.asked import CONFLICT, Accepted, IdempotencyConflict, Outcome, SendRequest
from sms_foundation.messaging.outbound.lines import sql_order_key, sql_send_kind

_MAX_BATCH = 32
_batch_size = COMMIT_BATCH_SIZE.labels("outbound")
_store_seconds = STORE_SECONDS.labels("outbound")

# One statement, like `ingest._STORE`. The conversation's row is locked until the commit, and the work row gets its id
# after that: so ids of one recipient are in the order of their commits, which is the order they are sent in. ORDER BY
# makes sure of it: the sort has to see every locked conversation before the first id is drawn.
# A message for later has no place in that order yet; it is released into it when its time has come.
_ACCEPT = f"""
WITH input AS MATERIALIZED (
    SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::int[],
                         $9::text[], $10::text[], $11::bytea[], $12::text[], $13::int[], $14::text[],
                         $15::timestamptz[], $16::timestamptz[], $17::text[], $18::timestamptz[], $19::boolean[],
                         $20::text[], $21::text[])
        WITH ORDINALITY AS t(id, conversation_id, phone, sender, content, media, encoding, num_segments, client_id,
                             idempotency_key, digest, metadata, priority, provider, send_at, expires_at, retention,
                             accepted_at, is_test, trace_context, request_id, position)
), known AS MATERIALIZED (
    SELECT i.id AS asked_id, m.id, m.conversation_id, m.created_at, m.request_digest
    FROM input AS i
        -- OFFSET 0 makes it a probe of the key for each request; a join once read the whole index, for want of rows.
        CROSS JOIN LATERAL (
            SELECT * FROM sms_messages
            WHERE client_id = i.client_id AND idempotency_key = i.idempotency_key OFFSET 0) AS m
), fresh AS MATERIALIZED (
    SELECT i.*, row_number() OVER by_phone AS nth, count(*) OVER by_phone AS n,
           max(accepted_at) OVER by_phone AS last_accepted_at
    FROM input AS i
    WHERE NOT EXISTS (SELECT FROM known WHERE known.asked_id = i.id)
    WINDOW by_phone AS (PARTITION BY phone ORDER BY position ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)
), conversation AS (
    INSERT INTO sms_conversations AS c
        (id, phone_number_canonical, phone_number_original, message_count, last_message_at, created_at, updated_at)
    SELECT conversation_id, phone, phone, n, last_accepted_at, accepted_at, accepted_at
    FROM fresh WHERE nth = 1 ORDER BY phone
    ON CONFLICT (phone_number_canonical) DO UPDATE
    SET message_count = c.message_count + excluded.message_count,
        last_message_at = greatest(c.last_message_at, excluded.last_message_at), updated_at = excluded.updated_at
    RETURNING c.id, c.phone_number_canonical AS phone, c.message_count
), message AS (
    INSERT INTO sms_messages
        (id, conversation_id, conversation_seq, direction, from_number, to_number, message_content, media, encoding,
         num_segments, delivery_status, client_id, idempotency_key, request_digest, metadata, priority,
         requested_sender, requested_provider, send_at, expires_at, content_retention, is_test, created_at,
         updated_at, trace_context, request_id)
    SELECT f.id, c.id, c.message_count - f.n + f.nth, 'outbound', f.sender, f.phone, f.content, f.media::jsonb,
           f.encoding, f.num_segments, 'accepted', f.client_id, f.idempotency_key, f.digest, f.metadata::jsonb,
           f.priority, f.sender, f.provider, f.send_at, f.expires_at, f.retention, f.is_test, f.accepted_at,
           f.accepted_at, f.trace_context, f.request_id
    FROM fresh AS f CROSS JOIN LATERAL (SELECT id, message_count FROM conversation WHERE phone = f.phone OFFSET 0) AS c
    RETURNING id, conversation_id
), follow_up AS (
    INSERT INTO work (kind, ref_id, run_at, order_key, priority, trace_context, request_id)
    SELECT CASE WHEN f.send_at > now() THEN '{RELEASE_MESSAGE}' ELSE {sql_send_kind("f.is_test")} END, f.id,
           greatest(f.send_at, now()),
           CASE WHEN f.send_at > now() THEN NULL ELSE {sql_order_key("f.phone", "f.priority", "f.is_test")} END,
           f.priority, f.trace_context, f.request_id
    FROM message JOIN fresh AS f USING (id)
    ORDER BY f.position
)
SELECT id AS asked_id, id, conversation_id, NULL::timestamptz AS created_at, NULL::bytea AS request_digest FROM message
UNION ALL SELECT * FROM known
"""  # noqa: S608  # put together from constants only


class MessageAcceptor:
    """Stores requests, many per commit; `on_accepted` is called after each commit that left work to do."""

    def __init__(
        self, database: Database, *, timeout_s: float, on_accepted: Callable[[], None], limit: NumberLimit | None = None
    ) -> None:
        self._database = database
        self._on_accepted = on_accepted
        self.admission = Admission(database, limit)
        self._batcher: Batcher[SendRequest, Outcome | RateLimitedError] = Batcher(
            self._write,
            is_item_to_blame=lambda error: not is_outage(error),
            max_items=_MAX_BATCH,
            timeout_s=timeout_s,
            on_written=_batch_size.observe,
            tracer=database.tracer,
            name="outbound",
        )

    async def accept(self, request: SendRequest) -> Outcome:
        """Store `request` and return after the commit.

        Idempotent on (client_id, idempotency_key), whichever process stored it first. Raises RateLimitedError,
        OverloadedError, an outage (`core.db.is_outage`), or what PostgreSQL has against this one message.
        """
        started = monotonic()
        outcome = await self._batcher.submit(request)
        if isinstance(outcome, RateLimitedError):
            raise outcome
        _store_seconds.observe(monotonic() - started)
        _count(request, outcome)
        return outcome

    async def accept_all(self, connection: Connection, requests: Sequence[SendRequest]) -> list[Outcome]:
        """Store all of `requests` in the caller's transaction, which is to call `committed` when it is over.

        Whether they are admitted is the caller's to ask, before, of `admission`. Either every one is stored or none.
        Raises what `core.db.retry_races` is for: the caller's to repeat.
        """
        distinct = _Distinct(requests)
        return distinct.answer(await distinct.store(connection))

    def committed(self, requests: Sequence[SendRequest], outcomes: Sequence[Outcome]) -> None:
        """Count what `accept_all` stored, and have it sent."""
        for request, outcome in zip(requests, outcomes, strict=True):
            _count(request, outcome)
        if any(isinstance(each, Accepted) and not each.is_replay for each in outcomes):
            self._on_accepted()

    def use(self) -> Use:
        """Tell how many requests wait to be stored."""
        return self._batcher.use()

    async def close(self) -> None:
        """Wait until everything submitted is committed or refused."""
        await self._batcher.close()

    async def _write(self, batch: Sequence[SendRequest]) -> list[Outcome | RateLimitedError]:
        """Store those of `batch` that are admitted: counted all at once, which one by one would cost much."""
        count = await self.admission.count(batch)
        stored = _Distinct([each for each in batch if count.refusal(each) is None])
        try:
            rows = await self._store(stored)
        except Exception as error:
            if not is_outage(error):  # nothing was stored, and whoever is to blame will be found one by one
                await self.admission.give_back(count, batch)
            raise
        await self.admission.give_back(count, stored.repetitions(rows))
        outcomes = iter(stored.answer(rows))
        return [count.refusal(each) or next(outcomes) for each in batch]

    async def _store(self, requests: "_Distinct") -> Mapping[UUID, asyncpg.Record]:
        async def attempt() -> Mapping[UUID, asyncpg.Record]:
            async with self._database.connection() as connection:
                return await requests.store(connection)

        rows = await retry_races(attempt)
        if any(row["created_at"] is None for row in rows.values()):
            self._on_accepted()
        return rows


class _Distinct:
    """A batch as it is stored: of one key only the first; the others are answered like any later repetition."""

    def __init__(self, batch: Sequence[SendRequest]) -> None:
        self._batch = batch
        self._first: dict[object, SendRequest] = {}
        for request in batch:
            self._first.setdefault(request.identity, request)
        self._requests = list(self._first.values())
        # Made once: a second attempt, after a first of which nobody knows the end, cannot store anything twice.
        self._ids = [new_id() for _ in self._requests]
        self._now = utc_now()
        self._arguments = _arguments(self._requests, self._ids, self._now)

    async def store(self, connection: Connection) -> Mapping[UUID, asyncpg.Record]:
        """Return the row of each request by the id made for it."""
        rows = await connection.fetch(_ACCEPT, *self._arguments) if self._requests else []
        return {row["asked_id"]: row for row in rows}

    def repetitions(self, rows: Mapping[UUID, asyncpg.Record]) -> list[SendRequest]:
        """Return those that had made a message before."""
        return [
            each for each, id_ in zip(self._requests, self._ids, strict=True) if rows[id_]["created_at"] is not None
        ]

    def answer(self, rows: Mapping[UUID, asyncpg.Record]) -> list[Outcome]:
        """Return an outcome for each request of the batch, in its order."""
        made = {
            each.identity: _made(each, rows[id_], self._now)
            for each, id_ in zip(self._requests, self._ids, strict=True)
        }
        return [
            _answer(request, *made[request.identity], is_first=self._first[request.identity] is request)
            for request in self._batch
        ]


def _made(request: SendRequest, row: asyncpg.Record, now: datetime) -> tuple[Accepted, bytes]:
    """Return the message behind a request's key, and the digest of the request that made it."""
    is_new = row["created_at"] is None
    accepted = Accepted(
        message_id=row["id"],
        conversation_id=row["conversation_id"],
        created_at=now if is_new else row["created_at"],
        # The same request again had the same text: what it was counted as then, whatever its provider said since.
        num_segments=request.num_segments,
        encoding=request.encoding,
        is_test=request.is_test,
        is_replay=not is_new,
    )
    return accepted, request.digest if is_new else row["request_digest"]


def _answer(request: SendRequest, accepted: Accepted, digest: bytes, *, is_first: bool) -> Outcome:
    if request.digest != digest:
        return CONFLICT
    return accepted if is_first else replace(accepted, is_replay=True)


def _count(request: SendRequest, outcome: Outcome) -> None:
    match outcome:
        case IdempotencyConflict():
            label = "conflict"
        case Accepted(is_replay=True):
            label = "replayed"
        case Accepted():
            label = "accepted"
    MESSAGES_ACCEPTED.labels(request.priority.name.lower(), label).inc()


def _arguments(requests: Sequence[SendRequest], ids: Sequence[UUID], now: datetime) -> list[object]:
    return [
        ids,
        [new_id() for _ in requests],
        [each.recipient for each in requests],
        [each.sender for each in requests],
        [each.content for each in requests],
        [_media_json(each.media_urls) for each in requests],
        [each.encoding for each in requests],
        [each.num_segments for each in requests],
        [each.client_id for each in requests],
        [each.idempotency_key for each in requests],
        [each.digest for each in requests],
        [orjson.dumps(each.metadata).decode() if each.metadata else None for each in requests],
        [each.priority for each in requests],
        [each.provider for each in requests],
        [each.send_at for each in requests],
        [each.expires_at for each in requests],
        [each.content_retention for each in requests],
        [now] * len(requests),
        [each.is_test for each in requests],
        [each.cause.trace_context for each in requests],
        [each.cause.request_id for each in requests],
    ]


def _media_json(urls: Sequence[str]) -> str:
    return orjson.dumps([{"url": url, "content_type": ""} for url in urls]).decode() if urls else "[]"
