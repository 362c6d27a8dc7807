"""What becomes too old by itself: the keys that sign our tokens, and those of callers."""

from typing import Final

from sms_foundation.auth.tokens.private_keys import open_private_keys
from sms_foundation.core.ids import NIL
from sms_foundation.doctor.context import Context
from sms_foundation.doctor.findings import Finding, Severity, Tally

_SIGNING: Final = """
SELECT kid, now() - created_at > $1::interval AS is_old FROM auth_signing_keys WHERE retires_at IS NULL ORDER BY kid
"""
_KEYS: Final = """
SELECT k.id, k.prefix,
       coalesce(k.revoked_at <= now(), false) OR coalesce(k.expires_at <= now(), false)
       OR (SELECT c.disabled_at FROM auth_clients AS c WHERE c.id = k.client_id) IS NOT NULL AS is_over,
       k.revoked_at IS NULL AND coalesce(k.expires_at <= now() + $3::interval, false) AS ends_soon,
       k.last_used_at IS NULL AND k.created_at < now() - $4::interval AS is_unused
FROM (SELECT * FROM auth_api_keys WHERE id > $1 ORDER BY id LIMIT $2) AS k
ORDER BY k.id
"""


async def check_access(context: Context) -> list[Finding]:
    """Look at signing keys, and at the API keys of all clients."""
    return [*await _check_signing(context), *await _check_keys(context)]


async def _check_signing(context: Context) -> list[Finding]:
    old = Tally()
    for row in await context.reader.fetch(_SIGNING, context.limits.signing_key):
        if row["is_old"]:
            old.add(row["kid"])
    return [
        *old.finding(
            "signing_key_old",
            why="it is to be replaced once a quarter, so that one that leaked unnoticed ends some day",
            do="`sms-foundation signing-keys rotate`",
            severity=Severity.NOTICE,
        ),
        *_without_signing_key(context),
    ]


def _without_signing_key(context: Context) -> list[Finding]:
    if context.settings.is_local or open_private_keys(context.settings) is not None:
        return []
    return [
        Finding(
            name="signing_key_not_set",
            why="nobody can log in, and no key be exchanged for a token: /auth answers 503",
            do="`sms-foundation signing-keys rotate > signing-key.pem`, and set SIGNING_KEY or SIGNING_KEY_PATH; leave "
            "it if API keys are all that is used",
            severity=Severity.NOTICE,
        )
    ]


async def _check_keys(context: Context) -> list[Finding]:
    ending, unused = Tally(), Tally()
    limits = context.limits
    async for rows in context.reader.walk("API keys", _KEYS, (NIL,), limits.key_ends, limits.key_unused):
        for row in rows:
            if row["is_over"]:
                continue
            if row["ends_soon"]:
                ending.add(row["prefix"])
            if row["is_unused"]:
                unused.add(row["prefix"])
    return [
        *ending.finding(
            "keys_end_soon",
            why="within a week whoever uses them gets 401, and they have not been replaced",
            do="`sms-foundation keys rotate PREFIX`, and give the new one to its client",
        ),
        *unused.finding(
            "keys_never_used",
            why="a key that nobody uses is only good for whoever finds it",
            do="`sms-foundation keys list` says whose they are; `sms-foundation keys revoke PREFIX`",
            severity=Severity.NOTICE,
        ),
    ]
