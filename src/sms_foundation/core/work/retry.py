"""When to try again: one pure function, used for every kind of work."""

import random
from datetime import timedelta

BASE = timedelta(seconds=2)
CAP = timedelta(hours=1)


def backoff(attempts: int, *, base: timedelta = BASE, cap: timedelta = CAP, spread: float | None = None) -> timedelta:
    """Return the wait before the next try after `attempts` (>= 1) starts: `base`, doubled each time, at most `cap`.

    The result is spread over 50 to 100 % of that, so that what failed together does not come back together; `spread`
    (0..1) fixes the position in that range and is drawn at random when None.
    """
    exponent = min(max(attempts, 1) - 1, 32)
    full = min(base * (1 << exponent), cap)
    position = random.random() if spread is None else spread  # noqa: S311  # jitter, not a secret
    return full * (0.5 + 0.5 * position)
