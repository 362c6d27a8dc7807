"""The client credentials grant of OAuth 2: an API key, turned into a token that lives a quarter of an hour.

Source: https://www.rfc-editor.org/rfc/rfc6749#section-4.4, and 2.3.1 for how a client says who it is.
"""

import base64
import binascii
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote_plus

from sms_foundation.auth.directory import Directory, Grant
from sms_foundation.auth.gate import usable
from sms_foundation.auth.keys.format import digest_of, is_well_formed
from sms_foundation.auth.permissions import Permission, Permissions
from sms_foundation.auth.refusals import Reason, RefusedError
from sms_foundation.core.errors import ValidationError

_MOST_FIELDS = 20
_GRANT_TYPE = "client_credentials"


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """Who asks for a token, and for which permissions; None: all that the key has."""

    client_id: str
    client_secret: str = field(repr=False)
    scope: Permissions | None


def read_token_request(body: bytes, authorization: str | None) -> TokenRequest:
    """Read a form, and HTTP Basic if that is how the client says who it is.

    Raises ValidationError that names the wrong field; RefusedError when it does not say who it is.
    """
    form = _read_form(body)
    if form.get("grant_type") != _GRANT_TYPE:
        raise ValidationError.of_field("grant_type", f"must be {_GRANT_TYPE}")
    if authorization is not None:
        client_id, client_secret = _read_basic(authorization)
    else:
        client_id, client_secret = form.get("client_id", ""), form.get("client_secret", "")
    if not client_id or not client_secret:
        raise RefusedError(Reason.MISSING)
    return TokenRequest(client_id, client_secret, _read_scope(form["scope"]) if form.get("scope") else None)


async def find_key(directory: Directory, asked: TokenRequest, place: str) -> Grant:
    """Return what the key that is the client's secret grants at `place`. Raises RefusedError, or an outage."""
    if not is_well_formed(asked.client_secret):
        raise RefusedError(Reason.CHECKSUM)
    grant = await directory.by_digest(digest_of(asked.client_secret))
    if usable(grant, place).client_id != asked.client_id:
        raise RefusedError(Reason.UNKNOWN_KEY)
    return grant


def scopes_for(asked: TokenRequest, grant: Grant) -> Permissions:
    """Return what the token will be good for. Raises ValidationError for more than the key is."""
    has = grant.principal.permissions
    if asked.scope is None:
        return has
    if missing := sorted(asked.scope - has):
        raise ValidationError.of_field("scope", f"this key does not have {', '.join(missing)}")
    return asked.scope


def _read_form(body: bytes) -> dict[str, str]:
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, errors="strict", max_num_fields=_MOST_FIELDS)
    except ValueError:
        raise ValidationError.of_field("body", "is no urlencoded form") from None
    form = dict(pairs)
    if len(form) < len(pairs):
        raise ValidationError.of_field("body", "has a field twice")
    return form


def _read_basic(authorization: str) -> tuple[str, str]:
    scheme, _, encoded = authorization.partition(" ")
    try:
        text = base64.b64decode(encoded.strip(), validate=True).decode()
    except (binascii.Error, ValueError):
        raise RefusedError(Reason.MALFORMED) from None
    if scheme.lower() != "basic":
        raise RefusedError(Reason.MALFORMED)
    client_id, _, secret = text.partition(":")
    return unquote_plus(client_id), unquote_plus(secret)


def _read_scope(text: str) -> Permissions:
    names = set(text.split())
    if unknown := names - {*Permission}:
        raise ValidationError.of_field("scope", f"{len(unknown)} of these are no permissions")
    return frozenset(Permission(name) for name in names)
