"""Tokens of outside issuers: Google, Supabase, any that publishes its RS256 keys."""

from collections.abc import Mapping

import httpx

from sms_foundation.auth.gate import OutsideToken
from sms_foundation.auth.refusals import Reason, RefusedError
from sms_foundation.auth.tokens.claims import Claims, UnverifiedToken, check_audience, check_times, text_of
from sms_foundation.auth.tokens.issuers import OutsideIssuer, canonical_issuer, canonical_subject
from sms_foundation.auth.tokens.jwks import Jwks
from sms_foundation.core.clock import utc_now

LEEWAY_S = 30.0  # their clocks are not ours


class OutsideTokens:
    """Verifies the tokens of all configured issuers, each by its own keys."""

    def __init__(self, issuers: Mapping[str, OutsideIssuer], http: httpx.AsyncClient | None) -> None:
        """`http` fetches their keys; None where there are no issuers."""
        self._http = http
        self._issuers = {
            name: (issuer, Jwks(issuer.jwks_url, http, issuer=issuer.issuer))
            for name, issuer in issuers.items()
            if http is not None
        }

    async def verify(self, token: UnverifiedToken) -> OutsideToken:
        """Return the subject of a token. Raises RefusedError."""
        name = token.claims.get("iss")
        found = self._issuers.get(canonical_issuer(name)) if isinstance(name, str) else None
        if found is None:
            raise RefusedError(Reason.WRONG_ISSUER)
        issuer, jwks = found
        key = await jwks.find(token.kid)
        if key is None:
            raise RefusedError(Reason.UNKNOWN_SIGNER)
        token.verify(key)
        check_audience(token.claims, issuer.audience)
        check_times(token.claims, utc_now(), leeway_s=LEEWAY_S)
        return OutsideToken(canonical_issuer(issuer.issuer), _subject(token.claims, issuer.subject_claim))

    async def close(self) -> None:
        """Stop fetching keys, and close the connections."""
        for _, jwks in self._issuers.values():
            await jwks.close()
        if self._http is not None:
            await self._http.aclose()


def _subject(claims: Claims, claim: str) -> str:
    # Some issuers write the flag as a text. An address that nobody has verified may be anybody's.
    if claim == "email" and claims.get("email_verified") not in (True, "true"):
        raise RefusedError(Reason.WRONG_CLAIMS)
    return canonical_subject(text_of(claims, claim), claim=claim)
