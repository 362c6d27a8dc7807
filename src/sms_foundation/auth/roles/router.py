"""Roles over HTTP: /v1/roles."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from fastapi.responses import Response

from sms_foundation.auth.permissions import MEANING
from sms_foundation.auth.roles import service
from sms_foundation.auth.roles.granting import grantor_of
from sms_foundation.auth.roles.schemas import Identifier, RoleBody, RoleList, RoleOut
from sms_foundation.auth.roles.service import Role
from sms_foundation.core.db import Database
from sms_foundation.core.web.answers import json_response
from sms_foundation.core.web.errors import ErrorEnvelope
from sms_foundation.core.web.guarded import GuardedRoute

_ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorEnvelope, "description": "A field is wrong; `details.fields` names each"},
    503: {"model": ErrorEnvelope, "description": "Nothing was done; ask again"},
}
_CONFLICT: dict[int | str, dict[str, Any]] = {
    409: {"model": ErrorEnvelope, "description": "Somebody needs it: the role is in use, or the last that manages"}
}
_NOT_JSON: dict[int | str, dict[str, Any]] = {422: {"model": ErrorEnvelope, "description": "The body is not JSON"}}
Name = Annotated[Identifier, Path(description="The role's name", examples=["rent-reminder"])]


def roles_router(database: Database, *, forget: Callable[[], None]) -> APIRouter:
    """Return the routes of roles; `forget` is called after each change of what callers may do."""
    router = APIRouter(prefix="/v1/roles", tags=["access"], responses=_ERRORS, route_class=GuardedRoute)

    @router.get("", response_model=RoleList, summary="List roles and permissions")
    async def list_roles() -> Response:
        """Return all roles, the built-in ones first, and every permission a role can be made of."""
        async with database.connection() as connection:
            roles = await service.list_roles(connection)
        permissions = [{"name": permission, "meaning": meaning} for permission, meaning in MEANING.items()]
        return json_response({"roles": [_show(role) for role in roles], "permissions": permissions})

    @router.put(
        "/{name}", response_model=RoleOut, responses={**_CONFLICT, **_NOT_JSON}, summary="Make or change a role"
    )
    async def set_role(request: Request, name: Name, body: RoleBody) -> Response:
        """Let a role of your own allow exactly this, for everybody who has it. Repeating it changes nothing."""
        async with database.transaction() as connection:
            role = await service.set_role(connection, grantor_of(request.scope), name, body)
        forget()
        return json_response(_show(role))

    @router.delete(
        "/{name}",
        status_code=204,
        responses={404: {"model": ErrorEnvelope, "description": "No such role"}, **_CONFLICT},
        summary="Delete a role",
    )
    async def delete_role(request: Request, name: Name) -> Response:
        """Delete a role of your own that no client has and no open invitation promises."""
        async with database.transaction() as connection:
            await service.delete_role(connection, grantor_of(request.scope), name)
        forget()
        return Response(status_code=204)

    return router


def _show(role: Role) -> Mapping[str, Any]:
    return {
        "name": role.name,
        "is_built_in": role.is_built_in,
        "permissions": sorted(role.permissions),
        "description": role.description,
    }
