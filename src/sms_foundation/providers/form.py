"""Urlencoded forms, decoded without losing anything: what was signed is checked, and shown, exactly as it came."""

from functools import lru_cache
from urllib.parse import unquote_to_bytes

_SHORT = 40

Pairs = list[tuple[str, str]]


def parse_form(body: bytes) -> Pairs:
    """Decode an urlencoded form into (name, value) pairs: blanks, repeats and order kept.

    Bytes that are not UTF-8 survive as `surrogateescape`, so that what was signed can be checked and shown exactly.
    """
    # Twice as fast as urllib's parse_qsl, which decodes names and plain values as well; tests hold the two together.
    pairs = []
    for pair in body.decode("latin-1").split("&"):
        name, _, value = pair.partition("=")
        if pair:
            name = _unquote_again(name) if len(name) <= _SHORT else _unquote(name)
            pairs.append((name, _unquote_again(value) if len(value) <= _SHORT else _unquote(value)))
    return pairs


def _unquote(part: str) -> str:
    return unquote_to_bytes(part.replace("+", " ").encode("latin-1")).decode("utf-8", "surrogateescape")


# Names, the organisation's number, places and the numbers of those who text most come again and again.
_unquote_again = lru_cache(maxsize=8192)(_unquote)


def printable(text: str) -> str:
    """Return `text` as PostgreSQL can store it: NUL and bytes that were not UTF-8 become U+FFFD."""
    if "\0" not in text and text.isascii():
        return text
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace").replace("\0", "\ufffd")
