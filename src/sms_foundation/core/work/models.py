"""The `work` table. Rows are narrow and short-lived: finished ones are deleted, dead ones stay until replayed."""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    Identity,
    Index,
    SmallInteger,
    Table,
    Text,
    Uuid,
    text,
)

from sms_foundation.core.schema import metadata

work = Table(
    "work",
    metadata,
    # The order of insertion: what comes first under one order_key runs first.
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("kind", Text, nullable=False),
    Column("ref_id", Uuid, nullable=False, comment="the row this work is about; its table follows from kind"),
    Column("order_key", Text, comment="work of one key runs one after the other, in order of id"),
    Column("unique_key", Text, comment="at most one open row per key"),
    Column("priority", SmallInteger, nullable=False, server_default="1", comment="0 goes first; see queue.Priority"),
    Column("state", Text, nullable=False, server_default="due"),
    Column("run_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    Column("attempts", SmallInteger, nullable=False, server_default="0", comment="starts so far"),
    Column("lease_token", Uuid, comment="who runs it; a holder of another token must not finish it"),
    Column("lease_until", DateTime(timezone=True), comment="after this, others may take it over"),
    Column("last_error", Text),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    Column("trace_context", Text, comment="traceparent of what caused it"),
    Column("request_id", Text, comment="the request that caused it"),
    CheckConstraint("state IN ('due', 'leased', 'dead')", name="state"),
    CheckConstraint("(state = 'leased') = (lease_token IS NOT NULL AND lease_until IS NOT NULL)", name="lease"),
    # What to claim next, and when to wake up: one range per kind and priority, however much waits in the others.
    Index("ix_work_due", "kind", "priority", "run_at", "id", postgresql_where=text("state = 'due'")),
    # Whose holder has died.
    Index("ix_work_leased", "lease_until", postgresql_where=text("state = 'leased'")),
    # Is there an older open row of this key?
    Index("ix_work_order", "order_key", "id", postgresql_where=text("order_key IS NOT NULL AND state <> 'dead'")),
    # Backstop of ordering: never two running under one key, whatever the claim query believes.
    Index(
        "uq_work_running_order_key",
        "order_key",
        unique=True,
        postgresql_where=text("order_key IS NOT NULL AND state = 'leased'"),
    ),
    Index(
        "uq_work_unique_key",
        "unique_key",
        unique=True,
        postgresql_where=text("unique_key IS NOT NULL AND state <> 'dead'"),
    ),
    Index("ix_work_dead", "id", postgresql_where=text("state = 'dead'")),
    # Every row is updated or deleted within seconds: leave room on the page, vacuum early.
    postgresql_with={
        "fillfactor": "70",
        "autovacuum_vacuum_scale_factor": "0.05",
        "autovacuum_vacuum_threshold": "1000",
    },
)
