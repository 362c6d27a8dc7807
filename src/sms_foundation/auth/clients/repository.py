"""Queries on clients and their outside identities."""

from collections.abc import Sequence
from datetime import datetime

import asyncpg

from sms_foundation.core.db import Connection, rows_affected

_COLUMNS = "id, kind, display_name, email, roles, request_limit, created_at, updated_at, disabled_at"
_INSERT = f"""
INSERT INTO auth_clients (id, kind, display_name, roles, request_limit) VALUES ($1, 'service', $2, $3, $4)
ON CONFLICT (id) DO NOTHING RETURNING {_COLUMNS}
"""  # noqa: S608  # put together from constants
_FIND = f"SELECT {_COLUMNS} FROM auth_clients WHERE id = $1"  # noqa: S608
_IS_ANY_THERE = "SELECT EXISTS (SELECT FROM auth_clients)"
_LOCK = _FIND + " FOR NO KEY UPDATE"
_LIST = f"SELECT {_COLUMNS} FROM auth_clients WHERE id > $1 ORDER BY id LIMIT $2"  # noqa: S608
_UPDATE = f"""
UPDATE auth_clients SET roles = $2, request_limit = $3, disabled_at = $4, updated_at = now()
WHERE id = $1 RETURNING {_COLUMNS}
"""  # noqa: S608
_END_SESSIONS = """
UPDATE auth_sessions SET ended_at = $2, end_reason = 'disabled' WHERE client_id = $1 AND ended_at IS NULL
"""
_IDENTITIES = "SELECT issuer, subject, created_at FROM auth_identities WHERE client_id = $1 ORDER BY created_at, issuer"
_LINK = """
INSERT INTO auth_identities (issuer, subject, client_id) VALUES ($1, $2, $3)
ON CONFLICT (issuer, subject) DO NOTHING
"""
_OWNER = "SELECT client_id FROM auth_identities WHERE issuer = $1 AND subject = $2"
_UNLINK = "DELETE FROM auth_identities WHERE issuer = $1 AND subject = $2 AND client_id = $3"


async def insert_service(
    connection: Connection, client_id: str, *, display_name: str | None, roles: Sequence[str], request_limit: str | None
) -> asyncpg.Record | None:
    """Write a service; None when the id is taken."""
    return await connection.fetchrow(_INSERT, client_id, display_name, list(roles), request_limit)


async def find_client(connection: Connection, client_id: str, *, locks: bool = False) -> asyncpg.Record | None:
    """Return a client's row without its password; `locks` it until the transaction ends."""
    return await connection.fetchrow(_LOCK if locks else _FIND, client_id)


async def is_any_client_there(connection: Connection) -> bool:
    """Tell whether there are clients at all."""
    found: bool = await connection.fetchval(_IS_ANY_THERE)
    return found


async def list_clients(connection: Connection, *, after: str, limit: int) -> Sequence[asyncpg.Record]:
    """Return at most `limit` clients by id, those after `after` ("" for the first page)."""
    rows: Sequence[asyncpg.Record] = await connection.fetch(_LIST, after, limit)
    return rows


async def update_client(
    connection: Connection,
    client_id: str,
    *,
    roles: Sequence[str],
    request_limit: str | None,
    disabled_at: datetime | None,
) -> asyncpg.Record:
    """Write what can change of a client."""
    return await connection.fetchrow(_UPDATE, client_id, list(roles), request_limit, disabled_at)


async def end_sessions(connection: Connection, client_id: str, at: datetime) -> int:
    """End a disabled client's log-ins; returns how many there were."""
    return rows_affected(await connection.execute(_END_SESSIONS, client_id, at))


async def list_identities(connection: Connection, client_id: str) -> Sequence[asyncpg.Record]:
    """Return issuer, subject and created_at of a client's outside identities, oldest first."""
    rows: Sequence[asyncpg.Record] = await connection.fetch(_IDENTITIES, client_id)
    return rows


async def link_identity(connection: Connection, client_id: str, issuer: str, subject: str) -> str | None:
    """Make an identity a client's; returns whose it was already, None when it is new."""
    if rows_affected(await connection.execute(_LINK, issuer, subject, client_id)):
        return None
    owner: str | None = await connection.fetchval(_OWNER, issuer, subject)
    return owner


async def unlink_identity(connection: Connection, client_id: str, issuer: str, subject: str) -> bool:
    """Take an identity from a client; returns whether it had it."""
    return rows_affected(await connection.execute(_UNLINK, issuer, subject, client_id)) == 1
