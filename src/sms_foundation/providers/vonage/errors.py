"""Vonage's codes, in our words: what refuses a send, and what a delivery receipt gives as the reason.

Sources, November 2026: https://developer.vonage.com/messaging/sms/guides/troubleshooting-sms (`status` of a part),
https://api.support.vonage.com/hc/en-us/articles/204014733 (`err-code` of a receipt) and
https://developer.vonage.com/en/opt-out-assist/guides/messaging-opted-out-numbers (9: the recipient has opted out).
"""

import re
from typing import Final

from sms_foundation.providers.errors import ErrorKind

ACCEPTED: Final = "0"
_is_code = re.compile("[1-9][0-9]{0,3}").fullmatch

_SEND_KINDS: Final = {
    "1": ErrorKind.RATE_LIMITED,  # faster than the account may
    "2": ErrorKind.INVALID_REQUEST,  # a parameter is missing
    "3": ErrorKind.INVALID_REQUEST,  # a parameter is invalid
    "4": ErrorKind.ACCOUNT,  # wrong key or secret
    "5": ErrorKind.UNAVAILABLE,  # internal error
    "6": ErrorKind.INVALID_REQUEST,  # cannot be processed, such as an unknown prefix
    "7": ErrorKind.INVALID_RECIPIENT,  # number barred
    "8": ErrorKind.ACCOUNT,  # account barred
    "9": ErrorKind.ACCOUNT,  # not enough credit
    "10": ErrorKind.RATE_LIMITED,  # too many connections at once
    "11": ErrorKind.ACCOUNT,  # not enabled for HTTP
    "12": ErrorKind.INVALID_REQUEST,  # too long
    "13": ErrorKind.UNAVAILABLE,  # not submitted: communication failed
    "14": ErrorKind.ACCOUNT,  # invalid signature
    "15": ErrorKind.INVALID_SENDER,
    "22": ErrorKind.INVALID_REQUEST,  # invalid network code
    "23": ErrorKind.INVALID_REQUEST,  # invalid callback URL
    "29": ErrorKind.INVALID_REQUEST,  # a trial account sends only to numbers on its list
    "32": ErrorKind.ACCOUNT,  # signature and secret given both
    "33": ErrorKind.INVALID_RECIPIENT,  # number de-activated
}

_DELIVERY_ERRORS: Final[dict[str, tuple[str, ErrorKind | None]]] = {
    "1": ("unknown", None),
    "2": ("absent subscriber, temporary", ErrorKind.UNAVAILABLE),
    "3": ("absent subscriber, permanent", ErrorKind.INVALID_RECIPIENT),
    "4": ("call barred by user", ErrorKind.INVALID_RECIPIENT),
    "5": ("portability error", ErrorKind.INVALID_RECIPIENT),
    "6": ("anti-spam rejection", ErrorKind.CONTENT_REJECTED),
    "7": ("handset busy", ErrorKind.UNAVAILABLE),
    "8": ("network error", ErrorKind.UNAVAILABLE),
    "9": ("illegal number", ErrorKind.OPTED_OUT),
    "10": ("illegal message", ErrorKind.INVALID_REQUEST),
    "11": ("unroutable", ErrorKind.UNAVAILABLE),
    "12": ("destination unreachable", ErrorKind.INVALID_RECIPIENT),
    "13": ("subscriber age restriction", ErrorKind.INVALID_RECIPIENT),
    "14": ("number blocked by carrier", ErrorKind.INVALID_RECIPIENT),
    "15": ("prepaid, insufficient funds", ErrorKind.INVALID_RECIPIENT),
    "16": ("gateway quota exceeded", ErrorKind.RATE_LIMITED),
    "50": ("entity filter", ErrorKind.CONTENT_REJECTED),
    "51": ("header filter", ErrorKind.CONTENT_REJECTED),
    "52": ("content filter", ErrorKind.CONTENT_REJECTED),
    "53": ("consent filter", ErrorKind.CONTENT_REJECTED),
    "54": ("regulation error", ErrorKind.CONTENT_REJECTED),
    "99": ("general error", ErrorKind.UNAVAILABLE),
}


def kind_of_part_status(status: str) -> ErrorKind:
    """Return why a part was refused.

    A number that is not documented is a refusal all the same, and permanent; anything else says nothing.
    """
    return _SEND_KINDS.get(status, ErrorKind.INVALID_REQUEST if _is_code(status) else ErrorKind.UNKNOWN_OUTCOME)


def kind_of_delivery_error(code: str) -> ErrorKind | None:
    """Return what a receipt's `err-code` means, None for one that says nothing we know."""
    return _DELIVERY_ERRORS.get(code, ("", None))[1]


def text_of_delivery_error(code: str) -> str | None:
    """Return Vonage's name of a receipt's `err-code`; receipts carry the number alone."""
    return _DELIVERY_ERRORS.get(code, (None, None))[0]
