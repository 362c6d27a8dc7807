"""Invitations: /v1/invitations. The secret is in the answer that makes one, and in no other."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Path, Request
from fastapi.responses import Response

from sms_foundation.auth.people import invitations
from sms_foundation.auth.people.invitations import Invitation, NewInvitation
from sms_foundation.auth.people.schemas import InvitationBody, InvitationList, NewInvitationOut
from sms_foundation.auth.roles.granting import grantor_of
from sms_foundation.auth.tokens.router import NO_STORE
from sms_foundation.core.clock import utc_now
from sms_foundation.core.db import Connection, Database
from sms_foundation.core.errors import ValidationError
from sms_foundation.core.web.answers import json_response
from sms_foundation.core.web.bodies import describe_body, read_body, read_json
from sms_foundation.core.web.errors import ErrorEnvelope
from sms_foundation.core.web.guarded import GuardedRoute
from sms_foundation.core.web.once import Once
from sms_foundation.core.web.pagination import Cursor, Limit, decode_cursor, encode_cursor

_MAX_BODY_BYTES = 16 * 1024
_ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorEnvelope, "description": "A field is wrong; `details.fields` names each"},
    503: {"model": ErrorEnvelope, "description": "Nothing was done; ask again"},
}
_NOT_JSON: dict[int | str, dict[str, Any]] = {
    409: {"model": ErrorEnvelope, "description": "The account with this address is disabled"},
    413: {"model": ErrorEnvelope, "description": "The body is larger than anything that could be asked for"},
    422: {"model": ErrorEnvelope, "description": "The body is not JSON, or the Idempotency-Key means something else"},
}
_NOT_REVOCABLE: dict[int | str, dict[str, Any]] = {
    404: {"model": ErrorEnvelope, "description": "No such invitation"},
    409: {"model": ErrorEnvelope, "description": "It was used"},
}
InvitationId = Annotated[UUID, Path(description="`id` of the invitation")]


def invitations_router(database: Database, once: Once, *, lifetime: timedelta) -> APIRouter:
    """Return the routes of invitations, which can be accepted for `lifetime`."""
    router = APIRouter(prefix="/v1/invitations", tags=["access"], responses=_ERRORS, route_class=GuardedRoute)

    @router.post(
        "",
        status_code=201,
        response_model=NewInvitationOut,
        responses=_NOT_JSON,
        summary="Invite somebody",
        openapi_extra=describe_body(InvitationBody),
    )
    async def create(request: Request) -> Response:
        """Make an invitation and show it, this once. For somebody who has an account it is the way to a new password.

        It cannot give more than you may yourself, nor reach an account that may more than you."""
        body = read_json(InvitationBody, await read_body(request, limit_bytes=_MAX_BODY_BYTES))

        async def change(connection: Connection) -> Response:
            return _show_new(
                await invitations.create_invitation(
                    connection, grantor_of(request.scope), email=body.email, roles=body.roles, lifetime=lifetime
                )
            )

        return await once.run(request, change)

    @router.get("", response_model=InvitationList, summary="List invitations")
    async def list_all(limit: Limit = 20, cursor: Cursor = None) -> Response:
        """Return invitations, newest first, those that were used or are over included."""
        before = None if cursor is None else _list_key(cursor)
        async with database.connection() as connection:
            rows = await invitations.list_invitations(connection, before=before, limit=limit)
        following = encode_cursor(str(rows[-1].id)) if len(rows) == limit else None
        return json_response({"invitations": [_show(row) for row in rows], "limit": limit, "next_cursor": following})

    @router.delete("/{invitation_id}", status_code=204, responses=_NOT_REVOCABLE, summary="Revoke an invitation")
    async def revoke(request: Request, invitation_id: InvitationId) -> Response:
        """Make an invitation useless. Repeating it changes nothing."""
        async with database.transaction() as connection:
            await invitations.revoke_invitation(connection, grantor_of(request.scope), invitation_id)
        return Response(status_code=204)

    return router


def _show(invitation: Invitation) -> dict[str, Any]:
    return {
        "id": invitation.id,
        "email": invitation.email,
        "roles": list(invitation.roles),
        "state": invitation.state(utc_now()),
        "created_by": invitation.created_by,
        "created_at": invitation.created_at,
        "expires_at": invitation.expires_at,
        "used_at": invitation.used_at,
        "revoked_at": invitation.revoked_at,
    }


def _show_new(made: NewInvitation) -> Response:
    body: Mapping[str, Any] = {**_show(made.invitation), "invitation": made.text, "is_reset": made.is_reset}
    return json_response(body, status_code=201, headers=NO_STORE)


def _list_key(cursor: str) -> UUID:
    (text,) = decode_cursor(cursor, str)
    try:
        return UUID(str(text))
    except ValueError:
        raise ValidationError.of_field("cursor", "is not one of ours") from None
