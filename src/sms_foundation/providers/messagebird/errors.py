"""MessageBird's codes, in our words.

Sources, November 2026: https://developers.messagebird.com/api/#api-errors (codes of refused calls) and
https://docs.bird.com/api/channels-api/message-status-and-interactions/message-failure-sources/sms-platform-extended-error-codes
(codes in status reports; the numbers of GSM MAP).
"""

from typing import Final

from sms_foundation.core.http import HttpResponse
from sms_foundation.providers.calls import kind_of_status, kind_when_asking, read_object, refusal
from sms_foundation.providers.errors import ErrorKind, ProviderError
from sms_foundation.providers.json_object import JsonObject

_INVALID_PARAMETER: Final = frozenset({"9", "10"})  # missing, invalid

_KINDS: Final = {
    "2": ErrorKind.ACCOUNT,  # request not allowed: the access key
    "9": ErrorKind.INVALID_REQUEST,
    "10": ErrorKind.INVALID_REQUEST,
    "20": ErrorKind.INVALID_REQUEST,  # not found
    "21": ErrorKind.INVALID_REQUEST,  # bad request
    "25": ErrorKind.ACCOUNT,  # not enough balance
    "98": ErrorKind.INVALID_REQUEST,  # not found
    "99": ErrorKind.UNAVAILABLE,  # internal error
}
_KINDS_BY_PARAMETER: Final = {
    "recipient": ErrorKind.INVALID_RECIPIENT,
    "recipients": ErrorKind.INVALID_RECIPIENT,
    "originator": ErrorKind.INVALID_SENDER,
}

_DELIVERY_KINDS: Final = {
    **dict.fromkeys("1 5 9 11 12 13 21".split(), ErrorKind.INVALID_RECIPIENT),  # unknown, illegal, barred
    **dict.fromkeys("6 27 31 32 33 34".split(), ErrorKind.UNAVAILABLE),  # absent, busy, system failure
}


def error_of_send(response: HttpResponse) -> ProviderError:
    """Return what a response to a send that is no success means."""
    return _error(response, _kind(response))


def error_of_asking(response: HttpResponse) -> ProviderError:
    """Return what a response to a call that sends nothing, and is no success, means."""
    return _error(response, kind_when_asking(_kind(response)))


def kind_of_delivery_error(code: str) -> ErrorKind | None:
    """Return what a status report's `statusErrorCode` means, None for one that says nothing we know."""
    return _DELIVERY_KINDS.get(code)


def _kind(response: HttpResponse) -> ErrorKind:
    """A 5xx leaves the outcome unknown whatever code it carries: that it were safe to repeat is hearsay, while looking
    the message up by reference costs one call."""
    kind = kind_of_status(response.status)
    if response.status >= 500 or response.status == 429:
        return kind
    first = _first_error(response)
    code = first.text("code")
    if code in _INVALID_PARAMETER and first.text("parameter") in _KINDS_BY_PARAMETER:
        return _KINDS_BY_PARAMETER[first.text("parameter")]
    return _KINDS.get(code, kind)


def _error(response: HttpResponse, kind: ErrorKind) -> ProviderError:
    first = _first_error(response)
    return refusal(response, kind, code=first.text("code"), text=first.text("description"))


def _first_error(response: HttpResponse) -> JsonObject:
    return read_object(response).child("errors.0")
