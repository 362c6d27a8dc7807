"""What is configured about every provider, whatever its dialect; each adapter adds its credentials.

A list of such objects is the setting PROVIDERS, see `providers.registry`.
"""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints


def _check_base_url(value: str) -> str:
    if not value.startswith(("http://", "https://")):
        raise ValueError("must start with http:// or https://")
    return value.rstrip("/")


BaseUrl = Annotated[str, AfterValidator(_check_base_url)]
ProviderName = Annotated[str, StringConstraints(pattern="^[a-z][a-z0-9-]{0,31}$")]
Country = Annotated[str, StringConstraints(pattern="^[A-Z]{2}$")]


class ProviderConfig(BaseModel):
    """One account at one provider."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    name: ProviderName = Field(description="Unique; part of the webhook URLs: /webhook/NAME/sms")
    weight: int = Field(100, ge=0, le=10_000, description="Share of the traffic, relative to others; 0: only inbound")
    rate_per_s: float | None = Field(50, gt=0, description="Segments per second the account may send; null: any")
    senders: tuple[str, ...] = Field(
        (), description="Numbers, short codes and names that belong to the account; the first is used by default"
    )
    countries: frozenset[Country] | None = Field(None, description="Countries it may send to; all when not given")
    sender_rates: dict[str, Annotated[float, Field(gt=0)] | None] = Field(
        {},
        description="Segments per second by number, for all long_code, toll_free, short_code or alphanumeric ones, or "
        "for * (the rest), where they differ from 1, 3, 100 and any; null: any",
    )
    allows_short_codes: bool = Field(False, description="Can send to short codes")
    has_media: bool = Field(False, description="Can send pictures (MMS)")
    connect_timeout_s: float = Field(3.0, gt=0, le=10)
    read_timeout_s: float = Field(10.0, gt=0, le=15)
    max_connections: int = Field(100, ge=1, le=1000)
