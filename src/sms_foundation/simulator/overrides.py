"""Twilio's connection overrides: how often and how long it tries a webhook URL, written in the URL's fragment.

Source: https://www.twilio.com/docs/usage/webhooks/webhooks-connection-overrides (read November 2026).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from urllib.parse import parse_qsl


class RetryOn(StrEnum):
    """The kinds of failure a retry policy (`rp`) may name."""

    CLIENT_ERROR = "4xx"
    SERVER_ERROR = "5xx"
    CONNECT = "ct"
    """TCP or TLS could not be established in time."""
    READ = "rt"
    """No answer, or not all of it, in time."""


_ALL = frozenset(RetryOn)


@dataclass(frozen=True, slots=True)
class ConnectionOverrides:
    """One URL's limits; the defaults are Twilio's."""

    connect_timeout_ms: int = 5000
    read_timeout_ms: int = 15000
    total_timeout_ms: int = 15000
    """For all tries of this URL together."""
    retry_count: int = 1
    retry_policy: frozenset[RetryOn] = frozenset({RetryOn.CONNECT})


def split_overrides(url: str) -> tuple[str, ConnectionOverrides]:
    """Return `url` without its fragment, and the overrides the fragment asks for.

    What is outside its documented range, not a number, or unknown (also `sni` and `e`, which mean nothing here) leaves
    the default standing.
    """
    address, _, fragment = url.partition("#")
    return address, _read_fragment(fragment)


@lru_cache(maxsize=64)  # the addresses differ from message to message, the fragments hardly ever
def _read_fragment(fragment: str) -> ConnectionOverrides:
    given = dict(parse_qsl(fragment))
    default = ConnectionOverrides()
    return ConnectionOverrides(
        connect_timeout_ms=_within(given.get("ct"), 100, 10_000, default.connect_timeout_ms),
        read_timeout_ms=_within(given.get("rt"), 100, 15_000, default.read_timeout_ms),
        total_timeout_ms=_within(given.get("tt"), 100, 15_000, default.total_timeout_ms),
        retry_count=_within(given.get("rc"), 0, 5, default.retry_count),
        retry_policy=_policy(given.get("rp", "").split(",")) or default.retry_policy,
    )


def _within(text: str | None, low: int, high: int, default: int) -> int:
    # isascii: int() also reads Arabic digits, and isdigit() is true for a superscript that int() refuses
    if text is None or not (text.isascii() and text.isdigit()):
        return default
    return int(text) if len(text) <= len(str(high)) and low <= int(text) <= high else default


def _policy(names: Iterable[str]) -> frozenset[RetryOn]:
    names = {name.strip().lower() for name in names}
    return _ALL if "all" in names else frozenset(kind for kind in RetryOn if kind in names)
