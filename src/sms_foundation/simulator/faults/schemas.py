"""What goes over the wire about faults; the scenario file uses the same names."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from sms_foundation.simulator.faults.book import ActiveRule
from sms_foundation.simulator.faults.rules import FaultKind, FaultRule
from sms_foundation.simulator.numbers import parse_address

ProviderName = Literal["twilio", "messagebird", "vonage", "telnyx"]


class FaultIn(BaseModel):
    """One way to misbehave. Only the values that `kind` uses matter."""

    model_config = ConfigDict(extra="forbid")

    kind: FaultKind = Field(
        description="latency (latency_ms), rate_limit (retry_after_s), rate (per_second), server_error (status, "
        "is_accepted), hang_before and hang_after (hold_s), drop_before, drop_after, html (status, is_accepted), "
        "truncated, account_suspended, stop, carrier_error (error_code), lost_receipts, late_receipts (delay_s), "
        "doubled_receipts (copies), reordered_receipts (delay_s); before and after: accepting the message"
    )
    provider: ProviderName | None = Field(None, description="null: all")
    number: Annotated[str, Field(max_length=210)] | None = Field(None, description="only messages to this phone")
    share: float = Field(1.0, ge=0, le=1, description="part of what it applies to, drawn with the seed")
    count: int | None = Field(None, ge=1, description="strikes until it is spent; null: no end")
    after_s: float = Field(0, ge=0, le=86_400, description="begins so long after it was set")
    for_s: float | None = Field(None, gt=0, le=86_400, description="lasts so long from then on; null: no end")
    on: Literal["sends", "reads", "all"] = Field("sends", description="requests it applies to")
    latency_ms: float = Field(1_000, ge=0, le=600_000)
    retry_after_s: int | None = Field(None, ge=0, le=86_400, description="sent as Retry-After; null: no such header")
    per_second: int = Field(50, ge=0, le=100_000, description="what exceeds it within any sliding second is refused")
    status: int = Field(503, ge=500, le=599)
    is_accepted: bool = Field(False, description="accept the message all the same")
    hold_s: float = Field(30, ge=0, le=3_600, description="silence before the connection is cut")
    delay_s: float = Field(5, ge=0, le=86_400)
    copies: int = Field(2, ge=2, le=20)
    error_code: int = Field(30003, ge=30001, le=30999, description="in Twilio's numbers; dialects translate")

    @model_validator(mode="after")
    def _check_number(self) -> Self:
        if self.number is not None:
            self.number = parse_address(self.number)
        return self

    def to_rule(self) -> FaultRule:
        return FaultRule(**self.model_dump())


class FaultOut(BaseModel):
    """A rule in force, or spent."""

    id: int
    strikes: int = Field(description="how often it did what it says")
    is_spent: bool
    rule: FaultIn

    @classmethod
    def of(cls, active: ActiveRule) -> "FaultOut":
        rule = FaultIn.model_validate(active.rule, from_attributes=True)
        return cls(id=active.id, strikes=active.strikes, is_spent=active.is_spent, rule=rule)


class FaultsOut(BaseModel):
    faults: list[FaultOut] = Field(description="oldest first; of several that refuse a request the oldest counts")
