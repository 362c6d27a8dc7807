"""The sending API: /v1/sms."""

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Path, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response

from sms_foundation.auth.audit.content_reads import ContentReads
from sms_foundation.auth.limits.limiter import Limiter
from sms_foundation.auth.principal import Principal, actor_of, principal_of
from sms_foundation.auth.refusals import RateLimitedError
from sms_foundation.core.db import Connection, Database
from sms_foundation.core.errors import NotFoundError, SmsFoundationError, ValidationError
from sms_foundation.core.phone import spoken_address
from sms_foundation.core.web.answers import in_utc, json_response
from sms_foundation.core.web.bodies import describe_body, joined_by, read_body, read_headers, read_json, read_value
from sms_foundation.core.web.errors import ErrorEnvelope, as_public_error
from sms_foundation.core.web.guarded import GuardedRoute
from sms_foundation.core.web.once import IdempotencyHeaders, Once
from sms_foundation.core.web.pagination import Cursor, Limit, decode_cursor, encode_cursor
from sms_foundation.messaging.outbound import control, reading
from sms_foundation.messaging.outbound.asked import Accepted, Outcome
from sms_foundation.messaging.outbound.reading import MessageFilter
from sms_foundation.messaging.outbound.requests import (
    EXPIRED,
    BatchBody,
    PreviewBody,
    Reschedule,
    RetryBody,
    SendBody,
    SendingLimits,
)
from sms_foundation.messaging.outbound.schemas import BatchAnswer, PreviewAnswer, SendAnswer, SmsDetail, SmsList
from sms_foundation.messaging.outbound.service import LONGEST_WAIT_S, Progress, SendingService
from sms_foundation.messaging.outbound.views import (
    show_accepted,
    show_batch,
    show_detail,
    show_preview,
    show_summary,
)
from sms_foundation.messaging.visibility import is_content_hidden, show
from sms_foundation.providers.base import MessageStatus

_ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorEnvelope, "description": "A field is wrong; `details.fields` names each"},
    503: {"model": ErrorEnvelope, "description": "Nothing was done; ask again"},
}
_TOO_LARGE: dict[int | str, dict[str, Any]] = {
    413: {"model": ErrorEnvelope, "description": "The body is larger than anything that could be asked for"}
}
_NOT_JSON: dict[int | str, dict[str, Any]] = {422: {"model": ErrorEnvelope, "description": "The body is not JSON"}}
SEND_ERRORS: dict[int | str, dict[str, Any]] = {
    **_TOO_LARGE,
    422: {"model": ErrorEnvelope, "description": "The body is not JSON, or the idempotency key means something else"},
    502: {"model": ErrorEnvelope, "description": "With `Prefer: wait`: no provider took it"},
}
_NOT_FOUND: dict[int | str, dict[str, Any]] = {404: {"model": ErrorEnvelope, "description": "No such message"}}
_CONFLICT: dict[int | str, dict[str, Any]] = {
    409: {"model": ErrorEnvelope, "description": "The message is not in a state that allows it"}
}
_KEY_HEADER = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "Same as `idempotency_key` in the body",
    "schema": {"type": "string", "maxLength": 255},
}
_PREFER_HEADER = {
    "name": "Prefer",
    "in": "header",
    "required": False,
    "description": "`wait=5`: answer when a provider has the message or refused it, after 5 seconds at the latest",
    "schema": {"type": "string", "examples": ["wait=5"]},
}
# Source: https://www.rfc-editor.org/rfc/rfc7240#section-4.3
_find_wait = re.compile(r"(?:^|[,;\s])wait\s*=\s*\"?([0-9]{1,6})", re.IGNORECASE).search
# More than the longest of messages can take, every character of it escaped.
MAX_BODY_BYTES = 512 * 1024
_MAX_BATCH_BYTES = 32 * 1024 * 1024
ReadMessage = Callable[[SendingLimits], SendBody]
Render = Callable[[Accepted, Progress | None], Mapping[str, Any]]
MessageId = Annotated[UUID, Path(description="`request_id` of the message")]
Filter = Annotated[str | None, Query(max_length=200, pattern=r"^[^\x00]*$", description="Only with exactly this value")]


def sending_router(
    database: Database, sending: SendingService, once: Once, reads: ContentReads, limiter: Limiter
) -> APIRouter:
    """Return the routes of the sending API; `reads` notes who saw what messages say."""
    router = APIRouter(prefix="/v1/sms", tags=["sending"], responses=_ERRORS, route_class=GuardedRoute)
    _add_sending(router, sending, once, limiter)
    _add_reading(router, database, reads, sending.limits.default_region)
    _add_control(router, sending, once, reads)
    return router


def _add_sending(router: APIRouter, sending: SendingService, once: Once, limiter: Limiter) -> None:
    @router.post(
        "/send",
        status_code=202,
        response_model=SendAnswer,
        summary="Send a message",
        openapi_extra={**describe_body(SendBody), "parameters": [_KEY_HEADER, _PREFER_HEADER]},
        responses=SEND_ERRORS,
    )
    async def send(request: Request) -> Response:
        """Accept a message: it is stored when this answers, and sent in its turn. See `GET /v1/sms/{request_id}`."""
        json = await read_body(request, limit_bytes=MAX_BODY_BYTES)
        return await answer_send(request, sending, partial(_read_one, json), render=show_accepted)

    @router.post(
        "/send/batch",
        status_code=202,
        response_model=BatchAnswer,
        summary="Send many messages",
        openapi_extra=describe_body(BatchBody),
        responses={**_TOO_LARGE, **_NOT_JSON},
    )
    async def send_batch(request: Request) -> Response:
        """Accept up to 1,000 messages in one transaction; each has its own result, and a wrong one harms no other."""
        batch = read_json(BatchBody, await read_body(request, limit_bytes=_MAX_BATCH_BYTES))
        if (kept := await once.find_kept(request)) is not None:
            return kept  # a repetition counts against no limit but that of requests
        caller = principal_of(request.scope)
        await _count_messages(request, limiter, caller, len(batch.messages))
        read = [await _read_item(value, sending, caller) for value in batch.messages]
        bodies = [each for each in read if isinstance(each, SendBody)]
        checked = await sending.check_batch(bodies, client_id=caller.client_id, is_test=caller.is_test)
        outcomes: list[Outcome] = []

        async def accept(connection: Connection) -> Response:
            outcomes[:] = await sending.accept_batch(connection, checked)
            answers = iter(checked.answers(outcomes))
            items = [next(answers) if isinstance(each, SendBody) else each for each in read]
            return json_response(show_batch(items), status_code=202)

        response = await once.run(request, accept)
        if outcomes:
            sending.committed(checked, outcomes)
        return response

    @router.post(
        "/preview",
        response_model=PreviewAnswer,
        summary="Look at a text",
        openapi_extra=describe_body(PreviewBody),
        responses={**_TOO_LARGE, **_NOT_JSON},
    )
    async def preview_text(request: Request) -> Response:
        """Return encoding, segments, what forces UCS-2, and the text after smart encoding. Nothing is stored."""
        body = read_json(PreviewBody, await read_body(request, limit_bytes=MAX_BODY_BYTES))
        response = json_response(show_preview(body.message))
        if not once.is_named(request):
            return response  # which needs no database

        async def keep(_: Connection) -> Response:
            return response

        return await once.run(request, keep)


def _add_reading(router: APIRouter, database: Database, reads: ContentReads, default_region: str) -> None:
    @router.get("", response_model=SmsList, summary="List messages")
    async def list_messages(
        request: Request,
        limit: Limit = 20,
        cursor: Cursor = None,
        status: Annotated[MessageStatus | None, Query(description="Only with this status")] = None,
        provider: Filter = None,
        direction: Annotated[Literal["inbound", "outbound"] | None, Query(description="Only in this direction")] = None,
        client_id: Filter = None,
        is_test: Annotated[bool | None, Query(description="Only those of test keys, or only the others")] = None,
        number: Annotated[str | None, Query(max_length=400, description="Only with this counterpart")] = None,
        since: Annotated[datetime | None, Query(description="Created at or after this time (ISO 8601)")] = None,
        until: Annotated[datetime | None, Query(description="Created before this time")] = None,
    ) -> Response:
        """Return messages, newest first. A rare status is found fastest together with `since`."""
        wanted = MessageFilter(
            status=status,
            provider=provider,
            direction=direction,
            client_id=client_id,
            is_test=is_test,
            number=None if number is None else spoken_address(number, default_region),
            since=None if since is None else in_utc(since, field="since"),
            until=None if until is None else in_utc(until, field="until"),
        )
        after = None if cursor is None else _list_key(cursor)
        async with database.connection() as connection:
            rows = await reading.list_messages(connection, wanted, after=after, limit=limit)
        following = encode_cursor(str(rows[-1]["id"])) if len(rows) == limit else None
        is_hidden = is_content_hidden(request.scope)
        if rows and not is_hidden:
            which = {"count": len(rows), "newest": rows[0]["id"], "oldest": rows[-1]["id"]}
            await reads.note(actor_of(request.scope), "messages", "list", which)
        shown = [show(show_summary(row), is_hidden=is_hidden) for row in rows]
        return json_response({"messages": shown, "limit": limit, "next_cursor": following})

    @router.get(
        "/{request_id}",
        response_model=SmsDetail,
        responses=_NOT_FOUND,
        summary="See what became of a message",
    )
    async def read_message(request: Request, request_id: MessageId) -> Response:
        """Return its status, every event, and every attempt with the reasons for its provider."""
        request.scope["state"]["log"]["message_id"] = str(request_id)
        async with database.connection() as connection:
            response = await _answer_detail(request, connection, request_id)
        await _note_read(request, reads, request_id)
        return response


def _add_control(router: APIRouter, sending: SendingService, once: Once, reads: ContentReads) -> None:
    async def change(request: Request, message_id: UUID, make: Callable[..., Awaitable[None]]) -> Response:
        async def make_and_show(connection: Connection) -> Response:
            await make(connection, by_test_key=principal_of(request.scope).is_test)
            return await _answer_detail(request, connection, message_id)

        response = await once.run(request, make_and_show)
        await _note_read(request, reads, message_id)
        return response

    @router.patch(
        "/{request_id}",
        response_model=SmsDetail,
        responses={**_NOT_FOUND, **_CONFLICT, **_NOT_JSON},
        summary="Move a scheduled message",
    )
    async def reschedule_message(request: Request, request_id: MessageId, body: Reschedule) -> Response:
        """Give it another `send_at`, as long as its time has not come."""
        return await change(
            request, request_id, partial(control.reschedule, message_id=request_id, send_at=body.send_at)
        )

    @router.post(
        "/{request_id}/cancel",
        response_model=SmsDetail,
        responses={**_NOT_FOUND, **_CONFLICT},
        summary="Take a message back",
    )
    async def cancel_message(request: Request, request_id: MessageId) -> Response:
        """Cancel it as long as no provider may have it; repeating it changes nothing."""
        return await change(request, request_id, partial(control.cancel, message_id=request_id))

    @router.post(
        "/{request_id}/retry",
        response_model=SmsDetail,
        responses={**_NOT_FOUND, **_CONFLICT, **_NOT_JSON},
        summary="Try a failed message again",
    )
    async def retry_message(request: Request, request_id: MessageId, how: RetryBody | None = None) -> Response:
        """Put a failed message back in line. One of unknown fate needs your word that it was not sent."""
        was_not_sent = how is not None and how.was_not_sent
        retry = partial(control.retry, message_id=request_id, was_not_sent=was_not_sent)
        response = await change(request, request_id, retry)
        sending.wake()
        return response


async def _answer_detail(request: Request, connection: Connection, message_id: UUID) -> Response:
    found = await reading.find(connection, message_id)
    if found is None:
        raise NotFoundError("no message with this id")
    return json_response(show(show_detail(*found), is_hidden=is_content_hidden(request.scope)))


async def _note_read(request: Request, reads: ContentReads, message_id: UUID) -> None:
    """Note that a message's content is about to be shown, if it is."""
    if not is_content_hidden(request.scope):
        await reads.note(actor_of(request.scope), "message", message_id)


async def answer_send(request: Request, sending: SendingService, read: ReadMessage, *, render: Render) -> Response:
    """Accept what `read` returns for the caller of `request`, wait if it asks for that, and answer 202 with `render`.

    Raises RequestValidationError that names everything wrong in headers and body.
    """
    try:
        asked = read_headers(IdempotencyHeaders, request)
    except RequestValidationError as error:
        raise joined_by(error, partial(read, sending.limits)) from None
    caller = principal_of(request.scope)
    body = await _read_even_if_late(read, sending, caller, asked.idempotency_key)
    accepted = await sending.accept_message(
        body, client_id=caller.client_id, idempotency_key=asked.idempotency_key, is_test=caller.is_test
    )
    request.scope["state"]["log"]["message_id"] = str(accepted.message_id)
    headers = {"X-Idempotent-Replayed": "true"} if accepted.is_replay else {}
    wait_s = _wait_s(request)
    progress = None
    if wait_s:
        progress = await sending.wait_for_provider(accepted.message_id, wait_s)
        headers["Preference-Applied"] = f"wait={wait_s}"
    return json_response(render(accepted, progress), status_code=202, headers=headers)


async def _count_messages(request: Request, limiter: Limiter, caller: Principal, messages: int) -> None:
    """Count the messages of a batch against its caller's limit; the gate has counted the request as one of them."""
    if messages == 1:
        return
    try:
        request.scope["state"]["headers"] = await limiter.admit(caller, messages - 1, already=1)
    except RateLimitedError as error:
        request.scope["state"]["headers"] = error.headers
        raise


def _wait_s(request: Request) -> int:
    found = _find_wait(",".join(request.headers.getlist("prefer")))
    return min(int(found[1]), LONGEST_WAIT_S) if found else 0


def _read_one(json: bytes, limits: SendingLimits) -> SendBody:
    return read_json(SendBody, json, context=limits)


async def _read_even_if_late(
    read: ReadMessage, sending: SendingService, caller: Principal, idempotency_key: str | None = None
) -> SendBody:
    """Return what `read` returns; a message whose time is over passes if it repeats one that was in time."""
    try:
        return read(sending.limits)
    except RequestValidationError as error:
        if any(each["type"] != EXPIRED for each in error.errors()):
            raise
        body = read(replace(sending.limits, tolerates_expired=True))
        if not await sending.is_repetition(body, client_id=caller.client_id, idempotency_key=idempotency_key):
            raise
        return body


async def _read_item(value: object, sending: SendingService, caller: Principal) -> SendBody | SmsFoundationError:
    """Read one message of a batch by itself."""
    try:
        return await _read_even_if_late(lambda limits: read_value(SendBody, value, context=limits), sending, caller)
    except RequestValidationError as error:
        return as_public_error(error)


def _list_key(cursor: str) -> UUID:
    try:
        return UUID(str(decode_cursor(cursor, str)[0]))
    except ValueError:
        raise ValidationError.of_field("cursor", "is not one of ours") from None
