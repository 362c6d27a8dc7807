"""The answers of the sending API."""

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import BaseModel, Field

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


class BatchItem(BaseModel):
    """What became of one message of a batch: `sms` when it was accepted, `error` when not."""

    index: int = Field(description="Its position in the batch, from 0")
    status: int = Field(description="The HTTP status a single send would have had", examples=[202])
    is_replay: bool = Field(description="Its idempotency key had made a message before")
    sms: SendAnswer | None
    error: dict[str, object] | None = Field(description="`code`, `message` and `details` as in any error")


class BatchAnswer(BaseModel):
    """What became of every message of a batch, in the order given."""

    accepted: int = Field(description="How many were accepted, replays included", examples=[2])
    refused: int = Field(examples=[0])
    results: list[BatchItem]


class ForcingOut(BaseModel):
    """A character that GSM-7 does not have."""

    character: str = Field(examples=["“"])
    code_point: str = Field(examples=["U+201C"])
    count: int = Field(description="How often it occurs", examples=[2])
    replacement: str | None = Field(description="What smart encoding puts in its place; null: nothing", examples=['"'])


class PreviewAnswer(BaseModel):
    """How a text would be sent, and how after smart encoding."""

    encoding: Literal["GSM-7", "UCS-2"]
    num_segments: int = Field(examples=[2])
    forcing_ucs2: list[ForcingOut] = Field(description="The characters that make it UCS-2, in order of appearance")
    message_after: str = Field(description="The text after smart encoding")
    encoding_after: Literal["GSM-7", "UCS-2"]
    num_segments_after: int = Field(examples=[1])


class EventOut(BaseModel):
    """One thing that happened to the message."""

    event_status: str = Field(description="The provider's word, or ours", examples=["delivered"])
    provider: str | None = Field(description="Who reported it; null: we did")
    error_code: str | None
    error_message: str | None
    created_at: datetime


class AttemptOut(BaseModel):
    """One call to a provider."""

    number: int = Field(examples=[1])
    provider: str = Field(examples=["twilio"])
    sender: str = Field(description="The number or name it was sent from", examples=["+15005550006"])
    outcome: Literal["sent", "refused", "failed", "unknown", "absent"] | None = Field(
        description="refused: for good; failed: not sent; unknown: no answer; absent: was unknown, and the provider "
        "does not have it; null: under way"
    )
    started_at: datetime
    finished_at: datetime | None
    latency_ms: int | None
    twilio_sid: str | None = Field(description="The provider's id")
    error_kind: str | None = Field(examples=["rate_limited"])
    error_code: str | None = Field(description="The provider's code", examples=["20429"])
    error_message: str | None
    http_status: int | None
    reasons: dict[str, str] = Field(
        description="Why this provider and no other, a word for each", examples=[{"twilio": "chosen"}]
    )
    weights: dict[str, int] = Field(description="Effective weights of those it was chosen from")


class PriceOut(BaseModel):
    """What it cost."""

    amount: str = Field(description="In `currency`, up to six decimals", examples=["0.0079"])
    currency: str = Field(examples=["USD"])


class SmsSummary(SendAnswer):
    """A message in either direction."""

    direction: Literal["inbound", "outbound"]
    from_number: str | None = Field(description="Outbound: null until a sender was chosen")
    to_number: str
    message: str = Field(description="The text, or its SHA-256 once it is no longer kept")
    provider: str | None
    client_id: str | None = Field(description="Who asked for it")
    priority: Literal["urgent", "normal", "bulk"] | None
    metadata: dict[str, str] | None
    media_urls: list[str]
    send_at: datetime | None
    expires_at: datetime | None
    sent_at: datetime | None = Field(description="When a provider took it")
    ended_at: datetime | None = Field(description="When its last status was known")
    updated_at: datetime
    error_code: str | None
    error_message: str | None
    price: PriceOut | None


class SmsDetail(SmsSummary):
    """A message with everything that happened to it."""

    events: list[EventOut] = Field(description="In order of arrival")
    attempts: list[AttemptOut]


class SmsList(BaseModel):
    """Messages, newest first."""

    messages: list[SmsSummary]
    limit: int
    next_cursor: str | None = Field(description="Cursor of the next page; null on the last")
