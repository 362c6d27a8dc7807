"""Queries on API keys. A digest goes in and never comes out."""

from datetime import datetime
from uuid import UUID

import asyncpg

from sms_foundation.auth.keys.states import ApiKey
from sms_foundation.core.db import Connection

_COLUMNS = (
    "id, client_id, name, prefix, is_test, scopes, networks, created_at, expires_at, revoked_at, last_used_at, replaces"
)
_INSERT = """
INSERT INTO auth_api_keys
    (id, client_id, name, prefix, digest, is_test, scopes, networks, created_at, expires_at, replaces)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
"""
_FIND = f"SELECT {_COLUMNS} FROM auth_api_keys WHERE id = $1"  # noqa: S608  # put together from constants
_LOCK = _FIND + " FOR NO KEY UPDATE"
_ID_OF_PREFIX = "SELECT id FROM auth_api_keys WHERE prefix = $1"
_LIST = f"SELECT {_COLUMNS} FROM auth_api_keys WHERE id < $1 ORDER BY id DESC LIMIT $2"  # noqa: S608
_LIST_OF_CLIENT = f"""
SELECT {_COLUMNS} FROM auth_api_keys WHERE client_id = $3 AND id < $1 ORDER BY id DESC LIMIT $2
"""  # noqa: S608
_REVOKE = "UPDATE auth_api_keys SET revoked_at = $2 WHERE id = $1"
_LAST = UUID(int=2**128 - 1)


async def insert_key(connection: Connection, key: ApiKey, digest: bytes) -> None:
    """Write a key."""
    await connection.execute(
        _INSERT,
        key.id,
        key.client_id,
        key.name,
        key.prefix,
        digest,
        key.is_test,
        key.scopes,
        key.networks,
        key.created_at,
        key.expires_at,
        key.replaces,
    )


async def find_key(connection: Connection, key_id: UUID, *, locks: bool = False) -> ApiKey | None:
    """Return a key; `locks` it until the transaction ends."""
    row = await connection.fetchrow(_LOCK if locks else _FIND, key_id)
    return None if row is None else _key(row)


async def find_id_of_prefix(connection: Connection, prefix: str) -> UUID | None:
    """Return the id of the key with a prefix such as sf_live_k3J9x2Qa."""
    found: UUID | None = await connection.fetchval(_ID_OF_PREFIX, prefix)
    return found


async def list_keys(
    connection: Connection, *, client_id: str | None = None, before: UUID | None = None, limit: int
) -> list[ApiKey]:
    """Return at most `limit` keys, of one client or of all, newest first, those older than the key `before`."""
    arguments = (before or _LAST, limit)
    if client_id is None:
        return [_key(row) for row in await connection.fetch(_LIST, *arguments)]
    return [_key(row) for row in await connection.fetch(_LIST_OF_CLIENT, *arguments, client_id)]


async def revoke_key(connection: Connection, key_id: UUID, at: datetime) -> None:
    """Accept a key until `at` and no longer."""
    await connection.execute(_REVOKE, key_id, at)


def _key(row: asyncpg.Record) -> ApiKey:
    scopes = row["scopes"]
    lists = {"scopes": None if scopes is None else tuple(scopes), "networks": tuple(row["networks"])}
    return ApiKey(**{**dict(row), **lists})
