"""When a message that no provider took is tried again."""

from datetime import timedelta
from typing import Final

from sms_foundation.core.work.retry import backoff

MAX_RETRIES: Final = 5
BASE: Final = timedelta(seconds=2)
CAP: Final = timedelta(seconds=60)  # beyond what five retries come to; for whoever allows more
LONGEST_RETRY_AFTER: Final = timedelta(minutes=15)  # a provider that asks for more is tried again nevertheless


def next_try(failures: int, *, retry_after_s: float | None, spread: float | None = None) -> timedelta | None:
    """Return how long to wait after the `failures`-th transient failure (>= 1) of a message; None: no more retries.

    Two seconds, doubled each time up to a minute, of which at most half is taken off by chance (`spread` as in
    `backoff`); never less than the provider asked for with `retry_after_s`, as far as that is bearable.
    """
    if failures > MAX_RETRIES:
        return None
    pause = backoff(failures, base=BASE, cap=CAP, spread=spread)
    # In this order NaN counts as nothing asked for.
    asked_s = min(max(0.0, retry_after_s or 0.0), LONGEST_RETRY_AFTER.total_seconds())
    return max(pause, timedelta(seconds=asked_s))
