"""API keys over HTTP: /v1/keys. A key's text is in the answer that makes it, and in no other."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import Response

from sms_foundation.auth.keys import service
from sms_foundation.auth.keys.schemas import KeyBody, KeyList, KeyOut, NewKeyOut, RotateBody
from sms_foundation.auth.keys.service import CreatedKey
from sms_foundation.auth.keys.states import ApiKey
from sms_foundation.auth.roles.granting import grantor_of
from sms_foundation.auth.roles.schemas import Identifier
from sms_foundation.core.clock import utc_now
from sms_foundation.core.db import Connection, Database
from sms_foundation.core.errors import ValidationError
from sms_foundation.core.web.answers import json_response
from sms_foundation.core.web.errors import ErrorEnvelope
from sms_foundation.core.web.guarded import GuardedRoute
from sms_foundation.core.web.once import Change, Once
from sms_foundation.core.web.pagination import Cursor, Limit, decode_cursor, encode_cursor

_ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorEnvelope, "description": "A field is wrong; `details.fields` names each"},
    503: {"model": ErrorEnvelope, "description": "Nothing was done; ask again"},
}
_NOT_FOUND: dict[int | str, dict[str, Any]] = {404: {"model": ErrorEnvelope, "description": "No such key"}}
_OVER: dict[int | str, dict[str, Any]] = {
    409: {"model": ErrorEnvelope, "description": "The client is disabled, or the key is over or was rotated before"}
}
_NOT_JSON: dict[int | str, dict[str, Any]] = {422: {"model": ErrorEnvelope, "description": "The body is not JSON"}}
KeyId = Annotated[UUID, Path(description="`id` of the key")]


def keys_router(database: Database, once: Once, *, forget: Callable[[], None]) -> APIRouter:
    """Return the routes of API keys; `forget` is called after each change of what callers may do."""
    router = APIRouter(prefix="/v1/keys", tags=["access"], responses=_ERRORS, route_class=GuardedRoute)

    async def change(request: Request, make: Change) -> Response:
        response = await once.run(request, make)
        forget()
        return response

    @router.get("", response_model=KeyList, summary="List keys")
    async def list_keys(
        limit: Limit = 20,
        cursor: Cursor = None,
        client_id: Annotated[Identifier | None, Query(description="Only those of this client")] = None,
    ) -> Response:
        """Return keys by what may be shown of them, newest first, those that are over included."""
        before = None if cursor is None else _list_key(cursor)
        async with database.connection() as connection:
            keys = await service.list_keys(connection, client_id=client_id, before=before, limit=limit)
        following = encode_cursor(str(keys[-1].id)) if len(keys) == limit else None
        return json_response({"keys": [_show(key) for key in keys], "limit": limit, "next_cursor": following})

    @router.post(
        "", status_code=201, response_model=NewKeyOut, responses={**_OVER, **_NOT_JSON}, summary="Create a key"
    )
    async def create_key(request: Request, body: KeyBody) -> Response:
        """Make a key and show it, this once. It cannot allow more than you are allowed."""

        async def create(connection: Connection) -> Response:
            return _show_new(await service.create_key(connection, grantor_of(request.scope), body))

        return await change(request, create)

    @router.get("/{key_id}", response_model=KeyOut, responses=_NOT_FOUND, summary="See a key")
    async def show_key(key_id: KeyId) -> Response:
        """Return what may be shown of a key, and when it was last used."""
        async with database.connection() as connection:
            return json_response(_show(await service.get_key(connection, key_id)))

    @router.post("/{key_id}/revoke", response_model=KeyOut, responses=_NOT_FOUND, summary="Revoke a key")
    async def revoke_key(request: Request, key_id: KeyId) -> Response:
        """Accept it no more, on every instance within 5 seconds. Repeating it changes nothing."""

        async def revoke(connection: Connection) -> Response:
            return json_response(_show(await service.revoke_key(connection, grantor_of(request.scope), key_id)))

        return await change(request, revoke)

    @router.post(
        "/{key_id}/rotate",
        status_code=201,
        response_model=NewKeyOut,
        responses={**_NOT_FOUND, **_OVER, **_NOT_JSON},
        summary="Replace a key",
    )
    async def rotate_key(request: Request, key_id: KeyId, body: RotateBody | None = None) -> Response:
        """Make a key like it and show that, this once. The old one stays valid for a day unless you say otherwise."""
        how = body or RotateBody.model_validate({})

        async def rotate(connection: Connection) -> Response:
            return _show_new(await service.rotate_key(connection, grantor_of(request.scope), key_id, how))

        return await change(request, rotate)

    return router


def _show(key: ApiKey) -> dict[str, Any]:
    return {
        "id": key.id,
        "client_id": key.client_id,
        "name": key.name,
        "prefix": key.prefix,
        "state": key.state(utc_now()),
        "is_test": key.is_test,
        "scopes": key.scopes,
        "networks": key.networks,
        "created_at": key.created_at,
        "expires_at": key.expires_at,
        "revoked_at": key.revoked_at,
        "last_used_at": key.last_used_at,
        "replaces": key.replaces,
    }


def _show_new(made: CreatedKey) -> Response:
    body: Mapping[str, Any] = {**_show(made.key), "key": made.text}
    return json_response(body, status_code=201)


def _list_key(cursor: str) -> UUID:
    try:
        return UUID(str(decode_cursor(cursor, str)[0]))
    except ValueError:
        raise ValidationError.of_field("cursor", "is not one of ours") from None
