"""People's accounts: clients of the kind person, who log in by their address."""

import secrets
import string
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

import asyncpg

from sms_foundation.auth.principal import ClientKind
from sms_foundation.core.db import Connection

_ID_ALPHABET = string.ascii_lowercase + string.digits
_ID_LENGTH = 12
_COLUMNS = "id, kind, display_name, email, password_hash, roles, created_at, disabled_at"
_FIND = f"SELECT {_COLUMNS} FROM auth_clients WHERE id = $1"  # noqa: S608  # put together from constants
_FIND_BY_EMAIL = f"SELECT {_COLUMNS} FROM auth_clients WHERE email = $1"  # noqa: S608
_LOCK_BY_EMAIL = _FIND_BY_EMAIL + " FOR NO KEY UPDATE"
# A password that was changed since it was compared is no longer the right one.
_LOCK_UNCHANGED = """
SELECT true FROM auth_clients WHERE id = $1 AND password_hash = $2 AND disabled_at IS NULL FOR NO KEY UPDATE
"""
_ADD = """
INSERT INTO auth_clients (id, kind, display_name, email, password_hash, roles) VALUES ($1, 'person', $2, $3, $4, $5)
"""
_RESET = """
UPDATE auth_clients SET password_hash = $2, roles = $3, display_name = coalesce($4, display_name), updated_at = now()
WHERE id = $1
"""
_SET_PASSWORD = "UPDATE auth_clients SET password_hash = $2, updated_at = now() WHERE id = $1"  # noqa: S105  # a statement


@dataclass(frozen=True, slots=True)
class Account:
    """A client as it stands in the database; `email` and `password_hash` are those of a person."""

    id: str
    kind: ClientKind
    display_name: str | None
    email: str | None
    password_hash: str | None = field(repr=False)
    roles: tuple[str, ...]
    created_at: datetime
    is_disabled: bool


async def find_account(connection: Connection, client_id: str) -> Account | None:
    """Return a client, whatever its kind."""
    return _account(await connection.fetchrow(_FIND, client_id))


async def find_by_email(connection: Connection, email: str) -> Account | None:
    """Return the person with this address, in its canonical spelling."""
    return _account(await connection.fetchrow(_FIND_BY_EMAIL, email))


async def lock_by_email(connection: Connection, email: str) -> Account | None:
    """Return the same, unchanged until the transaction ends."""
    return _account(await connection.fetchrow(_LOCK_BY_EMAIL, email))


async def lock_unchanged(connection: Connection, client_id: str, password_hash: str) -> bool:
    """Lock a person whose password is still the one compared with; False where it is not, and for disabled ones."""
    return bool(await connection.fetchval(_LOCK_UNCHANGED, client_id, password_hash))


async def add_person(
    connection: Connection, *, email: str, password_hash: str, display_name: str | None, roles: Sequence[str]
) -> str:
    """Make a person's account and return its id. Raises UniqueViolationError when another was just made."""
    client_id = "person-" + "".join(secrets.choice(_ID_ALPHABET) for _ in range(_ID_LENGTH))
    await connection.execute(_ADD, client_id, display_name, email, password_hash, list(roles))
    return client_id


async def reset_person(
    connection: Connection, client_id: str, *, password_hash: str, display_name: str | None, roles: Sequence[str]
) -> None:
    """Give a person another password, and exactly these roles; a name only where there is one."""
    await connection.execute(_RESET, client_id, password_hash, list(roles), display_name)


async def set_password(connection: Connection, client_id: str, password_hash: str) -> None:
    """Give a person another password."""
    await connection.execute(_SET_PASSWORD, client_id, password_hash)


def _account(row: asyncpg.Record | None) -> Account | None:
    if row is None:
        return None
    return Account(
        row["id"],
        ClientKind(row["kind"]),
        row["display_name"],
        row["email"],
        row["password_hash"],
        tuple(row["roles"]),
        row["created_at"],
        is_disabled=row["disabled_at"] is not None,
    )
