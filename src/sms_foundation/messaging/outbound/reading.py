"""Reading back what became of messages: one with everything that happened to it, or a page of many."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import asyncpg

from sms_foundation.core.db import Connection
from sms_foundation.core.listing import Listing

_COLUMNS = """m.id, m.conversation_id, m.direction, m.delivery_status, m.provider, m.provider_message_id,
       m.from_number, m.to_number, m.message_content, m.media::text AS media, m.num_segments, m.encoding, m.client_id,
       m.is_test, m.metadata::text AS metadata, m.priority, m.error_code, m.error_message, m.send_at, m.expires_at,
       m.sent_at, m.ended_at, m.price_micros, m.price_currency, m.created_at, m.updated_at, m.request_id,
       substr(m.trace_context, 4, 32) AS trace_id"""
_FIND = f"SELECT {_COLUMNS} FROM sms_messages AS m WHERE m.id = $1"  # noqa: S608
_EVENTS = """
SELECT event_status, provider, error_code, error_message, created_at
FROM sms_message_status_events WHERE message_id = $1 ORDER BY created_at, id
"""
_ATTEMPTS = """
SELECT number, provider, sender, reasons::text AS reasons, started_at, finished_at, outcome, provider_message_id,
       error_kind, error_code, error_message, http_status, latency_ms
FROM sms_send_attempts WHERE message_id = $1 ORDER BY number
"""
_PROGRESS = """
SELECT m.delivery_status, m.provider_message_id, m.num_segments, m.error_code, m.error_message,
       a.outcome, a.error_kind, a.http_status
FROM sms_messages AS m
LEFT JOIN LATERAL (
    SELECT outcome, error_kind, http_status FROM sms_send_attempts WHERE message_id = m.id ORDER BY number DESC LIMIT 1
) AS a ON true
WHERE m.id = $1
"""
_FIND_CONVERSATIONS = "SELECT id, phone_number_canonical FROM sms_conversations WHERE id = ANY($1)"


_LIST = f"SELECT {_COLUMNS} FROM sms_messages AS m WHERE true"  # noqa: S608
_CONDITIONS = {
    "status": "m.delivery_status = {}",
    "provider": "m.provider = {}",
    "direction": "m.direction = {}",
    "client_id": "m.client_id = {}",
    "number": "m.conversation_id = (SELECT id FROM sms_conversations WHERE phone_number_canonical = {})",
    "since": "m.created_at >= {}",
    "until": "m.created_at < {}",
}


@dataclass(frozen=True, slots=True)
class MessageFilter:
    """What to list; None means any. `number` is canonical; times are UTC, `until` exclusive."""

    status: str | None = None
    provider: str | None = None
    direction: str | None = None
    client_id: str | None = None
    is_test: bool | None = None
    number: str | None = None
    since: datetime | None = None
    until: datetime | None = None


async def find(
    connection: Connection, message_id: UUID
) -> tuple[asyncpg.Record, list[asyncpg.Record], list[asyncpg.Record]] | None:
    """Return a message, its events in order of arrival, and its attempts."""
    message = await connection.fetchrow(_FIND, message_id)
    if message is None:
        return None
    return message, await connection.fetch(_EVENTS, message_id), await connection.fetch(_ATTEMPTS, message_id)


async def find_progress(connection: Connection, message_id: UUID) -> asyncpg.Record:
    """Return how far an existing message is, and how its last attempt ended."""
    return await connection.fetchrow(_PROGRESS, message_id)


async def find_conversation_phones(connection: Connection, conversation_ids: Sequence[UUID]) -> dict[UUID, str]:
    """Return whose conversations these are, for those that exist."""
    return {row[0]: row[1] for row in await connection.fetch(_FIND_CONVERSATIONS, conversation_ids)}


async def list_messages(
    connection: Connection, wanted: MessageFilter, *, after: UUID | None, limit: int
) -> list[asyncpg.Record]:
    """Return messages, newest first; only those after the key `after` when given."""
    listing = Listing(_LIST)
    listing.where_given(_CONDITIONS, wanted)
    if wanted.is_test is not None:  # not bound: those of tests have an index of their own
        listing.where("m.is_test" if wanted.is_test else "NOT m.is_test")
    listing.where_made("m.id", wanted.since, wanted.until)
    if after is not None:
        listing.where("m.id < {}", after)
    return await listing.fetch(connection, order="m.id DESC", limit=limit)
