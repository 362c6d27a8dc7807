"""Queries on roles, and on who has them."""

from collections.abc import Collection, Sequence

import asyncpg

from sms_foundation.auth.permissions import Permission
from sms_foundation.core.db import Connection, rows_affected

# Whoever takes something away looks at what is left: two at a time would each see what the other takes.
_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('access', 3))"
_LOCK_SHARED = "SELECT pg_advisory_xact_lock_shared(hashtextextended('access', 3))"
_FIND = "SELECT name, permissions, description FROM auth_roles WHERE name = ANY($1::text[])"
_LIST = "SELECT name, permissions, description FROM auth_roles ORDER BY name"
_SET = """
INSERT INTO auth_roles (name, permissions, description) VALUES ($1, $2, $3)
ON CONFLICT (name) DO UPDATE
SET permissions = excluded.permissions, description = excluded.description, updated_at = now()
"""
_DELETE = "DELETE FROM auth_roles WHERE name = $1"
_COUNT_USES = """
SELECT (SELECT count(*) FROM auth_clients WHERE roles @> ARRAY[$1::text]) AS clients,
    (SELECT count(*) FROM auth_invitations
     WHERE roles @> ARRAY[$1::text] AND used_at IS NULL AND revoked_at IS NULL AND expires_at > now()) AS invitations
"""
_HAS_MANAGER = """
SELECT EXISTS (SELECT FROM auth_clients
    WHERE disabled_at IS NULL
      AND roles && ($1::text[] || ARRAY(SELECT name FROM auth_roles WHERE $2::text = ANY(permissions))))
"""


async def lock_access(connection: Connection, *, is_shared: bool = False) -> None:
    """Let nobody else change roles, and who has them, until the transaction ends; shared: nobody but who only adds.

    Whoever needs both takes the one that is not shared first: two could wait for each other otherwise.
    """
    await connection.execute(_LOCK_SHARED if is_shared else _LOCK)


async def find_roles(connection: Connection, names: Collection[str]) -> Sequence[asyncpg.Record]:
    """Return those of one's own roles that have these names: name, permissions (as text), description."""
    rows: Sequence[asyncpg.Record] = await connection.fetch(_FIND, list(names))
    return rows


async def list_roles(connection: Connection) -> Sequence[asyncpg.Record]:
    """Return all roles of one's own by name, with the same columns."""
    rows: Sequence[asyncpg.Record] = await connection.fetch(_LIST)
    return rows


async def write_role(connection: Connection, name: str, permissions: Collection[Permission], description: str) -> None:
    """Make a role, or change it."""
    await connection.execute(_SET, name, sorted(permissions), description)


async def delete_role(connection: Connection, name: str) -> bool:
    """Delete a role, whoever has it; returns whether it was there."""
    return rows_affected(await connection.execute(_DELETE, name)) == 1


async def count_uses(connection: Connection, name: str) -> tuple[int, int]:
    """Return how many clients have a role, disabled ones included, and how many open invitations promise it."""
    row = await connection.fetchrow(_COUNT_USES, name)
    return row["clients"], row["invitations"]


async def has_manager(connection: Connection, managing_roles: Collection[str]) -> bool:
    """Tell whether a client that is not disabled may manage clients; `managing_roles`: built-in ones that allow it."""
    found: bool = await connection.fetchval(_HAS_MANAGER, list(managing_roles), Permission.CLIENTS_MANAGE)
    return found
