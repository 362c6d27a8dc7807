"""Keeping delivery truth: every status callback becomes an event and moves its message as far as it leads.

Callbacks arrive late, doubled and in any order. The rule of `states.next_status` is evaluated inside the UPDATE, on the
row as it is at that moment, so concurrent callbacks cannot undo each other.
"""

from collections.abc import Sequence
from enum import StrEnum
from functools import cache
from uuid import UUID

from sms_foundation.core.batching import Batcher
from sms_foundation.core.clock import monotonic, utc_now
from sms_foundation.core.db import Connection, Database, is_outage, retry_races
from sms_foundation.core.ids import new_id
from sms_foundation.messaging.jobs import RECEIPT_UNMATCHED
from sms_foundation.messaging.metrics import COMMIT_BATCH_SIZE, RECEIPTS_STORED, STORE_SECONDS
from sms_foundation.messaging.states import next_status, sql_leads_further
from sms_foundation.providers.base import MessageStatus, StatusReport, parse_status

_MAX_BATCH = 32
_batch_size = COMMIT_BATCH_SIZE.labels("status")
_store_seconds = STORE_SECONDS.labels("status")
_counter = cache(RECEIPTS_STORED.labels)

# The messages are locked in id order, or two batches could deadlock. At most one report per message and statement: an
# UPDATE applies only one of several matching rows.
_APPLY = f"""
WITH report AS MATERIALIZED (
    SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
                         $9::timestamptz[])
        AS t(id, provider, provider_message_id, event_status, status, error_code, error_message, raw, received_at)
), target AS MATERIALIZED (
    SELECT m.id, r.id AS event_id, r.status, r.error_code, r.error_message
    FROM sms_messages AS m JOIN report AS r USING (provider, provider_message_id)
    ORDER BY m.id
    FOR NO KEY UPDATE OF m
), moved AS (
    UPDATE sms_messages AS m
    SET delivery_status = t.status, error_code = coalesce(m.error_code, t.error_code),
        error_message = coalesce(m.error_message, t.error_message), updated_at = now()
    FROM target AS t
    WHERE m.id = t.id
      AND ({sql_leads_further("m.delivery_status", "t.status")}
           OR (m.delivery_status = t.status AND m.error_code IS NULL AND t.error_code IS NOT NULL))
    RETURNING m.id
), event AS (
    INSERT INTO sms_message_status_events
        (id, message_id, provider, provider_message_id, event_status, error_code, error_message, raw_webhook_data,
         created_at)
    SELECT r.id, t.id, r.provider, r.provider_message_id, r.event_status, r.error_code, r.error_message, r.raw::jsonb,
           r.received_at
    FROM report AS r LEFT JOIN target AS t ON t.event_id = r.id
    ON CONFLICT (provider, provider_message_id, event_status, error_code) DO NOTHING
    RETURNING id, message_id
), follow_up AS (
    -- The message may be committed by somebody else this very moment: look again soon.
    INSERT INTO work (kind, ref_id, run_at)
    SELECT $10, event.id, now() + interval '1 second' FROM event WHERE event.message_id IS NULL
)
SELECT event.id, event.message_id, moved.id FROM event LEFT JOIN moved ON moved.id = event.message_id
"""  # noqa: S608  # put together from constants only

_FIND_EVENT = """
SELECT provider, provider_message_id FROM sms_message_status_events WHERE id = $1
"""
_LOCK_MESSAGE = """
SELECT id, delivery_status, error_code, error_message FROM sms_messages
WHERE provider = $1 AND provider_message_id = $2 FOR NO KEY UPDATE
"""
_UNMATCHED_EVENTS = """
SELECT id, event_status, error_code, error_message FROM sms_message_status_events
WHERE provider = $1 AND provider_message_id = $2 AND message_id IS NULL ORDER BY created_at, id FOR UPDATE
"""
_CLAIM_EVENTS = "UPDATE sms_message_status_events SET message_id = $2 WHERE id = ANY($1)"
_SAVE_STATUS = """
UPDATE sms_messages SET delivery_status = $2, error_code = $3, error_message = $4, updated_at = now() WHERE id = $1
"""


class ReceiptOutcome(StrEnum):
    """What became of one status callback."""

    APPLIED = "applied"  # the message moved on
    LATE = "late"  # kept as an event; the message was further already
    UNMATCHED = "unmatched"  # kept until its message turns up
    DUPLICATE = "duplicate"  # the same status of the same message was known


class ReceiptStore:
    """Stores status callbacks and applies them, many per commit."""

    def __init__(self, database: Database, *, timeout_s: float) -> None:
        self._database = database
        self._batcher: Batcher[StatusReport, ReceiptOutcome] = Batcher(
            self._write,
            is_item_to_blame=lambda error: not is_outage(error),
            max_items=_MAX_BATCH,
            timeout_s=timeout_s,
            on_written=_batch_size.observe,
        )

    async def apply(self, report: StatusReport) -> ReceiptOutcome:
        """Store `report`, move its message, and return after the commit.

        Idempotent on (provider, provider_message_id, event_status, error_code). Raises like `MessageStore.store`.
        """
        started = monotonic()
        outcome = await self._batcher.submit(report)
        _store_seconds.observe(monotonic() - started)
        _counter(report.provider, outcome.value).inc()
        return outcome

    async def close(self) -> None:
        """Wait until everything submitted is committed or refused."""
        await self._batcher.close()

    async def _write(self, batch: Sequence[StatusReport]) -> list[ReceiptOutcome]:
        outcomes: list[ReceiptOutcome] = [ReceiptOutcome.DUPLICATE] * len(batch)
        rounds = _rounds(batch)

        async def attempt() -> None:
            async with self._database.transaction() if len(rounds) > 1 else self._database.connection() as connection:
                for positions in rounds:
                    await _apply_round(connection, batch, positions, outcomes)

        await retry_races(attempt)
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
    connection: Connection, batch: Sequence[StatusReport], positions: Sequence[int], outcomes: list[ReceiptOutcome]
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
    )
    kept = {row[0]: (row[1], row[2]) for row in rows}
    for position, event_id in zip(positions, ids, strict=True):
        if event_id not in kept:
            outcomes[position] = ReceiptOutcome.DUPLICATE
            continue
        message_id, moved_id = kept[event_id]
        if message_id is None:
            outcomes[position] = ReceiptOutcome.UNMATCHED
        else:
            outcomes[position] = ReceiptOutcome.LATE if moved_id is None else ReceiptOutcome.APPLIED


async def match_receipt(connection: Connection, event_id: UUID) -> bool:
    """Apply all waiting callbacks of the message that event `event_id` is about; True when nothing waits any more.

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
        reported = parse_status(each["event_status"])
        following = next_status(current, reported)
        if following is not current or reported is current:
            error_code = error_code or each["error_code"]
            error_message = error_message or each["error_message"]
        current = following
    await connection.execute(_SAVE_STATUS, message["id"], current, error_code, error_message)
    await connection.execute(_CLAIM_EVENTS, [each["id"] for each in waiting], message["id"])
    return True
