"""Reading the audit log back, newest first."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import asyncpg

from sms_foundation.auth.audit.log import Action
from sms_foundation.core.db import Connection
from sms_foundation.core.ids import first_id_at

# Put together from the conditions that are asked for, so that each has the plan it deserves.
_LIST = """
SELECT id, created_at, actor, credential, address, request_id, action, target_kind, target, details::text AS details
FROM auth_audit_log WHERE true
"""
_ORDER = " ORDER BY id DESC LIMIT "
_CONDITIONS = {
    "actor": "actor = {}",
    "action": "action = {}",
    "target": "target = {}",
    "since": "created_at >= {}",
    "until": "created_at < {}",
}
# An id is made a moment before its row, and perhaps by another clock.
_CLOCKS_APART_MS = 60_000


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
    arguments: list[object] = []

    def bind(value: object) -> str:
        arguments.append(value)
        return f"${len(arguments)}"

    conditions = [
        condition.format(bind(value))
        for name, condition in _CONDITIONS.items()
        if (value := getattr(wanted, name)) is not None
    ]
    if wanted.since is not None:
        conditions.append(f"id >= {bind(first_id_at(wanted.since, shift_ms=-_CLOCKS_APART_MS))}")
    if wanted.until is not None:
        conditions.append(f"id < {bind(first_id_at(wanted.until, shift_ms=_CLOCKS_APART_MS))}")
    if after is not None:
        conditions.append(f"id < {bind(after)}")
    statement = " AND ".join([_LIST, *conditions]) + _ORDER + bind(limit)
    rows: list[asyncpg.Record] = await connection.fetch(statement, *arguments)
    return rows
