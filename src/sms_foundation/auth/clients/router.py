"""Clients over HTTP: /v1/clients."""

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import Response

from sms_foundation.auth.clients import service
from sms_foundation.auth.clients.schemas import (
    Claim,
    ClientBody,
    ClientDetail,
    ClientList,
    ClientPatch,
    IdentityBody,
    Subject,
)
from sms_foundation.auth.clients.service import Client, ClientDetails
from sms_foundation.auth.roles.granting import Grantor, grantor_of
from sms_foundation.auth.roles.schemas import Identifier
from sms_foundation.core.db import Connection, Database
from sms_foundation.core.errors import ValidationError
from sms_foundation.core.web.answers import json_response
from sms_foundation.core.web.errors import ErrorEnvelope
from sms_foundation.core.web.guarded import GuardedRoute
from sms_foundation.core.web.once import Once
from sms_foundation.core.web.pagination import Cursor, Limit, decode_cursor, encode_cursor

_ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorEnvelope, "description": "A field is wrong; `details.fields` names each"},
    503: {"model": ErrorEnvelope, "description": "Nothing was done; ask again"},
}
_NOT_FOUND: dict[int | str, dict[str, Any]] = {404: {"model": ErrorEnvelope, "description": "No such client"}}
_TAKEN: dict[int | str, dict[str, Any]] = {409: {"model": ErrorEnvelope, "description": "It is taken"}}
_LAST: dict[int | str, dict[str, Any]] = {
    409: {"model": ErrorEnvelope, "description": "Nobody could manage clients any more"}
}
_NOT_JSON: dict[int | str, dict[str, Any]] = {422: {"model": ErrorEnvelope, "description": "The body is not JSON"}}
_is_id = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}").fullmatch
ClientId = Annotated[Identifier, Path(description="`id` of the client", examples=["rent-reminder"])]
Change = Callable[[Connection, Grantor], Any]


def clients_router(database: Database, once: Once, *, forget: Callable[[], None]) -> APIRouter:
    """Return the routes of clients; `forget` is called after each change of what callers may do."""
    router = APIRouter(prefix="/v1/clients", tags=["access"], responses=_ERRORS, route_class=GuardedRoute)

    async def change(request: Request, client_id: str, make: Change, *, status_code: int = 200) -> Response:
        """Change a client, and answer what it is then."""

        async def run(connection: Connection) -> Response:
            await make(connection, grantor_of(request.scope))
            details = await service.describe_client(connection, client_id)
            return json_response(_show_details(details), status_code=status_code)

        response = await once.run(request, run)
        forget()
        return response

    @router.get("", response_model=ClientList, summary="List clients")
    async def list_clients(limit: Limit = 20, cursor: Cursor = None) -> Response:
        """Return services and people's accounts by id, disabled ones included."""
        after = "" if cursor is None else _list_key(cursor)
        async with database.connection() as connection:
            clients = await service.list_clients(connection, after=after, limit=limit)
        following = encode_cursor(clients[-1].id) if len(clients) == limit else None
        return json_response({"clients": [_show(each) for each in clients], "limit": limit, "next_cursor": following})

    @router.post(
        "",
        status_code=201,
        response_model=ClientDetail,
        responses={**_TAKEN, **_NOT_JSON},
        summary="Create a service",
    )
    async def create_client(request: Request, body: ClientBody) -> Response:
        """Make a calling service; give it a key next. People come by invitation. You cannot give what you have not."""
        return await change(request, body.id, partial(_create, body=body), status_code=201)

    @router.get("/{client_id}", response_model=ClientDetail, responses=_NOT_FOUND, summary="See a client")
    async def show_client(client_id: ClientId) -> Response:
        """Return a client, what its roles allow together, and its identities at other issuers."""
        async with database.connection() as connection:
            return json_response(_show_details(await service.describe_client(connection, client_id)))

    @router.patch(
        "/{client_id}",
        response_model=ClientDetail,
        responses={**_NOT_FOUND, **_LAST, **_NOT_JSON},
        summary="Change roles and limit",
    )
    async def patch_client(request: Request, client_id: ClientId, patch: ClientPatch) -> Response:
        """Set roles, the request limit, or both. It holds on every instance within 5 seconds."""
        return await change(request, client_id, partial(_patch, client_id=client_id, patch=patch))

    @router.post(
        "/{client_id}/disable",
        response_model=ClientDetail,
        responses={**_NOT_FOUND, **_LAST},
        summary="Disable a client",
    )
    async def disable_client(request: Request, client_id: ClientId) -> Response:
        """Accept nothing of it any more, within 5 seconds, and end its log-ins. Repeating it changes nothing."""
        return await change(request, client_id, partial(service.disable_client, client_id=client_id))

    @router.post(
        "/{client_id}/enable", response_model=ClientDetail, responses=_NOT_FOUND, summary="Enable a client again"
    )
    async def enable_client(request: Request, client_id: ClientId) -> Response:
        """Accept its keys and identities again; people log in anew. Repeating it changes nothing."""
        return await change(request, client_id, partial(service.enable_client, client_id=client_id))

    @router.post(
        "/{client_id}/identities",
        response_model=ClientDetail,
        responses={**_NOT_FOUND, **_TAKEN, **_NOT_JSON},
        summary="Link an outside identity",
    )
    async def link_identity(request: Request, client_id: ClientId, body: IdentityBody) -> Response:
        """Take an outside issuer's tokens for this subject as the client's. Repeating it changes nothing."""
        return await change(request, client_id, partial(service.link_identity, client_id=client_id, identity=body))

    @router.delete(
        "/{client_id}/identities",
        response_model=ClientDetail,
        responses={404: {"model": ErrorEnvelope, "description": "No such client, or it has no such identity"}},
        summary="Unlink an outside identity",
    )
    async def unlink_identity(
        request: Request,
        client_id: ClientId,
        issuer: Annotated[Claim, Query(description="As it was linked")],
        subject: Annotated[Subject, Query(description="As it was linked")],
    ) -> Response:
        """Take these tokens as the client's no more, within 5 seconds."""
        identity = IdentityBody(issuer=issuer, subject=subject)
        async with database.transaction() as connection:
            await service.unlink_identity(connection, grantor_of(request.scope), client_id, identity)
            details = await service.describe_client(connection, client_id)
        forget()
        return json_response(_show_details(details))

    return router


async def _create(connection: Connection, grantor: Grantor, *, body: ClientBody) -> None:
    await service.create_client(connection, grantor, body)


async def _patch(connection: Connection, grantor: Grantor, *, client_id: str, patch: ClientPatch) -> None:
    if patch.roles is not None:  # first: it takes the lock that others take before a client's row
        await service.set_roles(connection, grantor, client_id, patch.roles)
    if "request_limit" in patch.model_fields_set:
        await service.set_limit(connection, grantor, client_id, patch.request_limit)


def _show(client: Client) -> dict[str, Any]:
    return {
        "id": client.id,
        "kind": client.kind,
        "display_name": client.display_name,
        "email": client.email,
        "roles": client.roles,
        "request_limit": client.request_limit,
        "created_at": client.created_at,
        "updated_at": client.updated_at,
        "disabled_at": client.disabled_at,
    }


def _show_details(details: ClientDetails) -> Mapping[str, Any]:
    identities = [
        {"issuer": each.issuer, "subject": each.subject, "created_at": each.created_at} for each in details.identities
    ]
    return {**_show(details.client), "permissions": sorted(details.permissions), "identities": identities}


def _list_key(cursor: str) -> str:
    after = str(decode_cursor(cursor, str)[0])
    if not _is_id(after):
        raise ValidationError.of_field("cursor", "is not one of ours")
    return after
