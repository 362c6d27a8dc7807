"""What goes over the wire to and from the control API."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from sms_foundation.simulator.crowd.generator import DEFAULT_MIX, DEFAULT_STRANGERS, Voice
from sms_foundation.simulator.crowd.runs import MAX_COUNT, MAX_RATE_PER_S, CrowdRun, RunState
from sms_foundation.simulator.faults.schemas import ProviderName
from sms_foundation.simulator.journal import Delivery, EventKind

MessageSid = Annotated[str, StringConstraints(pattern=r"^(SM|MM)[0-9a-fA-F]{32}$")]
Address = Annotated[str, Field(min_length=1, max_length=210)]
MediaUrl = Annotated[str, Field(min_length=1, max_length=2000)]


class TextIn(BaseModel):
    """A text that a phone sends to the organisation."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    sender: Address = Field(
        alias="from",
        description="E.164, short code, alphanumeric sender, or whatsapp:, rcs:, messenger: address",
        examples=["+15125550142"],
    )
    body: str = Field("", max_length=1600, examples=["Hola, no hay agua caliente"])
    recipient: Address | None = Field(None, alias="to", description="default: the organisation's number")
    copies: int = Field(1, ge=1, le=50, description="deliveries of this same message, all at once")
    provider: ProviderName = Field("twilio", description="through whose webhook; what follows is Twilio's alone")
    media: list[MediaUrl] = Field(default_factory=list, max_length=10, description="URLs; makes it an MMS")
    message_sid: MessageSid | None = Field(None, description="default: a new one; a used one is a redelivery")
    parameters: dict[str, str] = Field(
        default_factory=dict, description="further form parameters, such as OptOutType or ButtonPayload"
    )


class StatusesIn(BaseModel):
    """The status callbacks of one message."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    message_sid: MessageSid
    statuses: Annotated[list[str], Field(min_length=1, max_length=20, examples=[["sent", "delivered"]])]
    order: Literal["given", "documented", "shuffled"] = Field(
        "given", description="documented: as in a message's life; shuffled: any order, by seed"
    )
    repeats: int = Field(1, ge=1, le=20, description="deliveries of each status")
    error_code: Annotated[str, StringConstraints(pattern=r"^[0-9]{5}$")] | None = Field(
        None, description="sent with failed and undelivered only"
    )
    recipient: Address | None = Field(None, alias="to", description="the phone the message went to")
    gap_ms: float = Field(0, ge=0, le=60_000, description="wait between two callbacks")
    seed: int | None = Field(None, description="makes a shuffled order repeatable")


class AttemptOut(BaseModel):
    """One HTTP request."""

    model_config = ConfigDict(from_attributes=True)

    url: str = Field(description="the URL that was signed")
    is_fallback: bool
    started_at: datetime
    latency_ms: float
    status_code: int | None = Field(description="null: no answer came")
    error_code: int | None = Field(description="Twilio's debugger code; null: nothing to complain about")
    reason: str | None


class DeliveryOut(BaseModel):
    """One event and every attempt to deliver it."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    kind: EventKind
    message_sid: str
    message_status: str | None = Field(description="null for an inbound text")
    sender: str
    recipient: str | None
    idempotency_token: str = Field(description="I-Twilio-Idempotency-Token, the same on every attempt")
    created_at: datetime
    is_delivered: bool
    status_code: int | None = Field(description="of the last attempt")
    error_code: int | None = Field(description="of the last attempt")
    latency_ms: float = Field(description="all attempts together")
    attempts: list[AttemptOut] = Field(description="oldest first")
    replies: list[str] = Field(description="texts the answer sent back to the phone")


class DeliveriesOut(BaseModel):
    """What was delivered; `is_delivered` tells whether all of it was."""

    message_sid: str
    is_delivered: bool
    deliveries: list[DeliveryOut]

    @classmethod
    def of(cls, deliveries: Sequence[Delivery]) -> "DeliveriesOut":
        """Show the deliveries of one message; there is at least one."""
        return cls(
            message_sid=deliveries[0].message_sid,
            is_delivered=all(each.is_delivered for each in deliveries),
            deliveries=[DeliveryOut.model_validate(each) for each in deliveries],
        )


class JournalOut(BaseModel):
    deliveries: list[DeliveryOut] = Field(description="newest first")


class SentTextOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    message_sid: str
    recipient: str
    body: str
    media_urls: Sequence[str]
    sent_at: datetime


class ReceivedTextOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    provider: str
    provider_message_id: str
    sender: str
    body: str
    media_urls: Sequence[str]
    arrived_at: datetime


class PhoneOut(BaseModel):
    """A virtual phone."""

    number: str
    sent: list[SentTextOut] = Field(description="newest first, at most the last hundred")
    received: list[ReceivedTextOut] = Field(description="newest first, at most the last hundred")


class CrowdIn(BaseModel):
    """A crowd to let loose."""

    model_config = ConfigDict(extra="forbid")

    count: int = Field(100, ge=1, le=MAX_COUNT, description="texts")
    rate_per_s: float = Field(5, gt=0, le=MAX_RATE_PER_S)
    seed: int = Field(1, description="the same seed lets the same people say the same things")
    mix: dict[Voice, Annotated[float, Field(ge=0, le=1000)]] = Field(
        default_factory=lambda: dict(DEFAULT_MIX), description="weights of en, es, pt and other (noise)"
    )
    strangers: int = Field(
        DEFAULT_STRANGERS, ge=0, le=4000, description="speakers whom the Collections Monitor does not know"
    )


class LatencyOut(BaseModel):
    """Milliseconds within which a share of the last deliveries was answered."""

    p50: float | None
    p95: float | None
    p99: float | None


class CrowdOut(BaseModel):
    """A crowd's run, also while it goes on."""

    model_config = ConfigDict(from_attributes=True)

    state: RunState
    count: int
    rate_per_s: float
    seed: int
    started_at: datetime
    finished_at: datetime | None
    sent: int = Field(description="handed over for delivery; delivered and failed follow with the answers")
    delivered: int
    failed: int
    by_language: dict[str, int]
    by_status_code: dict[str, int]
    by_error_code: dict[str, int] = Field(description="Twilio's debugger codes of the failed ones")
    latency_ms: LatencyOut

    @classmethod
    def of(cls, run: CrowdRun) -> "CrowdOut":
        return cls(
            state=run.state,
            count=run.plan.count,
            rate_per_s=run.plan.rate_per_s,
            seed=run.plan.seed,
            started_at=run.started_at,
            finished_at=run.finished_at,
            sent=run.sent,
            delivered=run.delivered,
            failed=run.failed,
            by_language=dict(run.by_language),
            by_status_code=dict(run.by_status_code),
            by_error_code=dict(run.by_error_code),
            latency_ms=LatencyOut(p50=run.latency_ms(0.5), p95=run.latency_ms(0.95), p99=run.latency_ms(0.99)),
        )
