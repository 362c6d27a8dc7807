"""The statements on `auth_number_rules`."""

from collections.abc import Sequence
from uuid import UUID

import asyncpg

from sms_foundation.core.db import Connection, rows_affected
from sms_foundation.core.listing import Listing

_COLUMNS = "id, prefix, is_allowed, note, created_by, created_at"
_ALL = "SELECT prefix, is_allowed FROM auth_number_rules"
_LIST = f"SELECT {_COLUMNS} FROM auth_number_rules WHERE true"  # noqa: S608  # put together from constants
# The same prefix again: whoever said it last, and when.
_SET = f"""
INSERT INTO auth_number_rules AS r (id, prefix, is_allowed, note, created_by) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (prefix) DO UPDATE
SET is_allowed = excluded.is_allowed, note = excluded.note, created_by = excluded.created_by, created_at = now()
RETURNING {_COLUMNS}
"""  # noqa: S608


async def read_all(connection: Connection) -> list[tuple[str, bool]]:
    """Return the prefix of every rule, and whether it allows."""
    return [(row[0], row[1]) for row in await connection.fetch(_ALL)]


async def list_rules(connection: Connection, *, after: UUID | None, limit: int) -> Sequence[asyncpg.Record]:
    """Return rules, last made first; `after`: those behind the one with this id."""
    listing = Listing(_LIST)
    if after is not None:
        listing.where("id < {}", after)
    return await listing.fetch(connection, order="id DESC", limit=limit)


async def set_rule(
    connection: Connection, id_: UUID, *, prefix: str, is_allowed: bool, note: str, created_by: str
) -> asyncpg.Record:
    """Write a rule and return its row; one for the same prefix keeps its id."""
    return await connection.fetchrow(_SET, id_, prefix, is_allowed, note, created_by)


async def delete_rule(connection: Connection, prefix: str) -> bool:
    """Delete a rule; False when there is none."""
    return rows_affected(await connection.execute("DELETE FROM auth_number_rules WHERE prefix = $1", prefix)) > 0
