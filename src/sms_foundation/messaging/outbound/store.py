"""The SQL of sending: what is due, what is about to be tried, what came of it.

`begin` commits before a provider is called and `finish` after it answered; between the two nothing is held but the
lease of the work row. An attempt without an outcome is therefore one whose outcome nobody knows.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

import orjson

from sms_foundation.core.db import Connection
from sms_foundation.core.ids import new_id
from sms_foundation.core.work.queue import Priority, Work
from sms_foundation.messaging.outbound.lines import sql_order_key, sql_send_kind
from sms_foundation.messaging.states import FINAL, sql_leads_further
from sms_foundation.messaging.tombstones import sql_is_erased
from sms_foundation.providers.base import MessageStatus, Price

# When the content of a message that has come to an end is to be forgotten.
REDACT_AT = """CASE m.content_retention
            WHEN 'hash' THEN coalesce(m.redact_at, now())
            WHEN 'full' THEN m.redact_at
            ELSE coalesce(m.redact_at, now() + m.content_retention::int * interval '1 day') END"""
# What failed and can be retried keeps it for a day longer: what is to be sent again has to be there.
_RETRYABLE_FOR = "interval '1 day'"

_LOAD = """
SELECT m.id, m.delivery_status, m.provider_message_id, m.to_number, m.requested_sender, m.requested_provider,
       m.message_content, m.media::text AS media, m.num_segments, m.priority, m.client_id, m.content_retention,
       m.is_test,
       coalesce(m.send_at, m.created_at) AS wanted_at, m.requeued_at,
       extract(epoch FROM m.expires_at - now())::float8 AS left_s,
       EXISTS (SELECT FROM sms_opt_outs AS o WHERE o.phone_number_canonical = m.to_number) AS is_opted_out,
       (SELECT json_agg(json_build_array(a.number, a.provider, a.sender, a.outcome, a.started_at,
                                         extract(epoch FROM now() - a.started_at), a.error_code) ORDER BY a.number)
        FROM sms_send_attempts AS a WHERE a.message_id = m.id)::text AS attempts
FROM unnest($1::uuid[]) AS wanted(id) JOIN sms_messages AS m USING (id)
"""

# Whoever inserts the next attempt first has the message: a process that believes to hold it, though its lease is over,
# gets nothing here, also when the other one has failed and put the message back. One that was canceled meanwhile is not
# touched. (`IS TRUE` keeps the planner from walking through
# the index of all messages without a provider's id.)
_BEGIN = """
WITH input AS MATERIALIZED (
    SELECT * FROM unnest($1::uuid[], $2::int[], $3::text[], $4::text[], $5::text[])
        AS t(message_id, number, provider, sender, reasons)
), message AS (
    UPDATE sms_messages AS m
    SET delivery_status = 'sending', provider = i.provider, from_number = i.sender, updated_at = now()
    FROM input AS i
    WHERE m.id = i.message_id AND m.delivery_status IN ('accepted', 'queued')
      AND (m.provider_message_id IS NULL) IS TRUE
      AND NOT EXISTS (SELECT FROM sms_send_attempts AS a WHERE a.message_id = i.message_id AND a.number >= i.number)
    RETURNING m.id
)
INSERT INTO sms_send_attempts (message_id, number, provider, sender, reasons)
SELECT i.message_id, i.number, i.provider, i.sender, i.reasons::jsonb
FROM input AS i JOIN message ON message.id = i.message_id
ON CONFLICT DO NOTHING
RETURNING message_id
"""

_ENDS = f"""(r.status IN ({", ".join(f"'{status}'" for status in sorted(FINAL))})
                   AND (r.outcome = 'sent' OR m.provider_message_id IS NULL))"""

# A callback can have been faster than the answer: once the provider has named the message, what it says stands, and no
# failure of a call can undo it. Nor can what comes late, from a process that lost its lease, undo what another one has
# found out or begun since; that nobody knows is no news where somebody does. Work that goes on has begun anew: only
# failures in a row make a row dead.
_FINISH = f"""
WITH result AS MATERIALIZED (
    SELECT * FROM unnest($1::uuid[], $2::int[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
                         $9::text[], $10::int[], $11::int[], $12::text[], $13::int[], $14::bigint[], $15::text[],
                         $16::interval[], $17::bigint[], $18::uuid[], $19::text[], $20::interval[], $21::boolean[],
                         $22::uuid[])
        AS t(message_id, number, outcome, provider_message_id, status, event_status, error_kind, error_code,
             error_message, http_status, latency_ms, response, num_segments, price_micros, price_currency, poll_after,
             work_id, lease_token, next, delay, is_skipped, event_id)
), attempt AS (
    UPDATE sms_send_attempts AS a
    SET finished_at = now(), outcome = r.outcome, provider_message_id = r.provider_message_id,
        error_kind = r.error_kind, error_code = coalesce(r.error_code, a.error_code), error_message = r.error_message,
        -- Finding out later what became of a call does not undo what was seen of it.
        http_status = coalesce(r.http_status, a.http_status), latency_ms = coalesce(r.latency_ms, a.latency_ms),
        response = r.response::jsonb
    FROM result AS r
    WHERE a.message_id = r.message_id AND a.number = r.number
      AND (r.outcome <> 'unknown' OR a.outcome IS NULL OR a.outcome = 'unknown')
), message AS (
    UPDATE sms_messages AS m
    SET delivery_status = CASE
            WHEN r.outcome = 'sent' AND {sql_leads_further("m.delivery_status", "r.status")} THEN r.status
            WHEN r.outcome <> 'sent' AND m.provider_message_id IS NULL THEN r.status
            ELSE m.delivery_status END,
        provider_message_id = coalesce(m.provider_message_id, r.provider_message_id),
        num_segments = coalesce(r.num_segments, m.num_segments),
        error_code = CASE WHEN {_ENDS} THEN coalesce(m.error_code, r.error_code) ELSE m.error_code END,
        error_message = CASE WHEN {_ENDS} AND NOT {sql_is_erased("m")} THEN coalesce(m.error_message, r.error_message)
                             ELSE m.error_message END,
        sent_at = CASE WHEN r.outcome = 'sent' THEN coalesce(m.sent_at, now()) ELSE m.sent_at END,
        ended_at = CASE WHEN {_ENDS} THEN coalesce(m.ended_at, now()) ELSE m.ended_at END,
        poll_at = CASE WHEN m.ended_at IS NULL THEN coalesce(now() + r.poll_after, m.poll_at) END,
        redact_at = CASE
            WHEN r.outcome = 'sent' AND {sql_is_erased("m")} THEN coalesce(m.redact_at, now())
            WHEN r.outcome = 'sent' OR ({_ENDS} AND r.next <> 'dead') THEN {REDACT_AT}
            WHEN {_ENDS} THEN {REDACT_AT} + {_RETRYABLE_FOR} ELSE m.redact_at END,
        price_micros = coalesce(r.price_micros, m.price_micros),
        price_currency = coalesce(r.price_currency, m.price_currency), updated_at = now()
    FROM result AS r
    WHERE m.id = r.message_id
      AND (r.outcome = 'sent'
           OR NOT EXISTS (SELECT FROM sms_send_attempts AS later
                          WHERE later.message_id = r.message_id AND later.number > r.number))
      AND (r.outcome <> 'unknown'
           OR (m.provider_message_id IS NULL AND m.delivery_status IN ('sending', 'unknown')) IS TRUE)
    RETURNING m.id, m.provider, {sql_is_erased("m")} AS is_erased
), event AS (
    INSERT INTO sms_message_status_events
        (id, message_id, provider, provider_message_id, event_status, error_code, error_message)
    SELECT r.event_id, r.message_id, CASE WHEN r.provider_message_id IS NOT NULL THEN message.provider END,
           r.provider_message_id, r.event_status, r.error_code, CASE WHEN NOT message.is_erased THEN r.error_message END
    FROM result AS r JOIN message ON message.id = r.message_id
    ON CONFLICT (provider, provider_message_id, event_status, error_code) WHERE provider_message_id IS NOT NULL
        DO NOTHING
), gone AS (
    DELETE FROM work AS w USING result AS r
    WHERE w.id = r.work_id AND w.lease_token = r.lease_token AND r.next = 'done'
)
UPDATE work AS w
SET state = r.next, run_at = now() + r.delay, last_error = coalesce(r.error_kind, r.event_status),
    attempts = CASE r.next WHEN 'due' THEN 0 ELSE w.attempts END,
    order_key = CASE WHEN r.is_skipped THEN NULL ELSE w.order_key END, lease_token = NULL, lease_until = NULL
FROM result AS r
WHERE w.id = r.work_id AND w.lease_token = r.lease_token AND r.next <> 'done'
"""  # noqa: S608  # put together from constants only

_END = f"""
WITH ended AS (
    UPDATE sms_messages AS m
    SET delivery_status = e.status, error_code = e.code, error_message = e.reason, ended_at = now(), updated_at = now(),
        redact_at = CASE WHEN e.is_replayable THEN {REDACT_AT} + {_RETRYABLE_FOR} ELSE {REDACT_AT} END
    FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $8::boolean[])
        AS e(id, status, code, reason, is_replayable)
    WHERE m.id = e.id AND m.delivery_status IN ('accepted', 'queued') AND (m.provider_message_id IS NULL) IS TRUE
    RETURNING m.id, e.status, e.code, e.reason
), gone AS (
    DELETE FROM work AS w USING unnest($6::bigint[], $7::uuid[], $8::boolean[]) AS done(id, lease_token, is_replayable)
    WHERE w.id = done.id AND w.lease_token = done.lease_token AND NOT done.is_replayable
), dead AS (
    UPDATE work AS w
    SET state = 'dead', last_error = done.reason, lease_token = NULL, lease_until = NULL
    FROM unnest($6::bigint[], $7::uuid[], $8::boolean[], $4::text[]) AS done(id, lease_token, is_replayable, reason)
    WHERE w.id = done.id AND w.lease_token = done.lease_token AND done.is_replayable
)
INSERT INTO sms_message_status_events (id, message_id, event_status, error_code, error_message)
SELECT t.event_id, ended.id, ended.status, ended.code, ended.reason
FROM ended JOIN unnest($1::uuid[], $5::uuid[]) AS t(id, event_id) USING (id)
"""  # noqa: S608  # put together from constants only

_REQUEUE = """
WITH message AS (
    UPDATE sms_messages
    SET delivery_status = 'queued', error_code = NULL, error_message = NULL, ended_at = NULL, requeued_at = now(),
        updated_at = now()
    WHERE id = $1 AND delivery_status = ANY($3) AND provider_message_id IS NULL
    RETURNING id
)
INSERT INTO sms_message_status_events (id, message_id, event_status, error_message)
SELECT $2, id, 'queued', $4 FROM message RETURNING message_id
"""

_CLOSE_ATTEMPTS = """
UPDATE sms_send_attempts
SET outcome = $2, finished_at = coalesce(finished_at, now()),
    provider_message_id = coalesce(provider_message_id, $3)
WHERE message_id = $1 AND (outcome IS NULL OR outcome = 'unknown')
"""

_RELEASE = f"""
WITH released AS (
    UPDATE work AS w
    SET kind = {sql_send_kind("m.is_test")}, order_key = {sql_order_key("m.to_number", "m.priority", "m.is_test")},
        state = 'due', attempts = 0, run_at = now(), lease_token = NULL, lease_until = NULL
    FROM unnest($1::bigint[], $2::uuid[]) AS held(id, lease_token), sms_messages AS m
    WHERE w.id = held.id AND w.lease_token = held.lease_token AND m.id = w.ref_id
    RETURNING m.id
)
UPDATE sms_messages AS m SET delivery_status = 'queued', updated_at = now()
FROM released WHERE m.id = released.id AND m.delivery_status = 'accepted'
"""  # noqa: S608  # put together from constants only

_TAKEN_IDS = """
SELECT provider_message_id FROM sms_messages WHERE provider_message_id = ANY($2) AND provider = $1 AND id <> $3
"""


NOT_CALLED = "not_called"
"""Error code of an attempt whose turn passed before its call was made: the provider never heard of it."""


class AttemptOutcome(StrEnum):
    """What came of one call to a provider; none while nobody knows."""

    SENT = "sent"
    REFUSED = "refused"  # for good: no provider would take it
    FAILED = "failed"  # not sent for certain; it may be tried again
    UNKNOWN = "unknown"
    ABSENT = "absent"  # was unknown, and the provider does not have it


@dataclass(frozen=True, slots=True)
class PastAttempt:
    """An earlier call; `outcome` None: it was under way when its process died, or still is."""

    number: int
    provider: str
    sender: str
    outcome: AttemptOutcome | None
    started_at: datetime
    age_s: float
    error_code: str | None

    @property
    def is_open(self) -> bool:
        return self.outcome in (None, AttemptOutcome.UNKNOWN)


@dataclass(frozen=True, slots=True, kw_only=True)
class DueMessage:
    """An outbound message as dispatching needs it. `left_s`: until it expires, None: it never does."""

    id: UUID
    status: MessageStatus
    provider_message_id: str | None
    recipient: str
    sender: str | None
    provider: str | None
    content: str = field(repr=False)
    media_urls: tuple[str, ...]
    num_segments: int
    priority: Priority
    client_id: str
    content_retention: str
    is_test: bool
    wanted_at: datetime
    left_s: float | None
    is_opted_out: bool
    attempts: tuple[PastAttempt, ...]
    requeued_at: datetime | None

    @property
    def open_attempt(self) -> PastAttempt | None:
        """The attempt whose outcome is not known, if there is one: there is never more than one."""
        return next((each for each in self.attempts if each.is_open), None)

    @property
    def is_redacted(self) -> bool:
        """Only the hash of its content is left."""
        return self.content_retention != "full" and self.content.startswith("sha256:")

    @property
    def failures(self) -> list[PastAttempt]:
        """Calls that came to nothing since the message was last put back by a person."""
        return [
            each
            for each in self.attempts
            if each.outcome in (AttemptOutcome.FAILED, AttemptOutcome.ABSENT)
            and each.error_code != NOT_CALLED
            and (self.requeued_at is None or each.started_at > self.requeued_at)
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewAttempt:
    """A call about to be made."""

    message_id: UUID
    number: int
    provider: str
    sender: str
    reasons: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """What a call, or asking about it later, came to, and what becomes of its work row.

    `next`: `done` deletes the row, `due` runs it again after `delay`, `dead` puts it aside. `is_skipped`: those behind
    it need not wait for it any more.
    """

    message_id: UUID
    number: int
    work: Work
    outcome: AttemptOutcome
    status: MessageStatus
    event_status: str
    next: str = "done"
    delay: timedelta = timedelta(0)
    is_skipped: bool = False
    provider_message_id: str | None = None
    error_kind: str | None = None
    error_code: str | None = None
    error_message: str | None = None
    http_status: int | None = None
    latency_ms: int | None = None
    response: str | None = None
    num_segments: int | None = None
    price: Price | None = None
    poll_after: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Ending:
    """Why a message is not sent; `code` is ours and stable. Its work ends, or is put aside where it `is_replayable`."""

    message_id: UUID
    work: Work
    status: MessageStatus
    code: str
    reason: str
    is_replayable: bool = False


async def load(connection: Connection, ids: Sequence[UUID]) -> dict[UUID, DueMessage]:
    """Return the messages that exist, by id."""
    return {
        row["id"]: DueMessage(
            id=row["id"],
            status=MessageStatus(row["delivery_status"]),
            provider_message_id=row["provider_message_id"],
            recipient=row["to_number"],
            sender=row["requested_sender"],
            provider=row["requested_provider"],
            content=row["message_content"],
            media_urls=tuple(each["url"] for each in orjson.loads(row["media"])) if row["media"] != "[]" else (),
            num_segments=row["num_segments"],
            priority=Priority(row["priority"]),
            client_id=row["client_id"],
            content_retention=row["content_retention"],
            is_test=row["is_test"],
            wanted_at=row["wanted_at"],
            left_s=row["left_s"],
            is_opted_out=row["is_opted_out"],
            attempts=_attempts(row["attempts"]),
            requeued_at=row["requeued_at"],
        )
        for row in await connection.fetch(_LOAD, ids)
    }


def _attempts(text: str | None) -> tuple[PastAttempt, ...]:
    if text is None:
        return ()
    return tuple(
        PastAttempt(
            number,
            provider,
            sender,
            None if outcome is None else AttemptOutcome(outcome),
            datetime.fromisoformat(started_at),
            age_s,
            error_code,
        )
        for number, provider, sender, outcome, started_at, age_s, error_code in orjson.loads(text)
    )


async def begin(connection: Connection, attempts: Sequence[NewAttempt]) -> set[UUID]:
    """Record calls that are about to be made; returns the messages that are ours to send, by their ids."""
    rows = await connection.fetch(
        _BEGIN,
        [each.message_id for each in attempts],
        [each.number for each in attempts],
        [each.provider for each in attempts],
        [each.sender for each in attempts],
        [each.reasons for each in attempts],
    )
    return {row[0] for row in rows}


async def finish(connection: Connection, finished: Sequence[Finished]) -> None:
    """Record what calls came to, move their messages, and settle their work. At most one of each message."""
    finished = sorted(finished, key=lambda each: each.message_id)  # the order in which receipts lock messages
    await connection.execute(
        _FINISH,
        [each.message_id for each in finished],
        [each.number for each in finished],
        [each.outcome for each in finished],
        [each.provider_message_id for each in finished],
        [each.status for each in finished],
        [each.event_status for each in finished],
        [each.error_kind for each in finished],
        [each.error_code for each in finished],
        [each.error_message for each in finished],
        [each.http_status for each in finished],
        [each.latency_ms for each in finished],
        [each.response for each in finished],
        [each.num_segments for each in finished],
        [each.price.micros if each.price else None for each in finished],
        [each.price.currency if each.price else None for each in finished],
        [each.poll_after for each in finished],
        [each.work.id for each in finished],
        [each.work.lease_token for each in finished],
        [each.next for each in finished],
        [each.delay for each in finished],
        [each.is_skipped for each in finished],
        [new_id() for _ in finished],
    )


async def end(connection: Connection, endings: Sequence[Ending]) -> None:
    """Close messages that are not to be sent; those that went out or were closed meanwhile stay as they are."""
    if endings:
        await connection.execute(
            _END,
            [each.message_id for each in endings],
            [each.status for each in endings],
            [each.code for each in endings],
            [each.reason for each in endings],
            [new_id() for _ in endings],
            [each.work.id for each in endings],
            [each.work.lease_token for each in endings],
            [each.is_replayable for each in endings],
        )


async def requeue(
    connection: Connection, message_id: UUID, *, from_statuses: Sequence[MessageStatus], reason: str
) -> bool:
    """Put a message that was given up back in line, with all its retries; False: it is not in one of these statuses."""
    row = await connection.fetchrow(_REQUEUE, message_id, new_id(), list(from_statuses), reason)
    return row is not None


async def close_attempts(
    connection: Connection, message_id: UUID, outcome: AttemptOutcome, provider_message_id: str | None
) -> None:
    """Settle the attempt whose outcome was not known, after something else has told it. Idempotent."""
    await connection.execute(_CLOSE_ATTEMPTS, message_id, outcome, provider_message_id)


async def release(connection: Connection, held: Sequence[Work]) -> None:
    """Put scheduled messages in line; their places are those of their acceptance."""
    await connection.execute(_RELEASE, [work.id for work in held], [work.lease_token for work in held])


async def taken_ids(
    connection: Connection, provider: str, provider_message_ids: Sequence[str], *, message_id: UUID
) -> set[str]:
    """Return those of the provider's ids that are known to be messages of ours other than `message_id`."""
    rows = await connection.fetch(_TAKEN_IDS, provider, provider_message_ids, message_id)
    return {row[0] for row in rows}
