"""The tables of messaging. Times are UTC; ids are UUIDv7 made by the application."""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    Numeric,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from sms_foundation.core.schema import metadata

_LANGUAGES = "IN ('en', 'es', 'pt', 'unknown')"
_CONFIDENCE = Numeric(3, 2)


sms_conversations = Table(
    "sms_conversations",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column(
        "phone_number_canonical",
        Text,
        nullable=False,
        comment="E.164, or the provider's own form of a short code, alphanumeric sender or channel address",
    ),
    Column("phone_number_original", Text, nullable=False, comment="as the provider first wrote it"),
    Column("tenant_id", Text, comment="as the Collections Monitor names the renter"),
    Column("tenant_lookup_status", Text, nullable=False, server_default="pending"),
    Column("workflow_type", Text),
    Column("workflow_id", Text),
    Column("conversation_status", Text, nullable=False, server_default="active"),
    Column("language_detected", Text, nullable=False, server_default="unknown"),
    Column("language_confidence", _CONFIDENCE, nullable=False, server_default="0"),
    Column(
        "language_seq",
        BigInteger,
        nullable=False,
        server_default="0",
        comment="conversation_seq of the message that decided the language; 0: taken over from the tenant, or none",
    ),
    Column(
        "message_count", BigInteger, nullable=False, server_default="0", comment="also the highest conversation_seq"
    ),
    Column("last_message_at", DateTime(timezone=True)),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    Column("updated_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    UniqueConstraint("phone_number_canonical"),
    CheckConstraint("tenant_lookup_status IN ('pending', 'matched', 'unknown')", name="tenant_lookup_status"),
    CheckConstraint(f"language_detected {_LANGUAGES}", name="language_detected"),
    # The list, most recently active first, and its cursor; reconciliation walks the same way.
    Index("ix_sms_conversations_last_message_at", text("last_message_at DESC"), text("id DESC")),
    # All conversations of one tenant.
    Index("ix_sms_conversations_tenant_id", "tenant_id", postgresql_where=text("tenant_id IS NOT NULL")),
    # Updated by every message.
    postgresql_with={"fillfactor": "70"},
)

sms_messages = Table(
    "sms_messages",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("conversation_id", Uuid, ForeignKey("sms_conversations.id"), nullable=False),
    Column(
        "conversation_seq",
        BigInteger,
        nullable=False,
        comment="1, 2, 3, ... within the conversation in order of commit, without gaps",
    ),
    Column("direction", Text, nullable=False),
    Column("provider", Text, nullable=False),
    Column("provider_message_id", Text, comment="twilio_sid in the API; null until the provider has named it"),
    Column("from_number", Text, nullable=False),
    Column("to_number", Text, nullable=False),
    Column("message_content", Text, nullable=False),
    Column("media", JSONB, nullable=False, server_default=text("'[]'"), comment="[{url, content_type}]"),
    Column("num_segments", Integer, nullable=False, server_default="1"),
    Column("delivery_status", Text, nullable=False),
    Column("error_code", Text, comment="the provider's; the first one is kept"),
    Column("error_message", Text),
    Column("language_detected", Text, comment="null until recognised"),
    Column("language_confidence", _CONFIDENCE),
    Column("raw_webhook_data", JSONB, comment="every parameter; repeated ones as lists, bytes as {base64}"),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    Column("updated_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    # Exactly once: the provider's id is the message's identity. The id comes first, so it can be looked up alone.
    UniqueConstraint("provider_message_id", "provider"),
    # History pages, by cursor or by offset, cost the same at any depth.
    UniqueConstraint("conversation_id", "conversation_seq"),
    CheckConstraint("direction IN ('inbound', 'outbound')", name="direction"),
    CheckConstraint(f"language_detected {_LANGUAGES}", name="language_detected"),
    # Language and status are written after the insert: room for them on the same page.
    postgresql_with={"fillfactor": "85"},
)

sms_message_status_events = Table(
    "sms_message_status_events",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("message_id", Uuid, ForeignKey("sms_messages.id"), comment="null while no message has this provider id"),
    Column("provider", Text, nullable=False),
    Column("provider_message_id", Text, nullable=False),
    Column("event_status", Text, nullable=False, comment="the provider's own word"),
    Column("error_code", Text),
    Column("error_message", Text),
    Column("raw_webhook_data", JSONB, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    # A repeat is a no-op; two different statuses of one message are two events.
    UniqueConstraint(
        "provider_message_id",
        "provider",
        "event_status",
        "error_code",
        name="uq_sms_message_status_events_event",
        postgresql_nulls_not_distinct=True,
    ),
    # Events of one message, and the foreign key's own check.
    Index("ix_sms_message_status_events_message_id", "message_id"),
)
