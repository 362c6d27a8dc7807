"""MessageBird as a provider: https://developers.messagebird.com/api/sms-messaging/ (November 2026, untried live)."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, Literal
from urllib.parse import quote, urlencode

from pydantic import Field, SecretStr

from sms_foundation.core.clock import utc_now
from sms_foundation.core.http import HttpClient
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
from sms_foundation.providers.callback import signed_urls, status_url_for
from sms_foundation.providers.calls import ask, json_body, read_object, refusal, send_once
from sms_foundation.providers.config import BaseUrl, ProviderConfig
from sms_foundation.providers.errors import ErrorKind, ProviderError, WebhookParseError
from sms_foundation.providers.json_object import JsonObject
from sms_foundation.providers.messagebird.errors import error_of_asking, error_of_send
from sms_foundation.providers.messagebird.signature import SIGNATURE_HEADER, check_signature
from sms_foundation.providers.messagebird.webhook import (
    parse_inbound,
    parse_status,
    read_message_status,
    read_receipt,
)
from sms_foundation.providers.webhook_fields import FORM, JSON, all_fields, without_plus

_PAGE_SIZE: Final = 100
_MOST_PAGES_OF_A_LOOK_UP: Final = 10
_MOST_PAGES_OF_A_LIST: Final = 200

_SHAPE: Final = WebhookShape(
    methods=frozenset({"GET", "POST"}),
    content_types=frozenset({FORM, JSON}),
    reply=WebhookReply("text/plain; charset=utf-8", b"OK"),
)


class MessageBirdConfig(ProviderConfig):
    """One MessageBird account. The signing key is another secret than the access key."""

    kind: Literal["messagebird"] = "messagebird"
    access_key: SecretStr = Field(min_length=1)
    signing_key: SecretStr = Field(min_length=1)
    signing_key_previous: SecretStr | None = Field(
        default=None, description="Also accepted, while the key is being changed"
    )
    webhook_leeway_s: float = Field(default=60, ge=0, le=600, description="How far MessageBird's clock may be off ours")
    api_base_url: BaseUrl = "https://rest.messagebird.com"


class MessageBirdProvider:
    """Sends plain texts; knows our reference, so a send without an answer can be looked up."""

    kind: Final = "messagebird"
    webhook_shape: Final = _SHAPE
    can_look_up: Final = True
    can_redact: Final = False

    def __init__(
        self,
        config: MessageBirdConfig,
        http: HttpClient,
        *,
        base_urls: Sequence[str],
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self.name: Final = config.name
        self._http = http
        self._messages_url = f"{config.api_base_url}/messages"
        self._headers = {
            "Authorization": f"AccessKey {config.access_key.get_secret_value()}",
            "Content-Type": JSON,
            "Accept": JSON,
        }
        keys = (config.signing_key, config.signing_key_previous)
        self._signing_keys = [key.get_secret_value() for key in keys if key is not None]
        self._leeway_s = config.webhook_leeway_s
        self._base_urls = base_urls
        self._now = now

    async def send(self, sms: OutboundSms) -> SendReceipt:
        """See Provider. A text with media is refused: the API carries none."""
        if sms.media_urls:
            raise ProviderError(ErrorKind.INVALID_REQUEST, provider_text="the SMS API sends no media")
        response = await send_once(
            self._http, "POST", self._messages_url, headers=self._headers, body=json_body(self._message(sms))
        )
        if not 200 <= response.status < 300:
            raise error_of_send(response)
        receipt = read_receipt(read_object(response))
        if receipt is None:
            raise refusal(response, ErrorKind.UNKNOWN_OUTCOME)
        return receipt

    async def find_sent(self, query: SentQuery) -> Sequence[SendReceipt]:
        """See Provider. Every message in the answer is compared: should the API not filter, nothing is mistaken."""
        filters = {"reference": query.reference, "recipient": without_plus(query.recipient)}
        found = self._list(filters, most_pages=_MOST_PAGES_OF_A_LOOK_UP)
        receipts: list[SendReceipt] = []
        async for message in found:
            if message.text("reference") == query.reference:
                receipt = read_receipt(message)
                if receipt is None:
                    raise ProviderError(ErrorKind.UNAVAILABLE, provider_text="a message in the list has no id")
                receipts.append(receipt)
        return receipts

    async def fetch_status(self, provider_message_id: str) -> StatusReport | None:
        """See Provider."""
        message = await self._get(f"{self._messages_url}/{quote(provider_message_id, safe='')}")
        try:
            return read_message_status(message, provider=self.name)
        except WebhookParseError as error:
            raise ProviderError(ErrorKind.UNAVAILABLE, provider_text=str(error)) from None

    async def list_inbound(self, since: datetime, until: datetime) -> AsyncIterator[InboundSms]:
        """See Provider. What has no date is yielded; what cannot be read as a message is left out."""
        # Asked for in whole seconds, compared exactly.
        filters = {"direction": "mo", "from": _rfc3339(since), "until": _rfc3339(until + timedelta(seconds=1))}
        async for message in self._list(filters, most_pages=_MOST_PAGES_OF_A_LIST):
            created_at = _read_time(message.text("createdDatetime"))
            if message.text("direction") != "mo" or (created_at is not None and not since <= created_at < until):
                continue
            try:
                sms = parse_inbound(message, provider=self.name)
            except WebhookParseError:
                continue  # without id, sender or body nothing can be stored, now or ever
            yield sms

    async def redact(self, provider_message_id: str) -> bool:  # noqa: ARG002  # the contract's
        """Return False: DELETE /messages/{id} only calls off what is scheduled, and no call removes a body."""
        return False

    def read_inbound(self, request: WebhookRequest) -> InboundSms:
        """See Provider."""
        self._check(request)
        return parse_inbound(all_fields(request), provider=self.name)

    def read_status(self, request: WebhookRequest) -> StatusReport:
        """See Provider."""
        self._check(request)
        return parse_status(all_fields(request), provider=self.name)

    async def aclose(self) -> None:
        """See Provider."""
        await self._http.aclose()

    def _message(self, sms: OutboundSms) -> dict[str, object]:
        encoding, _ = count_segments(sms.body)
        message: dict[str, object] = {
            "originator": without_plus(sms.sender),
            "recipients": [without_plus(sms.recipient)],
            "body": sms.body,
            "type": "sms",
            # Said rather than left to "auto": it must be billed as we counted it, and "plain" would drop characters.
            "datacoding": "unicode" if encoding == "UCS-2" else "plain",
            "reference": sms.reference,  # without one there are no status reports
            "reportUrl": status_url_for(self._base_urls, self.name, sms.reference),
        }
        if sms.validity_s is not None:
            message["validity"] = max(sms.validity_s, 1)
        return message

    def _check(self, request: WebhookRequest) -> None:
        check_signature(
            request.headers.get(SIGNATURE_HEADER, b""),
            keys=self._signing_keys,
            urls=signed_urls(self._base_urls, request),
            body=request.body,
            now=self._now(),
            leeway_s=self._leeway_s,
        )

    async def _list(self, filters: Mapping[str, str], *, most_pages: int) -> AsyncIterator[JsonObject]:
        """Yield every message of a list. Raises ProviderError rather than end before its end."""
        offset = 0
        for _ in range(most_pages):
            page = await self._get(
                f"{self._messages_url}?{urlencode({**filters, 'limit': _PAGE_SIZE, 'offset': offset})}"
            )
            items, total = page.children("items"), page.whole_number("totalCount")
            if items is None or total is None:
                raise ProviderError(ErrorKind.UNAVAILABLE, provider_text="the answer is no list of messages")
            for item in items:
                yield item
            offset += len(items)
            if offset >= total:
                return
            if not items:
                break
        raise ProviderError(ErrorKind.UNAVAILABLE, provider_text="the list did not come to an end")

    async def _get(self, url: str) -> JsonObject:
        response = await ask(self._http, "GET", url, headers=self._headers)
        if not 200 <= response.status < 300:
            raise error_of_asking(response)
        return read_object(response)


def _rfc3339(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="seconds")


def _read_time(text: str) -> datetime | None:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return at if at.tzinfo else at.replace(tzinfo=UTC)
