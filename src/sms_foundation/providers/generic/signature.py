"""Is this webhook the provider's? By an HMAC over the raw body, or by a secret in a header."""

import base64
import hmac
from collections.abc import Mapping
from typing import assert_never

from pydantic import SecretStr

from sms_foundation.providers.base import WebhookRequest
from sms_foundation.providers.errors import NotAuthenticError
from sms_foundation.providers.generic.config import BearerAuthConfig, HmacAuthConfig


def check_signature(request: WebhookRequest, auth: HmacAuthConfig | BearerAuthConfig | None) -> None:
    """Return when `request` is authentic by `auth`; without `auth` none is. Raises NotAuthenticError."""
    match auth:
        case None:
            raise NotAuthenticError("no_secret")
        case HmacAuthConfig():
            _check_hmac(request, auth)
        case BearerAuthConfig():
            _check_token(request.headers, auth)
        case _:
            assert_never(auth)


def sign_body(secret: str, body: bytes, *, encoding: str) -> bytes:
    """Return the HMAC-SHA256 of `body` in `hex` (small letters) or `base64`."""
    digest = hmac.digest(secret.encode(), body, "sha256")
    return digest.hex().encode() if encoding == "hex" else base64.b64encode(digest)


def _check_hmac(request: WebhookRequest, auth: HmacAuthConfig) -> None:
    given = _header(request.headers, auth.header)
    prefix = auth.prefix.encode()
    if not given.startswith(prefix):
        raise NotAuthenticError("invalid_signature")
    given = given[len(prefix) :]
    if auth.encoding == "hex":
        given = given.lower()
    for secret in _known(auth.secret, auth.secret_previous):
        if hmac.compare_digest(sign_body(secret, request.body, encoding=auth.encoding), given):
            return
    raise NotAuthenticError("invalid_signature")


def _check_token(headers: Mapping[bytes, bytes], auth: BearerAuthConfig) -> None:
    given = _header(headers, auth.header)
    if auth.header.lower() == "authorization":
        scheme, _, given = given.partition(b" ")
        if scheme.lower() != b"bearer":
            raise NotAuthenticError("invalid_signature")
    if not any(hmac.compare_digest(token.encode(), given) for token in _known(auth.token, auth.token_previous)):
        raise NotAuthenticError("invalid_signature")


def _header(headers: Mapping[bytes, bytes], name: str) -> bytes:
    given = headers.get(name.lower().encode(), b"")
    if not given:
        raise NotAuthenticError("missing_signature")
    return given


def _known(*secrets: SecretStr | None) -> list[str]:
    return [secret.get_secret_value() for secret in secrets if secret is not None and secret.get_secret_value()]
