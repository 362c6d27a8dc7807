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
    AfterValidator,
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationInfo,
    field_validator,
)
from pydantic_core import PydanticCustomError

from sms_foundation.core.clock import utc_now
from sms_foundation.core.phone import canonical_address, is_short_code
from sms_foundation.core.segments import count_segments
from sms_foundation.core.smart_encoding import smart_encode
from sms_foundation.core.web.idempotency_key import IdempotencyKey
from sms_foundation.core.work.queue import Priority
from sms_foundation.messaging.outbound.asked import SendRequest

MAX_CHARACTERS = 1600  # Source: https://www.twilio.com/docs/api/errors/21617 (November 2026)
MAX_MEDIA = 10  # Source: https://www.twilio.com/docs/api/errors/21623
MAX_BATCH = 1000
MAX_AHEAD = timedelta(days=366)
MAX_RETENTION_DAYS = 3650
EXPIRED = "expired"
"""Type of the error of a message whose time is over already."""

_find_forbidden = re.compile(r"[\x00-\x09\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]").search
_is_e164 = re.compile(r"\+[1-9][0-9]{6,14}").fullmatch
# Source: https://www.twilio.com/docs/glossary/what-alphanumeric-sender-id (up to 11 characters, one letter at least)
# One that began with + or - would be a formula in the spreadsheet somebody copies it into.
_is_name = re.compile(r"(?=.*[A-Za-z])[A-Za-z0-9][A-Za-z0-9 _&+-]{0,10}").fullmatch
_is_media_url = re.compile(r"https?://[^\s\x00-\x20\x7f\ud800-\udfff]{1,2000}").fullmatch
_begins_with_date = re.compile(r"[0-9]{4}-[0-9]{2}-").match


@dataclass(frozen=True, slots=True)
class SendingLimits:
    """What the configuration allows callers to ask for.

    `validity`: how long a message may wait when its caller does not say; None: for ever. `tolerates_expired`: for what
    was asked for before, and may by now come too late for a new message.
    """

    default_region: str
    providers: Collection[str]
    allows_short_codes: bool
    encodes_smartly: bool
    validity: timedelta | None
    tolerates_expired: bool = False


def _limits(info: ValidationInfo) -> SendingLimits:
    limits = info.context
    assert isinstance(limits, SendingLimits)  # noqa: S101  # every way in hands them over
    return limits


def _normalise_recipient(value: str, info: ValidationInfo) -> str:
    limits = _limits(info)
    address = canonical_address(value, limits.default_region)
    if _is_e164(address):
        return address
    if is_short_code(address):
        if limits.allows_short_codes:
            return address
        raise ValueError("no configured provider sends to short codes")
    raise ValueError("is not a phone number; write it as +14155550123")


def _check_characters(value: str, info: ValidationInfo) -> str:
    if len(value) > MAX_CHARACTERS:
        raise ValueError(f"has {len(value)} characters, at most {MAX_CHARACTERS} can be sent")
    if found := _find_forbidden(value):
        raise ValueError(f"contains the character U+{ord(found[0]):04X}; only line breaks are allowed of such")
    if not _limits(info).encodes_smartly:
        return value
    encoded = smart_encode(value)
    return encoded if len(encoded) <= MAX_CHARACTERS else value  # one ellipsis becomes three dots


def _check_not_empty(value: str) -> str:
    if not value.strip():
        raise ValueError("is empty")
    return value


def _check_is_text_of_time(value: object) -> object:
    # Read as seconds since 1970, as pydantic would, a slip like 20261120 were a time long past: sent at once.
    if not isinstance(value, str) or not _begins_with_date(value):
        raise ValueError("must be a time in ISO 8601, such as 2026-11-20T09:30:00-05:00")
    return value


def _in_utc(value: datetime) -> datetime:
    if value.tzinfo is None:
        raise ValueError("needs a time zone, such as Z or -05:00")
    try:
        value = value.astimezone(UTC)
    except OverflowError:
        raise ValueError("is out of range") from None
    if value > utc_now() + MAX_AHEAD:
        raise ValueError("is more than a year ahead")
    return value


def _check_retention(value: object) -> object:
    is_days = type(value) is int and 1 <= value <= MAX_RETENTION_DAYS
    if not is_days and value not in ("full", "hash"):
        raise ValueError(f"must be full, hash, or a number of days up to {MAX_RETENTION_DAYS}")
    return value


Label = Annotated[str, StringConstraints(max_length=500, pattern=r"^[^\x00]*$")]
LabelName = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[^\x00]+$")]
Recipient = Annotated[str, AfterValidator(_normalise_recipient)]
PossiblyEmptyText = Annotated[str, AfterValidator(_check_characters)]
Text = Annotated[PossiblyEmptyText, AfterValidator(_check_not_empty)]
Time = Annotated[datetime, BeforeValidator(_check_is_text_of_time), AfterValidator(_in_utc)]
Retention = Annotated[
    Literal["full", "hash"] | Annotated[int, Field(ge=1, le=MAX_RETENTION_DAYS)], BeforeValidator(_check_retention)
]


class SendBody(BaseModel):
    """A message to be sent."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    to: Recipient = Field(
        description="The recipient: E.164, or any spelling of the default region", examples=["+14155550123"]
    )
    media_urls: list[str] = Field([], max_length=MAX_MEDIA, description="Pictures, where the provider can fetch them")
    message: PossiblyEmptyText = Field(
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
    idempotency_key: IdempotencyKey | None = Field(
        None, description="Your name for this request: repeating it never sends twice. Also as `Idempotency-Key` header"
    )
    conversation_id: UUID | None = Field(None, description="Must be the recipient's conversation, when given")
    send_at: Time | None = Field(None, description="Not before this time, with time zone (ISO 8601)")
    validity_s: int | None = Field(
        None, ge=1, le=31_622_400, strict=True, description="The same in seconds from now, or from `send_at`"
    )
    expires_at: Time | None = Field(None, description="Never after this time, with time zone")
    priority: Literal["urgent", "normal", "bulk"] = Field(
        "normal", description="urgent: one-time passwords and alarms, goes first; bulk: campaigns, goes last"
    )
    provider: str | None = Field(None, max_length=32, description="Only through this provider", examples=[None])
    content_retention: Retention = Field(
        "full", description="full: the text is kept; hash: only its SHA-256 once it is sent; a number: days"
    )

    @field_validator("message")
    @classmethod
    def _check_something_is_said(cls, value: str, info: ValidationInfo) -> str:
        # Media that are wrong are missing from `data`: one mistake, not two.
        return value if info.data.get("media_urls") != [] else _check_not_empty(value)

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

    @field_validator("expires_at")
    @classmethod
    def _check_expiry(cls, value: datetime | None, info: ValidationInfo) -> datetime | None:
        if value is None:
            return None
        if info.data.get("validity_s") is not None:
            raise ValueError("says the same as validity_s; leave one out")
        if (send_at := info.data.get("send_at")) is not None and value <= send_at:
            raise ValueError("is not after send_at")
        if value <= utc_now() and not _limits(info).tolerates_expired:
            raise PydanticCustomError(EXPIRED, "is in the past")
        return value


class BatchBody(BaseModel):
    """Messages to be sent, in this order."""

    model_config = ConfigDict(extra="forbid")

    messages: list[Any] = Field(min_length=1, max_length=MAX_BATCH, description="Each as for a single send")


class PreviewBody(BaseModel):
    """A text to be looked at."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    message: str = Field(
        validation_alias=AliasChoices("message", "body"), max_length=MAX_CHARACTERS, description="The text"
    )


class Reschedule(BaseModel):
    """A new time for a message that has not gone out."""

    model_config = ConfigDict(extra="forbid")

    send_at: Time = Field(description="Not before this time, with time zone (ISO 8601)")


class RetryBody(BaseModel):
    """How to try again."""

    model_config = ConfigDict(extra="forbid")

    was_not_sent: bool = Field(
        False,
        description="For a message of unknown fate: somebody has made sure that it never went out",
        examples=[True],
    )


def make_request(
    body: SendBody, *, client_id: str, limits: SendingLimits, idempotency_key: str | None = None, is_test: bool = False
) -> SendRequest:
    """Return what is to be stored; `idempotency_key` is the header's, which the body's precedes.

    `is_test`: it was asked for with a test key.
    """
    encoding, num_segments = count_segments(body.message)
    asked = body.model_dump(mode="json", exclude={"idempotency_key"})
    if is_test:  # another request than the same with a live key: no replay may stand for a message that never went out
        asked["is_test"] = True
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
        is_test=is_test,
    )
