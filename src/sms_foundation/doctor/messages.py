"""One walk over the messages of the period: do their statuses, their places and their conversations fit together?"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final
from uuid import UUID

import asyncpg
import orjson

from sms_foundation.doctor.context import Context
from sms_foundation.doctor.explaining import Attempt, Event, MessageFacts, Said, find_contradiction
from sms_foundation.doctor.findings import Finding, Tally
from sms_foundation.messaging.outbound.store import AttemptOutcome
from sms_foundation.messaging.tombstones import sql_is_erased
from sms_foundation.providers.base import MessageStatus
from sms_foundation.providers.simulated.adapter import SIMULATED
from sms_foundation.providers.status_words import our_words, status_words

# Beyond that many that wait at once the rest is left to the next run: there is enough to do already.
_MOST_WAITING: Final = 500_000

# Each look beside the page is a probe of an index: OFFSET 0 and scalar queries leave no other way. One statement sees
# one moment, and everything that is compared here is written in one transaction: a busy database shows no differences.
_PAGE: Final = f"""
SELECT m.id, m.conversation_id, m.direction = 'inbound' AS is_inbound, m.provider, m.delivery_status,
       m.provider_message_id IS NOT NULL AS is_named, m.ended_at IS NOT NULL AS has_ended,
       {sql_is_erased("m")} AS is_erased,
       (SELECT c.message_count >= m.conversation_seq FROM sms_conversations AS c
        WHERE c.id = m.conversation_id) IS TRUE AS is_counted,
       (SELECT c.last_message_at >= m.created_at FROM sms_conversations AS c
        WHERE c.id = m.conversation_id) IS TRUE AS is_not_later,
       m.conversation_seq = 1 OR (SELECT true FROM sms_messages AS before
                                  WHERE before.conversation_id = m.conversation_id
                                    AND before.conversation_seq = m.conversation_seq - 1 LIMIT 1) IS TRUE
           AS follows_another,
       (SELECT count(*) FROM sms_messages AS same
        WHERE same.conversation_id = m.conversation_id AND same.conversation_seq = m.conversation_seq) > 1 AS is_double,
       (SELECT json_agg(json_build_array(
            CASE WHEN e.provider_message_id IS NULL THEN 'us'
                 WHEN e.provider IS DISTINCT FROM m.provider
                      OR e.provider_message_id IS DISTINCT FROM m.provider_message_id THEN 'elsewhere'
                 WHEN e.raw_webhook_data IS NULL THEN 'answer' ELSE 'report' END,
            e.event_status, extract(epoch FROM e.created_at)) ORDER BY e.created_at, e.id)
        FROM (SELECT * FROM sms_message_status_events WHERE message_id = m.id OFFSET 0) AS e)::text AS events,
       a.outcome, extract(epoch FROM a.started_at)::float8 AS begun, a.message_id IS NOT NULL AS was_tried,
       extract(epoch FROM now() - a.started_at)::float8 AS tried_s
FROM (SELECT * FROM sms_messages WHERE id > $1 ORDER BY id LIMIT $2) AS m
    LEFT JOIN LATERAL (SELECT * FROM sms_send_attempts WHERE message_id = m.id
                       ORDER BY message_id DESC, number DESC LIMIT 1) AS a ON true
ORDER BY m.id
"""  # noqa: S608  # put together from constants only

# What needs somebody to do something about it: a provider has never named it, and it has not ended.
_WAITS: Final = frozenset({"accepted", "queued", "sending", "unknown"})


@dataclass(slots=True)
class Walked:
    """What the walk counted. `waiting`: messages that need a row of work, as they were when they were seen."""

    contradicted: Tally = field(default_factory=Tally)
    details: dict[str, int] = field(default_factory=dict)
    left_open: Tally = field(default_factory=Tally)
    gaps: Tally = field(default_factory=Tally)
    doubles: Tally = field(default_factory=Tally)
    uncounted: Tally = field(default_factory=Tally)
    later: Tally = field(default_factory=Tally)
    waiting: set[UUID] = field(default_factory=set)


async def walk_messages(context: Context) -> Walked:
    """Look at every message of the period."""
    words: dict[str, Mapping[str, MessageStatus]] = {each.name: status_words(each) for each in context.configs}
    words[SIMULATED] = our_words()
    walked, seen = Walked(), 0
    async for rows in context.reader.walk("messages", _PAGE, (context.first_id,)):
        seen += len(rows)
        for row in rows:
            _judge(row, words, walked, open_for=context.limits.attempt_open)
    context.report.looked_at["messages"] = seen
    return walked


def _judge(
    row: asyncpg.Record, words: Mapping[str, Mapping[str, MessageStatus]], walked: Walked, *, open_for: timedelta
) -> None:
    if (contradiction := find_contradiction(_facts(row, words))) is not None:
        walked.contradicted.add(row["id"])
        walked.details[contradiction] = walked.details.get(contradiction, 0) + 1
    is_open = row["was_tried"] and row["outcome"] is None
    if is_open and row["tried_s"] > open_for.total_seconds():
        walked.left_open.add(row["id"])
    if not row["follows_another"]:
        walked.gaps.add(row["conversation_id"])
    if row["is_double"]:
        walked.doubles.add(row["conversation_id"])
    if not row["is_counted"]:
        walked.uncounted.add(row["conversation_id"])
    if not row["is_not_later"]:
        walked.later.add(row["conversation_id"])
    waits = not row["is_inbound"] and not row["is_named"] and not row["is_erased"] and row["delivery_status"] in _WAITS
    if waits and len(walked.waiting) < _MOST_WAITING:
        walked.waiting.add(row["id"])


def _facts(row: asyncpg.Record, words: Mapping[str, Mapping[str, MessageStatus]]) -> MessageFacts:
    events = [] if row["events"] is None else orjson.loads(row["events"])
    outcome = row["outcome"]
    attempt = Attempt(None if outcome is None else AttemptOutcome(outcome), row["begun"]) if row["was_tried"] else None
    return MessageFacts(
        status=MessageStatus(row["delivery_status"]),
        is_inbound=row["is_inbound"],
        is_named=row["is_named"],
        has_ended=row["has_ended"],
        has_person=not row["is_erased"],
        # Of somebody who was erased no payload is left: what was a report looks like an answer, which proves less.
        events=[Event(Said(said), word, float(at)) for said, word, at in events],
        last_attempt=attempt,
        words=words.get(row["provider"] or ""),
    )


def findings_of(walked: Walked) -> list[Finding]:
    """Return what the walk found about statuses and attempts; conversations are told by `conversations`."""
    return [
        *walked.contradicted.finding(
            "status_not_explained",
            why="what callers are told about these messages is not what their events and attempts say",
            do="GET /v1/sms/ID or /messages/ID shows each with its events; `sms-foundation reconcile --since 24h` asks "
            "the providers again, which moves on those that stayed behind; one that went too far needs its history "
            "looked into: restore, by hand, or a defect to report",
            details=dict(sorted(walked.details.items(), key=lambda each: -each[1])[:10]),
        ),
        *walked.left_open.finding(
            "attempts_left_open",
            why="a call to a provider was begun, nobody knows what came of it, and nobody looks into it",
            do="see that a worker runs (`sms-foundation worker`); then `sms-foundation dead list`, and "
            "`sms-foundation dead replay ID` for its row: it is looked into, never sent blindly",
        ),
    ]
