"""The shapes of /v1/number-rules."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from sms_foundation.auth.numbers.service import MAX_NOTE


class NumberRuleBody(BaseModel):
    """A rule to be set."""

    model_config = ConfigDict(extra="forbid")

    prefix: str = Field(
        max_length=40, description="A number, what numbers begin with, or a short code", examples=["+1900"]
    )
    is_allowed: bool = Field(strict=True, description="true: such numbers may be texted; false: they may not")
    note: str = Field("", max_length=MAX_NOTE, pattern=r"^[^\x00]*$", description="Why, for people")


class NumberRule(BaseModel):
    """What is said about numbers that begin with `prefix`."""

    prefix: str = Field(description="Of a whole number only the last four digits, without `messages:read_content`")
    is_allowed: bool
    note: str
    created_by: str = Field(description="Client that said it last")
    created_at: datetime = Field(description="When it was said last")


class NumberRuleList(BaseModel):
    """Rules, last made first."""

    rules: list[NumberRule]
    limit: int
    next_cursor: str | None
