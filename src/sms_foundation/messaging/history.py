"""Reading conversations and messages back. Pages cost the same at any depth: they start at a conversation_seq."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import asyncpg

from sms_foundation.core.db import Connection
from sms_foundation.core.listing import Listing

_CONVERSATION = {
    name: f"c.{name}"
    for name in (
        "id phone_number_canonical phone_number_original tenant_id tenant_lookup_status workflow_type workflow_id "
        "conversation_status language_detected last_message_at message_count created_at"
    ).split()
} | {"language_confidence": "c.language_confidence::float8"}
_MESSAGE = {
    name: f"m.{name}"
    for name in (
        "conversation_seq direction from_number to_number message_content provider provider_message_id delivery_status "
        "error_code error_message num_segments is_test request_id"
    ).split()
} | {
    "message_id": "m.id",
    "media": "m.media::text",
    "message_language": "m.language_detected",
    "message_language_confidence": "m.language_confidence::float8",
    "message_created_at": "m.created_at",
    "trace_id": "substr(m.trace_context, 4, 32)",
}


def _select(columns: dict[str, str]) -> str:
    return ", ".join(f"{expression} AS {name}" for name, expression in columns.items())


_CONVERSATION_COLUMNS, _MESSAGE_COLUMNS = _select(_CONVERSATION), _select(_MESSAGE)
_NO_CONVERSATION, _NO_MESSAGE = (_select(dict.fromkeys(columns, "NULL")) for columns in (_CONVERSATION, _MESSAGE))

# The conversation comes as a row of its own: repeated on each of twenty messages it would cost more than they do.
# conversation_seq has no gaps, so an offset is a bound on it and nothing has to be counted or skipped.
_PAGE = f"""
WITH c AS MATERIALIZED (SELECT {_CONVERSATION_COLUMNS} FROM sms_conversations AS c WHERE c.phone_number_canonical = $1)
SELECT c.*, {_NO_MESSAGE} FROM c
UNION ALL
SELECT {_NO_CONVERSATION}, {_MESSAGE_COLUMNS}
FROM c CROSS JOIN LATERAL (
    SELECT * FROM sms_messages
    WHERE conversation_id = c.id AND conversation_seq <= coalesce($2, c.message_count - $3)
    ORDER BY conversation_seq DESC LIMIT $4
) AS m
ORDER BY conversation_seq DESC NULLS FIRST
"""  # noqa: S608  # put together from constants only

_LIST = f"SELECT {_CONVERSATION_COLUMNS} FROM sms_conversations AS c WHERE true"  # noqa: S608
_LIST_ORDER = "c.last_message_at DESC, c.id DESC"
_CONDITIONS = {
    "tenant_id": "c.tenant_id = {}",
    "language": "c.language_detected = {}",
    "workflow_type": "c.workflow_type = {}",
    "workflow_id": "c.workflow_id = {}",
    "conversation_status": "c.conversation_status = {}",
    "since": "c.last_message_at >= {}",
    "is_tenant_unknown": "(c.tenant_id IS NULL) = {}",
}

_FIND_MESSAGE = f"""
SELECT {_MESSAGE_COLUMNS},
       m.conversation_id, c.phone_number_canonical, c.tenant_id, m.raw_webhook_data::text AS raw_webhook_data,
       m.updated_at
FROM sms_messages AS m JOIN sms_conversations AS c ON c.id = m.conversation_id
WHERE m.id = $1 OR m.provider_message_id = $2
ORDER BY m.id = $1 DESC, m.id LIMIT 1
"""  # noqa: S608

_EVENTS = """
SELECT id, event_status, error_code, error_message, raw_webhook_data::text AS raw_webhook_data, created_at
FROM sms_message_status_events WHERE message_id = $1 ORDER BY created_at, id
"""


@dataclass(frozen=True, slots=True)
class ConversationFilter:
    """What to list; None means any. `is_tenant_unknown` True lists only conversations without a tenant."""

    tenant_id: str | None = None
    language: str | None = None
    workflow_type: str | None = None
    workflow_id: str | None = None
    conversation_status: str | None = None
    since: datetime | None = None
    is_tenant_unknown: bool | None = None


async def find_page(
    connection: Connection, *, phone: str, before_seq: int | None, offset: int, limit: int
) -> list[asyncpg.Record]:
    """Return a row for the conversation of canonical `phone`, then a row for each message of a page, newest first.

    The page starts below `before_seq`, or after `offset` messages when that is None. No row: unknown number.
    """
    bound = None if before_seq is None else before_seq - 1
    rows: list[asyncpg.Record] = await connection.fetch(_PAGE, phone, bound, offset, limit)
    return rows


async def list_conversations(
    connection: Connection, wanted: ConversationFilter, *, after: tuple[datetime | None, UUID] | None, limit: int
) -> list[asyncpg.Record]:
    """Return conversations, most recently active first, before them those without a message.

    Only those after the key `after`, (last_message_at, id), when given.
    """
    listing = Listing(_LIST)
    listing.where_given(_CONDITIONS, wanted)
    if after is not None:
        last_at, last_id = after
        if last_at is None:  # conversations without a message come first
            listing.where("(c.last_message_at IS NOT NULL OR c.id < {})", last_id)
        else:
            listing.where("(c.last_message_at, c.id) < ({}, {})", last_at, last_id)
    return await listing.fetch(connection, order=_LIST_ORDER, limit=limit)


async def find_message(
    connection: Connection, *, message_id: UUID | None, provider_message_id: str
) -> tuple[asyncpg.Record, list[asyncpg.Record]] | None:
    """Return one message, by our id or else by the provider's, with its status events in order of arrival."""
    message = await connection.fetchrow(_FIND_MESSAGE, message_id, provider_message_id)
    if message is None:
        return None
    return message, await connection.fetch(_EVENTS, message["message_id"])
