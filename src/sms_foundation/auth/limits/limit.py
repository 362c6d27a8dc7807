"""What `60/1h` means: how much passes, how long whoever is over it waits, and what the RateLimit headers say. Pure."""

from dataclasses import dataclass
from functools import lru_cache
from math import ceil
from typing import Final

from sms_foundation.auth.refusals import Headers
from sms_foundation.core.rates.base import Denied, Outcome, Take

_US: Final = 1_000_000
_UNIT_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True, slots=True)
class Limit:
    """`count` units per `window_s` seconds, as GCRA counts them: each unit comes back `interval_us` after it was used.

    So `count` may be used at once, and in any stretch of time never more than `count` and what came back in it.
    """

    text: str
    count: int
    window_s: int
    # Rounded up: a limit may be a hair stricter than it says, never looser. None is finer than a microsecond.
    interval_us: int
    fixed_headers: Headers

    def take(self, key: str, units: int = 1, *, already: int = 0) -> Take:
        """Return what to ask `core.rates`: `units` (>= 1) now, or not at all. Limits of one key never share a cell.

        `already`: so many units were used for the same request. One that needs more than `count` in all passes when
        nothing else is used; what it took beyond `count` has to come back before anything else passes.
        """
        horizon_us = max(self.count - units, already) * self.interval_us
        return Take(f"{key}:{self.text}", units * self.interval_us, horizon_us)

    def used_us(self, outcome: Outcome, units: int = 1, *, already: int = 0) -> int:
        """Return how long it takes from now until everything has come back, after a `take` with this outcome."""
        if isinstance(outcome, Denied):
            return round(outcome.wait_s * _US) + max(self.count - units, already) * self.interval_us
        return round(outcome.delay_s * _US) + units * self.interval_us

    def headers(self, used_us: int) -> Headers:
        """Return the RateLimit headers of an answer."""
        # Source: https://datatracker.ietf.org/doc/html/draft-ietf-httpapi-ratelimit-headers-06
        remaining = max(self.count * self.interval_us - used_us, 0) // self.interval_us
        return (
            *self.fixed_headers,
            (b"ratelimit-remaining", b"%d" % remaining),
            (b"ratelimit-reset", b"%d" % -(-used_us // _US)),
        )


@lru_cache(maxsize=1000)
def parse_limit(text: str) -> Limit | None:
    """Read `60/1h`; `off` is None. Raises ValueError for anything that is no `core.config.RateText`."""
    if text == "off":
        return None
    count_text, _, window = text.partition("/")
    count, window_s = int(count_text), int(window[:-1]) * _UNIT_S[window[-1]]
    policy = f"{count};w={window_s}".encode()
    return Limit(
        text=text,
        count=count,
        window_s=window_s,
        interval_us=-(-window_s * _US // count),
        fixed_headers=((b"ratelimit-limit", b"%d" % count), (b"ratelimit-policy", policy)),
    )


def whole_seconds(wait_s: float) -> int:
    """Return what Retry-After says to somebody who has to wait `wait_s` seconds: never too early, 1 at least."""
    return max(1, ceil(wait_s))
