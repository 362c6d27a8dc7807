"""What is asked and answered about API keys."""

from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field

from sms_foundation.auth.address import parse_networks
from sms_foundation.auth.keys.states import KeyState
from sms_foundation.auth.permissions import Permission
from sms_foundation.auth.roles.schemas import Identifier, Text

_LONGEST_GRACE_S = 30 * 24 * 3600
_FIRST_YEAR, _LAST_YEAR = 2000, 2200
_EXPIRES = "When it ends, ISO 8601 with a time zone; null: never"


def _networks(texts: list[str]) -> list[str]:
    return [str(network) for network in parse_networks(texts)]


def _in_utc(at: datetime) -> datetime:
    if not _FIRST_YEAR <= at.year <= _LAST_YEAR:  # so that neither the zone nor a rotation leaves the calendar
        raise ValueError("is out of range")
    return at.astimezone(UTC)


Networks = Annotated[list[str], Field(max_length=50), AfterValidator(_networks)]
End = Annotated[AwareDatetime, AfterValidator(_in_utc)]


class KeyBody(BaseModel):
    """A key to be made."""

    model_config = ConfigDict(extra="forbid")

    client_id: Identifier = Field(description="Whose it is", examples=["rent-reminder"])
    name: Annotated[Text, Field(min_length=1)] = Field(description="What it is for", examples=["production"])
    is_test: bool = Field(
        False, description="A test key: what it sends goes to the simulated provider alone", examples=[False]
    )
    scopes: list[Permission] | None = Field(
        None,
        min_length=1,
        max_length=100,
        description="Permissions it is confined to; null: all its client has",
        examples=[["messages:send"]],
    )
    networks: Networks = Field(
        [], description="Where it may be used: addresses or networks; none: anywhere", examples=[["203.0.113.0/24"]]
    )
    expires_at: End | None = Field(None, description=_EXPIRES, examples=[None])


class RotateBody(BaseModel):
    """How a key is replaced."""

    model_config = ConfigDict(extra="forbid")

    grace_s: int = Field(
        86_400,
        ge=0,
        le=_LONGEST_GRACE_S,
        description="How long the old key stays valid, in seconds; 0: not at all",
        examples=[86_400],
    )
    expires_at: End | None = Field(
        None, description="When the new one ends; null: after as long as was given to the old one", examples=[None]
    )


class KeyOut(BaseModel):
    """A key, by what may be shown of it."""

    id: UUID = Field(description="Its id")
    client_id: str = Field(description="Whose it is", examples=["rent-reminder"])
    name: str = Field(description="What it is for", examples=["production"])
    prefix: str = Field(description="Its first part, which is no secret", examples=["sf_live_k3J9x2Qa"])
    state: KeyState = Field(
        description="expiring: it was replaced and still works for a while, or it ends within a week"
    )
    is_test: bool = Field(description="What it sends goes to the simulated provider alone", examples=[False])
    scopes: list[str] | None = Field(description="Permissions it is confined to; null: all its client has")
    networks: list[str] = Field(description="Where it may be used; none: anywhere")
    created_at: datetime = Field(description="UTC")
    expires_at: datetime | None = Field(description="When it ends; null: never")
    revoked_at: datetime | None = Field(description="When it stops, or stopped, to be accepted; null: not revoked")
    last_used_at: datetime | None = Field(description="Within about a minute; null: never used")
    replaces: UUID | None = Field(description="The key that was rotated into this one")


class NewKeyOut(KeyOut):
    """A key just made. This is the only time that it is shown."""

    key: str = Field(description="The key itself: store it now", examples=["sf_live_k3J9x2Qa_..."])


class KeyList(BaseModel):
    """A page of keys, newest first."""

    keys: list[KeyOut] = Field(description="Newest first")
    limit: int = Field(description="Items per page", examples=[20])
    next_cursor: str | None = Field(description="`cursor` for the next page; null: this was the last", examples=[None])
