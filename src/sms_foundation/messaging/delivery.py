"""Keeping delivery truth: every status callback becomes an event and moves its message as far as it leads.

Callbacks arrive late, doubled and in any order. The rule of `states.next_status` is evaluated inside the UPDATE, on the
row as it is at that moment, so concurrent callbacks cannot undo each other.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from functools import cache
from types import MappingProxyType
from uuid import UUID

from sms_foundation.core.batching import Batcher
from sms_foundation.core.clock import monotonic, utc_now
from sms_foundation.core.db import Connection, Database, is_outage, retry_races
from sms_foundation.core.ids import new_id
from sms_foundation.core.saturation import Use
from sms_foundation.core.tracing.context import Origin, origin
from sms_foundation.messaging.jobs import RECEIPT_UNMATCHED
from sms_foundation.messaging.metrics import COMMIT_BATCH_SIZE, RECEIPTS_STORED, STORE_SECONDS
from sms_foundation.messaging.opt_outs import is_opt_out, record_opt_outs
from sms_foundation.messaging.receipt_spans import record_applied
from sms_foundation.messaging.references import message_of
from sms_foundation.messaging.states import FINAL, next_status, sql_leads_further
from sms_foundation.messaging.tombstones import sql_is_erased
from sms_foundation.providers.base import MessageStatus, StatusReport, parse_status

_MAX_BATCH = 32
_batch_size = COMMIT_BATCH_SIZE.labels("status")
_store_seconds = STORE_SECONDS.labels("status")
_counter = cache(RECEIPTS_STORED.labels)

DeliveredAfter = Callable[[str, float], None]
WordsOfProviders = Mapping[str, Mapping[str, MessageStatus]]
"""What the words of reports mean, by the provider's name."""
NO_WORDS: WordsOfProviders = MappingProxyType({})


def _sql_list(statuses: Iterable[MessageStatus]) -> str:
    return ", ".join(f"'{status}'" for status in sorted(statuses))


_LEADS_FURTHER = sql_leads_further("m.delivery_status", "t.status")

# A report finds its message by the provider's id or, when that is not written down yet, by our reference: so a callback
# that overtakes the answer to its own send, or comes instead of it, settles what the provider calls the message. A
# reference that leads to a message which has another id by now (sent again elsewhere) gets its event there, no more.
#
# The messages are locked in id order, or two batches could deadlock; what was found is checked again under the lock.
# At most one report per message and statement: an UPDATE applies only one of several matching rows.
_APPLY = f"""
WITH report AS MATERIALIZED (
    SELECT r.*,
           coalesce(
               (SELECT m.id FROM sms_messages AS m
                WHERE m.provider_message_id = r.provider_message_id AND m.provider = r.provider),
               (SELECT m.id FROM sms_messages AS m
                WHERE m.id = r.referred_id AND m.provider = r.provider AND m.provider_message_id IS NULL)) AS found_id
    FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
                $9::timestamptz[], $11::uuid[], $12::bigint[], $13::text[], $14::text[], $15::text[])
        AS r(id, provider, provider_message_id, event_status, status, error_code, error_message, raw, received_at,
             referred_id, price_micros, price_currency, trace_context, request_id)
), target AS MATERIALIZED (
    SELECT m.id, r.id AS event_id, r.provider_message_id, r.status, r.error_code, r.error_message, r.received_at,
           r.price_micros, r.price_currency, r.status IN ({_sql_list(FINAL)}) AS is_final, m.trace_context,
           {sql_is_erased("m")} AS is_erased
    FROM sms_messages AS m JOIN report AS r ON r.found_id = m.id
    WHERE m.provider_message_id IS NULL OR m.provider_message_id = r.provider_message_id
    ORDER BY m.id
    FOR NO KEY UPDATE OF m
), moved AS (
    UPDATE sms_messages AS m
    SET delivery_status = CASE WHEN {_LEADS_FURTHER} THEN t.status ELSE m.delivery_status END,
        provider_message_id = t.provider_message_id,
        sent_at = CASE WHEN m.direction = 'outbound' THEN coalesce(m.sent_at, t.received_at) END,
        ended_at = CASE WHEN t.is_final THEN coalesce(m.ended_at, t.received_at) ELSE m.ended_at END,
        poll_at = CASE WHEN t.is_final THEN NULL ELSE m.poll_at END,
        error_code = coalesce(m.error_code, t.error_code),
        error_message = CASE WHEN NOT t.is_erased THEN coalesce(m.error_message, t.error_message) END,
        price_micros = coalesce(t.price_micros, m.price_micros),
        price_currency = coalesce(t.price_currency, m.price_currency), updated_at = now(),
        -- What nobody knew to be there when its person was erased: now its provider can be asked to forget it.
        redact_at = CASE WHEN t.is_erased AND m.provider_message_id IS NULL THEN now() ELSE m.redact_at END
    FROM target AS t
    WHERE m.id = t.id
      AND ({_LEADS_FURTHER}
           OR (m.delivery_status = t.status AND m.error_code IS NULL AND t.error_code IS NOT NULL)
           OR m.provider_message_id IS NULL
           OR (t.price_micros IS NOT NULL AND m.price_micros IS DISTINCT FROM t.price_micros))
    RETURNING m.id, m.delivery_status = t.status AS is_applied,
              CASE WHEN t.is_final AND m.ended_at = t.received_at AND m.delivery_status = 'delivered'
                   THEN extract(epoch FROM m.ended_at - m.sent_at)::float8 END AS delivered_after_s
), event AS (
    INSERT INTO sms_message_status_events
        (id, message_id, provider, provider_message_id, event_status, error_code, error_message, raw_webhook_data,
         created_at)
    SELECT r.id, coalesce(t.id, (SELECT m.id FROM sms_messages AS m WHERE m.id = r.referred_id)), r.provider,
           r.provider_message_id, r.event_status, r.error_code, CASE WHEN NOT person.is_erased THEN r.error_message END,
           CASE WHEN NOT person.is_erased THEN r.raw::jsonb END, r.received_at
    FROM report AS r LEFT JOIN target AS t ON t.event_id = r.id
        -- A late report must not bring somebody back who was erased.
        CROSS JOIN LATERAL (SELECT coalesce(
            t.is_erased, (SELECT {sql_is_erased("m")} FROM sms_messages AS m WHERE m.id = r.referred_id), false
        ) AS is_erased) AS person
    ON CONFLICT (provider, provider_message_id, event_status, error_code) WHERE provider_message_id IS NOT NULL
        DO NOTHING
    RETURNING id, message_id
), follow_up AS (
    -- The message may be committed by somebody else this very moment: look again soon.
    INSERT INTO work (kind, ref_id, run_at, trace_context, request_id)
    SELECT $10, event.id, now() + interval '1 second', r.trace_context, r.request_id
    FROM event
        CROSS JOIN LATERAL (SELECT trace_context, request_id FROM report WHERE report.id = event.id OFFSET 0) AS r
    WHERE event.message_id IS NULL
)
SELECT event.id, event.message_id, moved.is_applied, moved.delivered_after_s, t.trace_context
FROM event LEFT JOIN moved ON moved.id = event.message_id LEFT JOIN target AS t ON t.event_id = event.id
"""  # noqa: S608  # put together from constants only

_FIND_EVENT = """
SELECT provider, provider_message_id FROM sms_message_status_events WHERE id = $1
"""
_LOCK_MESSAGE = f"""
SELECT id, delivery_status, error_code, error_message, {sql_is_erased("m")} AS is_erased FROM sms_messages AS m
WHERE provider = $1 AND provider_message_id = $2 FOR NO KEY UPDATE
"""  # noqa: S608  # put together from constants only
_UNMATCHED_EVENTS = """
SELECT id, event_status, error_code, error_message FROM sms_message_status_events
WHERE provider = $1 AND provider_message_id = $2 AND message_id IS NULL ORDER BY created_at, id FOR UPDATE
"""
_CLAIM_EVENTS = "UPDATE sms_message_status_events SET message_id = $2 WHERE id = ANY($1)"
# What came before its message was known must not bring somebody back who was erased since.
_EMPTY_EVENTS = """
UPDATE sms_message_status_events SET raw_webhook_data = NULL, error_message = NULL WHERE id = ANY($1)
"""
_SAVE_STATUS = """
UPDATE sms_messages
SET delivery_status = $2, error_code = $3, error_message = $4, updated_at = now(),
    ended_at = CASE WHEN $5 THEN coalesce(ended_at, now()) ELSE ended_at END,
    poll_at = CASE WHEN $5 THEN NULL ELSE poll_at END
WHERE id = $1
"""


class ReceiptOutcome(StrEnum):
    """What became of one status callback."""

    APPLIED = "applied"  # the message moved on
    LATE = "late"  # kept as an event; the message was further already
    UNMATCHED = "unmatched"  # kept until its message turns up
    DUPLICATE = "duplicate"  # the same status of the same message was known


_Applied = tuple[ReceiptOutcome, str | None]
"""What became of one, and where its message stands in a trace."""


class ReceiptStore:
    """Stores status callbacks and applies them, many per commit."""

    def __init__(
        self, database: Database, *, timeout_s: float, on_delivered: DeliveredAfter = lambda _provider, _after_s: None
    ) -> None:
        """`on_delivered(provider, seconds)` is told how long after its sending a message reached the phone."""
        self._database = database
        self._on_delivered = on_delivered
        self._batcher: Batcher[tuple[StatusReport, Origin], _Applied] = Batcher(
            self._write,
            is_item_to_blame=lambda error: not is_outage(error),
            max_items=_MAX_BATCH,
            timeout_s=timeout_s,
            on_written=_batch_size.observe,
            tracer=database.tracer,
            name="receipts",
        )

    async def apply(self, report: StatusReport) -> ReceiptOutcome:
        """Store `report`, move its message, and return after the commit.

        Idempotent on (provider, provider_message_id, event_status, error_code). Raises like `MessageStore.store`.
        """
        started = monotonic()
        outcome, trace_context = await self._batcher.submit((report, origin()))
        _store_seconds.observe(monotonic() - started)
        _counter(report.provider, outcome.value).inc()
        if self._database.tracer is not None and outcome in (ReceiptOutcome.APPLIED, ReceiptOutcome.LATE):
            record_applied(self._database.tracer, trace_context, report, outcome.value)
        return outcome

    def use(self) -> Use:
        """Tell how many reports wait to be stored."""
        return self._batcher.use()

    async def close(self) -> None:
        """Wait until everything submitted is committed or refused."""
        await self._batcher.close()

    async def _write(self, arrived: Sequence[tuple[StatusReport, Origin]]) -> list[_Applied]:
        batch = [report for report, _ in arrived]
        causes = [cause for _, cause in arrived]
        outcomes: list[_Applied] = [(ReceiptOutcome.DUPLICATE, None)] * len(batch)
        rounds = _rounds(batch)
        delivered: list[tuple[str, float]] = []
        is_one_statement = len(rounds) == 1 and not any(is_opt_out(report) for report in batch)

        async def attempt() -> None:
            async with self._database.connection() if is_one_statement else self._database.transaction() as connection:
                delivered.clear()
                for positions in rounds:
                    await _apply_round(connection, batch, causes, positions, outcomes, delivered)
                await record_opt_outs(connection, [report for report in batch if is_opt_out(report)])

        await retry_races(attempt)
        for provider, after_s in delivered:
            self._on_delivered(provider, after_s)
        return outcomes


def _rounds(batch: Sequence[StatusReport]) -> list[list[int]]:
    """Split a batch into rounds with at most one report per message, in order of arrival."""
    rounds: list[list[int]] = []
    seen: dict[tuple[str, str], int] = {}
    for position, report in enumerate(batch):
        key = (report.provider, report.provider_message_id)
        nth = seen.get(key, 0)
        seen[key] = nth + 1
        if nth == len(rounds):
            rounds.append([])
        rounds[nth].append(position)
    return rounds


async def _apply_round(
    connection: Connection,
    batch: Sequence[StatusReport],
    causes: Sequence[Origin],
    positions: Sequence[int],
    outcomes: list[_Applied],
    delivered: list[tuple[str, float]],
) -> None:
    reports = [batch[position] for position in positions]
    ids = [new_id() for _ in reports]
    now = utc_now()
    rows = await connection.fetch(
        _APPLY,
        ids,
        [report.provider for report in reports],
        [report.provider_message_id for report in reports],
        [report.event_status for report in reports],
        [report.status for report in reports],
        [report.error_code for report in reports],
        [report.error_message for report in reports],
        [report.raw for report in reports],
        [now] * len(reports),
        RECEIPT_UNMATCHED,
        [message_of(report.reference) for report in reports],
        [report.price.micros if report.price else None for report in reports],
        [report.price.currency if report.price else None for report in reports],
        [causes[position].trace_context for position in positions],
        [causes[position].request_id for position in positions],
    )
    kept = {row[0]: row[1:] for row in rows}
    for position, event_id in zip(positions, ids, strict=True):
        if event_id not in kept:
            outcomes[position] = ReceiptOutcome.DUPLICATE, None
            continue
        message_id, is_applied, delivered_after_s, trace_context = kept[event_id]
        if message_id is None:
            outcomes[position] = ReceiptOutcome.UNMATCHED, None
        else:
            outcomes[position] = ReceiptOutcome.APPLIED if is_applied else ReceiptOutcome.LATE, trace_context
        if delivered_after_s is not None:
            delivered.append((batch[position].provider, delivered_after_s))


async def match_receipt(connection: Connection, event_id: UUID, words: WordsOfProviders = NO_WORDS) -> bool:
    """Apply all waiting callbacks of the message that event `event_id` is about; True when nothing waits any more.

    An event keeps its provider's own word; `words` says what it means. One of a provider not named there means what it
    means to us.

    Needs a transaction. Idempotent: an event that has found its message is left alone.
    """
    event = await connection.fetchrow(_FIND_EVENT, event_id)
    if event is None:
        return True
    message = await connection.fetchrow(_LOCK_MESSAGE, event["provider"], event["provider_message_id"])
    if message is None:
        return False
    waiting = await connection.fetch(_UNMATCHED_EVENTS, event["provider"], event["provider_message_id"])
    if not waiting:
        return True
    current = MessageStatus(message["delivery_status"])
    error_code, error_message = message["error_code"], message["error_message"]
    for each in waiting:
        reported = _meaning(each["event_status"], words.get(event["provider"]))
        following = next_status(current, reported)
        if following is not current or reported is current:
            error_code = error_code or each["error_code"]
            error_message = error_message or each["error_message"]
        current = following
    if message["is_erased"]:
        error_message = None
        await connection.execute(_EMPTY_EVENTS, [each["id"] for each in waiting])
    await connection.execute(_SAVE_STATUS, message["id"], current, error_code, error_message, current in FINAL)
    await connection.execute(_CLAIM_EVENTS, [each["id"] for each in waiting], message["id"])
    return True


def _meaning(word: str, words: Mapping[str, MessageStatus] | None) -> MessageStatus | None:
    return parse_status(word) if words is None else words.get(word)
