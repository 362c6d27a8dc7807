"""MessageBird-Signature-JWT: a token about the URL and the body, signed with the account's signing key.

Written with `hmac` alone: the clock is a parameter, several keys are tried, and three algorithms are all there is.
Source: https://developers.messagebird.com/api/#verifying-http-requests and the official clients for Go and Node.js
(signature_jwt), November 2026.
"""

import base64
import binascii
import hmac
from collections.abc import Collection, Iterable
from datetime import datetime
from hashlib import sha256
from typing import Final

import orjson

from sms_foundation.providers.errors import NotAuthenticError
from sms_foundation.providers.json_object import JsonObject

SIGNATURE_HEADER: Final = b"messagebird-signature-jwt"
_DIGESTS: Final = {"HS256": "sha256", "HS384": "sha384", "HS512": "sha512"}
_ISSUER: Final = "MessageBird"


def check_signature(
    token: bytes, *, keys: Iterable[str], urls: Collection[str], body: bytes, now: datetime, leeway_s: float
) -> None:
    """Return when `token` was made by MessageBird for `body` at one of `urls` and is valid now.

    `urls` are full and undecoded, with their query. An empty key makes nothing authentic. Raises NotAuthenticError.
    """
    if not token:
        raise NotAuthenticError("missing_signature")
    claims = _verified_claims(token, keys)
    if claims.text("iss") != _ISSUER:
        raise NotAuthenticError("invalid_signature")
    expires_at, valid_from = _seconds(claims, "exp"), _seconds(claims, "nbf")
    if expires_at is None or now.timestamp() > expires_at + leeway_s:
        raise NotAuthenticError("stale_timestamp")
    if valid_from is not None and now.timestamp() < valid_from - leeway_s:
        raise NotAuthenticError("stale_timestamp")
    if claims.text("url_hash") not in {_hash(url.encode("utf-8", "surrogateescape")) for url in urls}:
        raise NotAuthenticError("invalid_url")
    if claims.text("payload_hash") != _hash(body) and (body or claims.value("payload_hash") is not None):
        raise NotAuthenticError("invalid_body")


def _verified_claims(token: bytes, keys: Iterable[str]) -> JsonObject:
    signed, _, signature_part = token.rpartition(b".")
    header_part, _, claims_part = signed.partition(b".")
    digest = _DIGESTS.get(_object(header_part).text("alg"))
    if digest is None:
        raise NotAuthenticError("unsupported_algorithm")
    signature = _decoded(signature_part)
    if not any(hmac.compare_digest(hmac.digest(key.encode(), signed, digest), signature) for key in keys if key):
        raise NotAuthenticError("invalid_signature")
    return _object(claims_part)


def _object(part: bytes) -> JsonObject:
    try:
        value = orjson.loads(_decoded(part))
    except orjson.JSONDecodeError:
        raise NotAuthenticError("malformed_signature") from None
    return JsonObject(value if isinstance(value, dict) else {})


def _decoded(part: bytes) -> bytes:
    try:
        return base64.b64decode(part + b"=" * (-len(part) % 4), altchars=b"-_", validate=True)
    except binascii.Error:
        raise NotAuthenticError("malformed_signature") from None


def _seconds(claims: JsonObject, name: str) -> float | None:
    value = claims.value(name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _hash(data: bytes) -> str:
    return sha256(data).hexdigest()
