"""The public halves of our signing keys, as the database has them: what is accepted, and what is published.

A key signs until another is registered; then it retires, `grace` later. What has retired is never accepted again: its
thumbprint stays, so that an instance that was forgotten cannot bring it back.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import orjson

from sms_foundation.auth.tokens.private_keys import SigningKey
from sms_foundation.core.db import Connection, rows_affected

_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('signing keys', 3))"
_LIST = "SELECT kid, public_jwk, created_at, retires_at FROM auth_signing_keys ORDER BY created_at DESC, kid"
_ADD = """
INSERT INTO auth_signing_keys (kid, public_jwk, created_at) VALUES ($1, $2::jsonb, $3) ON CONFLICT (kid) DO NOTHING
"""
_RETIRE_OTHERS = "UPDATE auth_signing_keys SET retires_at = $2 WHERE kid <> $1 AND retires_at IS NULL"
_ERASE_RETIRED = """
UPDATE auth_signing_keys SET public_jwk = NULL WHERE retires_at <= $1 AND public_jwk IS NOT NULL
"""


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key as registered. `jwk` is what is published: kid, kty, alg, use, n, e; None once it has retired."""

    kid: str
    jwk: dict[str, str] | None
    created_at: datetime
    retires_at: datetime | None

    def is_live(self, now: datetime) -> bool:
        """Tell whether what it signed is accepted."""
        return self.jwk is not None and (self.retires_at is None or now < self.retires_at)


async def list_public_keys(connection: Connection) -> Sequence[PublicKey]:
    """Return all keys, retired ones included, newest first."""
    return [
        PublicKey(
            row["kid"],
            None if row["public_jwk"] is None else orjson.loads(row["public_jwk"]),
            row["created_at"],
            row["retires_at"],
        )
        for row in await connection.fetch(_LIST)
    ]


async def register(connection: Connection, key: SigningKey, *, now: datetime, grace: timedelta) -> bool:
    """Make `key` the one that signs; the others retire `grace` after `now`. Needs a transaction.

    Returns whether it is news: a key that was registered before is left as it is, whatever became of it.
    """
    await connection.execute(_LOCK)
    is_new = rows_affected(await connection.execute(_ADD, key.kid, orjson.dumps(key.public_jwk).decode(), now)) == 1
    if is_new:
        await connection.execute(_RETIRE_OTHERS, key.kid, now + grace)
    return is_new


async def erase_retired(connection: Connection, now: datetime) -> bool:
    """Delete what is known of keys that have retired, but for their thumbprints. Returns whether there were any."""
    return rows_affected(await connection.execute(_ERASE_RETIRED, now)) > 0
