"""What is asked and answered about clients."""

from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from sms_foundation.auth.principal import ClientKind
from sms_foundation.auth.roles.schemas import Identifier, RoleNames, Text
from sms_foundation.auth.tokens.issuers import canonical_subject
from sms_foundation.core.config import RateText

# Who acts where no client does, in the audit log and as the author of messages.
RESERVED_IDS = frozenset({"local", "command-line", "service", "nobody"})


def _not_reserved(value: str) -> str:
    if value in RESERVED_IDS:
        raise ValueError("is reserved; choose another")
    return value


NewClientId = Annotated[Identifier, AfterValidator(_not_reserved)]
# What a claim of a token is compared with, character by character; a subject in its canonical spelling.
Claim = Annotated[str, StringConstraints(min_length=1, max_length=300, pattern=r"^[^\x00-\x20\x7f]+$")]
Subject = Annotated[Claim, AfterValidator(canonical_subject)]
_LIMIT = "Requests it may make, such as 100/1s; `off`: any number; null: CLIENT_LIMIT"


class ClientBody(BaseModel):
    """A calling service to be. People come by invitation."""

    model_config = ConfigDict(extra="forbid")

    id: NewClientId = Field(description="Its name, for good: `client_id` of its messages", examples=["rent-reminder"])
    display_name: Text | None = Field(None, description="What it is", examples=["Rent reminder, team Billing"])
    roles: RoleNames = Field(description="What it may do", examples=[["operator"]])
    request_limit: RateText | None = Field(None, description=_LIMIT, examples=["100/1s"])


class ClientPatch(BaseModel):
    """Changes to a client; fields that are left out stay as they are."""

    model_config = ConfigDict(extra="forbid")

    roles: RoleNames | None = Field(None, description="What it may do; null: as before", examples=[["viewer"]])
    request_limit: RateText | None = Field(None, description=_LIMIT, examples=["off"])


class IdentityBody(BaseModel):
    """Whose tokens, besides our own, are a client's: of an issuer in OUTSIDE_ISSUERS, for one subject."""

    model_config = ConfigDict(extra="forbid")

    issuer: Claim = Field(description="The issuer, as configured", examples=["https://accounts.google.com"])
    subject: Subject = Field(
        description="The value of the issuer's subject claim, such as `sub`; an address of mail in any letters",
        examples=["107517467455664443766"],
    )


class IdentityOut(BaseModel):
    """An outside identity of a client."""

    issuer: str = Field(description="Whose tokens", examples=["https://accounts.google.com"])
    subject: str = Field(description="The value of their subject claim", examples=["107517467455664443766"])
    created_at: datetime = Field(description="When it was linked, UTC")


class ClientOut(BaseModel):
    """A calling service, or a person's account."""

    id: str = Field(description="Never changes", examples=["rent-reminder"])
    kind: ClientKind = Field(description="service or person")
    display_name: str | None = Field(description="What, or who, it is", examples=["Rent reminder"])
    email: str | None = Field(description="A person's address; null for a service", examples=[None])
    roles: list[str] = Field(description="Its roles", examples=[["operator"]])
    request_limit: str | None = Field(description=_LIMIT, examples=[None])
    created_at: datetime = Field(description="UTC")
    updated_at: datetime = Field(description="When it was last changed, UTC")
    disabled_at: datetime | None = Field(description="Since when nothing of it is accepted", examples=[None])


class ClientDetail(ClientOut):
    """A client with all that is known about it."""

    permissions: list[str] = Field(description="What its roles allow together", examples=[["messages:read"]])
    identities: list[IdentityOut] = Field(description="Whose tokens of other issuers are its own, oldest first")


class ClientList(BaseModel):
    """A page of clients, by id."""

    clients: list[ClientOut] = Field(description="By id")
    limit: int = Field(description="Items per page", examples=[20])
    next_cursor: str | None = Field(description="`cursor` for the next page; null: this was the last", examples=[None])
