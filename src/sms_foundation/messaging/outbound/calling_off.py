"""Stopping everything that is to happen to the messages of a conversation: its work is settled, and none is left.

What is not sent yet is canceled. What a provider is being handed at this moment is not torn off: it is somebody
else's until the lease ends, and the caller comes back. Of what has an outcome that nobody knows, nobody asks further.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from sms_foundation.core.db import Connection, Database
from sms_foundation.core.errors import ConflictError
from sms_foundation.messaging.jobs import MESSAGE_RECEIVED
from sms_foundation.messaging.opt_outs import apply_keyword
from sms_foundation.messaging.outbound import control

_PAGE: Final = 5000

# Work has no index on what it is about; open work is little, and each row a probe of the messages' key.
_END_OF_PAGE: Final = "SELECT max(id) FROM (SELECT id FROM work WHERE id > $1 ORDER BY id LIMIT $2) AS page"
_FIND: Final = """
SELECT w.id, w.kind, w.ref_id, coalesce(w.state = 'leased' AND w.lease_until > now() AND w.kind <> $4, false)
FROM work AS w
    CROSS JOIN LATERAL (SELECT FROM sms_messages WHERE id = w.ref_id AND conversation_id = ANY($3) OFFSET 0) AS m
WHERE w.id > $1 AND w.id <= $2 ORDER BY w.id
"""
_LOAD: Final = """
SELECT m.delivery_status IN ('accepted', 'queued') AND m.provider_message_id IS NULL AS is_unsent, m.to_number,
       m.message_content
FROM sms_messages AS m WHERE id = $1 FOR NO KEY UPDATE
"""
# One that was claimed since it was seen stays. What came in is done here and now, so it needs nobody else.
_DELETE: Final = "DELETE FROM work WHERE id = $1 AND (state <> 'leased' OR lease_until <= now() OR kind = $2)"
_IS_LEFT: Final = "SELECT EXISTS (SELECT FROM work WHERE id = $1)"


@dataclass(slots=True)
class Stopped:
    """What became of the work found: messages canceled, and how many are in the hands of a process just now."""

    canceled: int = 0
    under_way: int = 0


@dataclass(frozen=True, slots=True)
class _Open:
    work_id: int
    kind: str
    message_id: UUID
    is_under_way: bool


async def call_off(database: Database, conversations: Sequence[UUID], *, phone: str) -> Stopped:
    """Cancel and settle what is open about messages of `conversations`, all of the canonical address `phone`.

    Each piece is a transaction of its own. Repeat it until nothing is under way; then none of their messages will be
    sent or looked into any more. A STOP that nobody has read yet is taken at its word first.
    """
    stopped = Stopped()
    last = 0
    while True:
        async with database.connection() as connection:
            end = await connection.fetchval(_END_OF_PAGE, last, _PAGE)
            if end is None:
                return stopped
            rows = await connection.fetch(_FIND, last, end, conversations, MESSAGE_RECEIVED)
        last = end
        for each in (_Open(*row) for row in rows):
            if each.is_under_way:
                stopped.under_way += 1
                continue
            async with database.transaction() as connection:
                await _settle(connection, each, stopped, phone=phone)


async def _settle(connection: Connection, each: _Open, stopped: Stopped, *, phone: str) -> None:
    """End one piece of work, unless somebody has taken it since it was seen: then it is under way."""
    message = await connection.fetchrow(_LOAD, each.message_id)
    if each.kind == MESSAGE_RECEIVED:
        await apply_keyword(
            connection,
            each.message_id,
            phone=phone,
            own_number=message["to_number"],
            text=message["message_content"],
        )
    elif message["is_unsent"]:
        await control.cancel(connection, each.message_id)
    await connection.execute(_DELETE, each.work_id, MESSAGE_RECEIVED)
    stopped.canceled += message["is_unsent"]
    stopped.under_way += await connection.fetchval(_IS_LEFT, each.work_id)


async def cancel_unsent(database: Database, message_ids: Sequence[UUID]) -> int:
    """Cancel those of these messages that can be; returns how many. Idempotent."""
    canceled = 0
    for message_id in message_ids:
        with suppress(ConflictError):  # it has been taken meanwhile
            async with database.transaction() as connection:
                await control.cancel(connection, message_id)
            canceled += 1
    return canceled
