"""Log-ins, and the refresh tokens by which they go on.

A log-in is a family of refresh tokens: each is spent once and brings the next. One that comes a second time was copied,
and nobody can tell who has the copy: the whole family ends.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from sms_foundation.auth.people.secret_texts import SecretKind, generate_secret
from sms_foundation.auth.refusals import Reason, RefusedError
from sms_foundation.core.clock import utc_now
from sms_foundation.core.db import Connection
from sms_foundation.core.ids import new_id

_ADD = "INSERT INTO auth_sessions (id, client_id, expires_at) VALUES ($1, $2, $3)"
_ADD_TOKEN = "INSERT INTO auth_refresh_tokens (digest, session_id, expires_at) VALUES ($1, $2, $3)"  # noqa: S105
# Whoever comes with the same token waits here, and then sees it spent.
_LOCK_FAMILY = """
SELECT t.session_id, t.spent_at, t.expires_at, s.ended_at, s.client_id, c.disabled_at
FROM auth_refresh_tokens AS t
JOIN auth_sessions AS s ON s.id = t.session_id
JOIN auth_clients AS c ON c.id = s.client_id
WHERE t.digest = $1 FOR UPDATE OF s, t
"""
_SPEND = "UPDATE auth_refresh_tokens SET spent_at = $2 WHERE digest = $1"
_PROLONG = "UPDATE auth_sessions SET expires_at = $2 WHERE id = $1"
_FORGET_EXPIRED = "DELETE FROM auth_refresh_tokens WHERE session_id = $1 AND expires_at <= $2"
_END = "UPDATE auth_sessions SET ended_at = $2, end_reason = $3 WHERE id = $1 AND ended_at IS NULL RETURNING client_id"
_END_ALL = """
UPDATE auth_sessions SET ended_at = $2, end_reason = $3
WHERE client_id = $1 AND ended_at IS NULL AND id IS DISTINCT FROM $4
"""
_FIND = "SELECT id, ended_at IS NULL AS is_open FROM auth_sessions WHERE id = $1"
_FIND_OF_DIGEST = """
SELECT s.id, s.ended_at IS NULL AS is_open
FROM auth_refresh_tokens AS t JOIN auth_sessions AS s ON s.id = t.session_id WHERE t.digest = $1
"""


class EndReason(StrEnum):
    """Why a log-in is over."""

    LOGOUT = "logout"
    REUSE = "reuse"
    PASSWORD = "password"  # noqa: S105  # a label


@dataclass(frozen=True, slots=True)
class Session:
    """A log-in and its newest refresh token, which is for its owner, once."""

    id: UUID
    client_id: str
    refresh_token: str = field(repr=False)
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class KnownLogIn:
    """A log-in there is, or was: `is_open` until it is ended."""

    id: UUID
    is_open: bool


@dataclass(frozen=True, slots=True)
class Reused:
    """A spent refresh token came again, and the log-in was ended for it."""

    session_id: UUID
    client_id: str


async def open_session(connection: Connection, client_id: str, *, lifetime: timedelta) -> Session:
    """Begin a log-in, which ends `lifetime` after its last refresh. Needs a transaction."""
    now = utc_now()
    session_id = new_id()
    await connection.execute(_ADD, session_id, client_id, now + lifetime)
    return await _add_token(connection, session_id, client_id, now + lifetime)


async def refresh_session(connection: Connection, digest: bytes, *, lifetime: timedelta) -> Session | Reused:
    """Spend a refresh token for the next one; of several who try at the same time one succeeds. Needs a transaction.

    A token that is spent already ends its log-in, also for whoever was first: the transaction has to be committed then.
    Raises RefusedError.
    """
    now = utc_now()
    row = await connection.fetchrow(_LOCK_FAMILY, digest)
    if row is None:
        raise RefusedError(Reason.UNKNOWN_REFRESH)
    if row["ended_at"] is not None:
        raise RefusedError(Reason.SESSION_ENDED)
    if row["spent_at"] is not None:
        await end_session(connection, row["session_id"], EndReason.REUSE)
        return Reused(row["session_id"], row["client_id"])
    if row["expires_at"] <= now:
        raise RefusedError(Reason.EXPIRED_REFRESH)
    if row["disabled_at"] is not None:
        raise RefusedError(Reason.CLIENT_DISABLED)
    await connection.execute(_SPEND, digest, now)
    await connection.execute(_PROLONG, row["session_id"], now + lifetime)
    await connection.execute(_FORGET_EXPIRED, row["session_id"], now)
    return await _add_token(connection, row["session_id"], row["client_id"], now + lifetime)


async def find_session(connection: Connection, which: UUID | bytes) -> KnownLogIn | None:
    """Return a log-in by its id, or by the digest of one of its refresh tokens, spent or not."""
    row = await connection.fetchrow(_FIND if isinstance(which, UUID) else _FIND_OF_DIGEST, which)
    return None if row is None else KnownLogIn(row["id"], is_open=row["is_open"])


async def end_session(connection: Connection, session_id: UUID, reason: EndReason) -> str | None:
    """End a log-in. Returns whose it was, None when it was over already."""
    client_id: str | None = await connection.fetchval(_END, session_id, utc_now(), reason)
    return client_id


async def end_sessions(connection: Connection, client_id: str, reason: EndReason, *, but: UUID | None = None) -> None:
    """End all log-ins of a person, but for one."""
    await connection.execute(_END_ALL, client_id, utc_now(), reason, but)


async def _add_token(connection: Connection, session_id: UUID, client_id: str, expires_at: datetime) -> Session:
    secret = generate_secret(SecretKind.REFRESH)
    await connection.execute(_ADD_TOKEN, secret.digest, session_id, expires_at)
    return Session(session_id, client_id, secret.text, expires_at)
