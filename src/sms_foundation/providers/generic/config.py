"""How a provider is described that has no adapter of its own.

Paths are dotted and numbers index lists, as in `messages.0.id`; see `providers.json_object`. A setting `fields` maps
what we need to the path where the provider has it.
"""

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    SecretStr,
    StringConstraints,
    model_validator,
)

from sms_foundation.providers.base import MessageStatus
from sms_foundation.providers.config import ProviderConfig
from sms_foundation.providers.errors import ErrorKind
from sms_foundation.providers.generic.template import MESSAGE_PLACEHOLDERS, check_placeholders

Path = Annotated[str, StringConstraints(min_length=1, max_length=200)]
_FailureStatus = Annotated[int, Field(ge=300, le=599)]
HeaderName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]{1,64}$")]


_PLAIN_STATUSES = (
    MessageStatus.QUEUED,
    MessageStatus.SENDING,
    MessageStatus.SENT,
    MessageStatus.DELIVERED,
    MessageStatus.UNDELIVERED,
    MessageStatus.FAILED,
)


def _check_url(url: str) -> str:
    if not url.startswith(("http://", "https://")):
        raise ValueError("must start with http:// or https://")
    return url


def _check_header_value(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if not text.isascii() or not text.isprintable():
        raise ValueError("a header holds printable ASCII only")
    return value


UrlTemplate = Annotated[str, AfterValidator(_check_url)]
HeaderValue = Annotated[SecretStr, AfterValidator(_check_header_value)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class AnswerConfig(_Part):
    """How the answer to a send is read."""

    message_id_path: Path
    code_path: Path | None = Field(default=None, description="Where an answer has the provider's own error code")
    text_path: Path | None = Field(default=None, description="Where it has a text for people")
    kinds_by_code: Mapping[str, ErrorKind] = Field(
        default_factory=dict, description="What codes mean, also in an answer of 2xx"
    )
    kinds_by_status: Mapping[_FailureStatus, ErrorKind] = Field(
        default_factory=dict, description="What HTTP statuses mean, where it differs from the usual"
    )


class LookUpConfig(_Part):
    """How to ask for a message by our reference: a GET whose JSON answer lists the messages found."""

    url: UrlTemplate = Field(description="With {reference}")
    list_path: Path = Field(description="Where the answer has the list; an empty one means that it is not there")
    message_id_path: Path = Field(default="id", description="Within an entry of the list")
    reference_path: Path = Field(default="reference", description="Within an entry; others than ours are left out")

    @model_validator(mode="after")
    def _check_placeholders(self) -> Self:
        check_placeholders(self.url, frozenset({"reference"}))
        if "{reference}" not in self.url:
            raise ValueError("url must hold {reference}")
        return self


class InboundConfig(_Part):
    """Where a webhook about a text that came in has its fields."""

    message_id_path: Path = "id"
    sender_path: Path = "from"
    recipient_path: Path = "to"
    body_path: Path = "body"


class StatusConfig(_Part):
    """Where a webhook about a text that went out has its fields, and what its words mean (in lower case)."""

    message_id_path: Path = "id"
    status_path: Path = "status"
    error_code_path: Path = "error_code"
    error_text_path: Path = "error_text"
    reference_path: Path | None = Field(default=None, description="When not given, the one in {status_url} counts")
    kinds_by_error_code: Mapping[str, ErrorKind] = Field(
        default_factory=dict, description="What error codes mean, such as opted_out"
    )
    statuses: Mapping[str, MessageStatus] = Field(
        default_factory=lambda: {status.value: status for status in _PLAIN_STATUSES}
    )


class HmacAuthConfig(_Part):
    """Webhooks carry the HMAC-SHA256 of their raw body. It covers neither the URL nor the time."""

    scheme: Literal["hmac"] = "hmac"
    header: HeaderName
    secret: SecretStr = Field(min_length=1)
    secret_previous: SecretStr | None = Field(
        default=None, description="Also accepted, while the secret is being changed"
    )
    encoding: Literal["hex", "base64"] = "hex"
    prefix: str = Field(default="", description="What stands before the signature in the header, such as sha256=")


class BearerAuthConfig(_Part):
    """Webhooks carry a secret of ours: `Authorization: Bearer TOKEN`, or the bare token in another header."""

    scheme: Literal["bearer"] = "bearer"
    header: HeaderName = "Authorization"
    token: SecretStr = Field(min_length=1)
    token_previous: SecretStr | None = Field(
        default=None, description="Also accepted, while the token is being changed"
    )


WebhookAuthConfig = Annotated[HmacAuthConfig | BearerAuthConfig, Field(discriminator="scheme")]


class GenericConfig(ProviderConfig):
    """A provider described in full; for placeholders see `generic.template`."""

    kind: Literal["http"] = "http"
    send_url: UrlTemplate = Field(description="May hold placeholders, which are percent-encoded")
    method: Literal["POST", "PUT", "GET"] = "POST"
    headers: Mapping[HeaderName, HeaderValue] = Field(default_factory=dict, description="Sent with every call")
    body_format: Literal["json", "form"] = "json"
    body: dict[str, JsonValue] = Field(
        default_factory=dict, repr=False, description="Strings in it may hold placeholders; none is sent with a GET"
    )
    answer: AnswerConfig
    look_up: LookUpConfig | None = None
    inbound: InboundConfig = InboundConfig()
    status: StatusConfig = StatusConfig()
    webhook_auth: WebhookAuthConfig | None = Field(default=None, description="Without it every webhook is refused")

    @model_validator(mode="after")
    def _check_templates(self) -> Self:
        check_placeholders(self.send_url, MESSAGE_PLACEHOLDERS)
        check_placeholders(self.body, MESSAGE_PLACEHOLDERS)
        if self.body_format == "form" and not all(isinstance(value, str) for value in self.body.values()):
            raise ValueError("body: a form holds texts only")
        return self
