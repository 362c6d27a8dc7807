"""Where the account's number and Messaging Service hand in texts, as Twilio's two resources for that tell it.

Sources (November 2026): https://www.twilio.com/docs/phone-numbers/api/incomingphonenumber-resource and
https://www.twilio.com/docs/messaging/api/service-resource (which has a host of its own, messaging.twilio.com).
"""

from typing import Final

from sms_foundation.simulator.forms import API_VERSION
from sms_foundation.simulator.settings import SimulatorSettings

SERVICES: Final = "/v1/Services/"
_NUMBER_SID: Final = "PN" + "5e" * 16
_CREATED: Final = "Thu, 01 Jan 2026 00:00:00 +0000"
_PAGE_SIZE: Final = 50


def list_numbers(settings: SimulatorSettings, wanted: str | None) -> dict[str, object]:
    """Return one page: the account has one number. `wanted` is a number, or a part of one with * for its digits."""
    is_wanted = wanted is None or _matches(settings.phone_number, wanted)
    uri = f"/{API_VERSION}/Accounts/{settings.account_sid}/IncomingPhoneNumbers.json?PageSize={_PAGE_SIZE}&Page=0"
    return {
        "incoming_phone_numbers": [_number(settings)] if is_wanted else [],
        "first_page_uri": uri,
        "next_page_uri": None,
        "previous_page_uri": None,
        "page": 0,
        "page_size": _PAGE_SIZE,
        "start": 0,
        "end": 0,
        "uri": uri,
    }


def show_service(settings: SimulatorSettings, sid: str) -> dict[str, object] | None:
    """Return the Messaging Service, None when the account has none of this SID."""
    if settings.messaging_service_sid is None or sid != settings.messaging_service_sid:
        return None
    return {
        "sid": sid,
        "account_sid": settings.account_sid,
        "friendly_name": "Simulator",
        "inbound_request_url": settings.sms_url,
        "inbound_method": "POST",
        "fallback_url": settings.fallback_url,
        "fallback_method": "POST",
        "status_callback": settings.status_url,
        "use_inbound_webhook_on_number": False,
        "sticky_sender": True,
        "smart_encoding": False,
        "validity_period": 36000,
        "url": f"https://messaging.twilio.com{SERVICES}{sid}",
    }


def _matches(number: str, pattern: str) -> bool:
    """Tell whether a number has this part; * stands for a digit."""
    part = pattern.removeprefix("+")
    digits = number.removeprefix("+")
    return any(
        all(wanted in ("*", found) for wanted, found in zip(part, digits[start:], strict=False))
        for start in range(len(digits) - len(part) + 1)
    )


def _number(settings: SimulatorSettings) -> dict[str, object]:
    return {
        "sid": _NUMBER_SID,
        "account_sid": settings.account_sid,
        "friendly_name": "Simulator",
        "phone_number": settings.phone_number,
        "api_version": API_VERSION,
        "capabilities": {"voice": False, "sms": True, "mms": True, "fax": False},
        "date_created": _CREATED,
        "date_updated": _CREATED,
        "sms_url": settings.sms_url,
        "sms_method": "POST",
        "sms_fallback_url": settings.fallback_url or "",
        "sms_fallback_method": "POST",
        "sms_application_sid": "",
        # About calls, not messages.
        "status_callback": "",
        "status_callback_method": "POST",
        "uri": f"/{API_VERSION}/Accounts/{settings.account_sid}/IncomingPhoneNumbers/{_NUMBER_SID}.json",
    }
