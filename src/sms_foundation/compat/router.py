"""`POST /sms/send`, `POST /api/sms` and `POST /messages/send`: three older spellings of `POST /v1/sms/send`.

`GET /messages/{id}`, which callers of the last one use, is the history API's own.
"""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from sms_foundation.core.web.bodies import describe_body, read_body, read_json, read_value
from sms_foundation.core.web.errors import ErrorEnvelope
from sms_foundation.core.web.guarded import GuardedRoute
from sms_foundation.messaging.outbound.asked import Accepted
from sms_foundation.messaging.outbound.requests import Recipient, SendBody, SendingLimits, Text
from sms_foundation.messaging.outbound.router import MAX_BODY_BYTES, SEND_ERRORS, answer_send
from sms_foundation.messaging.outbound.service import Progress, SendingService

_ERRORS: dict[int | str, dict[str, Any]] = {
    **SEND_ERRORS,
    400: {"model": ErrorEnvelope, "description": "The text is empty, or the number is none"},
    503: {"model": ErrorEnvelope, "description": "Nothing was accepted; send it again"},
}


class OldSendBody(BaseModel):
    """A message to be sent. Fields that are not known are ignored, as they always were."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)

    to: Recipient = Field(
        validation_alias=AliasChoices("to", "phone_number", "phone"),
        description="The recipient; `phone_number` and `phone` are the same",
        examples=["+14155550123"],
    )
    body: Text = Field(
        "",
        validate_default=True,
        validation_alias=AliasChoices("body", "message", "text"),
        description="The text; `message` and `text` are the same",
        examples=["Your plumber comes at 10."],
    )
    conversation_id: UUID | None = Field(None, description="Must be the recipient's conversation, when given")


class OldSendAnswer(BaseModel):
    """A message that was accepted."""

    id: UUID = Field(description="Our id of the message")
    message_id: UUID = Field(description="Same as `id`")
    twilio_sid: str | None = Field(description="The provider's id; null until it is known", examples=[None])
    conversation_id: UUID = Field(description="The recipient's conversation")


def compat_router(sending: SendingService) -> APIRouter:
    """Return the routes of older callers."""
    router = APIRouter(tags=["older callers"], responses=_ERRORS, route_class=GuardedRoute)

    async def send(request: Request) -> Response:
        """Accept a message; new callers use `POST /v1/sms/send`, which can do more."""
        json = await read_body(request, limit_bytes=MAX_BODY_BYTES)

        def read(limits: SendingLimits) -> SendBody:
            old = read_json(OldSendBody, json, context=limits)
            same = {"to": old.to, "message": old.body, "conversation_id": old.conversation_id}
            return read_value(SendBody, same, context=limits)

        return await answer_send(request, sending, read, render=_show)

    for path in ("/sms/send", "/api/sms", "/messages/send"):
        router.add_api_route(
            path,
            send,
            methods=["POST"],
            status_code=202,
            response_model=OldSendAnswer,
            summary="Send a message (older callers)",
            operation_id=f"send_by{path.replace('/', '_')}",
            openapi_extra=describe_body(OldSendBody),
        )
    return router


def _show(accepted: Accepted, progress: Progress | None) -> Mapping[str, Any]:
    return {
        "id": accepted.message_id,
        "message_id": accepted.message_id,
        "twilio_sid": None if progress is None else progress.provider_message_id,
        "conversation_id": accepted.conversation_id,
    }
