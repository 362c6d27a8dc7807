"""The shapes of the history API."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints, model_validator

from sms_foundation.providers.base import MessageStatus

Language = Literal["en", "es", "pt", "unknown"]
Label = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200, pattern=r"^[^\x00-\x1f]+$")
]
Status = Annotated[str, StringConstraints(pattern="^[a-z][a-z0-9_-]{0,31}$")]


HIDDEN = (
    "true without `messages:read_content`: texts, media, raw payloads and the provider's words are left out, and of "
    "phone numbers all but the last four digits (`***0123`)"
)
X_REQUEST_ID = "X-Request-ID of the request that brought it, as in every log line about it; null: none is known"
TRACE_ID = "The trace it belongs to (W3C, 32 hexadecimal digits), as in every log line about it; null: none is known"
REQUEST_ID_EXAMPLE = "019aa0b1-7c4d-7e5f-8a9b-123456789012"
TRACE_ID_EXAMPLE = "4bf92f3577b34da6a3ce929d0e0e4736"
IS_TEST = "Asked for with a test key: the simulated provider has it, nobody gets it"


class MediaItem(BaseModel):
    """One attachment."""

    url: str = Field(
        description="Where the provider keeps it", examples=["https://api.twilio.com/2010-04-01/x/Media/ME1"]
    )
    content_type: str = Field(description="MIME type, empty when not told", examples=["image/jpeg"])


class MessageSummary(BaseModel):
    """One message of a conversation."""

    id: UUID = Field(description="Our id of the message")
    direction: Literal["inbound", "outbound"] = Field(description="inbound: from the counterpart to us")
    from_number: str | None = Field(
        description="Sender as the provider wrote it; outbound: null until one was chosen", examples=["+14155550123"]
    )
    to_number: str = Field(description="Recipient as the provider wrote it", examples=["+15005550006"])
    message_content: str | None = Field(
        description="The text; empty for a bare picture, null when hidden", examples=["Hola, no hay agua"]
    )
    content: str | None = Field(description="Same as `message_content`", examples=["Hola, no hay agua"])
    provider: str | None = Field(description="Who carried it; outbound: null until one was chosen", examples=["twilio"])
    twilio_sid: str | None = Field(description="The provider's id of the message", examples=["SM" + "0" * 32])
    delivery_status: MessageStatus = Field(description="How far it is; never moves back", examples=["received"])
    error_code: str | None = Field(description="The provider's error code, the first one reported", examples=["30003"])
    error_message: str | None = Field(
        description="The provider's words for it; null when hidden: they may quote the text",
        examples=["Unknown destination"],
    )
    num_segments: int = Field(description="Segments as billed", ge=0, examples=[1])
    media: list[MediaItem] = Field(description="Attachments, in the provider's order; none when hidden")
    is_test: bool = Field(description=IS_TEST, examples=[False])
    language_detected: Language | None = Field(
        description="Language of this message; null until recognised", examples=["es"]
    )
    language_confidence: float | None = Field(
        ge=0, le=1, description="How sure that is; null until recognised", examples=[0.97]
    )
    created_at: datetime = Field(description="When it was received or accepted, UTC")
    timestamp: datetime = Field(description="Same as `created_at`")
    request_id: str | None = Field(description=X_REQUEST_ID, examples=[REQUEST_ID_EXAMPLE])
    trace_id: str | None = Field(description=TRACE_ID, examples=[TRACE_ID_EXAMPLE])


class ConversationSummary(BaseModel):
    """One counterpart and what is known about them."""

    id: UUID = Field(description="Our id of the conversation")
    phone_number_canonical: str = Field(
        description="E.164, or the provider's own form of a short code, alphanumeric sender or channel address",
        examples=["+14155550123"],
    )
    phone_number_original: str = Field(description="As the provider first wrote it", examples=["+14155550123"])
    tenant_id: str | None = Field(
        description="The renter at the Collections Monitor; null while unknown", examples=["tenant-0001"]
    )
    tenant_lookup_status: Literal["pending", "matched", "unknown"] = Field(
        description="pending: not asked yet; unknown: the Collections Monitor does not know the number"
    )
    workflow_type: str | None = Field(description="What the conversation is filed under", examples=["collections"])
    workflow_id: str | None = Field(description="Which one of that type", examples=["case-4711"])
    conversation_status: str = Field(description="As callers set it; active at first", examples=["active"])
    language_detected: Language = Field(description="The language to answer in", examples=["es"])
    language_confidence: float = Field(ge=0, le=1, description="How sure that is", examples=[0.97])
    last_message_at: datetime | None = Field(description="When the newest message came, UTC; null without any")
    message_count: int = Field(ge=0, description="Messages in both directions", examples=[3])
    created_at: datetime = Field(description="When the first message came, UTC")
    content_hidden: bool = Field(description=HIDDEN, examples=[False])


class ConversationPage(ConversationSummary):
    """A conversation and one page of its messages, newest first."""

    messages: list[MessageSummary] = Field(description="One page, newest first")
    page: int = Field(ge=1, description="Number of this page, from 1", examples=[1])
    limit: int = Field(ge=1, le=100, description="Messages per page", examples=[20])
    offset: int = Field(ge=0, description="Messages skipped before this page", examples=[0])
    total: int = Field(ge=0, description="Messages in the conversation", examples=[3])
    next_cursor: str | None = Field(
        description="Cursor of the next (older) page; null on the last", examples=["WzQxXQ"]
    )


class PageQuery(BaseModel):
    """Which page of a conversation; `cursor` wins over `offset`, `offset` over `page`."""

    limit: int = Field(20, ge=1, le=100, description="Messages per page")
    page: int = Field(1, ge=1, le=10**9, description="Page number, from 1; newest messages first")
    offset: int | None = Field(None, ge=0, le=10**12, description="Messages to skip, instead of `page`")
    cursor: str | None = Field(
        None, max_length=256, description="`next_cursor` of the page before: equally fast at any depth"
    )


class ConversationList(BaseModel):
    """Conversations, most recently active first."""

    conversations: list[ConversationSummary] = Field(description="One page")
    limit: int = Field(ge=1, le=100, description="Conversations per page", examples=[20])
    next_cursor: str | None = Field(
        description="Cursor of the next page; null on the last", examples=["WyIyMDI2LTExLTIwVDA5OjMwOjAw"]
    )


class ConversationPatch(BaseModel):
    """What a calling service may set; a field that is left out stays, null clears it."""

    model_config = ConfigDict(extra="forbid")

    workflow_type: Label | None = Field(
        None, description="What the conversation is filed under", examples=["collections"]
    )
    workflow_id: Label | None = Field(None, description="Which one of that type", examples=["case-4711"])
    conversation_status: Status = Field(
        "active", description="A word of yours in lower case; cannot be cleared", examples=["closed"]
    )

    @model_validator(mode="after")
    def _needs_a_field(self) -> "ConversationPatch":
        if not self.model_fields_set:
            raise ValueError("set at least one of workflow_type, workflow_id, conversation_status")
        return self


class StatusEvent(BaseModel):
    """One status callback as it arrived, or a step of our own."""

    id: UUID = Field(description="Our id of the event")
    event_status: str = Field(description="The provider's own word, or ours", examples=["delivered"])
    error_code: str | None = Field(description="The provider's error code", examples=["30003"])
    error_message: str | None = Field(description="The provider's words for it", examples=["Unknown destination"])
    raw_webhook_data: dict[str, JsonValue] | None = Field(
        description="Every parameter as received; null for a step of our own, and when hidden",
        examples=[{"MessageStatus": "delivered"}],
    )
    created_at: datetime = Field(description="When it arrived, UTC")


class MessageDetail(MessageSummary):
    """One message with all that is known about it."""

    conversation_id: UUID = Field(description="Our id of the conversation")
    phone_number_canonical: str = Field(
        description="The counterpart, as in the conversation", examples=["+14155550123"]
    )
    tenant_id: str | None = Field(description="The conversation's renter; null while unknown", examples=["tenant-0001"])
    updated_at: datetime = Field(description="When status or language last changed, UTC")
    status_events: list[StatusEvent] = Field(description="Every status callback and step of our own, in order")
    raw_webhook_data: dict[str, JsonValue] | None = Field(
        description="Every parameter as received. A repeated name holds a list; bytes that no JSON text can hold are "
        '`{"base64": "..."}`. Null when hidden',
        examples=[{"From": "+14155550123", "Body": "Hola, no hay agua", "NumMedia": ["0", "0"]}],
    )
    content_hidden: bool = Field(description=HIDDEN, examples=[False])
