"""Reading the audit log back, newest first."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import asyncpg

from sms_foundation.auth.audit.log import Action
from sms_foundation.core.db import Connection
from sms_foundation.core.listing import Listing

_LIST = """
SELECT id, created_at, actor, credential, address, request_id, action, target_kind, target, details::text AS details
FROM auth_audit_log WHERE true
"""
_CONDITIONS = {
    "actor": "actor = {}",
    "action": "action = {}",
    "target": "target = {}",
    "since": "created_at >= {}",
    "until": "created_at < {}",
}


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """What to list; None means any. Times are UTC, `until` exclusive."""

    actor: str | None = None
    action: Action | None = None
    target: str | None = None
    since: datetime | None = None
    until: datetime | None = None


async def list_entries(
    connection: Connection, wanted: AuditFilter, *, after: UUID | None, limit: int
) -> list[asyncpg.Record]:
    """Return rows of the log, newest first; only those after the key `after` when given."""
    listing = Listing(_LIST)
    listing.where_given(_CONDITIONS, wanted)
    listing.where_made("id", wanted.since, wanted.until)
    if after is not None:
        listing.where("id < {}", after)
    return await listing.fetch(connection, order="id DESC", limit=limit)
