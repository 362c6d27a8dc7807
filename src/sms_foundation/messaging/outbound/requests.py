"""What callers may ask for: read strictly, everything wrong named at once, turned into a `SendRequest`.

One shape for every way in; the older ones (`compat`) are translated into it first.
"""

import hashlib
import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal
from uuid import UUID

import orjson
from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationInfo,
    field_validator,
)

from sms_foundation.core.clock import utc_now
from sms_foundation.core.phone import canonical_address, is_short_code
from sms_foundation.core.segments import count_segments
from sms_foundation.core.smart_encoding import smart_encode
from sms_foundation.core.work.queue import Priority
from sms_foundation.messaging.outbound.accept import SendRequest

MAX_CHARACTERS = 1600  # Source: https://www.twilio.com/docs/api/errors/21617 (November 2026)
MAX_MEDIA = 10  # Source: https://www.twilio.com/docs/api/errors/21623
MAX_BATCH = 1000
MAX_AHEAD = timedelta(days=366)

_find_forbidden = re.compile(r"[\x00-\x09\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]").search
_is_e164 = re.compile(r"\+[1-9][0-9]{6,14}").fullmatch
# Source: https://www.twilio.com/docs/glossary/what-alphanumeric-sender-id (up to 11 characters, one letter at least)
_is_name = re.compile(r"(?=.*[A-Za-z])[A-Za-z0-9 _&+-]{1,11}").fullmatch
_is_media_url = re.compile(r"https?://[^\s\x00-\x20\x7f]{1,2000}").fullmatch

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._:/+=-]{1,255}$")]
Label = Annotated[str, StringConstraints(max_length=500, pattern=r"^[^\x00]*$")]
LabelName = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[^\x00]+$")]


@dataclass(frozen=True, slots=True)
class SendingLimits:
    """What the configuration allows callers to ask for.

    `validity`: how long a message may wait when its caller does not say; None: for ever.
    """

    default_region: str
    providers: Collection[str]
    allows_short_codes: bool
    encodes_smartly: bool
    validity: timedelta | None


class SendBody(BaseModel):
    """A message to be sent."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    to: str = Field(
        description="The recipient: E.164, or any spelling of the default region", examples=["+14155550123"]
    )
    media_urls: list[str] = Field([], max_length=MAX_MEDIA, description="Pictures, where the provider can fetch them")
    message: str = Field(
        "",
        validate_default=True,
        validation_alias=AliasChoices("message", "body"),
        description=f"The text, up to {MAX_CHARACTERS} characters; `body` is the same. May be empty with media",
        examples=["Your plumber comes at 10."],
    )
    sender_id: str | None = Field(
        None, description="Send from this number or name of ours; by default the provider's first", examples=[None]
    )
    metadata: dict[LabelName, Label] | None = Field(
        None, max_length=50, description="Labels of yours, given back with the message", examples=[{"case": "4711"}]
    )
    idempotency_key: Name | None = Field(
        None, description="Your name for this request: repeating it never sends twice. Also as `Idempotency-Key` header"
    )
    conversation_id: UUID | None = Field(None, description="Must be the recipient's conversation, when given")
    send_at: datetime | None = Field(None, description="Not before this time, with time zone (ISO 8601)")
    validity_s: int | None = Field(
        None, ge=1, le=31_622_400, description="The same in seconds from now, or from `send_at`"
    )
    expires_at: datetime | None = Field(None, description="Never after this time, with time zone")
    priority: Literal["urgent", "normal", "bulk"] = Field(
        "normal", description="urgent: one-time passwords and alarms, goes first; bulk: campaigns, goes last"
    )
    provider: str | None = Field(None, max_length=32, description="Only through this provider", examples=[None])
    content_retention: Literal["full", "hash"] | Annotated[int, Field(ge=1, le=3650)] = Field(
        "full", description="full: the text is kept; hash: only its SHA-256 once it is sent; a number: days"
    )

    @field_validator("to")
    @classmethod
    def _normalise_recipient(cls, value: str, info: ValidationInfo) -> str:
        limits = _limits(info)
        address = canonical_address(value, limits.default_region)
        if _is_e164(address):
            return address
        if is_short_code(address):
            if limits.allows_short_codes:
                return address
            raise ValueError("no configured provider sends to short codes")
        raise ValueError("is not a phone number; write it as +14155550123")

    @field_validator("message")
    @classmethod
    def _check_message(cls, value: str, info: ValidationInfo) -> str:
        if len(value) > MAX_CHARACTERS:
            raise ValueError(f"has {len(value)} characters, at most {MAX_CHARACTERS} can be sent")
        if found := _find_forbidden(value):
            raise ValueError(f"contains the character U+{ord(found[0]):04X}; only line breaks are allowed of such")
        if not value.strip() and not info.data.get("media_urls"):
            raise ValueError("is empty")
        return smart_encode(value) if _limits(info).encodes_smartly else value

    @field_validator("sender_id")
    @classmethod
    def _normalise_sender(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None:
            return None
        address = canonical_address(value, _limits(info).default_region)
        if _is_e164(address) or is_short_code(address) or _is_name(address):
            return address
        raise ValueError("is neither a phone number, nor a short code, nor a name of up to 11 letters and digits")

    @field_validator("media_urls")
    @classmethod
    def _check_media(cls, value: list[str]) -> list[str]:
        if not all(_is_media_url(url) for url in value):
            raise ValueError("must be http:// or https:// URLs")
        return value

    @field_validator("provider")
    @classmethod
    def _check_provider(cls, value: str | None, info: ValidationInfo) -> str | None:
        known = _limits(info).providers
        if value is not None and value not in known:
            raise ValueError(f"is not configured; there is {', '.join(sorted(known)) or 'none'}")
        return value

    @field_validator("send_at", "expires_at")
    @classmethod
    def _in_utc(cls, value: datetime | None) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("needs a time zone, such as Z or -05:00")
        try:
            value = value.astimezone(UTC)
        except OverflowError:
            raise ValueError("is out of range") from None
        if value > utc_now() + MAX_AHEAD:
            raise ValueError("is more than a year ahead")
        return value

    @field_validator("expires_at")
    @classmethod
    def _check_expiry(cls, value: datetime | None, info: ValidationInfo) -> datetime | None:
        if value is None:
            return None
        if info.data.get("validity_s") is not None:
            raise ValueError("says the same as validity_s; leave one out")
        if value <= max(utc_now(), info.data.get("send_at") or utc_now()):
            raise ValueError("is in the past, or before send_at")
        return value


class BatchBody(BaseModel):
    """Messages to be sent, in this order."""

    model_config = ConfigDict(extra="forbid")

    messages: list[dict[str, Any]] = Field(min_length=1, max_length=MAX_BATCH, description="Each as for a single send")


class PreviewBody(BaseModel):
    """A text to be looked at."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    message: str = Field(
        validation_alias=AliasChoices("message", "body"), max_length=MAX_CHARACTERS, description="The text"
    )


class Reschedule(BaseModel):
    """A new time for a message that has not gone out."""

    model_config = ConfigDict(extra="forbid")

    send_at: datetime = Field(description="Not before this time, with time zone (ISO 8601)")

    _in_utc = field_validator("send_at")(SendBody._in_utc.__func__)  # type: ignore[attr-defined]


class RetryBody(BaseModel):
    """How to try again."""

    model_config = ConfigDict(extra="forbid")

    was_not_sent: bool = Field(
        False, description="For a message of unknown fate: somebody has made sure that it never went out"
    )


def make_request(
    body: SendBody, *, client_id: str, limits: SendingLimits, idempotency_key: str | None = None
) -> SendRequest:
    """Return what is to be stored; `idempotency_key` is the header's, which the body's precedes."""
    encoding, num_segments = count_segments(body.message)
    asked = body.model_dump(mode="json", exclude={"idempotency_key"})
    starts_at = max(body.send_at or utc_now(), utc_now())
    expires_at = body.expires_at
    if body.validity_s is not None:
        expires_at = starts_at + timedelta(seconds=body.validity_s)
    elif expires_at is None and limits.validity is not None:
        expires_at = starts_at + limits.validity
    return SendRequest(
        recipient=body.to,
        content=body.message,
        encoding=encoding,
        num_segments=num_segments,
        client_id=client_id,
        digest=hashlib.sha256(orjson.dumps(asked, option=orjson.OPT_SORT_KEYS)).digest(),
        sender=body.sender_id,
        media_urls=tuple(body.media_urls),
        idempotency_key=body.idempotency_key or idempotency_key,
        metadata=body.metadata,
        priority=Priority[body.priority.upper()],
        provider=body.provider,
        send_at=body.send_at,
        expires_at=expires_at,
        content_retention=str(body.content_retention),
    )


def _limits(info: ValidationInfo) -> SendingLimits:
    limits = info.context
    assert isinstance(limits, SendingLimits)  # noqa: S101  # every way in hands them over
    return limits
