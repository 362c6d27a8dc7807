"""Telnyx as a provider: https://developers.telnyx.com/docs/messaging/messages/send-message (11/2026)."""

from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime
from typing import Annotated, Final, Literal
from urllib.parse import quote

from pydantic import AfterValidator, Field, SecretStr

from sms_foundation.core.clock import utc_now
from sms_foundation.core.http import HttpClient
from sms_foundation.providers.base import (
    InboundSms,
    OutboundSms,
    SendReceipt,
    SentQuery,
    StatusReport,
    WebhookReply,
    WebhookRequest,
    WebhookShape,
)
from sms_foundation.providers.callback import status_url_for
from sms_foundation.providers.calls import ask, json_body, read_object, refusal, send_once
from sms_foundation.providers.config import BaseUrl, ProviderConfig
from sms_foundation.providers.errors import ErrorKind, ProviderError, WebhookParseError
from sms_foundation.providers.json_object import JsonObject
from sms_foundation.providers.telnyx.errors import error_of_asking, error_of_send
from sms_foundation.providers.telnyx.signature import (
    SIGNATURE_HEADER,
    TIMESTAMP_HEADER,
    check_signature,
    read_public_key,
)
from sms_foundation.providers.telnyx.webhook import parse_inbound, parse_status, read_message_status, read_receipt
from sms_foundation.providers.webhook_fields import JSON, parse_json

_NOTHING: Final[tuple[InboundSms, ...]] = ()

_SHAPE: Final = WebhookShape(
    methods=frozenset({"POST"}),
    content_types=frozenset({JSON}),
    reply=WebhookReply(JSON, b"{}"),
)


def _check_public_key(text: str) -> str:
    read_public_key(text)
    return text


_PublicKey = Annotated[str, AfterValidator(_check_public_key)]


class TelnyxConfig(ProviderConfig):
    """One Telnyx account. The public key, by which webhooks are verified, is shown beside the API keys."""

    kind: Literal["telnyx"] = "telnyx"
    api_key: SecretStr = Field(min_length=1)
    public_key: _PublicKey
    public_key_previous: _PublicKey | None = Field(
        default=None, description="Also accepted, while the key is being changed"
    )
    messaging_profile_id: str | None = Field(
        default=None, description="Needed to send from a name or a pool of numbers"
    )
    webhook_tolerance_s: float = Field(
        default=300, ge=30, le=3600, description="How long ago a webhook may have been signed"
    )
    api_base_url: BaseUrl = "https://api.telnyx.com"


class TelnyxProvider:
    """Sends texts and pictures; knows no validity, so `OutboundSms.validity_s` is not passed on."""

    kind: Final = "telnyx"
    webhook_shape: Final = _SHAPE
    # Messages cannot be listed; the detail records (GET /v2/detail_records) can, but come late and know no reference of
    # ours. So absence can never be confirmed.
    can_look_up: Final = False
    can_redact: Final = False

    def __init__(
        self,
        config: TelnyxConfig,
        http: HttpClient,
        *,
        base_urls: Sequence[str],
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self.name: Final = config.name
        self._http = http
        self._messages_url = f"{config.api_base_url}/v2/messages"
        self._headers = {
            "Authorization": f"Bearer {config.api_key.get_secret_value()}",
            "Content-Type": JSON,
            "Accept": JSON,
        }
        self._messaging_profile_id = config.messaging_profile_id
        keys = (config.public_key, config.public_key_previous)
        self._public_keys = [read_public_key(key) for key in keys if key is not None]
        self._tolerance_s = config.webhook_tolerance_s
        self._base_urls = base_urls
        self._now = now

    async def send(self, sms: OutboundSms) -> SendReceipt:
        """See Provider."""
        response = await send_once(
            self._http, "POST", self._messages_url, headers=self._headers, body=json_body(self._message(sms))
        )
        if not 200 <= response.status < 300:
            raise error_of_send(response)
        receipt = read_receipt(read_object(response))
        if receipt is None:
            raise refusal(response, ErrorKind.UNKNOWN_OUTCOME)
        return receipt

    async def find_sent(self, query: SentQuery) -> Sequence[SendReceipt]:  # noqa: ARG002  # the contract's
        """Raises ProviderError: see `can_look_up`."""
        raise ProviderError(ErrorKind.UNAVAILABLE, provider_text="messages cannot be listed")

    async def fetch_status(self, provider_message_id: str) -> StatusReport | None:
        """See Provider."""
        url = f"{self._messages_url}/{quote(provider_message_id, safe='')}"
        response = await ask(self._http, "GET", url, headers=self._headers)
        if not 200 <= response.status < 300:
            raise error_of_asking(response)
        try:
            return read_message_status(read_object(response), provider=self.name)
        except WebhookParseError as error:
            raise ProviderError(ErrorKind.UNAVAILABLE, provider_text=str(error)) from None

    async def list_inbound(self, since: datetime, until: datetime) -> AsyncIterator[InboundSms]:  # noqa: ARG002
        """Yield nothing: messages cannot be listed."""
        for sms in _NOTHING:
            yield sms

    async def redact(self, provider_message_id: str) -> bool:  # noqa: ARG002  # the contract's
        """Return False: no call removes a body."""
        return False

    def read_inbound(self, request: WebhookRequest) -> InboundSms:
        """See Provider."""
        return parse_inbound(self._authentic_event(request), provider=self.name)

    def read_status(self, request: WebhookRequest) -> StatusReport:
        """See Provider."""
        return parse_status(self._authentic_event(request), provider=self.name)

    async def aclose(self) -> None:
        """See Provider."""
        await self._http.aclose()

    def _message(self, sms: OutboundSms) -> dict[str, object]:
        message: dict[str, object] = {
            "from": sms.sender,
            "to": sms.recipient,
            "webhook_url": status_url_for(self._base_urls, self.name, sms.reference),
        }
        if sms.body:
            message["text"] = sms.body
        if sms.media_urls:
            message["media_urls"] = list(sms.media_urls)
        if self._messaging_profile_id:
            message["messaging_profile_id"] = self._messaging_profile_id
        return message

    def _authentic_event(self, request: WebhookRequest) -> JsonObject:
        check_signature(
            request.headers.get(SIGNATURE_HEADER, b""),
            request.headers.get(TIMESTAMP_HEADER, b""),
            request.body,
            keys=self._public_keys,
            now=self._now(),
            tolerance_s=self._tolerance_s,
        )
        return parse_json(request.body)
