"""What must be true of a token besides its signature. Pure; every function raises RefusedError."""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

import orjson
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import RSAKey

from sms_foundation.auth.refusals import Reason, RefusedError

_MAX_TOKEN_BYTES = 8 * 1024
_MAX_TEXT = 255
_REGISTRY = jws.JWSRegistry(algorithms=["RS256"], strict_check_header=False)
_REGISTRY.max_header_length = 4096
# Tokens made for something else, such as logging out, say so here. Source: RFC 8725, 3.11; RFC 9068, 2.1
_TYPES = frozenset({"jwt", "at+jwt", "application/at+jwt"})

Claims = Mapping[str, Any]


class UnverifiedToken:
    """A token taken apart, of which nothing is to be believed before `verify`: it says only whom to ask about it."""

    __slots__ = ("_signature", "claims", "kid")

    def __init__(self, token: str) -> None:
        """Take a token apart. Raises RefusedError for what is no RS256 token with a `kid`."""
        if len(token) > _MAX_TOKEN_BYTES or not token.isascii():
            raise RefusedError(Reason.MALFORMED)
        try:
            self._signature = jws.extract_compact(token.encode(), registry=_REGISTRY)
            claims = orjson.loads(self._signature.payload)
        except (JoseError, ValueError, TypeError, RecursionError):
            raise RefusedError(Reason.MALFORMED) from None
        self.kid = _kid_of(self._signature.headers())
        if not isinstance(claims, dict):
            raise RefusedError(Reason.WRONG_CLAIMS)
        self.claims: Claims = claims

    def verify(self, key: RSAKey) -> None:
        """Refuse it unless `key` has signed it."""
        try:
            is_right = jws.validate_compact(self._signature, key, registry=_REGISTRY)
        except (JoseError, ValueError):
            is_right = False
        if not is_right:
            raise RefusedError(Reason.WRONG_SIGNATURE)


def check_audience(claims: Claims, accepted: Collection[str]) -> None:
    """Refuse a token that is not for us."""
    audience = claims.get("aud")
    named = audience if isinstance(audience, list) else [audience]
    if not any(isinstance(each, str) and each in accepted for each in named):
        raise RefusedError(Reason.WRONG_AUDIENCE)


def check_times(claims: Claims, now: datetime, *, leeway_s: float) -> None:
    """Refuse a token that has expired, or is not valid yet, or does not say when it expires.

    `leeway_s`: how far the clock of whoever made it may be off.
    """
    at = now.timestamp()
    expires_at = _time(claims, "exp")
    if expires_at is None:
        raise RefusedError(Reason.WRONG_CLAIMS)
    if at >= expires_at + leeway_s:
        raise RefusedError(Reason.EXPIRED_TOKEN)
    valid_from = _time(claims, "nbf")
    if valid_from is not None and at < valid_from - leeway_s:
        raise RefusedError(Reason.NOT_YET_VALID)


def text_of(claims: Claims, name: str) -> str:
    """Return a claim that must be a text."""
    value = claims.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= _MAX_TEXT or not value.isprintable():
        raise RefusedError(Reason.WRONG_CLAIMS)
    return value


def _kid_of(header: Mapping[str, Any]) -> str:
    if not isinstance(header, dict):
        raise RefusedError(Reason.MALFORMED)
    if header.get("alg") != "RS256":
        raise RefusedError(Reason.WRONG_ALGORITHM)
    # There is no extension we know; whoever marks one as critical wants it refused by those who do not.
    if "crit" in header or str(header.get("typ", "JWT")).lower() not in _TYPES:
        raise RefusedError(Reason.MALFORMED)
    kid = header.get("kid")
    if not isinstance(kid, str) or not 0 < len(kid) <= _MAX_TEXT:
        raise RefusedError(Reason.UNKNOWN_SIGNER)
    return kid


def _time(claims: Claims, name: str) -> float | None:
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 2**53:
        raise RefusedError(Reason.WRONG_CLAIMS)
    return float(value)
