"""Reading tokens: our own, and those of outside issuers. `iss` says whose keys to ask, and nothing else is believed."""

from uuid import UUID

from sms_foundation.auth.gate import KeyToken, SessionToken, VerifiedToken
from sms_foundation.auth.permissions import known_permissions
from sms_foundation.auth.refusals import Reason, RefusedError
from sms_foundation.auth.tokens.claims import Claims, UnverifiedToken, check_audience, check_times, text_of
from sms_foundation.auth.tokens.issuing import AUDIENCE
from sms_foundation.auth.tokens.key_ring import KeyRing
from sms_foundation.auth.tokens.outside import OutsideTokens
from sms_foundation.core.clock import utc_now


class Tokens:
    """Verifies tokens; see `gate.TokenVerifier`.

    Nothing verified is kept: a signature is checked in 30 us, and a key that has retired must not go on in a cache.
    """

    def __init__(self, issuer: str, ring: KeyRing, outside: OutsideTokens) -> None:
        self._issuer = issuer
        self._ring = ring
        self._outside = outside

    async def verify(self, token: str) -> VerifiedToken:
        """Return whom a token stands for. Raises RefusedError, or an outage when our keys cannot be looked up."""
        unverified = UnverifiedToken(token)
        if unverified.claims.get("iss") != self._issuer:
            return await self._outside.verify(unverified)
        key = await self._ring.find(unverified.kid)
        if key is None:
            raise RefusedError(Reason.UNKNOWN_SIGNER)
        unverified.verify(key)
        check_audience(unverified.claims, (AUDIENCE,))
        check_times(unverified.claims, utc_now(), leeway_s=0)
        return _read(unverified.claims)


def _read(claims: Claims) -> VerifiedToken:
    text_of(claims, "sub")
    if "sid" in claims:
        return SessionToken(_id(claims, "sid"))
    scope = claims.get("scope")
    if not isinstance(scope, str):
        raise RefusedError(Reason.WRONG_CLAIMS)
    return KeyToken(_id(claims, "key"), known_permissions(scope.split()))


def _id(claims: Claims, name: str) -> UUID:
    try:
        return UUID(text_of(claims, name))
    except ValueError:
        raise RefusedError(Reason.WRONG_CLAIMS) from None
