"""When a failed request is repeated. Written here because stamina offers no clock, sleep or jitter to inject."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from sms_foundation.enrichment.tenants.errors import AttemptFailedError
from sms_foundation.enrichment.tenants.timing import Timing

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how long apart; `growth` lets the three waits of four attempts span the whole range."""

    attempts: int = 4
    shortest_s: float = 0.1
    longest_s: float = 2.0
    growth: float = 4.0

    def delay_s(
        self, failed_attempts: int, failure: AttemptFailedError, uniform: Callable[[float, float], float]
    ) -> float | None:
        """Return how long to wait after the `failed_attempts`-th failure (from 1); None: give up.

        Full jitter between the shortest wait and an exponentially growing ceiling, at least what the service asked for
        with Retry-After, never more than the longest wait.
        """
        if failed_attempts >= self.attempts or not failure.is_worth_repeating:
            return None
        ceiling_s = min(self.longest_s, self.shortest_s * self.growth**failed_attempts)
        return max(uniform(self.shortest_s, ceiling_s), min(failure.retry_after_s or 0.0, self.longest_s))


async def repeat_while_useful(
    attempt: Callable[[], Awaitable[T]],
    *,
    policy: RetryPolicy,
    timing: Timing,
    is_hopeless: Callable[[], bool] = lambda: False,
) -> T:
    """Return the result of `attempt`, repeated by `policy` while it raises AttemptFailedError.

    `is_hopeless` is asked after every failure; once it says yes nothing is repeated. Raises the last failure.
    """
    failed_attempts = 0
    while True:
        try:
            return await attempt()
        except AttemptFailedError as failure:
            failed_attempts += 1
            delay_s = policy.delay_s(failed_attempts, failure, timing.uniform)
            if delay_s is None or is_hopeless():
                raise
        await timing.sleep(delay_s)
