"""Making access tokens: a quarter of an hour of somebody's log-in, or of an API key.

They name a session or a key and carry no rights of their own: those are looked up with each request.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import UUID

from sms_foundation.auth.directory import Grant
from sms_foundation.auth.permissions import Permissions
from sms_foundation.auth.tokens.signing import Signer
from sms_foundation.core.clock import utc_now
from sms_foundation.core.ids import new_id

AUDIENCE = "sms-foundation"
# How much earlier than made a token counts as valid: the clock of the next instance may be a little behind.
_CLOCK_DRIFT_S = 10


@dataclass(frozen=True, slots=True)
class AccessToken:
    """A token just made, for its owner; it expires in `expires_in_s`."""

    text: str = field(repr=False)
    expires_in_s: int


class TokenIssuer:
    """Makes access tokens. Its methods raise NotConfiguredError without a signing key, and an outage."""

    def __init__(self, signer: Signer, *, issuer: str, lifetime_s: int) -> None:
        self._signer = signer
        self._issuer = issuer
        self._lifetime_s = lifetime_s

    async def prepare(self) -> None:
        """Make sure that tokens can be signed, by the key of today. Before any transaction they are made in."""
        await self._signer.prepare()

    async def for_session(self, client_id: str, session_id: UUID) -> AccessToken:
        """Make one for a person who is logged in."""
        return await self._issue(client_id, {"sid": str(session_id)}, self._lifetime_s)

    async def for_key(self, grant: Grant, scopes: Permissions) -> AccessToken:
        """Make one for whoever has an API key: for `scopes` of what it may, and no longer than it."""
        lifetime_s = self._lifetime_s
        if grant.expires_at is not None:
            lifetime_s = min(lifetime_s, int((grant.expires_at - utc_now()).total_seconds()))
        claims: dict[str, str | bool] = {"key": str(grant.key_id), "scope": " ".join(sorted(scopes))}
        if grant.principal.is_test:
            claims["test"] = True
        return await self._issue(grant.principal.client_id, claims, lifetime_s)

    async def _issue(self, client_id: str, more: Mapping[str, str | bool], lifetime_s: int) -> AccessToken:
        now = int(utc_now().timestamp())
        claims = {
            "iss": self._issuer,
            "aud": AUDIENCE,
            "sub": client_id,
            "iat": now,
            "nbf": now - _CLOCK_DRIFT_S,
            "exp": now + lifetime_s,
            "jti": str(new_id()),
            **more,
        }
        return AccessToken(await self._signer.sign(claims), lifetime_s)
