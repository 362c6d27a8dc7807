"""Messages, conversations, tenants, work."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    # A migration that cannot get its lock at once gives up, rather than make every request queue behind it.
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.create_table(
        "sms_conversations",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column(
            "phone_number_canonical",
            sa.Text(),
            nullable=False,
            comment="E.164, or the provider's own form of a short code, alphanumeric sender or channel address",
        ),
        sa.Column("phone_number_original", sa.Text(), nullable=False, comment="as the provider first wrote it"),
        sa.Column("tenant_id", sa.Text(), nullable=True, comment="as the Collections Monitor names the renter"),
        sa.Column("tenant_lookup_status", sa.Text(), server_default="pending", nullable=False),
        sa.Column("workflow_type", sa.Text(), nullable=True),
        sa.Column("workflow_id", sa.Text(), nullable=True),
        sa.Column("conversation_status", sa.Text(), server_default="active", nullable=False),
        sa.Column("language_detected", sa.Text(), server_default="unknown", nullable=False),
        sa.Column("language_confidence", sa.Numeric(precision=3, scale=2), server_default="0", nullable=False),
        sa.Column(
            "language_seq",
            sa.BigInteger(),
            server_default="0",
            nullable=False,
            comment="conversation_seq of the message that decided the language; 0: taken over from the tenant, or none",
        ),
        sa.Column(
            "message_count",
            sa.BigInteger(),
            server_default="0",
            nullable=False,
            comment="also the highest conversation_seq",
        ),
        sa.Column("last_message_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "language_detected IN ('en', 'es', 'pt', 'unknown')", name=op.f("ck_sms_conversations_language_detected")
        ),
        sa.CheckConstraint(
            "tenant_lookup_status IN ('pending', 'matched', 'unknown')",
            name=op.f("ck_sms_conversations_tenant_lookup_status"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sms_conversations")),
        sa.UniqueConstraint("phone_number_canonical", name=op.f("uq_sms_conversations_phone_number_canonical")),
        postgresql_with={"fillfactor": "70"},
    )
    op.create_index(
        "ix_sms_conversations_last_message_at",
        "sms_conversations",
        [sa.literal_column("last_message_at DESC"), sa.literal_column("id DESC")],
        unique=False,
    )
    op.create_index(
        "ix_sms_conversations_tenant_id",
        "sms_conversations",
        ["tenant_id"],
        unique=False,
        postgresql_where=sa.text("tenant_id IS NOT NULL"),
    )
    op.create_table(
        "sms_tenant_numbers",
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("phone_number_canonical", sa.Text(), nullable=False),
        sa.Column("first_matched_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column(
            "last_used_at", sa.DateTime(timezone=True), nullable=False, comment="when the tenant last texted from it"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "phone_number_canonical", name=op.f("pk_sms_tenant_numbers")),
    )
    op.create_index(
        "ix_sms_tenant_numbers_last_used",
        "sms_tenant_numbers",
        ["tenant_id", sa.literal_column("last_used_at DESC")],
        unique=False,
    )
    op.create_table(
        "sms_tenants",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False, comment="as the Collections Monitor names them"),
        sa.Column("language_detected", sa.Text(), server_default="unknown", nullable=False),
        sa.Column("language_confidence", sa.Numeric(precision=3, scale=2), server_default="0", nullable=False),
        sa.Column(
            "language_at_us",
            sa.BigInteger(),
            server_default="0",
            nullable=False,
            comment="when the deciding message was received, in microseconds since 1970",
        ),
        sa.Column("language_told", sa.Text(), nullable=True, comment="what the tenant profile service knows from us"),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "language_detected IN ('en', 'es', 'pt', 'unknown')", name=op.f("ck_sms_tenants_language_detected")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sms_tenants")),
        sa.UniqueConstraint("tenant_id", name=op.f("uq_sms_tenants_tenant_id")),
    )
    op.create_table(
        "work",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column(
            "ref_id", sa.Uuid(), nullable=False, comment="the row this work is about; its table follows from kind"
        ),
        sa.Column(
            "order_key", sa.Text(), nullable=True, comment="work of one key runs one after the other, in order of id"
        ),
        sa.Column("unique_key", sa.Text(), nullable=True, comment="at most one open row per key"),
        sa.Column("state", sa.Text(), server_default="due", nullable=False),
        sa.Column("run_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("attempts", sa.SmallInteger(), server_default="0", nullable=False, comment="starts so far"),
        sa.Column(
            "lease_token", sa.Uuid(), nullable=True, comment="who runs it; a holder of another token must not finish it"
        ),
        sa.Column(
            "lease_until", sa.DateTime(timezone=True), nullable=True, comment="after this, others may take it over"
        ),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "(state = 'leased') = (lease_token IS NOT NULL AND lease_until IS NOT NULL)", name=op.f("ck_work_lease")
        ),
        sa.CheckConstraint("state IN ('due', 'leased', 'dead')", name=op.f("ck_work_state")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_work")),
        postgresql_with={
            "fillfactor": "70",
            "autovacuum_vacuum_scale_factor": "0.05",
            "autovacuum_vacuum_threshold": "1000",
        },
    )
    op.create_index("ix_work_dead", "work", ["id"], unique=False, postgresql_where=sa.text("state = 'dead'"))
    op.create_index("ix_work_due", "work", ["run_at", "id"], unique=False, postgresql_where=sa.text("state = 'due'"))
    op.create_index(
        "ix_work_leased", "work", ["lease_until"], unique=False, postgresql_where=sa.text("state = 'leased'")
    )
    op.create_index(
        "ix_work_order",
        "work",
        ["order_key", "id"],
        unique=False,
        postgresql_where=sa.text("order_key IS NOT NULL AND state <> 'dead'"),
    )
    op.create_index(
        "uq_work_running_order_key",
        "work",
        ["order_key"],
        unique=True,
        postgresql_where=sa.text("order_key IS NOT NULL AND state = 'leased'"),
    )
    op.create_index(
        "uq_work_unique_key",
        "work",
        ["unique_key"],
        unique=True,
        postgresql_where=sa.text("unique_key IS NOT NULL AND state <> 'dead'"),
    )
    op.create_table(
        "sms_messages",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("conversation_id", sa.Uuid(), nullable=False),
        sa.Column(
            "conversation_seq",
            sa.BigInteger(),
            nullable=False,
            comment="1, 2, 3, ... within the conversation in order of commit, without gaps",
        ),
        sa.Column("direction", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column(
            "provider_message_id",
            sa.Text(),
            nullable=True,
            comment="twilio_sid in the API; null until the provider has named it",
        ),
        sa.Column("from_number", sa.Text(), nullable=False),
        sa.Column("to_number", sa.Text(), nullable=False),
        sa.Column("message_content", sa.Text(), nullable=False),
        sa.Column(
            "media",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'[]'"),
            nullable=False,
            comment="[{url, content_type}]",
        ),
        sa.Column("num_segments", sa.Integer(), server_default="1", nullable=False),
        sa.Column("delivery_status", sa.Text(), nullable=False),
        sa.Column("error_code", sa.Text(), nullable=True, comment="the provider's; the first one is kept"),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("language_detected", sa.Text(), nullable=True, comment="null until recognised"),
        sa.Column("language_confidence", sa.Numeric(precision=3, scale=2), nullable=True),
        sa.Column(
            "raw_webhook_data",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=True,
            comment="every parameter; repeated ones as lists, bytes as {base64}",
        ),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("direction IN ('inbound', 'outbound')", name=op.f("ck_sms_messages_direction")),
        sa.CheckConstraint(
            "language_detected IN ('en', 'es', 'pt', 'unknown')", name=op.f("ck_sms_messages_language_detected")
        ),
        sa.ForeignKeyConstraint(
            ["conversation_id"], ["sms_conversations.id"], name=op.f("fk_sms_messages_conversation_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sms_messages")),
        sa.UniqueConstraint(
            "conversation_id", "conversation_seq", name=op.f("uq_sms_messages_conversation_id_conversation_seq")
        ),
        sa.UniqueConstraint(
            "provider_message_id", "provider", name=op.f("uq_sms_messages_provider_message_id_provider")
        ),
        postgresql_with={"fillfactor": "85"},
    )
    op.create_table(
        "sms_message_status_events",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("message_id", sa.Uuid(), nullable=True, comment="null while no message has this provider id"),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("provider_message_id", sa.Text(), nullable=False),
        sa.Column("event_status", sa.Text(), nullable=False, comment="the provider's own word"),
        sa.Column("error_code", sa.Text(), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("raw_webhook_data", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["message_id"], ["sms_messages.id"], name=op.f("fk_sms_message_status_events_message_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sms_message_status_events")),
        sa.UniqueConstraint(
            "provider_message_id",
            "provider",
            "event_status",
            "error_code",
            name="uq_sms_message_status_events_event",
            postgresql_nulls_not_distinct=True,
        ),
    )
    op.create_index(
        "ix_sms_message_status_events_message_id", "sms_message_status_events", ["message_id"], unique=False
    )


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.drop_table("sms_message_status_events")
    op.drop_table("sms_messages")
    op.drop_table("work")
    op.drop_table("sms_tenants")
    op.drop_table("sms_tenant_numbers")
    op.drop_table("sms_conversations")
