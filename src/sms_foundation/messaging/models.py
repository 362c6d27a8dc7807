"""The tables of messaging. Times are UTC; ids are UUIDv7 made by the application."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Numeric,
    PrimaryKeyConstraint,
    SmallInteger,
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
    Column("provider", Text, comment="outbound: null until one was chosen"),
    Column("provider_message_id", Text, comment="twilio_sid in the API; null until the provider has named it"),
    Column("from_number", Text, comment="outbound: the sender asked for, then the one that was used"),
    Column("to_number", Text, nullable=False),
    Column("message_content", Text, nullable=False),
    Column("media", JSONB, nullable=False, server_default=text("'[]'"), comment="[{url, content_type}]"),
    Column("num_segments", Integer, nullable=False, server_default="1"),
    Column("encoding", Text, comment="GSM-7 or UCS-2; outbound only"),
    Column("delivery_status", Text, nullable=False),
    Column("error_code", Text, comment="the provider's; the first one is kept"),
    Column("error_message", Text),
    Column("language_detected", Text, comment="null until recognised"),
    Column("language_confidence", _CONFIDENCE),
    Column("raw_webhook_data", JSONB, comment="every parameter; repeated ones as lists, bytes as {base64}"),
    # From here to poll_at: outbound only.
    Column("client_id", Text, comment="the service that asked for it"),
    Column(
        "is_test",
        Boolean,
        nullable=False,
        server_default=text("false"),
        comment="asked for with a test key: only the simulated provider carries it",
    ),
    Column("idempotency_key", Text, comment="the client's own name for its request"),
    Column("request_digest", LargeBinary, comment="SHA-256 of what was asked for: the same key must mean the same"),
    Column("metadata", JSONB, comment="the client's own labels, {string: string}"),
    Column("priority", SmallInteger, comment="0 urgent, 1 normal, 2 bulk"),
    Column("requested_sender", Text),
    Column("requested_provider", Text),
    Column("send_at", DateTime(timezone=True), comment="not before this"),
    Column("expires_at", DateTime(timezone=True), comment="not after this"),
    Column("content_retention", Text, comment="full, hash, or a number of days"),
    Column("redact_at", DateTime(timezone=True), comment="when the content is to be replaced by its hash"),
    Column("requeued_at", DateTime(timezone=True), comment="attempts before this no longer count as retries"),
    Column("sent_at", DateTime(timezone=True), comment="when a provider took it"),
    Column("ended_at", DateTime(timezone=True), comment="when its last status was known"),
    Column("price_micros", BigInteger, comment="millionths of price_currency"),
    Column("price_currency", Text, comment="ISO 4217"),
    Column("poll_at", DateTime(timezone=True), comment="ask the provider then, unless it has reported an end before"),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    Column("updated_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    Column("trace_context", Text, comment="traceparent of the request that brought it"),
    Column("request_id", Text, comment="X-Request-ID of that request"),
    # Exactly once: the provider's id is the message's identity. The id comes first, so it can be looked up alone.
    UniqueConstraint("provider_message_id", "provider"),
    # History pages, by cursor or by offset, cost the same at any depth.
    UniqueConstraint("conversation_id", "conversation_seq"),
    # One message per key and client, however often and wherever it is asked for.
    Index(
        "uq_sms_messages_idempotency_key",
        "client_id",
        "idempotency_key",
        unique=True,
        postgresql_where=text("idempotency_key IS NOT NULL"),
    ),
    # What reconciliation asks for, and what retention forgets; both are null for nearly every row.
    Index("ix_sms_messages_poll_at", "poll_at", postgresql_where=text("poll_at IS NOT NULL")),
    Index("ix_sms_messages_redact_at", "redact_at", postgresql_where=text("redact_at IS NOT NULL")),
    # The list of test messages alone, newest first: there may be few among many.
    Index("ix_sms_messages_is_test", "id", postgresql_where=text("is_test")),
    CheckConstraint("direction IN ('inbound', 'outbound')", name="direction"),
    # Who carries a message is written down before the call: so no test reaches a real provider, whatever we believe.
    CheckConstraint("provider IS NULL OR is_test = (provider = 'simulated')", name="is_test"),
    CheckConstraint("direction = 'outbound' OR (provider IS NOT NULL AND from_number IS NOT NULL)", name="inbound"),
    CheckConstraint(f"language_detected {_LANGUAGES}", name="language_detected"),
    # Language and status are written after the insert: room for them on the same page.
    postgresql_with={"fillfactor": "85"},
)

sms_message_status_events = Table(
    "sms_message_status_events",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("message_id", Uuid, ForeignKey("sms_messages.id"), comment="null while no message has this provider id"),
    Column("provider", Text, comment="null: a step of our own, such as canceled"),
    Column("provider_message_id", Text),
    Column("event_status", Text, nullable=False, comment="the provider's own word, or ours"),
    Column("error_code", Text),
    Column("error_message", Text),
    Column("raw_webhook_data", JSONB),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    # A repeat is a no-op; two different statuses of one message are two events.
    Index(
        "uq_sms_message_status_events_event",
        "provider_message_id",
        "provider",
        "event_status",
        "error_code",
        unique=True,
        postgresql_nulls_not_distinct=True,
        postgresql_where=text("provider_message_id IS NOT NULL"),
    ),
    # Events of one message, and the foreign key's own check.
    Index("ix_sms_message_status_events_message_id", "message_id"),
    CheckConstraint("message_id IS NOT NULL OR provider_message_id IS NOT NULL", name="about"),
)

sms_send_attempts = Table(
    "sms_send_attempts",
    metadata,
    Column("message_id", Uuid, ForeignKey("sms_messages.id"), nullable=False),
    Column("number", SmallInteger, nullable=False, comment="1, 2, 3, ... within the message"),
    Column("provider", Text, nullable=False),
    Column("sender", Text, nullable=False),
    Column("reasons", JSONB, nullable=False, comment="why this provider: {provider: word}, and the weights"),
    Column(
        "started_at", DateTime(timezone=True), nullable=False, server_default=text("now()"), comment="before the call"
    ),
    Column("finished_at", DateTime(timezone=True), comment="null: under way, or the process died meanwhile"),
    Column("outcome", Text, comment="sent, refused, failed, unknown, absent"),
    Column("provider_message_id", Text),
    Column("error_kind", Text),
    Column("error_code", Text, comment="the provider's"),
    Column("error_message", Text),
    Column("http_status", SmallInteger),
    Column("latency_ms", Integer),
    Column("response", JSONB),
    # Also the fence: of two processes that believe to hold the message, one gets to write the next number.
    PrimaryKeyConstraint("message_id", "number"),
    CheckConstraint("outcome IN ('sent', 'refused', 'failed', 'unknown', 'absent')", name="outcome"),
    postgresql_with={"fillfactor": "70"},
)

sms_opt_outs = Table(
    "sms_opt_outs",
    metadata,
    Column("phone_number_canonical", Text, nullable=False),
    Column("sender", Text, nullable=False, comment="the number of ours that was refused"),
    Column("source", Text, nullable=False, comment="provider or keyword"),
    Column("provider", Text),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    PrimaryKeyConstraint("phone_number_canonical", "sender"),
    # An opt-out of nobody protects nobody: better an error that is seen.
    CheckConstraint("phone_number_canonical NOT LIKE 'erased:%'", name="is_somebody"),
)

sms_providers = Table(
    "sms_providers",
    metadata,
    Column("name", Text, primary_key=True),
    Column("circuit", Text, nullable=False, server_default="closed"),
    Column("consecutive_failures", Integer, nullable=False, server_default="0"),
    Column("circuit_until", DateTime(timezone=True), comment="open: until then; probing: the probe's lease"),
    Column("unhealthy_until", DateTime(timezone=True)),
    Column("weight_percent", SmallInteger, nullable=False, server_default="100"),
    Column("weight_changed_at", DateTime(timezone=True)),
    Column("updated_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    CheckConstraint("circuit IN ('closed', 'open', 'probing')", name="circuit"),
)

sms_provider_windows = Table(
    "sms_provider_windows",
    metadata,
    Column("provider", Text, nullable=False),
    Column("started_at", DateTime(timezone=True), nullable=False, comment="ten seconds from then on"),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("failures", Integer, nullable=False, server_default="0"),
    Column("receipts", Integer, nullable=False, server_default="0"),
    Column("late", Integer, nullable=False, server_default="0"),
    PrimaryKeyConstraint("provider", "started_at"),
    postgresql_with={"fillfactor": "50"},
)

sms_provider_changes = Table(
    "sms_provider_changes",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("provider", Text, nullable=False),
    Column("what", Text, nullable=False, comment="circuit, health, weight"),
    Column("old", Text, nullable=False),
    Column("new", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    Index("ix_sms_provider_changes_provider", "provider", "id"),
)
