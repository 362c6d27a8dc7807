"""Addresses of mail, by which people log in: one spelling of each."""

import re

_LONGEST = 254  # Source: https://www.rfc-editor.org/rfc/rfc5321#section-4.5.3.1.3
_is_address = re.compile(r"[^\s@]{1,64}@[^\s@]+").fullmatch


def canonical_email(text: str) -> str:
    """Return an address in the spelling it is stored in: without blanks around it, in small letters.

    Raises ValueError for what is none.
    """
    email = text.strip().lower()
    if len(email) > _LONGEST or not email.isprintable() or not _is_address(email):
        raise ValueError("must be an address such as ana@example.com")
    return email


def find_email(text: str) -> str | None:
    """Return the same; None for what is no address."""
    try:
        return canonical_email(text)
    except ValueError:
        return None
