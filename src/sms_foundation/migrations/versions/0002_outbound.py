"""Messages that go out: how they were asked for, every attempt, the state of providers, shared rates."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # A migration that cannot get its lock at once gives up, rather than make every request queue behind it.
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.create_table(
        "rate_cells",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column(
            "tat", sa.DateTime(timezone=True), nullable=False, comment="theoretical arrival time: the next free slot"
        ),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_rate_cells")),
        postgresql_with={"fillfactor": "50"},
        prefixes=["UNLOGGED"],
    )
    op.create_table(
        "sms_opt_outs",
        sa.Column("phone_number_canonical", sa.Text(), nullable=False),
        sa.Column("sender", sa.Text(), nullable=False, comment="the number of ours that was refused"),
        sa.Column("source", sa.Text(), nullable=False, comment="provider or keyword"),
        sa.Column("provider", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("phone_number_canonical", "sender", name=op.f("pk_sms_opt_outs")),
    )
    op.create_table(
        "sms_provider_changes",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("what", sa.Text(), nullable=False, comment="circuit, health, weight"),
        sa.Column("old", sa.Text(), nullable=False),
        sa.Column("new", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sms_provider_changes")),
    )
    op.create_index("ix_sms_provider_changes_provider", "sms_provider_changes", ["provider", "id"], unique=False)
    op.create_table(
        "sms_provider_windows",
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False, comment="ten seconds from then on"),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("failures", sa.Integer(), server_default="0", nullable=False),
        sa.Column("receipts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("late", sa.Integer(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("provider", "started_at", name=op.f("pk_sms_provider_windows")),
        postgresql_with={"fillfactor": "50"},
    )
    op.create_table(
        "sms_providers",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("circuit", sa.Text(), server_default="closed", nullable=False),
        sa.Column("consecutive_failures", sa.Integer(), server_default="0", nullable=False),
        sa.Column(
            "circuit_until",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="open: until then; probing: the probe's lease",
        ),
        sa.Column("unhealthy_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("weight_percent", sa.SmallInteger(), server_default="100", nullable=False),
        sa.Column("weight_changed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("circuit IN ('closed', 'open', 'probing')", name=op.f("ck_sms_providers_circuit")),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_sms_providers")),
    )
    op.create_table(
        "sms_send_attempts",
        sa.Column("message_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.SmallInteger(), nullable=False, comment="1, 2, 3, ... within the message"),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("sender", sa.Text(), nullable=False),
        sa.Column(
            "reasons",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=False,
            comment="why this provider: {provider: word}, and the weights",
        ),
        sa.Column(
            "started_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="before the call",
        ),
        sa.Column(
            "finished_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="null: under way, or the process died meanwhile",
        ),
        sa.Column("outcome", sa.Text(), nullable=True, comment="sent, refused, failed, unknown, absent"),
        sa.Column("provider_message_id", sa.Text(), nullable=True),
        sa.Column("error_kind", sa.Text(), nullable=True),
        sa.Column("error_code", sa.Text(), nullable=True, comment="the provider's"),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("http_status", sa.SmallInteger(), nullable=True),
        sa.Column("latency_ms", sa.Integer(), nullable=True),
        sa.Column("response", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.CheckConstraint(
            "outcome IN ('sent', 'refused', 'failed', 'unknown', 'absent')", name=op.f("ck_sms_send_attempts_outcome")
        ),
        sa.ForeignKeyConstraint(["message_id"], ["sms_messages.id"], name=op.f("fk_sms_send_attempts_message_id")),
        sa.PrimaryKeyConstraint("message_id", "number", name=op.f("pk_sms_send_attempts")),
        postgresql_with={"fillfactor": "70"},
    )
    op.alter_column(
        "sms_message_status_events",
        "provider",
        existing_type=sa.TEXT(),
        nullable=True,
        comment="null: a step of our own, such as canceled",
    )
    op.alter_column("sms_message_status_events", "provider_message_id", existing_type=sa.TEXT(), nullable=True)
    op.alter_column(
        "sms_message_status_events",
        "event_status",
        existing_type=sa.TEXT(),
        comment="the provider's own word, or ours",
        existing_comment="the provider's own word",
        existing_nullable=False,
    )
    op.alter_column(
        "sms_message_status_events",
        "raw_webhook_data",
        existing_type=postgresql.JSONB(astext_type=sa.Text()),
        nullable=True,
    )
    op.drop_constraint(op.f("uq_sms_message_status_events_event"), "sms_message_status_events", type_="unique")
    op.create_index(
        "uq_sms_message_status_events_event",
        "sms_message_status_events",
        ["provider_message_id", "provider", "event_status", "error_code"],
        unique=True,
        postgresql_nulls_not_distinct=True,
        postgresql_where=sa.text("provider_message_id IS NOT NULL"),
    )
    op.add_column(
        "sms_messages", sa.Column("encoding", sa.Text(), nullable=True, comment="GSM-7 or UCS-2; outbound only")
    )
    op.add_column(
        "sms_messages", sa.Column("client_id", sa.Text(), nullable=True, comment="the service that asked for it")
    )
    op.add_column(
        "sms_messages",
        sa.Column("idempotency_key", sa.Text(), nullable=True, comment="the client's own name for its request"),
    )
    op.add_column(
        "sms_messages",
        sa.Column(
            "request_digest",
            sa.LargeBinary(),
            nullable=True,
            comment="SHA-256 of what was asked for: the same key must mean the same",
        ),
    )
    op.add_column(
        "sms_messages",
        sa.Column(
            "metadata",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=True,
            comment="the client's own labels, {string: string}",
        ),
    )
    op.add_column(
        "sms_messages", sa.Column("priority", sa.SmallInteger(), nullable=True, comment="0 urgent, 1 normal, 2 bulk")
    )
    op.add_column("sms_messages", sa.Column("requested_sender", sa.Text(), nullable=True))
    op.add_column("sms_messages", sa.Column("requested_provider", sa.Text(), nullable=True))
    op.add_column(
        "sms_messages", sa.Column("send_at", sa.DateTime(timezone=True), nullable=True, comment="not before this")
    )
    op.add_column(
        "sms_messages", sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True, comment="not after this")
    )
    op.add_column(
        "sms_messages",
        sa.Column("content_retention", sa.Text(), nullable=True, comment="full, hash, or a number of days"),
    )
    op.add_column(
        "sms_messages",
        sa.Column(
            "redact_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="when the content is to be replaced by its hash",
        ),
    )
    op.add_column(
        "sms_messages",
        sa.Column(
            "requeued_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="attempts before this no longer count as retries",
        ),
    )
    op.add_column(
        "sms_messages",
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=True, comment="when a provider took it"),
    )
    op.add_column(
        "sms_messages",
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True, comment="when its last status was known"),
    )
    op.add_column(
        "sms_messages",
        sa.Column("price_micros", sa.BigInteger(), nullable=True, comment="millionths of price_currency"),
    )
    op.add_column("sms_messages", sa.Column("price_currency", sa.Text(), nullable=True, comment="ISO 4217"))
    op.add_column(
        "sms_messages",
        sa.Column(
            "poll_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="ask the provider then, unless it has reported an end before",
        ),
    )
    op.alter_column(
        "sms_messages",
        "provider",
        existing_type=sa.TEXT(),
        nullable=True,
        comment="outbound: null until one was chosen",
    )
    op.alter_column(
        "sms_messages",
        "from_number",
        existing_type=sa.TEXT(),
        nullable=True,
        comment="outbound: the sender asked for, then the one that was used",
    )
    op.create_check_constraint(
        op.f("ck_sms_messages_inbound"),
        "sms_messages",
        "direction = 'outbound' OR (provider IS NOT NULL AND from_number IS NOT NULL)",
    )
    op.create_check_constraint(
        op.f("ck_sms_message_status_events_about"),
        "sms_message_status_events",
        "message_id IS NOT NULL OR provider_message_id IS NOT NULL",
    )
    op.create_index(
        "ix_sms_messages_poll_at",
        "sms_messages",
        ["poll_at"],
        unique=False,
        postgresql_where=sa.text("poll_at IS NOT NULL"),
    )
    op.create_index(
        "ix_sms_messages_redact_at",
        "sms_messages",
        ["redact_at"],
        unique=False,
        postgresql_where=sa.text("redact_at IS NOT NULL"),
    )
    op.create_index(
        "uq_sms_messages_idempotency_key",
        "sms_messages",
        ["client_id", "idempotency_key"],
        unique=True,
        postgresql_where=sa.text("idempotency_key IS NOT NULL"),
    )
    op.add_column(
        "work",
        sa.Column(
            "priority",
            sa.SmallInteger(),
            server_default="1",
            nullable=False,
            comment="0 goes first; see queue.Priority",
        ),
    )
    op.drop_index(op.f("ix_work_due"), table_name="work", postgresql_where="(state = 'due'::text)")
    op.create_index(
        "ix_work_due",
        "work",
        ["kind", "priority", "run_at", "id"],
        unique=False,
        postgresql_where=sa.text("state = 'due'"),
    )


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    # What has no place in the older schema goes with it.
    op.drop_constraint(op.f("ck_sms_messages_inbound"), "sms_messages", type_="check")
    op.drop_constraint(op.f("ck_sms_message_status_events_about"), "sms_message_status_events", type_="check")
    op.execute("DELETE FROM work WHERE ref_id IN (SELECT id FROM sms_messages WHERE direction = 'outbound')")
    op.drop_table("sms_send_attempts")
    op.execute("DELETE FROM sms_message_status_events WHERE provider_message_id IS NULL OR provider IS NULL")
    op.execute(
        "UPDATE sms_message_status_events SET message_id = NULL "
        "WHERE message_id IN (SELECT id FROM sms_messages WHERE direction = 'outbound')"
    )
    op.execute("DELETE FROM sms_messages WHERE direction = 'outbound'")
    op.drop_index("ix_work_due", table_name="work", postgresql_where=sa.text("state = 'due'"))
    op.create_index(
        op.f("ix_work_due"), "work", ["run_at", "id"], unique=False, postgresql_where="(state = 'due'::text)"
    )
    op.drop_column("work", "priority")
    op.drop_index(
        "uq_sms_messages_idempotency_key",
        table_name="sms_messages",
        postgresql_where=sa.text("idempotency_key IS NOT NULL"),
    )
    op.drop_index(
        "ix_sms_messages_redact_at", table_name="sms_messages", postgresql_where=sa.text("redact_at IS NOT NULL")
    )
    op.drop_index("ix_sms_messages_poll_at", table_name="sms_messages", postgresql_where=sa.text("poll_at IS NOT NULL"))
    op.alter_column(
        "sms_messages",
        "from_number",
        existing_type=sa.TEXT(),
        nullable=False,
        comment=None,
        existing_comment="outbound: the sender asked for, then the one that was used",
    )
    op.alter_column(
        "sms_messages",
        "provider",
        existing_type=sa.TEXT(),
        nullable=False,
        comment=None,
        existing_comment="outbound: null until one was chosen",
    )
    op.drop_column("sms_messages", "poll_at")
    op.drop_column("sms_messages", "price_currency")
    op.drop_column("sms_messages", "price_micros")
    op.drop_column("sms_messages", "ended_at")
    op.drop_column("sms_messages", "sent_at")
    op.drop_column("sms_messages", "requeued_at")
    op.drop_column("sms_messages", "redact_at")
    op.drop_column("sms_messages", "content_retention")
    op.drop_column("sms_messages", "expires_at")
    op.drop_column("sms_messages", "send_at")
    op.drop_column("sms_messages", "requested_provider")
    op.drop_column("sms_messages", "requested_sender")
    op.drop_column("sms_messages", "priority")
    op.drop_column("sms_messages", "metadata")
    op.drop_column("sms_messages", "request_digest")
    op.drop_column("sms_messages", "idempotency_key")
    op.drop_column("sms_messages", "client_id")
    op.drop_column("sms_messages", "encoding")
    op.drop_index(
        "uq_sms_message_status_events_event",
        table_name="sms_message_status_events",
        postgresql_nulls_not_distinct=True,
        postgresql_where=sa.text("provider_message_id IS NOT NULL"),
    )
    op.create_unique_constraint(
        op.f("uq_sms_message_status_events_event"),
        "sms_message_status_events",
        ["provider_message_id", "provider", "event_status", "error_code"],
        postgresql_nulls_not_distinct=True,
    )
    op.alter_column(
        "sms_message_status_events",
        "raw_webhook_data",
        existing_type=postgresql.JSONB(astext_type=sa.Text()),
        nullable=False,
    )
    op.alter_column(
        "sms_message_status_events",
        "event_status",
        existing_type=sa.TEXT(),
        comment="the provider's own word",
        existing_comment="the provider's own word, or ours",
        existing_nullable=False,
    )
    op.alter_column("sms_message_status_events", "provider_message_id", existing_type=sa.TEXT(), nullable=False)
    op.alter_column(
        "sms_message_status_events",
        "provider",
        existing_type=sa.TEXT(),
        nullable=False,
        comment=None,
        existing_comment="null: a step of our own, such as canceled",
    )
    op.drop_table("sms_providers")
    op.drop_table("sms_provider_windows")
    op.drop_index("ix_sms_provider_changes_provider", table_name="sms_provider_changes")
    op.drop_table("sms_provider_changes")
    op.drop_table("sms_opt_outs")
    op.drop_table("rate_cells")
