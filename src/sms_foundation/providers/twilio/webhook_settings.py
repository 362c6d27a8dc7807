"""Where Twilio hands texts in, as its account says: asked of the numbers and Messaging Services that we send from.

Sources, read November 2026: https://www.twilio.com/docs/phone-numbers/api/incomingphonenumber-resource (`sms_url`,
which `sms_application_sid` overrules; its `status_callback` is about calls, not messages) and
https://www.twilio.com/docs/messaging/api/service-resource (`inbound_request_url`: null means that texts are dropped;
`use_inbound_webhook_on_number`; `status_callback`, which the one of a message overrules: we send one with each).
"""

from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, urlencode, urlsplit

from sms_foundation.core.http import HttpClient
from sms_foundation.core.phone import is_phone_number
from sms_foundation.providers.calls import ask, kind_when_asking, read_object, refusal
from sms_foundation.providers.errors import ErrorKind, ProviderError
from sms_foundation.providers.json_object import JsonObject
from sms_foundation.providers.twilio.adapter import TwilioConfig
from sms_foundation.providers.twilio.errors import kind_of_api_error

_API: Final = "/2010-04-01/Accounts"
# The host of the other API, also in a region: api.dublin.ie1.twilio.com.
_API_HOST: Final = "api."
_MESSAGING_HOST: Final = "messaging."
_NONSENSE: Final = "the answer is not what was asked for"


@dataclass(frozen=True, slots=True, kw_only=True)
class InboundWebhook:
    """Where texts to one number or service go. `place` is its SID; "" stands for what is not set.

    `is_overruled`: a TwiML application decides instead, or (a service) each number by itself.
    """

    place: str
    url: str
    method: str
    fallback_url: str
    status_url: str = ""
    is_overruled: bool = False


@dataclass(frozen=True, slots=True)
class AskedWebhooks:
    """What the account told. `absent`: how many of our numbers it does not have; `unasked`: senders of other kinds."""

    webhooks: tuple[InboundWebhook, ...]
    absent: int
    unasked: int


async def read_inbound_webhooks(config: TwilioConfig, http: HttpClient) -> AskedWebhooks:
    """Ask about every number and Messaging Service that `config` sends from. Raises ProviderError."""
    found: list[InboundWebhook] = []
    absent = unasked = 0
    numbers = [each for each in config.senders if is_phone_number(each)]
    if config.messaging_service_sid is not None:
        found.append(await _read_service(config, http, config.messaging_service_sid))
    for number in numbers:
        webhook = await _read_number(config, http, number)
        if webhook is None:
            absent += 1
        else:
            found.append(webhook)
    unasked = sum(each not in numbers and each != config.messaging_service_sid for each in config.senders)
    return AskedWebhooks(tuple(found), absent, unasked)


async def _read_number(config: TwilioConfig, http: HttpClient, number: str) -> InboundWebhook | None:
    account = quote(config.account_sid, safe="")
    url = f"{config.api_base_url}{_API}/{account}/IncomingPhoneNumbers.json?{urlencode({'PhoneNumber': number})}"
    answer = await _ask(config, http, url)
    listed = answer.children("incoming_phone_numbers")
    if listed is None:
        raise ProviderError(ErrorKind.UNAVAILABLE, provider_text=_NONSENSE)
    each = next((each for each in listed if each.text("phone_number") == number), None)
    if each is None:
        return None
    return InboundWebhook(
        place=each.text("sid"),
        url=each.text("sms_url"),
        method=each.text("sms_method"),
        fallback_url=each.text("sms_fallback_url"),
        is_overruled=bool(each.text("sms_application_sid")),
    )


async def _read_service(config: TwilioConfig, http: HttpClient, sid: str) -> InboundWebhook:
    service = await _ask(config, http, f"{messaging_base(config.api_base_url)}/v1/Services/{quote(sid, safe='')}")
    if service.text("sid") != sid:
        raise ProviderError(ErrorKind.UNAVAILABLE, provider_text=_NONSENSE)
    return InboundWebhook(
        place=sid,
        url=service.text("inbound_request_url"),
        method=service.text("inbound_method"),
        fallback_url=service.text("fallback_url"),
        status_url=service.text("status_callback"),
        is_overruled=service.value("use_inbound_webhook_on_number") is True,
    )


def messaging_base(api_base_url: str) -> str:
    """Return the base URL of the Messaging API that belongs to this one; a stand-in has both in one place."""
    parts = urlsplit(api_base_url)
    if not parts.netloc.startswith(_API_HOST) or not (parts.hostname or "").endswith(".twilio.com"):
        return api_base_url
    return f"{parts.scheme}://{_MESSAGING_HOST}{parts.netloc.removeprefix(_API_HOST)}"


async def _ask(config: TwilioConfig, http: HttpClient, url: str) -> JsonObject:
    if not config.account_sid:
        raise ProviderError(ErrorKind.ACCOUNT, provider_text="no account_sid is configured")
    headers = {"Authorization": config.credentials, "Accept": "application/json"}
    response = await ask(http, "GET", url, headers=headers)
    answer = read_object(response)
    if 200 <= response.status < 300:
        return answer
    code = answer.text("code")
    kind = kind_when_asking(kind_of_api_error(code, response.status))
    raise refusal(response, kind, code=code, text=answer.text("message"))
