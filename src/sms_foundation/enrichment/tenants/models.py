"""The tables of tenants: which language a renter is spoken to in, and which numbers have been theirs."""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    Index,
    Numeric,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)

from sms_foundation.core.schema import metadata

sms_tenants = Table(
    "sms_tenants",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("tenant_id", Text, nullable=False, comment="as the Collections Monitor names them"),
    Column("language_detected", Text, nullable=False, server_default="unknown"),
    Column("language_confidence", Numeric(3, 2), nullable=False, server_default="0"),
    Column(
        "language_at_us",  # orders evidence from different conversations
        BigInteger,
        nullable=False,
        server_default="0",
        comment="when the deciding message was received, in microseconds since 1970",
    ),
    Column("language_told", Text, comment="what the tenant profile service knows from us"),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    Column("updated_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    UniqueConstraint("tenant_id"),
    CheckConstraint("language_detected IN ('en', 'es', 'pt', 'unknown')", name="language_detected"),
)

sms_tenant_numbers = Table(
    "sms_tenant_numbers",
    metadata,
    Column("tenant_id", Text, primary_key=True),
    Column("phone_number_canonical", Text, primary_key=True),
    Column("first_matched_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    Column("last_used_at", DateTime(timezone=True), nullable=False, comment="when the tenant last texted from it"),
    # The number to answer a tenant on: the one used last.
    Index("ix_sms_tenant_numbers_last_used", "tenant_id", text("last_used_at DESC")),
)
