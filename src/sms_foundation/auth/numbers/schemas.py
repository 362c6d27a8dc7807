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
    is_allowed: bool = Field(
        strict=True, description="true: such numbers may be texted; false: they may not", examples=[False]
    )
    note: str = Field(
        "", max_length=MAX_NOTE, pattern=r"^[^\x00]*$", description="Why, for people", examples=["premium rate"]
    )


class NumberRule(BaseModel):
    """What is said about numbers that begin with `prefix`."""

    prefix: str = Field(
        description="Of a whole number only the last four digits, without `messages:read_content`", examples=["+1900"]
    )
    is_allowed: bool = Field(description="Whether such numbers may be texted", examples=[False])
    note: str = Field(description="Why, for people", examples=["premium rate"])
    created_by: str = Field(description="Client that said it last", examples=["admin"])
    created_at: datetime = Field(description="When it was said last")


class NumberRuleList(BaseModel):
    """Rules, last made first."""

    rules: list[NumberRule] = Field(description="Last made first")
    limit: int = Field(description="Rules per page, as asked for", examples=[20])
    next_cursor: str | None = Field(description="Cursor of the next page; null on the last", examples=[None])
