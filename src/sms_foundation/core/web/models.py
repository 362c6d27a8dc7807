"""Answers kept for repetitions of requests that have an Idempotency-Key."""

from sqlalchemy import Column, DateTime, Index, LargeBinary, SmallInteger, Table, text

from sms_foundation.core.schema import metadata

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("digest", LargeBinary, primary_key=True, comment="SHA-256 of who asked and their key"),
    Column("request_digest", LargeBinary, nullable=False, comment="of path, query and body, keyed with the key"),
    Column("status", SmallInteger, nullable=False),
    Column("answer", LargeBinary, nullable=False, comment="sealed with a key made of the request's: useless to others"),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    Column("expires_at", DateTime(timezone=True), nullable=False),
    # What is over is deleted.
    Index("ix_idempotency_keys_expires_at", "expires_at"),
)
