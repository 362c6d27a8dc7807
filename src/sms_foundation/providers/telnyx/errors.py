"""Telnyx's codes, in our words.

Sources, November 2026: https://developers.telnyx.com/docs/messaging/messages/error-codes and
https://developers.telnyx.com/development/api-fundamentals/api-errors
"""

from typing import Final

from sms_foundation.core.http import HttpResponse
from sms_foundation.providers.calls import kind_of_status, kind_when_asking, read_object, refusal
from sms_foundation.providers.errors import ErrorKind, ProviderError
from sms_foundation.providers.json_object import JsonObject

_STOPPED: Final = "40300"
_KINDS: Final = {
    **dict.fromkeys("10003 10004 10005 10006 10013 10014 10015 10017".split(), ErrorKind.INVALID_REQUEST),
    **dict.fromkeys("10001 10002 10016".split(), ErrorKind.INVALID_RECIPIENT),  # a bad number, see _IN_SENDER
    **dict.fromkeys("10007 10008".split(), ErrorKind.UNKNOWN_OUTCOME),  # unexpected error, timeout
    **dict.fromkeys("10009 10010".split(), ErrorKind.ACCOUNT),  # authentication, authorization
    "10011": ErrorKind.RATE_LIMITED,
    # API key revoked or expired; account inactive, blocked, unverified, without the feature or the funds
    **dict.fromkeys("20002 20006 20012 20013 20014 20015 20016 20017 20100".split(), ErrorKind.ACCOUNT),
    **dict.fromkeys("40001 40004 40008 40012 40301 40310 40319".split(), ErrorKind.INVALID_RECIPIENT),
    **dict.fromkeys("40002 40003 40015 40017 40322".split(), ErrorKind.CONTENT_REJECTED),  # spam
    **dict.fromkeys("40005 40006 40014".split(), ErrorKind.UNAVAILABLE),  # expired, recipient's server
    **dict.fromkeys("40009 40302 40304 40309 40316 40317 40328".split(), ErrorKind.INVALID_REQUEST),
    # not registered (10DLC, toll-free), not enabled, invalid, unhealthy, or not on the messaging profile
    **dict.fromkeys(
        "40010 40013 40100 40150 40151 40305 40306 40308 40315 40320 40321 40329".split(), ErrorKind.INVALID_SENDER
    ),
    **dict.fromkeys("40011 40016 40018 40318".split(), ErrorKind.RATE_LIMITED),  # carriers' limits, queue full
    _STOPPED: ErrorKind.OPTED_OUT,
    **dict.fromkeys("40311 40312 40313 40314".split(), ErrorKind.ACCOUNT),  # profile or messaging disabled
}
_ABOUT_A_NUMBER: Final = frozenset({"10001", "10002", "10016"})
_IN_SENDER: Final = "/from"


def error_of_send(response: HttpResponse) -> ProviderError:
    """Return what a response to a send that is no success means."""
    return _error(response, _kind(response))


def error_of_asking(response: HttpResponse) -> ProviderError:
    """Return what a response to a call that sends nothing, and is no success, means."""
    return _error(response, kind_when_asking(_kind(response)))


def kind_of_delivery_error(code: str, text: str) -> ErrorKind | None:
    """Return what the code of a message that was not delivered means, None for one that says nothing we know.

    After a message was accepted, 40300 is used for other blocks as well, and only its text (title and detail) tells: a
    recipient who has asked for nothing must not be taken for one who wants no more.
    """
    if code == _STOPPED and "stop" not in text.lower():
        return ErrorKind.INVALID_SENDER
    return _KINDS.get(code)


def _kind(response: HttpResponse) -> ErrorKind:
    if response.status == 429:
        return ErrorKind.RATE_LIMITED
    first = _first_error(response)
    code = first.text("code")
    if code in _ABOUT_A_NUMBER and first.text("source.pointer") == _IN_SENDER:
        return ErrorKind.INVALID_SENDER
    return _KINDS.get(code, kind_of_status(response.status))


def _error(response: HttpResponse, kind: ErrorKind) -> ProviderError:
    first = _first_error(response)
    return refusal(response, kind, code=first.text("code"), text=first.text("detail") or first.text("title"))


def _first_error(response: HttpResponse) -> JsonObject:
    return read_object(response).child("errors.0")
