"""Numbers as the dialects without "+" write them, and as the phones here know them."""

import re

from sms_foundation.simulator.numbers import parse_address

_is_international = re.compile(r"[1-9][0-9]{8,14}").fullmatch


def from_digits(text: str) -> str:
    """Return the address that `text` means: nine and more digits are an E.164 number, fewer a short code.

    Raises ValidationError when it is none.
    """
    return parse_address(f"+{text}" if _is_international(text) else text)


def to_digits(address: str) -> str:
    """Return `address` without its "+"; names and short codes as they are."""
    return address.removeprefix("+")
