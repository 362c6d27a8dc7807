"""Changing one's mind about a message: cancel it, move it to another time, try it again.

Each is one transaction that decides under the message's own lock, so a message that a dispatcher is just taking is
either still ours or already gone, never both. With a test key (`by_test_key`) nobody can do any of it to a message that
is none of a test: there is no such message.
"""

from datetime import datetime
from uuid import UUID

import asyncpg

from sms_foundation.core.clock import utc_now
from sms_foundation.core.db import Connection
from sms_foundation.core.errors import ConflictError, NotFoundError, ValidationError
from sms_foundation.core.ids import new_id
from sms_foundation.core.tracing.context import Origin
from sms_foundation.core.work import queue
from sms_foundation.core.work.queue import NewWork, Priority
from sms_foundation.messaging.jobs import RELEASE_MESSAGE
from sms_foundation.messaging.outbound import store
from sms_foundation.messaging.outbound.errors import UnknownOutcomeError
from sms_foundation.messaging.outbound.lines import order_key, send_kind
from sms_foundation.messaging.outbound.store import AttemptOutcome
from sms_foundation.messaging.tombstones import sql_is_erased
from sms_foundation.providers.base import MessageStatus

_LOCK = f"""
SELECT id, delivery_status, provider_message_id, to_number, priority, is_test, send_at, expires_at,
       trace_context, request_id,
       {sql_is_erased("m")} OR (content_retention <> 'full' AND message_content LIKE 'sha256:%') AS is_redacted
FROM sms_messages AS m WHERE id = $1 AND direction = 'outbound' AND (is_test OR NOT $2) FOR NO KEY UPDATE
"""  # noqa: S608  # put together from constants only
_CANCEL = f"""
UPDATE sms_messages AS m
SET delivery_status = 'canceled', ended_at = now(), updated_at = now(), redact_at = {store.REDACT_AT}
WHERE id = $1
"""  # noqa: S608  # put together from constants only
_CANCELED_EVENT = "INSERT INTO sms_message_status_events (id, message_id, event_status) VALUES ($1, $2, 'canceled')"
# By order_key, which has an index; a row that is running at this moment will find the message canceled.
_FORGET_WORK = "DELETE FROM work WHERE order_key = $1 AND ref_id = $2 AND kind = $3 AND state = 'due'"
# By its time, which stands in the index: a scheduled row is due exactly then.
_FORGET_SCHEDULED = """
DELETE FROM work WHERE kind = $1 AND priority = $2 AND run_at = $3 AND ref_id = $4 AND state = 'due'
"""
_MOVE_SCHEDULED = """
UPDATE work SET run_at = greatest($5, now())
WHERE kind = $1 AND priority = $2 AND run_at = $3 AND ref_id = $4 AND state = 'due'
RETURNING id, run_at
"""
_MOVE = """
UPDATE sms_messages SET send_at = $2, expires_at = expires_at + ($2 - send_at), updated_at = now() WHERE id = $1
"""
_REVIVE_WORK = """
UPDATE work SET state = 'due', run_at = now(), attempts = 0 WHERE state = 'dead' AND ref_id = $1 AND kind = $2
RETURNING id
"""
_HAS_OPEN_WORK = "SELECT EXISTS (SELECT FROM work WHERE order_key = $1 AND ref_id = $2 AND state <> 'dead')"
_IS_DEAD = "SELECT EXISTS (SELECT FROM work WHERE state = 'dead' AND ref_id = $1 AND kind = $2)"

_GIVEN_UP = frozenset({MessageStatus.FAILED, MessageStatus.UNKNOWN})
# Put aside on the way, by failures of our own.
_STUCK = frozenset({MessageStatus.ACCEPTED, MessageStatus.QUEUED, MessageStatus.SENDING})
_UNCERTAIN = frozenset({MessageStatus.UNKNOWN, MessageStatus.SENDING})


async def cancel(connection: Connection, message_id: UUID, *, by_test_key: bool = False) -> None:
    """Take back a message that has not gone out; needs a transaction. Canceling it again changes nothing.

    Raises NotFoundError, or ConflictError once a provider may have it.
    """
    message = await _lock(connection, message_id, by_test_key=by_test_key)
    if message["delivery_status"] == "canceled":
        return
    if message["delivery_status"] not in ("accepted", "queued") or message["provider_message_id"] is not None:
        raise ConflictError(f"the message is {message['delivery_status']} and cannot be canceled any more")
    await connection.execute(_CANCEL, message_id)
    await connection.execute(_CANCELED_EVENT, new_id(), message_id)
    await connection.execute(_FORGET_WORK, _order_key(message), message_id, _send_kind(message))
    if message["send_at"] is not None:
        await connection.execute(
            _FORGET_SCHEDULED, RELEASE_MESSAGE, message["priority"], message["send_at"], message_id
        )


async def reschedule(connection: Connection, message_id: UUID, send_at: datetime, *, by_test_key: bool = False) -> None:
    """Move a scheduled message to another time, its expiry with it; a time that is past means now. Needs a transaction.

    Raises NotFoundError, or ConflictError when the message was not scheduled or its time has come.
    """
    message = await _lock(connection, message_id, by_test_key=by_test_key)
    if message["send_at"] is None:
        raise ConflictError("the message is not scheduled")
    send_at = max(send_at, utc_now())
    moved = message["delivery_status"] == "accepted" and await connection.fetchrow(
        _MOVE_SCHEDULED, RELEASE_MESSAGE, message["priority"], message["send_at"], message_id, send_at
    )
    if not moved:
        raise ConflictError(f"the message is {message['delivery_status']}; its time has come")
    await connection.execute(_MOVE, message_id, moved["run_at"])


async def retry(connection: Connection, message_id: UUID, *, was_not_sent: bool, by_test_key: bool = False) -> None:
    """Put a message that was given up back in line, with all its retries; needs a transaction.

    `was_not_sent`: somebody has made sure that a message of unknown fate never went out. Raises NotFoundError,
    UnknownOutcomeError without that, ConflictError for a message that is not given up.
    """
    message = await _lock(connection, message_id, by_test_key=by_test_key)
    status = MessageStatus(message["delivery_status"])
    is_dead = await connection.fetchval(_IS_DEAD, message_id, _send_kind(message))
    if message["provider_message_id"] is not None or not (status in _GIVEN_UP or (is_dead and status in _STUCK)):
        raise ConflictError(f"the message is {status}; only failed ones, and those of unknown fate, can be retried")
    if message["is_redacted"]:
        raise ConflictError("its content is no longer kept; send a new message")
    if status in _UNCERTAIN:
        if not is_dead:
            raise UnknownOutcomeError("whether the message was sent is still being found out")
        if not was_not_sent:
            raise UnknownOutcomeError(
                "the message may have been sent; once you know it was not, retry with was_not_sent"
            )
        await store.close_attempts(connection, message_id, AttemptOutcome.ABSENT, None)
    if message["expires_at"] is not None and message["expires_at"] <= utc_now():
        raise ValidationError.of_field("request_id", "the message has expired; send a new one")
    await store.requeue(connection, message_id, from_statuses=[status], reason="retried by its client")
    if await connection.fetchval(_HAS_OPEN_WORK, _order_key(message), message_id):
        return  # its dead row was replayed already
    kind = _send_kind(message)
    if await connection.fetchrow(_REVIVE_WORK, message_id, kind) is None:
        work = NewWork(
            kind,
            message_id,
            order_key=_order_key(message),
            priority=Priority(message["priority"]),
            cause=Origin(message["trace_context"], message["request_id"]),
        )
        await queue.enqueue(connection, [work])


async def _lock(connection: Connection, message_id: UUID, *, by_test_key: bool) -> asyncpg.Record:
    message: asyncpg.Record | None = await connection.fetchrow(_LOCK, message_id, by_test_key)
    if message is None:
        raise NotFoundError("no outbound message with this id")
    return message


def _order_key(message: asyncpg.Record) -> str:
    return order_key(message["to_number"], Priority(message["priority"]), is_test=message["is_test"])


def _send_kind(message: asyncpg.Record) -> str:
    return send_kind(is_test=message["is_test"])
