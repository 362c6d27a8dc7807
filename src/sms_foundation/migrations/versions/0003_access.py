"""Who may do what: clients, keys, people and their sessions, roles, the audit log; answers kept for repetitions."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_REFUSE_CHANGES = """
CREATE FUNCTION auth_audit_log_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit log is append-only' USING ERRCODE = 'insufficient_privilege';
END
$$
"""


def upgrade() -> None:
    # A migration that cannot get its lock at once gives up, rather than make every request queue behind it.
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.create_table(
        "auth_audit_log",
        sa.Column("id", sa.Uuid(), nullable=False, comment="in the order of time"),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False, comment="client that did it; or command-line, service, nobody"),
        sa.Column("credential", sa.Text(), nullable=False, comment="with what, without secret"),
        sa.Column("address", sa.Text(), nullable=True),
        sa.Column("request_id", sa.Text(), nullable=True),
        sa.Column("action", sa.Text(), nullable=False, comment="key.create, messages.read_content, ..."),
        sa.Column("target_kind", sa.Text(), nullable=False, comment="client, key, role, conversation, ..."),
        sa.Column("target", sa.Text(), nullable=False, comment="its id; never a phone number"),
        sa.Column("details", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_auth_audit_log")),
    )
    op.create_index("ix_auth_audit_log_action", "auth_audit_log", ["action", "id"], unique=False)
    op.create_index("ix_auth_audit_log_actor", "auth_audit_log", ["actor", "id"], unique=False)
    op.create_index("ix_auth_audit_log_target", "auth_audit_log", ["target", "id"], unique=False)
    op.create_table(
        "auth_clients",
        sa.Column("id", sa.Text(), nullable=False, comment="never changes; client_id of messages"),
        sa.Column("kind", sa.Text(), nullable=False, comment="service or person"),
        sa.Column("display_name", sa.Text(), nullable=True),
        sa.Column("email", sa.Text(), nullable=True, comment="persons only, in lower case"),
        sa.Column("password_hash", sa.Text(), nullable=True, comment="persons only: argon2id"),
        sa.Column("roles", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("request_limit", sa.Text(), nullable=True, comment="such as 100/1s, or off; null: CLIENT_LIMIT"),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("disabled_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("(kind = 'person') = (email IS NOT NULL)", name=op.f("ck_auth_clients_email")),
        sa.CheckConstraint("kind IN ('service', 'person')", name=op.f("ck_auth_clients_kind")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_auth_clients")),
        sa.UniqueConstraint("email", name=op.f("uq_auth_clients_email")),
    )
    op.create_index("ix_auth_clients_roles", "auth_clients", ["roles"], unique=False, postgresql_using="gin")
    op.create_table(
        "auth_invitations",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False, comment="SHA-256 of the invitation's secret"),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("roles", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False, comment="client that invited"),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_auth_invitations")),
        sa.UniqueConstraint("digest", name=op.f("uq_auth_invitations_digest")),
    )
    op.create_index("ix_auth_invitations_expires_at", "auth_invitations", ["expires_at"], unique=False)
    op.create_table(
        "auth_number_rules",
        sa.Column(
            "id",
            sa.Uuid(),
            nullable=False,
            comment="in the order in which they are listed; tells nothing of the number",
        ),
        sa.Column("prefix", sa.Text(), nullable=False, comment="a number, or what numbers begin with: +1900"),
        sa.Column("is_allowed", sa.Boolean(), nullable=False),
        sa.Column("note", sa.Text(), server_default="", nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("prefix", name=op.f("pk_auth_number_rules")),
        sa.UniqueConstraint("id", name=op.f("uq_auth_number_rules_id")),
    )
    op.create_table(
        "auth_roles",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("permissions", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("description", sa.Text(), server_default="", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_auth_roles")),
    )
    op.create_table(
        "auth_signing_keys",
        sa.Column("kid", sa.Text(), nullable=False, comment="RFC 7638 thumbprint"),
        sa.Column(
            "public_jwk",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=True,
            comment="the public half only; null once it has retired",
        ),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column(
            "retires_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="a newer key signs; after this nothing of it is accepted",
        ),
        sa.PrimaryKeyConstraint("kid", name=op.f("pk_auth_signing_keys")),
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("digest", sa.LargeBinary(), nullable=False, comment="SHA-256 of who asked and their key"),
        sa.Column(
            "request_digest", sa.LargeBinary(), nullable=False, comment="of path, query and body, keyed with the key"
        ),
        sa.Column("status", sa.SmallInteger(), nullable=False),
        sa.Column(
            "answer",
            sa.LargeBinary(),
            nullable=False,
            comment="sealed with a key made of the request's: useless to others",
        ),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_idempotency_keys")),
    )
    op.create_index("ix_idempotency_keys_expires_at", "idempotency_keys", ["expires_at"], unique=False)
    op.create_table(
        "auth_api_keys",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("client_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False, comment="what it is for, in its owner's words"),
        sa.Column("prefix", sa.Text(), nullable=False, comment="the visible part, such as sf_live_k3J9x2Qa"),
        sa.Column("digest", sa.LargeBinary(), nullable=False, comment="SHA-256 of the whole key"),
        sa.Column("is_test", sa.Boolean(), nullable=False),
        sa.Column(
            "scopes",
            postgresql.ARRAY(sa.Text()),
            nullable=True,
            comment="permissions it is confined to; null: all its client's",
        ),
        sa.Column(
            "networks",
            postgresql.ARRAY(sa.Text()),
            server_default="{}",
            nullable=False,
            comment="where it may be used; none: anywhere",
        ),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True, comment="within about a minute"),
        sa.Column("replaces", sa.Uuid(), nullable=True, comment="the key that was rotated into this one"),
        sa.ForeignKeyConstraint(["client_id"], ["auth_clients.id"], name=op.f("fk_auth_api_keys_client_id")),
        sa.ForeignKeyConstraint(["replaces"], ["auth_api_keys.id"], name=op.f("fk_auth_api_keys_replaces")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_auth_api_keys")),
        sa.UniqueConstraint("digest", name=op.f("uq_auth_api_keys_digest")),
        sa.UniqueConstraint("prefix", name=op.f("uq_auth_api_keys_prefix")),
    )
    op.create_index("ix_auth_api_keys_client_id", "auth_api_keys", ["client_id", "id"], unique=False)
    op.create_table(
        "auth_identities",
        sa.Column("issuer", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False, comment="the value of the issuer's subject claim"),
        sa.Column("client_id", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["client_id"], ["auth_clients.id"], name=op.f("fk_auth_identities_client_id")),
        sa.PrimaryKeyConstraint("issuer", "subject", name=op.f("pk_auth_identities")),
    )
    op.create_index("ix_auth_identities_client_id", "auth_identities", ["client_id"], unique=False)
    op.create_table(
        "auth_sessions",
        sa.Column("id", sa.Uuid(), nullable=False, comment="the family of refresh tokens that began with one log-in"),
        sa.Column("client_id", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False, comment="moved on by every refresh"),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("end_reason", sa.Text(), nullable=True, comment="logout, reuse, password, disabled"),
        sa.ForeignKeyConstraint(["client_id"], ["auth_clients.id"], name=op.f("fk_auth_sessions_client_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_auth_sessions")),
    )
    op.create_index("ix_auth_sessions_client_id", "auth_sessions", ["client_id"], unique=False)
    op.create_index("ix_auth_sessions_expires_at", "auth_sessions", ["expires_at"], unique=False)
    op.create_table(
        "auth_refresh_tokens",
        sa.Column("digest", sa.LargeBinary(), nullable=False, comment="SHA-256 of the token"),
        sa.Column("session_id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("spent_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["session_id"], ["auth_sessions.id"], name=op.f("fk_auth_refresh_tokens_session_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_auth_refresh_tokens")),
    )
    op.create_index("ix_auth_refresh_tokens_expires_at", "auth_refresh_tokens", ["expires_at"], unique=False)
    op.create_index("ix_auth_refresh_tokens_session_id", "auth_refresh_tokens", ["session_id"], unique=False)
    op.execute(_REFUSE_CHANGES)
    op.execute(
        "CREATE TRIGGER auth_audit_log_keeps_rows BEFORE UPDATE OR DELETE ON auth_audit_log "
        "FOR EACH ROW EXECUTE FUNCTION auth_audit_log_is_append_only()"
    )
    op.execute(
        "CREATE TRIGGER auth_audit_log_is_never_emptied BEFORE TRUNCATE ON auth_audit_log "
        "FOR EACH STATEMENT EXECUTE FUNCTION auth_audit_log_is_append_only()"
    )
    # Last: from here to the commit nobody reads a message, about a second for each million there are.
    op.add_column(
        "sms_messages",
        sa.Column(
            "is_test",
            sa.Boolean(),
            server_default=sa.text("false"),
            nullable=False,
            comment="asked for with a test key: only the simulated provider carries it",
        ),
    )
    op.create_check_constraint(
        op.f("ck_sms_messages_is_test"), "sms_messages", "provider IS NULL OR is_test = (provider = 'simulated')"
    )
    op.create_index(
        "ix_sms_messages_is_test", "sms_messages", ["id"], unique=False, postgresql_where=sa.text("is_test")
    )


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.drop_index("ix_sms_messages_is_test", table_name="sms_messages", postgresql_where=sa.text("is_test"))
    op.drop_constraint(op.f("ck_sms_messages_is_test"), "sms_messages", type_="check")
    op.drop_column("sms_messages", "is_test")
    op.drop_index("ix_auth_refresh_tokens_session_id", table_name="auth_refresh_tokens")
    op.drop_index("ix_auth_refresh_tokens_expires_at", table_name="auth_refresh_tokens")
    op.drop_table("auth_refresh_tokens")
    op.drop_index("ix_auth_sessions_expires_at", table_name="auth_sessions")
    op.drop_index("ix_auth_sessions_client_id", table_name="auth_sessions")
    op.drop_table("auth_sessions")
    op.drop_index("ix_auth_identities_client_id", table_name="auth_identities")
    op.drop_table("auth_identities")
    op.drop_index("ix_auth_api_keys_client_id", table_name="auth_api_keys")
    op.drop_table("auth_api_keys")
    op.drop_index("ix_idempotency_keys_expires_at", table_name="idempotency_keys")
    op.drop_table("idempotency_keys")
    op.drop_table("auth_signing_keys")
    op.drop_table("auth_roles")
    op.drop_table("auth_number_rules")
    op.drop_index("ix_auth_invitations_expires_at", table_name="auth_invitations")
    op.drop_table("auth_invitations")
    op.drop_index("ix_auth_clients_roles", table_name="auth_clients", postgresql_using="gin")
    op.drop_table("auth_clients")
    op.drop_index("ix_auth_audit_log_target", table_name="auth_audit_log")
    op.drop_index("ix_auth_audit_log_actor", table_name="auth_audit_log")
    op.drop_index("ix_auth_audit_log_action", table_name="auth_audit_log")
    op.drop_table("auth_audit_log")
    op.execute("DROP FUNCTION auth_audit_log_is_append_only()")
