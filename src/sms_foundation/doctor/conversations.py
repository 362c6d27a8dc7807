"""Do conversations say about their messages what is true? `message_count`, `last_message_at`, `conversation_seq`."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

import asyncpg

from sms_foundation.core.ids import NIL
from sms_foundation.doctor.context import Context
from sms_foundation.doctor.findings import Finding, Tally
from sms_foundation.doctor.messages import Walked

# The last message is the newest but for what processes' clocks differ by, so the newest is among the last few.
_LAST: Final = 200

_JUDGED: Final = f"""
       c.message_count IS NOT DISTINCT FROM coalesce((
           SELECT conversation_seq FROM sms_messages WHERE conversation_id = c.id
           ORDER BY conversation_id DESC, conversation_seq DESC LIMIT 1), 0) AS is_count_right,
       c.last_message_at IS NOT DISTINCT FROM (
           SELECT max(last.created_at) FROM (
               SELECT created_at FROM sms_messages WHERE conversation_id = c.id
               ORDER BY conversation_id DESC, conversation_seq DESC LIMIT {_LAST}) AS last) AS is_time_right
"""  # noqa: S608  # put together from constants only
# Newest first: one that becomes active meanwhile is passed by, and not met again and again.
_ACTIVE: Final = f"""
SELECT c.last_message_at, c.id, {_JUDGED}
FROM (SELECT id, message_count, last_message_at FROM sms_conversations
      WHERE (last_message_at, id) < ($1, $2) AND last_message_at >= $4
      ORDER BY last_message_at DESC, id DESC LIMIT $3) AS c
ORDER BY c.last_message_at DESC, c.id DESC
"""  # noqa: S608
_ALL: Final = f"""
SELECT c.id, {_JUDGED}
FROM (SELECT id, message_count, last_message_at FROM sms_conversations WHERE id > $1 ORDER BY id LIMIT $2) AS c
ORDER BY c.id
"""  # noqa: S608

# All of one conversation, in stretches: for those whose newest message is not among the last.
_CLAIM: Final = "SELECT message_count, last_message_at FROM sms_conversations WHERE id = $1"
_STRETCH: Final = """
SELECT conversation_seq, created_at FROM sms_messages
WHERE conversation_id = $3 AND conversation_seq > $1 AND conversation_seq <= $4 ORDER BY conversation_seq LIMIT $2
"""

_BY_HAND: Final = (
    "make it true, in a moment without traffic: UPDATE sms_conversations AS c SET message_count = m.n, "
    "last_message_at = m.at FROM (SELECT max(conversation_seq) AS n, max(created_at) AS at FROM sms_messages "
    "WHERE conversation_id = 'ID') AS m WHERE c.id = 'ID'; then look for what wrote to these tables besides the service"
)


async def check_conversations(context: Context, walked: Walked) -> list[Finding]:
    """Look at every conversation that was active in the period, after `walked` has looked at its messages."""
    counts, times, seen = Tally(), Tally(), 0
    async for rows in _walk(context):
        seen += len(rows)
        for row in rows:
            if not row["is_count_right"]:
                counts.add(row["id"])
            if not row["is_time_right"] and not await _is_right_after_all(context, row["id"]):
                times.add(row["id"])
    context.report.looked_at["conversations"] = seen
    return [
        *(counts if counts.count else walked.uncounted).finding(
            "message_count_wrong",
            why="the next message of such a conversation gets a number that is taken, and is refused, or leaves a gap",
            do=_BY_HAND,
        ),
        *(times if times.count else walked.later).finding(
            "last_message_at_wrong",
            why="the conversation stands in the wrong place of GET /conversations",
            do=_BY_HAND,
        ),
        *walked.gaps.finding(
            "gaps_in_conversation",
            why="a message that was stored is gone, or was never committed: its number is missing",
            do="SELECT conversation_seq FROM sms_messages WHERE conversation_id = 'ID' ORDER BY 1 shows where; "
            "`sms-foundation reconcile --since 24h` fetches texts again that providers still have; find out who "
            "deletes rows",
        ),
        *walked.doubles.finding(
            "doubles_in_conversation",
            why="two messages have one place: history pages skip or repeat one, and a unique index does not hold",
            do="REINDEX INDEX CONCURRENTLY uq_sms_messages_conversation_id_conversation_seq will name them; give one "
            "the next free number first, and check the disk: an index that lies is a damaged one",
        ),
    ]


def _walk(context: Context) -> AsyncIterator[list[asyncpg.Record]]:
    if context.since is None:
        return context.reader.walk("conversations", _ALL, (NIL,))
    end = (datetime.max.replace(tzinfo=UTC), UUID(int=(1 << 128) - 1))
    return context.reader.walk("conversations", _ACTIVE, end, context.since)


async def _is_right_after_all(context: Context, conversation_id: UUID) -> bool:
    """Tell whether some message, however far back, is the newest and has the time that the conversation tells."""
    ((count, told_at),) = await context.reader.fetch(_CLAIM, conversation_id)
    newest = None
    async for rows in context.reader.walk("messages of a conversation", _STRETCH, (0,), conversation_id, count):
        newest = max([row["created_at"] for row in rows] + ([] if newest is None else [newest]))
    return bool(newest == told_at)
