"""/v1/audit: who did what."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import asyncpg
import orjson
from fastapi import APIRouter, Query
from fastapi.responses import Response

from sms_foundation.auth.audit import reading
from sms_foundation.auth.audit.log import Action
from sms_foundation.auth.audit.reading import AuditFilter
from sms_foundation.auth.audit.schemas import AuditLog
from sms_foundation.core.db import Database
from sms_foundation.core.errors import ValidationError
from sms_foundation.core.web.answers import in_utc, json_response
from sms_foundation.core.web.errors import ErrorEnvelope
from sms_foundation.core.web.guarded import GuardedRoute
from sms_foundation.core.web.pagination import Cursor, Limit, decode_cursor, encode_cursor

_ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorEnvelope, "description": "A parameter is wrong; `details.fields` names each"},
    503: {"model": ErrorEnvelope, "description": "The database is not available"},
}
Filter = Annotated[str | None, Query(max_length=200, pattern=r"^[^\x00]*$", description="Only with exactly this value")]


def audit_router(database: Database) -> APIRouter:
    """Return the routes of the audit log. There is none that changes it."""
    router = APIRouter(prefix="/v1/audit", tags=["audit"], responses=_ERRORS, route_class=GuardedRoute)

    @router.get("", response_model=AuditLog, summary="Read the audit log")
    async def list_entries(
        limit: Limit = 20,
        cursor: Cursor = None,
        actor: Filter = None,
        action: Annotated[Action | None, Query(description="Only this action")] = None,
        target: Filter = None,
        since: Annotated[datetime | None, Query(description="Done at or after this time (ISO 8601)")] = None,
        until: Annotated[datetime | None, Query(description="Done before this time")] = None,
    ) -> Response:
        """Return who did what, newest first: changes to clients, keys, roles and rules, log-ins, reads of content."""
        wanted = AuditFilter(
            actor=actor,
            action=action,
            target=target,
            since=None if since is None else in_utc(since, field="since"),
            until=None if until is None else in_utc(until, field="until"),
        )
        after = None if cursor is None else _list_key(cursor)
        async with database.connection() as connection:
            rows = await reading.list_entries(connection, wanted, after=after, limit=limit)
        following = encode_cursor(str(rows[-1]["id"])) if len(rows) == limit else None
        return json_response({"entries": [_show(row) for row in rows], "limit": limit, "next_cursor": following})

    return router


def _show(row: asyncpg.Record) -> dict[str, Any]:
    return {**row, "details": orjson.Fragment(row["details"])}


def _list_key(cursor: str) -> UUID:
    try:
        return UUID(str(decode_cursor(cursor, str)[0]))
    except ValueError:
        raise ValidationError.of_field("cursor", "is not one of ours") from None
