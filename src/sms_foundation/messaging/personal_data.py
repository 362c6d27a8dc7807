"""What is stored about the counterpart of a conversation: read out whole, and erased.

Everything goes in stretches of `conversation_seq`, which has no gaps, so that a conversation of a million messages
needs no more memory, and holds no lock longer, than one of a thousand. What stays is told in `tombstones`.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from sms_foundation.core.db import Connection
from sms_foundation.messaging.tombstones import ERASED, ERASED_PREFIX, sql_is_erased

STRETCH: Final = 500
_FETCH: Final = 1000

_FIND: Final = """
SELECT id, phone_number_canonical, message_count, tenant_id FROM sms_conversations
WHERE phone_number_canonical = ANY($1) ORDER BY phone_number_canonical
"""
# Whatever is being stored in the conversation is in the count then, or waits: for a conversation that is still the
# person's, or finds none and begins another.
_LOCK: Final = "SELECT message_count, tenant_id FROM sms_conversations WHERE id = $1 FOR UPDATE"
_BURY: Final = f"""
UPDATE sms_conversations
SET phone_number_canonical = '{ERASED_PREFIX}' || id, phone_number_original = '{ERASED}', tenant_id = NULL,
    tenant_lookup_status = 'unknown', workflow_type = NULL, workflow_id = NULL, conversation_status = '{ERASED}',
    language_detected = 'unknown', language_confidence = 0, language_seq = 0, updated_at = now()
WHERE id = $1
"""  # noqa: S608  # put together from constants only

_IS_UNSENT: Final = "(m.delivery_status IN ('accepted', 'queued') AND m.provider_message_id IS NULL)"

_COUNT: Final = f"""
SELECT count(*), count(*) FILTER (WHERE {_IS_UNSENT}),
       coalesce(sum((SELECT count(*) FROM sms_message_status_events AS e WHERE e.message_id = m.id)), 0)::bigint,
       coalesce(sum((SELECT count(*) FROM sms_send_attempts AS a WHERE a.message_id = m.id)), 0)::bigint
FROM sms_messages AS m
WHERE conversation_id = $1 AND conversation_seq > $2 AND conversation_seq <= $3 AND NOT {sql_is_erased("m")}
"""  # noqa: S608
_LOAD: Final = f"""
SELECT id, provider, provider_message_id, ended_at IS NOT NULL OR direction = 'inbound',
       delivery_status IN ('sending', 'unknown') AND provider_message_id IS NULL, sent_at
FROM sms_messages AS m
WHERE conversation_id = $1 AND conversation_seq > $2 AND conversation_seq <= $3 AND NOT {sql_is_erased("m")}
ORDER BY id
"""  # noqa: S608
_LOCK_MESSAGES: Final = "SELECT FROM sms_messages WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE"
# One that is to be sent yet is left alone: it has to be called off first. One whose call nobody saw end stays of
# unknown fate: nobody looks into it any more. The key and the digest of a request go as well: callers put names into
# the one, and the other is made of text and number.
_ERASE_MESSAGES: Final = f"""
UPDATE sms_messages AS m
SET from_number = CASE direction WHEN 'inbound' THEN '{ERASED}' ELSE from_number END,
    to_number = CASE direction WHEN 'outbound' THEN '{ERASED}' ELSE to_number END,
    message_content = '', media = '[]', error_message = NULL, language_detected = NULL, language_confidence = NULL,
    raw_webhook_data = NULL, idempotency_key = NULL, request_digest = NULL, metadata = NULL,
    trace_context = NULL, request_id = NULL, redact_at = now() + e.again_after, updated_at = now(),
    delivery_status = CASE WHEN delivery_status = 'sending' AND provider_message_id IS NULL THEN 'unknown'
                           ELSE delivery_status END
FROM unnest($1::uuid[], $2::interval[]) AS e(id, again_after)
WHERE m.id = e.id AND NOT {_IS_UNSENT}
RETURNING m.id
"""  # noqa: S608
_ERASE_EVENTS: Final = """
UPDATE sms_message_status_events SET raw_webhook_data = NULL, error_message = NULL WHERE message_id = ANY($1)
"""
_DELETE_ATTEMPTS: Final = "DELETE FROM sms_send_attempts WHERE message_id = ANY($1)"

_EXPORT_CONVERSATION: Final = "SELECT to_jsonb(c)::text FROM sms_conversations AS c WHERE id = $1"
_EXPORT_MESSAGES: Final = f"""
SELECT (to_jsonb(m) - 'request_digest' || jsonb_build_object(
    'events', coalesce((SELECT jsonb_agg(to_jsonb(e) - 'message_id' ORDER BY e.created_at, e.id)
                        FROM sms_message_status_events AS e WHERE e.message_id = m.id), '[]'),
    'attempts', coalesce((SELECT jsonb_agg(to_jsonb(a) - 'message_id' ORDER BY a.number)
                          FROM sms_send_attempts AS a WHERE a.message_id = m.id), '[]')))::text
FROM sms_messages AS m
WHERE conversation_id = $1 AND conversation_seq > $2 AND conversation_seq <= $3 AND NOT {sql_is_erased("m")}
ORDER BY conversation_seq
"""  # noqa: S608
_EXPORT_OPT_OUTS: Final = """
SELECT to_jsonb(o)::text FROM sms_opt_outs AS o WHERE phone_number_canonical = ANY($1)
ORDER BY phone_number_canonical, sender
"""
_EXPORT_EVENT: Final = "SELECT to_jsonb(e)::text FROM sms_message_status_events AS e WHERE id = $1"

# Receipts of messages that are not ours, which only say in their payload whom they are about. A cursor, so that each
# statement is short however many there are; the condition is a column of it, or a fetch could look through them all.
_OPEN_UNMATCHED: Final = r"""
DECLARE unmatched NO SCROLL CURSOR FOR
SELECT id, concat(raw_webhook_data::text, ' ', error_message) ~ '(?<![0-9]){digits}(?![0-9])'
FROM sms_message_status_events WHERE message_id IS NULL
"""
_ERASE_UNMATCHED: Final = """
UPDATE sms_message_status_events SET raw_webhook_data = NULL, error_message = NULL WHERE id = ANY($1)
"""


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation of somebody, whose address it has; `message_count` is the last `conversation_seq` as well."""

    id: UUID
    address: str
    message_count: int
    tenant_id: str | None

    def stretches(self) -> list[tuple[int, int]]:
        """Return (after, up_to) of `conversation_seq` for each stretch, in order."""
        return stretches(0, self.message_count)


@dataclass(frozen=True, slots=True)
class Counts:
    """How much there is; `unsent` are messages among `messages`."""

    messages: int = 0
    unsent: int = 0
    events: int = 0
    attempts: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            self.messages + other.messages,
            self.unsent + other.unsent,
            self.events + other.events,
            self.attempts + other.attempts,
        )


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """A message that is not erased yet, as its provider has to be asked about it.

    `has_ended`: nothing follows. `is_unsure`: a provider was called, and nobody knows whether the message got there.
    """

    id: UUID
    provider: str | None
    provider_message_id: str | None
    has_ended: bool
    is_unsure: bool
    sent_at: datetime | None


def stretches(after: int, up_to: int) -> list[tuple[int, int]]:
    """Return (after, up_to) of `conversation_seq` for each stretch of what lies behind `after`, in order."""
    return [(start, min(start + STRETCH, up_to)) for start in range(after, up_to, STRETCH)]


async def find_conversations(connection: Connection, addresses: Sequence[str]) -> list[Conversation]:
    """Return the conversations of these canonical addresses, also those that are half erased."""
    return [Conversation(*row) for row in await connection.fetch(_FIND, addresses)]


async def count_stretch(connection: Connection, conversation_id: UUID, after: int, up_to: int) -> Counts:
    """Count what there is in a stretch of a conversation and is not erased yet."""
    return Counts(*await connection.fetchrow(_COUNT, conversation_id, after, up_to))


async def lock_conversation(connection: Connection, conversation_id: UUID) -> tuple[int, str | None]:
    """Return how many messages a conversation has, and its tenant; it gets no more until the transaction ends."""
    count, tenant_id = await connection.fetchrow(_LOCK, conversation_id)
    return count, tenant_id


async def load_stretch(connection: Connection, conversation_id: UUID, after: int, up_to: int) -> list[StoredMessage]:
    """Return those messages of a stretch that are not erased yet, in order of id."""
    return [StoredMessage(*row) for row in await connection.fetch(_LOAD, conversation_id, after, up_to)]


async def erase_messages(
    connection: Connection, ids: Sequence[UUID], ask_again_after: Sequence[timedelta | None]
) -> set[UUID]:
    """Leave of each message what its tombstone keeps; returns the ids of those. Needs a transaction.

    Messages that are waiting to be sent stay as they are and are not among them. `ask_again_after`: after how long the
    provider is to be asked (again) to forget the text; None: no more.
    """
    await connection.execute(_LOCK_MESSAGES, ids)
    erased = [row[0] for row in await connection.fetch(_ERASE_MESSAGES, ids, ask_again_after)]
    await connection.execute(_ERASE_EVENTS, erased)
    await connection.execute(_DELETE_ATTEMPTS, erased)
    return set(erased)


async def bury_conversation(connection: Connection, conversation_id: UUID) -> None:
    """Forget whose conversation it was: the end of its erasing, once no message is left. Idempotent."""
    await connection.execute(_BURY, conversation_id)


async def export_conversation(connection: Connection, conversation_id: UUID) -> str:
    """Return every column of a conversation as a JSON object. Times are in the session's zone."""
    row: str = await connection.fetchval(_EXPORT_CONVERSATION, conversation_id)
    return row


async def export_stretch(connection: Connection, conversation_id: UUID, after: int, up_to: int) -> list[str]:
    """Return every column of the messages of a stretch, oldest first, with `events` and `attempts`, as JSON objects."""
    return [row[0] for row in await connection.fetch(_EXPORT_MESSAGES, conversation_id, after, up_to)]


async def export_opt_outs(connection: Connection, addresses: Sequence[str]) -> list[str]:
    """Return which senders of ours these addresses want nothing from, as JSON objects."""
    return [row[0] for row in await connection.fetch(_EXPORT_OPT_OUTS, addresses)]


async def export_event(connection: Connection, event_id: UUID) -> str:
    """Return every column of a status event as a JSON object."""
    event: str = await connection.fetchval(_EXPORT_EVENT, event_id)
    return event


async def find_unmatched_events(connection: Connection, digits: str) -> AsyncIterator[UUID]:
    """Yield the receipts of nobody's message in which a number, digits only, stands anywhere. Needs a transaction."""
    if not digits.isdecimal():
        raise ValueError("a number has digits only")
    await connection.execute(_OPEN_UNMATCHED.replace("{digits}", digits))
    while rows := await connection.fetch(f"FETCH {_FETCH} FROM unmatched"):
        for row in rows:
            if row[1]:
                yield row[0]
    await connection.execute("CLOSE unmatched")


async def erase_unmatched_events(connection: Connection, ids: Sequence[UUID]) -> None:
    """Leave of receipts of nobody's message the provider's id and its word. Idempotent."""
    await connection.execute(_ERASE_UNMATCHED, ids)
