"""The cells of `core.rates`; a crash may forget them (UNLOGGED): all they hold is a moment of the last seconds."""

from sqlalchemy import Column, DateTime, Table, Text

from sms_foundation.core.schema import metadata

rate_cells = Table(
    "rate_cells",
    metadata,
    Column("key", Text, primary_key=True),
    Column("tat", DateTime(timezone=True), nullable=False, comment="theoretical arrival time: the next free slot"),
    prefixes=["UNLOGGED"],
    postgresql_with={"fillfactor": "50"},
)
