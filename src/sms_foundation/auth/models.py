"""The tables of access. Secrets stand in them as SHA-256 (random ones) or argon2 (passwords), never in the clear."""

from datetime import datetime

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Index,
    LargeBinary,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from sms_foundation.core.schema import metadata


def _created_at() -> Column[datetime]:
    return Column("created_at", DateTime(timezone=True), nullable=False, server_default=text("now()"))


def _client_id() -> Column[str]:
    return Column("client_id", Text, ForeignKey("auth_clients.id"), nullable=False)


auth_clients = Table(
    "auth_clients",
    metadata,
    Column("id", Text, primary_key=True, comment="never changes; client_id of messages"),
    Column("kind", Text, nullable=False, comment="service or person"),
    Column("display_name", Text),
    Column("email", Text, comment="persons only, in lower case"),
    Column("password_hash", Text, comment="persons only: argon2id"),
    Column("roles", ARRAY(Text), nullable=False),
    Column("request_limit", Text, comment="such as 100/1s, or off; null: CLIENT_LIMIT"),
    _created_at(),
    Column("updated_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    Column("disabled_at", DateTime(timezone=True)),
    UniqueConstraint("email"),
    # Who has a role: asked before one is deleted, and before the last who may manage clients is disabled.
    Index("ix_auth_clients_roles", "roles", postgresql_using="gin"),
    CheckConstraint("kind IN ('service', 'person')", name="kind"),
    CheckConstraint("(kind = 'person') = (email IS NOT NULL)", name="email"),
)

auth_identities = Table(
    "auth_identities",
    metadata,
    Column("issuer", Text, nullable=False),
    Column("subject", Text, nullable=False, comment="the value of the issuer's subject claim"),
    _client_id(),
    _created_at(),
    PrimaryKeyConstraint("issuer", "subject"),
    # Shown with a client.
    Index("ix_auth_identities_client_id", "client_id"),
)

auth_api_keys = Table(
    "auth_api_keys",
    metadata,
    Column("id", Uuid, primary_key=True),
    _client_id(),
    Column("name", Text, nullable=False, comment="what it is for, in its owner's words"),
    Column("prefix", Text, nullable=False, comment="the visible part, such as sf_live_k3J9x2Qa"),
    Column("digest", LargeBinary, nullable=False, comment="SHA-256 of the whole key"),
    Column("is_test", Boolean, nullable=False),
    Column("scopes", ARRAY(Text), comment="permissions it is confined to; null: all its client's"),
    Column(
        "networks", ARRAY(Text), nullable=False, server_default="{}", comment="where it may be used; none: anywhere"
    ),
    _created_at(),
    Column("expires_at", DateTime(timezone=True)),
    Column("revoked_at", DateTime(timezone=True)),
    Column("last_used_at", DateTime(timezone=True), comment="within about a minute"),
    Column("replaces", Uuid, ForeignKey("auth_api_keys.id"), comment="the key that was rotated into this one"),
    UniqueConstraint("digest"),
    UniqueConstraint("prefix"),
    # A client's keys.
    Index("ix_auth_api_keys_client_id", "client_id", "id"),
)

auth_roles = Table(
    "auth_roles",
    metadata,
    Column("name", Text, primary_key=True),
    Column("permissions", ARRAY(Text), nullable=False),
    Column("description", Text, nullable=False, server_default=""),
    _created_at(),
    Column("updated_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
)

auth_invitations = Table(
    "auth_invitations",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("digest", LargeBinary, nullable=False, comment="SHA-256 of the invitation's secret"),
    Column("email", Text, nullable=False),
    Column("roles", ARRAY(Text), nullable=False),
    Column("created_by", Text, nullable=False, comment="client that invited"),
    _created_at(),
    Column("expires_at", DateTime(timezone=True), nullable=False),
    Column("used_at", DateTime(timezone=True)),
    Column("revoked_at", DateTime(timezone=True)),
    UniqueConstraint("digest"),
    # What is over is deleted.
    Index("ix_auth_invitations_expires_at", "expires_at"),
)

auth_sessions = Table(
    "auth_sessions",
    metadata,
    Column("id", Uuid, primary_key=True, comment="the family of refresh tokens that began with one log-in"),
    _client_id(),
    _created_at(),
    Column("expires_at", DateTime(timezone=True), nullable=False, comment="moved on by every refresh"),
    Column("ended_at", DateTime(timezone=True)),
    Column("end_reason", Text, comment="logout, reuse, password, disabled"),
    # Ended together when a password changes.
    Index("ix_auth_sessions_client_id", "client_id"),
    # What is over is deleted.
    Index("ix_auth_sessions_expires_at", "expires_at"),
)

auth_refresh_tokens = Table(
    "auth_refresh_tokens",
    metadata,
    Column("digest", LargeBinary, primary_key=True, comment="SHA-256 of the token"),
    Column("session_id", Uuid, ForeignKey("auth_sessions.id", ondelete="CASCADE"), nullable=False),
    _created_at(),
    Column("expires_at", DateTime(timezone=True), nullable=False),
    Column("spent_at", DateTime(timezone=True)),
    # Goes with its session.
    Index("ix_auth_refresh_tokens_session_id", "session_id"),
    # What is over is deleted, while its session may go on.
    Index("ix_auth_refresh_tokens_expires_at", "expires_at"),
)

auth_signing_keys = Table(
    "auth_signing_keys",
    metadata,
    Column("kid", Text, primary_key=True, comment="RFC 7638 thumbprint"),
    # The thumbprint stays, so that an instance that was forgotten cannot bring back what has retired.
    Column("public_jwk", JSONB, comment="the public half only; null once it has retired"),
    _created_at(),
    Column("retires_at", DateTime(timezone=True), comment="a newer key signs; after this nothing of it is accepted"),
)

auth_number_rules = Table(
    "auth_number_rules",
    metadata,
    Column("id", Uuid, nullable=False, comment="in the order in which they are listed; tells nothing of the number"),
    Column("prefix", Text, primary_key=True, comment="a number, or what numbers begin with: +1900"),
    Column("is_allowed", Boolean, nullable=False),
    Column("note", Text, nullable=False, server_default=""),
    Column("created_by", Text, nullable=False),
    _created_at(),
    UniqueConstraint("id"),
)

auth_audit_log = Table(
    "auth_audit_log",
    metadata,
    Column("id", Uuid, primary_key=True, comment="in the order of time"),
    _created_at(),
    Column("actor", Text, nullable=False, comment="client that did it; or command-line, service, nobody"),
    Column("credential", Text, nullable=False, comment="with what, without secret"),
    Column("address", Text),
    Column("request_id", Text),
    Column("action", Text, nullable=False, comment="key.create, messages.read_content, ..."),
    Column("target_kind", Text, nullable=False, comment="client, key, role, conversation, ..."),
    Column("target", Text, nullable=False, comment="its id; never a phone number"),
    Column("details", JSONB, nullable=False, server_default=text("'{}'")),
    # Each question admins ask, newest first: all of one actor, of one target, of one action.
    Index("ix_auth_audit_log_actor", "actor", "id"),
    Index("ix_auth_audit_log_target", "target", "id"),
    Index("ix_auth_audit_log_action", "action", "id"),
)
