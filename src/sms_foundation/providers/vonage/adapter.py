"""Vonage as a provider, through its SMS API: https://developer.vonage.com/en/api/sms (November 2026, untried live)."""

import re
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime
from typing import Final, Literal

from pydantic import Field, SecretStr

from sms_foundation.core.clock import utc_now
from sms_foundation.core.http import HttpClient, HttpResponse
from sms_foundation.core.segments import count_segments
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
from sms_foundation.providers.callback import status_url
from sms_foundation.providers.calls import form_body, kind_of_status, read_object, refusal, send_once
from sms_foundation.providers.config import BaseUrl, ProviderConfig
from sms_foundation.providers.errors import ErrorKind, ProviderError
from sms_foundation.providers.json_object import JsonObject
from sms_foundation.providers.vonage.errors import kind_of_part_status
from sms_foundation.providers.vonage.signature import SIGNATURE_FIELD, SignatureMethod, check_signature
from sms_foundation.providers.vonage.webhook import parse_inbound, parse_status, read_receipt
from sms_foundation.providers.webhook_fields import FORM, JSON, flat_pairs, pairs_as_object, without_plus

_TTL_MS: Final = (20_000, 604_800_000)
_LONGEST_CALLBACK: Final = 100
# A webhook that is not answered with 2xx is repeated for 24 hours, and nothing says that each time it is signed anew. A
# message must not be lost for its age; one that is played back changes nothing, since all of it is stored but once.
_REPEATED_FOR_S: Final = 24 * 3600
_wait_ms = re.compile(r"wait \[ *(\d{1,6}) *\]").search  # "Throughput Rate Exceeded - please wait [ 250 ] and retry"
_NOTHING: Final[tuple[InboundSms, ...]] = ()

_SHAPE: Final = WebhookShape(
    methods=frozenset({"GET", "POST"}),
    content_types=frozenset({FORM, JSON}),
    reply=WebhookReply("text/plain; charset=utf-8", b"OK"),
)


class VonageConfig(ProviderConfig):
    """One Vonage account. Signed webhooks have to be asked for in its settings, and the method chosen there."""

    kind: Literal["vonage"] = "vonage"
    api_key: str
    api_secret: SecretStr = Field(min_length=1)
    signature_secret: SecretStr = Field(min_length=1)
    signature_secret_previous: SecretStr | None = Field(
        default=None, description="Also accepted, while the secret is being changed"
    )
    signature_method: SignatureMethod = "sha256"
    webhook_tolerance_s: float = Field(
        default=_REPEATED_FOR_S + 300,
        ge=30,
        le=7 * 24 * 3600,
        description="How long ago a webhook may have been signed",
    )
    api_base_url: BaseUrl = "https://rest.nexmo.com"


class VonageProvider:
    """Sends plain texts. The SMS API cannot be asked about a message, so only receipts tell what became of one."""

    kind: Final = "vonage"
    webhook_shape: Final = _SHAPE
    # The SMS API has no search by reference; the Reports API is another product, and its records come late. So absence
    # can never be confirmed.
    can_look_up: Final = False
    can_redact: Final = False

    def __init__(
        self,
        config: VonageConfig,
        http: HttpClient,
        *,
        base_urls: Sequence[str],
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        """Raises ValueError when the status URL is longer than Vonage accepts."""
        self.name: Final = config.name
        self._http = http
        self._send_url = f"{config.api_base_url}/sms/json"
        self._credentials = [("api_key", config.api_key), ("api_secret", config.api_secret.get_secret_value())]
        # Without our reference, unlike at other providers: client-ref comes back, a GET would mix it with what is
        # signed, and there is room for 100 characters only.
        self._status_url = status_url(base_urls, config.name)
        if len(self._status_url) > _LONGEST_CALLBACK:
            raise ValueError(f"the status URL of provider {config.name} is longer than {_LONGEST_CALLBACK} characters")
        secrets = (config.signature_secret, config.signature_secret_previous)
        self._secrets = [secret.get_secret_value() for secret in secrets if secret is not None]
        self._method = config.signature_method
        self._tolerance_s = config.webhook_tolerance_s
        self._now = now

    async def send(self, sms: OutboundSms) -> SendReceipt:
        """See Provider. A text with media is refused: the API carries none."""
        if sms.media_urls:
            raise ProviderError(ErrorKind.INVALID_REQUEST, provider_text="the SMS API sends no media")
        body = form_body([*self._credentials, *self._parameters(sms)])
        headers = {"Content-Type": FORM, "Accept": JSON}
        response = await send_once(self._http, "POST", self._send_url, headers=headers, body=body)
        if not 200 <= response.status < 300:
            raise refusal(response, kind_of_status(response.status))
        answer = read_object(response)
        parts = answer.children("messages") or []
        receipt = read_receipt(answer, parts)
        if receipt is None:
            raise _refusal_of(response, parts)
        return receipt

    async def find_sent(self, query: SentQuery) -> Sequence[SendReceipt]:  # noqa: ARG002  # the contract's
        """Raises ProviderError: see `can_look_up`."""
        raise ProviderError(ErrorKind.UNAVAILABLE, provider_text="the SMS API cannot be asked for a message")

    async def fetch_status(self, provider_message_id: str) -> StatusReport | None:  # noqa: ARG002  # the contract's
        """Return None: the SMS API cannot be asked."""
        return None

    async def list_inbound(self, since: datetime, until: datetime) -> AsyncIterator[InboundSms]:  # noqa: ARG002
        """Yield nothing: the SMS API cannot be asked."""
        for sms in _NOTHING:
            yield sms

    async def redact(self, provider_message_id: str) -> bool:  # noqa: ARG002  # the contract's
        """Return False: redaction is another API, which Vonage enables for an account on request."""
        return False

    def read_inbound(self, request: WebhookRequest) -> InboundSms:
        """See Provider."""
        return parse_inbound(self._authentic_fields(request), provider=self.name)

    def read_status(self, request: WebhookRequest) -> StatusReport:
        """See Provider."""
        return parse_status(self._authentic_fields(request), provider=self.name)

    async def aclose(self) -> None:
        """See Provider."""
        await self._http.aclose()

    def _parameters(self, sms: OutboundSms) -> list[tuple[str, str]]:
        encoding, _ = count_segments(sms.body)
        parameters = [
            ("from", without_plus(sms.sender)),
            ("to", without_plus(sms.recipient)),
            ("text", sms.body),
            ("type", "unicode" if encoding == "UCS-2" else "text"),
            ("client-ref", sms.reference),
            ("status-report-req", "1"),
            ("callback", self._status_url),
        ]
        if sms.validity_s is not None:
            shortest, longest = _TTL_MS
            parameters.append(("ttl", str(min(max(sms.validity_s * 1000, shortest), longest))))
        return parameters

    def _authentic_fields(self, request: WebhookRequest) -> JsonObject:
        """Return what was signed and nothing else, without the signature."""
        pairs = flat_pairs(request)
        check_signature(
            pairs, secrets=self._secrets, method=self._method, now=self._now(), tolerance_s=self._tolerance_s
        )
        return pairs_as_object([(name, value) for name, value in pairs if name != SIGNATURE_FIELD])


def _refusal_of(response: HttpResponse, parts: Sequence[JsonObject]) -> ProviderError:
    """Return why no part was accepted; unknown as soon as one of them does not say that it was refused."""
    for part in parts:
        if kind_of_part_status(part.text("status")) is ErrorKind.UNKNOWN_OUTCOME:
            return refusal(response, ErrorKind.UNKNOWN_OUTCOME)
    if not parts:
        return refusal(response, ErrorKind.UNKNOWN_OUTCOME)
    code, text = parts[0].text("status"), parts[0].text("error-text")
    error = refusal(response, kind_of_part_status(code), code=code, text=text)
    wait = _wait_ms(text)
    if error.retry_after_s is None and wait is not None:
        error.retry_after_s = int(wait[1]) / 1000
    return error
