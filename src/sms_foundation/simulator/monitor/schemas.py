"""What goes over the wire to and from the Collections Monitor stand-in."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from sms_foundation.simulator.monitor.faults import FaultKind
from sms_foundation.simulator.people import Language

TypedNumber = Annotated[str, Field(min_length=3, max_length=40, examples=["5125550142", "+15125550142"])]


class TenantMatch(BaseModel):
    """A lookup's answer."""

    tenant_id: str = Field(examples=["tenant-0001"])


class TenantOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    tenant_id: str
    name: str
    building: str
    unit: str
    phone_numbers: list[str] = Field(description="as typed in: a lookup must ask for exactly one of these")
    texts_from: str = Field(description="E.164 number to send a demonstration text from")
    texts_in: Language | None = Field(description="the language this tenant writes in when a crowd is generated")
    language: str | None = Field(description="the language in the profile; null: not known yet")
    language_updates: int = Field(description="how often the profile's language really changed")


class TenantPage(BaseModel):
    tenants: list[TenantOut]
    total: int = Field(description="all tenants, whatever the filter")


class NewTenant(BaseModel):
    """A tenant added at run time; its numbers are kept exactly as given."""

    model_config = ConfigDict(extra="forbid")

    tenant_id: Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9_.:-]+$")]
    phone_numbers: Annotated[list[TypedNumber], Field(min_length=1, max_length=10)]
    name: str = Field("", max_length=200)
    building: str = Field("", max_length=200)
    unit: str = Field("", max_length=20)
    language: Language | None = None


class LanguageUpdate(BaseModel):
    language: str = Field(description="en, es or pt", max_length=20, examples=["es"])


class LanguageOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    tenant_id: str
    language: Language


class Faults(BaseModel):
    """How the lookup and the language update misbehave; an empty object ends all misbehaviour."""

    model_config = ConfigDict(extra="forbid", from_attributes=True)

    latency_ms: float = Field(0, ge=0, le=60_000, description="waited before every answer, good or bad")
    share: float = Field(
        0, ge=0, le=1, description="part of the requests that fail, spread evenly, the first one included"
    )
    kind: FaultKind = Field(FaultKind.STATUS, description="how they fail; hang: silence for hang_s, then 504")
    status: Annotated[int, Field(ge=400, le=599)] = 503
    retry_after_s: int | None = Field(None, ge=0, le=3600, description="sent as Retry-After with kind=status")
    hang_s: float = Field(30, gt=0, le=120)
    remaining: int | None = Field(None, ge=0, description="failures until all is well again; null: no end")


class FaultsOut(BaseModel):
    plan: Faults
    requests: int = Field(description="lookups and language updates since the plan was set")
    failures: int = Field(description="how many of them failed on purpose")
