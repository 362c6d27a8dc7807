"""What others find out about conversations and messages: tenant, language, workflow. Reads to decide, writes to keep.

Every function takes a connection; those that lock need a transaction.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sms_foundation.core.db import Connection
from sms_foundation.messaging.tombstones import sql_has_person, sql_is_erased

_LOAD_MESSAGES = """
SELECT m.id, m.conversation_id, m.conversation_seq, c.phone_number_canonical, m.from_number, m.message_content,
       m.created_at, m.to_number
FROM sms_messages AS m JOIN sms_conversations AS c ON c.id = m.conversation_id
WHERE m.id = ANY($1)
"""

# Of somebody who was erased nothing is found out any more.
_SAVE_LANGUAGES = f"""
UPDATE sms_messages AS m SET language_detected = f.language, language_confidence = f.confidence, updated_at = now()
FROM unnest($1::uuid[], $2::text[], $3::float8[]) AS f(id, language, confidence)
WHERE m.id = f.id AND NOT {sql_is_erased("m")}
"""  # noqa: S608  # put together from constants only

_LOCK_CONVERSATIONS = f"""
SELECT id, phone_number_canonical, phone_number_original, tenant_id, tenant_lookup_status, language_detected,
       language_confidence::float8, language_seq, last_message_at
FROM sms_conversations AS c WHERE id = ANY($1) AND {sql_has_person("c")}
ORDER BY phone_number_canonical FOR NO KEY UPDATE
"""  # noqa: S608

_LOAD_LANGUAGE_TIMES = """
SELECT c.id, m.created_at
FROM sms_conversations AS c JOIN sms_messages AS m
    ON m.conversation_id = c.id AND m.conversation_seq = c.language_seq
WHERE c.id = ANY($1)
"""

_SAVE_CONVERSATIONS = """
UPDATE sms_conversations AS c
SET tenant_id = f.tenant_id, tenant_lookup_status = f.tenant_lookup_status, language_detected = f.language,
    language_confidence = f.confidence, language_seq = f.seq, updated_at = now()
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::float8[], $6::bigint[])
    AS f(id, tenant_id, tenant_lookup_status, language, confidence, seq)
WHERE c.id = f.id
"""

# Whoever holds one of them is about to wait for the tenant's row, which we hold, and will then see this language
# itself: waiting for them would be a deadlock, skipping them loses nothing.
_SHARE_LANGUAGE = """
WITH silent AS (
    SELECT id FROM sms_conversations
    WHERE tenant_id = $1 AND language_seq = 0 AND (language_detected, language_confidence) <> ($2, $3::numeric(3, 2))
    FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE sms_conversations AS c SET language_detected = $2, language_confidence = $3::numeric(3, 2), updated_at = now()
FROM silent WHERE c.id = silent.id
"""

_LIST_WITHOUT_TENANT = """
SELECT last_message_at, id FROM sms_conversations
WHERE tenant_id IS NULL AND (last_message_at, id) < ($1, $2) AND last_message_at > $3
  AND phone_number_canonical ~ '(^|:)[+]'
ORDER BY last_message_at DESC, id DESC LIMIT $4
"""

_PATCH = """
UPDATE sms_conversations
SET workflow_type = CASE WHEN $2 THEN $3 ELSE workflow_type END,
    workflow_id = CASE WHEN $4 THEN $5 ELSE workflow_id END,
    conversation_status = CASE WHEN $6 THEN $7 ELSE conversation_status END,
    updated_at = now()
WHERE phone_number_canonical = $1
RETURNING id
"""


@dataclass(frozen=True, slots=True)
class ReceivedMessage:
    """What enrichment needs to know of an inbound message."""

    id: UUID
    conversation_id: UUID
    conversation_seq: int
    phone: str
    sender: str
    content: str
    received_at: datetime
    own_number: str


@dataclass(frozen=True, slots=True)
class ConversationFacts:
    """What is known about a conversation; `language_seq` 0: the language was taken over from the tenant, or none."""

    id: UUID
    phone: str
    phone_original: str
    tenant_id: str | None
    tenant_lookup_status: str
    language: str
    language_confidence: float
    language_seq: int
    last_message_at: datetime | None


async def load_messages(connection: Connection, ids: Sequence[UUID]) -> dict[UUID, ReceivedMessage]:
    """Return the messages that exist, by id."""
    return {row[0]: ReceivedMessage(*row) for row in await connection.fetch(_LOAD_MESSAGES, ids)}


async def save_message_languages(connection: Connection, languages: Mapping[UUID, tuple[str, float]]) -> None:
    """Keep the recognised language and its confidence (0..1) of each message that was not erased meanwhile."""
    ids = sorted(languages)  # the order in which status callbacks lock messages
    found = [languages[id_] for id_ in ids]
    await connection.execute(
        _SAVE_LANGUAGES, ids, [language for language, _ in found], [confidence for _, confidence in found]
    )


async def lock_conversations(connection: Connection, ids: Sequence[UUID]) -> dict[UUID, ConversationFacts]:
    """Return the conversations by id, locked until the transaction ends, in the order in which everyone locks them.

    Those of somebody who was erased are not among them.
    """
    return {row[0]: ConversationFacts(*row) for row in await connection.fetch(_LOCK_CONVERSATIONS, ids)}


async def load_language_times(connection: Connection, ids: Sequence[UUID]) -> dict[UUID, datetime]:
    """Return when the message came that decided a conversation's language; none for a language taken over."""
    return {row[0]: row[1] for row in await connection.fetch(_LOAD_LANGUAGE_TIMES, ids)}


async def save_conversations(connection: Connection, changed: Sequence[ConversationFacts]) -> None:
    """Write tenant and language of locked conversations."""
    await connection.execute(
        _SAVE_CONVERSATIONS,
        [each.id for each in changed],
        [each.tenant_id for each in changed],
        [each.tenant_lookup_status for each in changed],
        [each.language for each in changed],
        [each.language_confidence for each in changed],
        [each.language_seq for each in changed],
    )


async def share_language(connection: Connection, *, tenant_id: str, language: str, confidence: float) -> None:
    """Give a tenant's language to those of their conversations that have no evidence of their own."""
    await connection.execute(_SHARE_LANGUAGE, tenant_id, language, confidence)


async def list_without_tenant(
    connection: Connection, *, before: tuple[datetime, UUID], since: datetime, limit: int
) -> list[tuple[datetime, UUID]]:
    """Return (last_message_at, id) of conversations with a phone number and no tenant, most recently active first.

    Only those active after `since` and, in that order, behind the key `before`.
    """
    return [tuple(row) for row in await connection.fetch(_LIST_WITHOUT_TENANT, *before, since, limit)]


async def patch_conversation(connection: Connection, *, phone: str, changes: Mapping[str, str | None]) -> bool:
    """Set those of workflow_type, workflow_id and conversation_status that `changes` names; False: unknown number."""
    row = await connection.fetchrow(
        _PATCH,
        phone,
        "workflow_type" in changes,
        changes.get("workflow_type"),
        "workflow_id" in changes,
        changes.get("workflow_id"),
        "conversation_status" in changes,
        changes.get("conversation_status"),
    )
    return row is not None


async def count_without_tenant(connection: Connection) -> int:
    """Return how many conversations have no tenant."""
    count: int = await connection.fetchval("SELECT count(*) FROM sms_conversations WHERE tenant_id IS NULL")
    return count
