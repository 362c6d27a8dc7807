"""Clients and keys as rows, for tests that call with credentials of their own."""

from collections.abc import Sequence
from datetime import datetime

from sms_foundation.auth.keys.format import generate_key
from sms_foundation.auth.principal import ClientKind
from sms_foundation.core.db import Database
from sms_foundation.core.ids import new_id

ADMIN_KEY = "sf_live_TestS0nl_AKeyThatOpensNothingButTheTestsThatMadeIt0004WaD3"
"""What processes of tests are given as ADMIN_API_KEY."""


async def make_client(
    database: Database,
    name: str = "tests",
    *,
    roles: Sequence[str] = ("admin",),
    kind: ClientKind = ClientKind.SERVICE,
    limit: str | None = None,
) -> str:
    """Write a client and return its id; a person's address is `<name>@example.com`."""
    email = f"{name}@example.com" if kind is ClientKind.PERSON else None
    await database.pool.execute(
        "INSERT INTO auth_clients (id, kind, roles, email, request_limit) VALUES ($1, $2, $3, $4, $5)",
        name,
        kind,
        list(roles),
        email,
        limit,
    )
    return name


async def make_key(
    database: Database,
    client_id: str,
    *,
    is_test: bool = False,
    scopes: Sequence[str] | None = None,
    networks: Sequence[str] = (),
    expires_at: datetime | None = None,
) -> str:
    """Write a key of a client and return its text."""
    key = generate_key(is_test=is_test)
    await database.pool.execute(
        "INSERT INTO auth_api_keys (id, client_id, name, prefix, digest, is_test, scopes, networks, expires_at) "
        "VALUES ($1, $2, 'for a test', $3, $4, $5, $6, $7, $8)",
        new_id(),
        client_id,
        key.prefix,
        key.digest,
        is_test,
        None if scopes is None else list(scopes),
        list(networks),
        expires_at,
    )
    return key.text


def bearer(key: str) -> dict[str, str]:
    """The header that carries a key or token."""
    return {"Authorization": f"Bearer {key}"}
