"""Tokens of outside issuers: Google, Supabase, any that publishes its RS256 keys."""

from collections.abc import Mapping
from typing import Protocol

from joserfc.jwk import RSAKey

from sms_foundation.auth.gate import OutsideToken
from sms_foundation.auth.refusals import Reason, RefusedError
from sms_foundation.auth.tokens.claims import Claims, UnverifiedToken, check_audience, check_times, text_of
from sms_foundation.auth.tokens.issuers import OutsideIssuer, canonical_issuer, canonical_subject
from sms_foundation.core.clock import utc_now

LEEWAY_S = 30.0  # their clocks are not ours


class IssuerKeys(Protocol):
    """The keys of one issuer; `jwks.Jwks`, which is loaded only where there is an issuer."""

    async def find(self, kid: str) -> RSAKey | None:
        """Return the key with this name, None where the issuer has none that can be used."""
        ...


class OutsideTokens:
    """Verifies the tokens of all configured issuers, each by its own keys; both by the issuers' canonical names."""

    def __init__(self, issuers: Mapping[str, OutsideIssuer], keys: Mapping[str, IssuerKeys]) -> None:
        self._issuers = {name: (issuer, keys[name]) for name, issuer in issuers.items()}

    async def verify(self, token: UnverifiedToken) -> OutsideToken:
        """Return the subject of a token. Raises RefusedError."""
        name = token.claims.get("iss")
        found = self._issuers.get(canonical_issuer(name)) if isinstance(name, str) else None
        if found is None:
            raise RefusedError(Reason.WRONG_ISSUER)
        issuer, keys = found
        key = await keys.find(token.kid)
        if key is None:
            raise RefusedError(Reason.UNKNOWN_SIGNER)
        token.verify(key)
        check_audience(token.claims, issuer.audience)
        check_times(token.claims, utc_now(), leeway_s=LEEWAY_S)
        return OutsideToken(canonical_issuer(issuer.issuer), _subject(token.claims, issuer.subject_claim))


def _subject(claims: Claims, claim: str) -> str:
    # Some issuers write the flag as a text. An address that nobody has verified may be anybody's.
    if claim == "email" and claims.get("email_verified") not in (True, "true"):
        raise RefusedError(Reason.WRONG_CLAIMS)
    try:
        return canonical_subject(text_of(claims, claim))
    except ValueError:
        raise RefusedError(Reason.WRONG_CLAIMS) from None
