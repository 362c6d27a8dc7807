"""Tokens over HTTP: /auth/token for services, and the keys by which anybody can check our tokens."""

from contextlib import suppress
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from sms_foundation.auth.control import AccessControl
from sms_foundation.auth.directory import Grant
from sms_foundation.auth.permissions import Permissions
from sms_foundation.auth.refusals import RefusedError
from sms_foundation.auth.refusing import refuse
from sms_foundation.auth.tokens.client_credentials import TokenRequest, find_key, read_token_request, scopes_for
from sms_foundation.auth.tokens.issuing import AccessToken
from sms_foundation.auth.tokens.schemas import KeySetAnswer, TokenAnswer
from sms_foundation.core.db import Connection
from sms_foundation.core.errors import NotConfiguredError
from sms_foundation.core.web.answers import json_response
from sms_foundation.core.web.bodies import read_body
from sms_foundation.core.web.errors import ErrorEnvelope
from sms_foundation.core.web.guarded import GuardedRoute
from sms_foundation.core.web.once import Once

# Source: https://www.rfc-editor.org/rfc/rfc6749#section-5.1
NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}
_MAX_FORM_BYTES = 16 * 1024
_JWKS_MAX_AGE_S = 300
_ERRORS: dict[int | str, dict[str, Any]] = {
    503: {"model": ErrorEnvelope, "description": "Nothing was done; `sms.not_configured`: there is no signing key"}
}
_TOKEN_ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorEnvelope, "description": "A field is wrong; `details.fields` names each"},
    401: {"model": ErrorEnvelope, "description": "Client and key do not belong together, or are not valid"},
    413: {"model": ErrorEnvelope, "description": "The body is larger than anything that could be asked for"},
    429: {"model": ErrorEnvelope, "description": "Too many wrong credentials from this address"},
}
_FORM: dict[str, Any] = {
    "type": "object",
    "required": ["grant_type"],
    "properties": {
        "grant_type": {"type": "string", "enum": ["client_credentials"]},
        "client_id": {"type": "string", "description": "Or as the user of HTTP Basic"},
        "client_secret": {"type": "string", "description": "An API key of this client; or as the password"},
        "scope": {"type": "string", "description": "Permissions, with blanks between; all of the key's when left out"},
    },
}
_FORM_BODY = {"requestBody": {"required": True, "content": {"application/x-www-form-urlencoded": {"schema": _FORM}}}}


def tokens_router(access: AccessControl, once: Once) -> APIRouter:
    """Return the routes about tokens of services, and about keys."""
    router = APIRouter(tags=["access"], responses=_ERRORS, route_class=GuardedRoute)

    @router.get("/.well-known/jwks.json", response_model=KeySetAnswer, summary="Public keys")
    async def show_keys() -> Response:
        """Return the public keys of our tokens. A key that was replaced stays until its tokens have expired."""
        with suppress(NotConfiguredError):
            await access.token_issuer.prepare()
        keys = [key.jwk for key in await access.key_ring.live()]
        return json_response({"keys": keys}, headers={"Cache-Control": f"public, max-age={_JWKS_MAX_AGE_S}"})

    @router.post(
        "/auth/token",
        response_model=TokenAnswer,
        responses=_TOKEN_ERRORS,
        summary="Turn an API key into a token",
        openapi_extra=_FORM_BODY,
    )
    async def issue_token(request: Request) -> Response:
        """Return a token for an API key (OAuth 2 client credentials). It ends with the key, at the latest."""
        body = await read_body(request, limit_bytes=_MAX_FORM_BYTES)
        address: str = request.scope["state"]["address"]
        access.failures.check(address)
        try:
            asked = read_token_request(body, request.headers.get("authorization"))
            grant = await find_key(access.directory, asked, request.scope["state"]["place"])
        except RefusedError as error:
            await refuse(access.failures, error.reason, address)
        return await _issue(request, asked, grant)

    async def _issue(request: Request, asked: TokenRequest, grant: Grant) -> Response:
        scopes = scopes_for(asked, grant)
        await access.token_issuer.prepare()

        async def change(_connection: Connection) -> Response:
            return _show(await access.token_issuer.for_key(grant, scopes), scopes)

        return await once.run(request, change)

    return router


def _show(token: AccessToken, scopes: Permissions) -> Response:
    answer = {
        "access_token": token.text,
        "token_type": "Bearer",
        "expires_in": token.expires_in_s,
        "scope": " ".join(sorted(scopes)),
    }
    return json_response(answer, headers=NO_STORE)
