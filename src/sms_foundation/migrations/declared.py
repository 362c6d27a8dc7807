"""The tables and indexes that an up-to-date schema has, by name, as the models declare them."""

from sqlalchemy import PrimaryKeyConstraint, UniqueConstraint

from sms_foundation.auth import models as _auth
from sms_foundation.core.rates import models as _rates
from sms_foundation.core.schema import metadata
from sms_foundation.core.web import models as _web
from sms_foundation.core.work import models as _work
from sms_foundation.enrichment.tenants import models as _tenants
from sms_foundation.messaging import models as _messaging

__all__ = [
    "_auth",
    "_messaging",
    "_rates",
    "_tenants",
    "_web",
    "_work",
]  # imported so that their tables stand in `metadata`


def declared_names() -> tuple[list[str], list[str]]:
    """Return the names of all tables, and of all indexes, those of primary keys and unique constraints included."""
    tables = list(metadata.tables.values())
    indexes = {str(index.name) for table in tables for index in table.indexes}
    for table in tables:
        keys = (each for each in table.constraints if isinstance(each, PrimaryKeyConstraint | UniqueConstraint))
        indexes |= {str(each.name) for each in keys if each.name is not None}
    return sorted(table.name for table in tables), sorted(indexes)
