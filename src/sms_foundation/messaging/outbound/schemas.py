"""The answers of the sending API."""

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, Field

from sms_foundation.messaging.schemas import (
    HIDDEN,
    IS_TEST,
    REQUEST_ID_EXAMPLE,
    TRACE_ID,
    TRACE_ID_EXAMPLE,
    X_REQUEST_ID,
)
from sms_foundation.providers.base import MessageStatus


class SendAnswer(BaseModel):
    """A message that was accepted; it is stored, and will be sent or you can read here why not."""

    request_id: UUID = Field(description="Our id of the message")
    id: UUID = Field(description="Same as `request_id`")
    status: MessageStatus = Field(description="How far it is", examples=["accepted"])
    created_at: datetime = Field(description="When it was accepted, UTC")
    accepted_at: datetime = Field(description="Same as `created_at`")
    conversation_id: UUID = Field(description="The recipient's conversation")
    twilio_sid: str | None = Field(description="The provider's id; null until it is known", examples=[None])
    num_segments: int = Field(description="Segments that will be billed", examples=[1])
    encoding: Literal["GSM-7", "UCS-2"] = Field(description="How it is sent")
    is_test: bool = Field(description=IS_TEST, examples=[False])


class BatchError(BaseModel):
    """Why one message of a batch was not accepted; as in any error."""

    code: str = Field(description="For programs; never changes its meaning", examples=["sms.validation_error"])
    message: str = Field(description="For people", examples=["to: is not a phone number; write it as +14155550123"])
    details: dict[str, Any] | None = Field(
        description="More about it, such as every wrong field in `fields`",
        examples=[{"fields": [{"field": "to", "message": "is not a phone number; write it as +14155550123"}]}],
    )


class BatchItem(BaseModel):
    """What became of one message of a batch: `sms` when it was accepted, `error` when not."""

    index: int = Field(description="Its position in the batch, from 0", examples=[0])
    status: int = Field(description="The HTTP status a single send would have had", examples=[202])
    is_replay: bool = Field(description="Its idempotency key had made a message before", examples=[False])
    sms: SendAnswer | None = Field(description="What a single send would have been answered", examples=[None])
    error: BatchError | None = Field(description="What is wrong with it", examples=[None])


class BatchAnswer(BaseModel):
    """What became of every message of a batch, in the order given."""

    accepted: int = Field(description="How many were accepted, replays included", examples=[2])
    refused: int = Field(description="How many were not", examples=[0])
    results: list[BatchItem] = Field(description="One for each message, in the order given")


class ForcingOut(BaseModel):
    """A character that GSM-7 does not have."""

    character: str = Field(description="The character itself", examples=["“"])
    code_point: str = Field(description="Its name in Unicode", examples=["U+201C"])
    count: int = Field(description="How often it occurs", examples=[2])
    replacement: str | None = Field(description="What smart encoding puts in its place; null: nothing", examples=['"'])


class PreviewAnswer(BaseModel):
    """How a text would be sent, and how after smart encoding."""

    encoding: Literal["GSM-7", "UCS-2"] = Field(description="How the text would be sent as it is")
    num_segments: int = Field(description="Segments that would be billed for it", examples=[2])
    forcing_ucs2: list[ForcingOut] = Field(description="The characters that make it UCS-2, in order of appearance")
    message_after: str = Field(description="The text after smart encoding", examples=['He said "at 10".'])
    encoding_after: Literal["GSM-7", "UCS-2"] = Field(description="How that would be sent")
    num_segments_after: int = Field(description="Segments that would be billed for that", examples=[1])


class EventOut(BaseModel):
    """One thing that happened to the message."""

    event_status: str = Field(description="The provider's word, or ours", examples=["delivered"])
    provider: str | None = Field(description="Who reported it; null: we did", examples=["twilio"])
    error_code: str | None = Field(description="The provider's code, or ours", examples=["30003"])
    error_message: str | None = Field(description="What it means", examples=["Unreachable destination handset"])
    created_at: datetime = Field(description="When we knew, UTC")


class AttemptOut(BaseModel):
    """One call to a provider."""

    number: int = Field(description="1 for the first call, and so on", examples=[1])
    provider: str = Field(description="Who was called", examples=["twilio"])
    sender: str = Field(description="The number or name it was sent from", examples=["+15005550006"])
    outcome: Literal["sent", "refused", "failed", "unknown", "absent"] | None = Field(
        description="refused: for good; failed: not sent; unknown: no answer; absent: was unknown, and the provider "
        "does not have it; null: under way"
    )
    started_at: datetime = Field(description="Before the call, UTC")
    finished_at: datetime | None = Field(description="When its outcome was known; null: under way")
    latency_ms: int | None = Field(description="How long the provider took", examples=[184])
    twilio_sid: str | None = Field(description="The provider's id", examples=["SM5ef8732a3c49700934481addd5ce1659"])
    error_kind: str | None = Field(description="What was wrong, in our words", examples=["rate_limited"])
    error_code: str | None = Field(description="The provider's code", examples=["20429"])
    error_message: str | None = Field(description="What the provider said", examples=["Too Many Requests"])
    http_status: int | None = Field(description="The provider's HTTP status", examples=[429])
    reasons: dict[str, str] = Field(
        description="Why this provider and no other, a word for each", examples=[{"twilio": "chosen"}]
    )
    weights: dict[str, int] = Field(
        description="Effective weights of those it was chosen from", examples=[{"twilio": 100, "telnyx": 50}]
    )


class PriceOut(BaseModel):
    """What it cost."""

    amount: str = Field(description="In `currency`, up to six decimals", examples=["0.0079"])
    currency: str = Field(description="ISO 4217", examples=["USD"])


class SmsSummary(SendAnswer):
    """A message in either direction."""

    encoding: Literal["GSM-7", "UCS-2"] | None = Field(  # type: ignore[assignment]  # of an answer to a send it is known
        description="How it is sent; null: it came in"
    )
    direction: Literal["inbound", "outbound"] = Field(description="outbound: from the organisation")
    from_number: str | None = Field(
        description="Outbound: the sender asked for, then the one used; null until there is one",
        examples=["+15005550006"],
    )
    to_number: str = Field(description="The recipient, canonical when outbound", examples=["+14155550123"])
    message: str | None = Field(
        description="The text, or its SHA-256 once it is no longer kept; null when hidden",
        examples=["Your plumber comes at 10."],
    )
    provider: str | None = Field(
        description="Who has it, or tried last; null until one was chosen", examples=["twilio"]
    )
    client_id: str | None = Field(description="Who asked for it; null: it came in", examples=["internal"])
    priority: Literal["urgent", "normal", "bulk"] | None = Field(description="null: it came in")
    metadata: dict[str, str] | None = Field(description="Its caller's labels", examples=[{"case": "4711"}])
    media_urls: list[str] = Field(description="Its pictures; none when hidden")
    send_at: datetime | None = Field(description="Not before this time, UTC; null: at once")
    expires_at: datetime | None = Field(description="Never after this time, UTC; null: whenever")
    sent_at: datetime | None = Field(description="When a provider took it")
    ended_at: datetime | None = Field(description="When its last status was known")
    updated_at: datetime = Field(description="When anything about it last changed, UTC")
    error_code: str | None = Field(description="Why it failed: the provider's code, or ours", examples=["30003"])
    error_message: str | None = Field(description="What that means", examples=["Unreachable destination handset"])
    price: PriceOut | None = Field(description="What it cost; null until its provider has told", examples=[None])
    x_request_id: str | None = Field(description=X_REQUEST_ID, examples=[REQUEST_ID_EXAMPLE])
    trace_id: str | None = Field(description=TRACE_ID, examples=[TRACE_ID_EXAMPLE])
    content_hidden: bool = Field(description=HIDDEN, examples=[False])


class SmsDetail(SmsSummary):
    """A message with everything that happened to it."""

    events: list[EventOut] = Field(description="In order of arrival, its acceptance first")
    attempts: list[AttemptOut] = Field(description="Every call to a provider, in order")


class SmsList(BaseModel):
    """Messages, newest first."""

    messages: list[SmsSummary] = Field(description="A page of them")
    limit: int = Field(description="Messages per page, as asked for", examples=[20])
    next_cursor: str | None = Field(description="Cursor of the next page; null on the last", examples=[None])
