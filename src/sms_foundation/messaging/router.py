"""The history API: conversations and messages, read back and filed under workflows."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import asyncpg
import orjson
from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import Response

from sms_foundation.auth.audit.content_reads import ContentReads
from sms_foundation.auth.principal import actor_of
from sms_foundation.core.db import Connection, Database
from sms_foundation.core.errors import NotFoundError, ValidationError
from sms_foundation.core.phone import spoken_address
from sms_foundation.core.web.answers import in_utc, json_response
from sms_foundation.core.web.errors import ErrorEnvelope
from sms_foundation.core.web.guarded import GuardedRoute
from sms_foundation.core.web.once import Once
from sms_foundation.core.web.pagination import Cursor, Limit, decode_cursor, document_query, encode_cursor, read_query
from sms_foundation.messaging import facts, history
from sms_foundation.messaging.history import ConversationFilter
from sms_foundation.messaging.schemas import (
    ConversationList,
    ConversationPage,
    ConversationPatch,
    ConversationSummary,
    Language,
    MessageDetail,
    PageQuery,
)
from sms_foundation.messaging.visibility import is_content_hidden, show

_ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorEnvelope, "description": "A parameter or field is wrong; `details.fields` names each"},
    503: {"model": ErrorEnvelope, "description": "The database is not available"},
}
_NOT_FOUND: dict[int | str, dict[str, Any]] = {
    404: {"model": ErrorEnvelope, "description": "Nothing is known under this number or id"}
}
_PHONE_DESCRIPTION = (
    "The counterpart's number in any spelling, `+` URL-encoded or not; or a short code, an alphanumeric sender, "
    "`whatsapp:+...`"
)
PhoneNumber = Annotated[str, Path(max_length=400, description=_PHONE_DESCRIPTION, examples=["+14155550123"])]


_PHONE_PARAMETER = {
    "name": "phone_number",
    "in": "path",
    "required": True,
    "description": _PHONE_DESCRIPTION,
    "schema": {"type": "string", "examples": ["+14155550123"]},
}
# PostgreSQL's text holds everything but NUL.
_STORABLE = r"^[^\x00]*$"
Filter = Annotated[str | None, Query(max_length=200, pattern=_STORABLE, description="Only with exactly this value")]
_LARGEST_SEQ = 2**63 - 1


def history_router(database: Database, once: Once, reads: ContentReads, *, default_region: str) -> APIRouter:
    """Return the routes of the history API; `reads` notes who saw what messages say."""
    router = APIRouter(tags=["history"], responses=_ERRORS, route_class=GuardedRoute)

    @router.get(
        "/conversations/{phone_number}",  # noqa: FAST003  # parameters are read by hand, see PageQuery
        response_model=ConversationPage,
        responses=_NOT_FOUND,
        summary="Read a conversation",
        openapi_extra={"parameters": [_PHONE_PARAMETER, *document_query(PageQuery)]},
    )
    async def read_conversation(request: Request) -> Response:
        """Return what is known about the counterpart, and a page of messages, newest first."""
        query = read_query(PageQuery, request)
        before_seq = None if query.cursor is None else _page_key(query.cursor)
        skip = query.offset if query.offset is not None else (query.page - 1) * query.limit
        async with database.connection() as connection:
            rows = await history.find_page(
                connection,
                phone=spoken_address(request.path_params["phone_number"], default_region),
                before_seq=before_seq,
                offset=skip,
                limit=query.limit,
            )
        if not rows:
            raise NotFoundError("no conversation with this number")
        is_hidden = is_content_hidden(request.scope)
        if not is_hidden:
            await reads.note(actor_of(request.scope), "conversation", rows[0]["id"])
        page = _conversation_page(rows, before_seq=before_seq, offset=skip, limit=query.limit)
        return json_response(show(page, is_hidden=is_hidden))

    @router.get("/conversations", response_model=ConversationList, summary="List conversations")
    async def list_conversations(
        request: Request,
        limit: Limit = 20,
        cursor: Cursor = None,
        tenant_id: Filter = None,
        language: Annotated[Language | None, Query(description="Language to answer in")] = None,
        workflow_type: Filter = None,
        workflow_id: Filter = None,
        conversation_status: Filter = None,
        since: Annotated[datetime | None, Query(description="Active at or after this time (ISO 8601)")] = None,
        unknown_tenant: Annotated[
            bool | None, Query(description="true: only without a tenant; false: only with one")
        ] = None,
    ) -> Response:
        """Return conversations, most recently active first; before them those that wait for their first message."""
        since = None if since is None else in_utc(since, field="since")
        wanted = ConversationFilter(
            tenant_id, language, workflow_type, workflow_id, conversation_status, since, unknown_tenant
        )
        after = None if cursor is None else _list_key(cursor)
        async with database.connection() as connection:
            rows = await history.list_conversations(connection, wanted, after=after, limit=limit)
        is_hidden = is_content_hidden(request.scope)
        if rows and not is_hidden:  # whole numbers
            which = {"count": len(rows), "first": rows[0]["id"], "last": rows[-1]["id"]}
            await reads.note(actor_of(request.scope), "conversations", "list", which)
        items = [show(_conversation(row), is_hidden=is_hidden) for row in rows]
        following = _list_cursor(rows[-1]) if len(rows) == limit else None
        return json_response({"conversations": items, "limit": limit, "next_cursor": following})

    @router.patch(
        "/conversations/{phone_number}",
        response_model=ConversationSummary,
        responses={**_NOT_FOUND, 422: {"model": ErrorEnvelope, "description": "The body is not JSON"}},
        summary="File a conversation",
    )
    async def patch_conversation(request: Request, phone_number: PhoneNumber, patch: ConversationPatch) -> Response:
        """Set workflow and status; fields that are left out stay, null clears. Repeating it changes nothing more."""
        phone = spoken_address(phone_number, default_region)
        changes = patch.model_dump(exclude_unset=True)

        async def file(connection: Connection) -> Response:
            if not await facts.patch_conversation(connection, phone=phone, changes=changes):
                raise NotFoundError("no conversation with this number")
            rows = await history.find_page(connection, phone=phone, before_seq=None, offset=0, limit=1)
            return json_response(show(_conversation(rows[0]), is_hidden=is_content_hidden(request.scope)))

        return await once.run(request, file)

    @router.get(
        "/messages/{id}",
        response_model=MessageDetail,
        responses=_NOT_FOUND,
        summary="Read a message",
    )
    async def read_message(
        request: Request,
        id: Annotated[
            str, Path(max_length=128, pattern=_STORABLE, description="Our id, or the provider's (`twilio_sid`)")
        ],
    ) -> Response:
        """Return one message with every status callback and the raw payload it arrived in."""
        async with database.connection() as connection:
            found = await history.find_message(connection, message_id=_as_uuid(id), provider_message_id=id)
        if found is None:
            raise NotFoundError("no message with this id")
        message_id = found[0]["message_id"]
        request.scope["state"]["log"]["message_id"] = str(message_id)
        is_hidden = is_content_hidden(request.scope)
        if not is_hidden:
            await reads.note(actor_of(request.scope), "message", message_id)
        return json_response(show(_message_detail(*found), is_hidden=is_hidden))

    return router


def _as_uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def _page_key(cursor: str) -> int:
    seq = int(decode_cursor(cursor, int)[0])
    if not 0 < seq <= _LARGEST_SEQ:
        raise ValidationError.of_field("cursor", "is not one of ours")
    return seq


def _list_cursor(last: asyncpg.Record) -> str:
    at = last["last_message_at"]
    return encode_cursor("" if at is None else at.isoformat(), str(last["id"]))


def _list_key(cursor: str) -> tuple[datetime | None, UUID]:
    at, id_ = (str(part) for part in decode_cursor(cursor, str, str))
    try:
        last_id = UUID(id_)
        last_at = datetime.fromisoformat(at) if at else None
    except ValueError:
        raise ValidationError.of_field("cursor", "is not one of ours") from None
    return (None if last_at is None else in_utc(last_at, field="cursor")), last_id


def _conversation(row: asyncpg.Record) -> dict[str, Any]:
    return {
        "id": row["id"],
        "phone_number_canonical": row["phone_number_canonical"],
        "phone_number_original": row["phone_number_original"],
        "tenant_id": row["tenant_id"],
        "tenant_lookup_status": row["tenant_lookup_status"],
        "workflow_type": row["workflow_type"],
        "workflow_id": row["workflow_id"],
        "conversation_status": row["conversation_status"],
        "language_detected": row["language_detected"],
        "language_confidence": row["language_confidence"],
        "last_message_at": row["last_message_at"],
        "message_count": row["message_count"],
        "created_at": row["created_at"],
    }


def _conversation_page(
    rows: list[asyncpg.Record], *, before_seq: int | None, offset: int, limit: int
) -> dict[str, Any]:
    total = rows[0]["message_count"]
    if before_seq is not None:
        offset = max(total - before_seq + 1, 0)
    found = rows[1:]
    last_seq = found[-1]["conversation_seq"] if found else 1
    return {
        **_conversation(rows[0]),
        "messages": [_message(row) for row in found],
        "page": offset // limit + 1,
        "limit": limit,
        "offset": offset,
        "total": total,
        "next_cursor": encode_cursor(last_seq) if last_seq > 1 else None,
    }


def _message(row: asyncpg.Record) -> dict[str, Any]:
    content, created_at = row["message_content"], row["message_created_at"]
    return {
        "id": row["message_id"],
        "direction": row["direction"],
        "from_number": row["from_number"],
        "to_number": row["to_number"],
        "message_content": content,
        "content": content,
        "provider": row["provider"],
        "twilio_sid": row["provider_message_id"],
        "delivery_status": row["delivery_status"],
        "error_code": row["error_code"],
        "error_message": row["error_message"],
        "num_segments": row["num_segments"],
        "media": orjson.Fragment(row["media"]),
        "is_test": row["is_test"],
        "language_detected": row["message_language"],
        "language_confidence": row["message_language_confidence"],
        "created_at": created_at,
        "timestamp": created_at,
        "request_id": row["request_id"],
        "trace_id": row["trace_id"],
    }


def _message_detail(row: asyncpg.Record, events: list[asyncpg.Record]) -> dict[str, Any]:
    return {
        **_message(row),
        "conversation_id": row["conversation_id"],
        "phone_number_canonical": row["phone_number_canonical"],
        "tenant_id": row["tenant_id"],
        "updated_at": row["updated_at"],
        "status_events": [
            {
                "id": event["id"],
                "event_status": event["event_status"],
                "error_code": event["error_code"],
                "error_message": event["error_message"],
                "raw_webhook_data": _raw(event),
                "created_at": event["created_at"],
            }
            for event in events
        ],
        "raw_webhook_data": _raw(row),
    }


def _raw(row: asyncpg.Record) -> orjson.Fragment | None:
    raw = row["raw_webhook_data"]
    return None if raw is None else orjson.Fragment(raw)
