"""Any provider with an HTTP API: what it is called, how it answers and how it reports is configuration."""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Final

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
from sms_foundation.providers.calls import (
    ask,
    form_body,
    json_body,
    kind_of_status,
    kind_when_asking,
    read_object,
    refusal,
    send_once,
)
from sms_foundation.providers.errors import ErrorKind, ProviderError
from sms_foundation.providers.generic.config import BearerAuthConfig, GenericConfig, LookUpConfig
from sms_foundation.providers.generic.errors import refusal_of
from sms_foundation.providers.generic.signature import check_signature
from sms_foundation.providers.generic.template import fill_json, fill_text, fill_url, message_values
from sms_foundation.providers.generic.webhook import parse_inbound, parse_status, read_receipt
from sms_foundation.providers.json_object import JsonObject
from sms_foundation.providers.webhook_fields import FORM, JSON, all_fields, body_fields

__all__ = ["GenericConfig", "GenericProvider"]

_NOTHING: Final[tuple[InboundSms, ...]] = ()
_REPLY: Final = WebhookReply("text/plain; charset=utf-8", b"OK")


class GenericProvider:
    """Sends plain texts to a configured URL and reads configured webhooks."""

    kind: Final = "http"
    can_redact: Final = False

    def __init__(self, config: GenericConfig, http: HttpClient, *, base_urls: Sequence[str]) -> None:
        self.name: Final = config.name
        self._config = config
        self._http = http
        self._base_urls = base_urls
        self._asking = {name: value.get_secret_value() for name, value in config.headers.items()}
        content_type = JSON if config.body_format == "json" else FORM
        self._sending = {"Accept": JSON, "Content-Type": content_type, **self._asking}
        # A GET has no body for an HMAC to cover.
        methods = {"GET", "POST"} if isinstance(config.webhook_auth, BearerAuthConfig) else {"POST"}
        self.webhook_shape: Final = WebhookShape(frozenset(methods), frozenset({FORM, JSON}), _REPLY)

    @property
    def can_look_up(self) -> bool:
        """See Provider."""
        return self._config.look_up is not None

    async def send(self, sms: OutboundSms) -> SendReceipt:
        """See Provider. A text with media is refused: there is no placeholder for any."""
        if sms.media_urls:
            raise ProviderError(ErrorKind.INVALID_REQUEST, provider_text="this provider sends no media")
        values = message_values(sms, status_url=status_url_for(self._base_urls, self.name, sms.reference))
        url = fill_url(self._config.send_url, values)
        body = self._body(values)
        response = await send_once(self._http, self._config.method, url, headers=self._sending, body=body)
        answer = read_object(response)
        error = refusal_of(response, answer, self._config.answer)
        if error is not None:
            raise error
        receipt = read_receipt(answer, self._config.answer.message_id_path)
        if receipt is None:
            raise refusal(response, ErrorKind.UNKNOWN_OUTCOME)
        return receipt

    async def find_sent(self, query: SentQuery) -> Sequence[SendReceipt]:
        """See Provider. Only an answer that holds the list, and in it nothing else than ours, tells anything."""
        look_up = self._config.look_up
        if look_up is None:
            raise ProviderError(ErrorKind.UNAVAILABLE, provider_text="no look-up is configured")
        url = fill_url(look_up.url, {"reference": query.reference})
        response = await ask(self._http, "GET", url, headers={"Accept": JSON, **self._asking})
        if not 200 <= response.status < 300:
            raise refusal(response, kind_when_asking(kind_of_status(response.status)))
        return _receipts(read_object(response), look_up, query.reference)

    async def fetch_status(self, provider_message_id: str) -> StatusReport | None:  # noqa: ARG002  # the contract's
        """Return None: receipts tell."""
        return None

    async def list_inbound(self, since: datetime, until: datetime) -> AsyncIterator[InboundSms]:  # noqa: ARG002
        """Yield nothing: webhooks tell."""
        for sms in _NOTHING:
            yield sms

    async def redact(self, provider_message_id: str) -> bool:  # noqa: ARG002  # the contract's
        """Return False: how to is not configured."""
        return False

    def read_inbound(self, request: WebhookRequest) -> InboundSms:
        """See Provider."""
        return parse_inbound(self._authentic_fields(request), self._config.inbound, provider=self.name)

    def read_status(self, request: WebhookRequest) -> StatusReport:
        """See Provider."""
        return parse_status(
            self._authentic_fields(request),
            self._config.status,
            path_and_query=request.path_and_query,
            provider=self.name,
        )

    async def aclose(self) -> None:
        """See Provider."""
        await self._http.aclose()

    def _body(self, values: dict[str, str]) -> bytes | None:
        if self._config.method == "GET":
            return None
        if self._config.body_format == "form":
            return form_body((name, fill_text(str(text), values)) for name, text in self._config.body.items())
        return json_body({name: fill_json(value, values) for name, value in self._config.body.items()})

    def _authentic_fields(self, request: WebhookRequest) -> JsonObject:
        auth = self._config.webhook_auth
        check_signature(request, auth)
        return all_fields(request) if isinstance(auth, BearerAuthConfig) else body_fields(request)


def _receipts(answer: JsonObject, look_up: LookUpConfig, reference: str) -> list[SendReceipt]:
    entries = answer.children(look_up.list_path)
    if entries is None:
        raise ProviderError(ErrorKind.UNAVAILABLE, provider_text="the answer holds no list of messages")
    ours = [entry for entry in entries if entry.text(look_up.reference_path) == reference]
    receipts = [receipt for entry in ours if (receipt := read_receipt(entry, look_up.message_id_path)) is not None]
    if len(receipts) < len(ours) or (entries and not ours):
        raise ProviderError(ErrorKind.UNAVAILABLE, provider_text="the list holds other messages than ours")
    return receipts
