"""What goes over the wire about the true record."""

from collections.abc import Sequence
from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from sms_foundation.simulator.carrier.carrier import Carrier
from sms_foundation.simulator.carrier.record import RecordedText

REPEATED_SHOWN = 100


class RecordedTextOut(BaseModel):
    """One message that a provider accepted."""

    model_config = ConfigDict(from_attributes=True)

    number: int = Field(description="counts in the order of acceptance, over all providers; never used twice")
    provider: str
    provider_message_id: str
    sender: str
    recipient: str
    body: str
    reference: str | None = Field(description="the client's own, where the dialect carries one")
    num_segments: int
    accepted_at: datetime
    accepted_monotonic: float = Field(description="seconds of one steady clock: for distances between rows")
    arrived_at: datetime | None = Field(
        description="null: on its way, or never. A phone gets its messages in the order of acceptance"
    )
    error_code: int | None = Field(description="why it never arrives, in Twilio's numbers (30003 to 30008)")


class RecordedPage(BaseModel):
    received: list[RecordedTextOut] = Field(description="in the order of acceptance")
    next_after: int | None = Field(description="`after` of the next page; null: nothing more for now")

    @classmethod
    def of(cls, texts: Sequence[RecordedText], limit: int) -> "RecordedPage":
        return cls(
            received=[RecordedTextOut.model_validate(text) for text in texts],
            next_after=texts[-1].number if len(texts) == limit else None,
        )


class ProviderFiguresOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    accepted: int
    arrived: int
    failed: int = Field(description="will never arrive: the carrier gave up")
    segments: int
    max_per_second: int = Field(description="most messages accepted within any sliding second, exact")
    max_segments_per_second: int


class RepeatedOut(BaseModel):
    """Messages with one recipient and one body."""

    recipient: str
    body: str
    times: int
    first_number: int
    provider: str = Field(description="of the first one")


class ReceivedSummary(BaseModel):
    """The whole record in figures."""

    accepted: int
    arrived: int
    failed: int
    on_the_way: int
    duplicates: int = Field(description="messages whose recipient and body had been accepted before, at any provider")
    repeated: list[RepeatedOut] = Field(description=f"the first {REPEATED_SHOWN} groups of them")
    providers: dict[str, ProviderFiguresOut]
    is_quiet: bool = Field(description="nothing is on its way any more, neither a message nor a receipt")
    receipts_waiting: int = Field(description="due, and being delivered or waiting for their turn")
    receipts_delivered: int
    receipts_given_up: int

    @classmethod
    def of(cls, carrier: Carrier) -> "ReceivedSummary":
        record, receipts = carrier.record, carrier.receipts
        failed = sum(figures.failed for figures in record.figures.values())
        return cls(
            accepted=len(record),
            arrived=record.arrived,
            failed=failed,
            on_the_way=len(record) - record.arrived - failed,
            duplicates=record.repeats,
            repeated=[
                RepeatedOut(
                    recipient=text.recipient,
                    body=text.body,
                    times=times,
                    first_number=text.number,
                    provider=text.provider,
                )
                for text, times in record.list_repeated(REPEATED_SHOWN)
            ],
            providers={
                name: ProviderFiguresOut.model_validate(figures) for name, figures in sorted(record.figures.items())
            },
            is_quiet=not len(carrier.schedule) and not len(receipts),
            receipts_waiting=len(receipts),
            receipts_delivered=receipts.delivered,
            receipts_given_up=receipts.given_up,
        )
