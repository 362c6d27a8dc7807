"""Wrong credentials, counted by where they come from."""

from collections import OrderedDict

from sms_foundation.auth.address import group_of
from sms_foundation.auth.limits.limit import parse_limit, whole_seconds
from sms_foundation.auth.limits.meter import Meter
from sms_foundation.auth.metrics import AUTH_FAILURES, LIMITED
from sms_foundation.auth.refusals import RateLimitedError, Reason
from sms_foundation.core.clock import monotonic
from sms_foundation.core.rates.base import Denied

_MOST_KEPT = 10_000


class FailureLimit:
    """Refuses an address for a while that had too many wrong credentials; IPv6 addresses of one /64 count as one.

    Counted over all instances. Each finds out by itself, with the next failure it sees, and remembers in memory.
    """

    def __init__(self, meter: Meter, limit: str) -> None:
        self._meter = meter
        self._limit = parse_limit(limit)
        self._blocked_until: OrderedDict[str, float] = OrderedDict()

    def check(self, address: str) -> None:
        """Raise RateLimitedError while `address` has had too many; asks nobody."""
        if not self._blocked_until:
            return
        group = group_of(address)
        until = self._blocked_until.get(group)
        if until is None:
            return
        if (wait_s := until - monotonic()) > 0:
            raise _error(wait_s)
        del self._blocked_until[group]

    async def count(self, address: str) -> None:
        """Count one more failure. Raises RateLimitedError when it is one too many."""
        if self._limit is None:
            return
        group = group_of(address)
        outcome = await self._meter.take("address", self._limit.take(f"failures:{group}"))
        if isinstance(outcome, Denied):
            self._blocked_until[group] = monotonic() + outcome.wait_s
            while len(self._blocked_until) > _MOST_KEPT:
                self._blocked_until.popitem(last=False)
            raise _error(outcome.wait_s)


def _error(wait_s: float) -> RateLimitedError:
    AUTH_FAILURES.labels(Reason.BLOCKED_ADDRESS).inc()
    LIMITED.labels("address").inc()
    return RateLimitedError("too many wrong credentials from this address", retry_after_s=whole_seconds(wait_s))
