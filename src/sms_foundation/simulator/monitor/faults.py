"""Misbehaviour of the stand-in, on demand and by share, so that its callers' patience can be tried."""

from dataclasses import dataclass
from enum import StrEnum


class FaultKind(StrEnum):
    STATUS = "status"
    """Answer `status`, with Retry-After when `retry_after_s` is set."""
    HANG = "hang"
    """Say nothing for `hang_s`, then close with a 504."""
    MALFORMED_JSON = "malformed_json"
    """Answer 200 with half a JSON document."""
    EMPTY = "empty"
    """Answer 204 without a body."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultPlan:
    """How to misbehave. The default is not at all."""

    latency_ms: float = 0
    """Waited before every answer, good or bad."""
    share: float = 0
    """Part of the requests that fail, 0 to 1, spread evenly: 0.5 is every second one, starting with the first."""
    kind: FaultKind = FaultKind.STATUS
    status: int = 503
    retry_after_s: int | None = None
    hang_s: float = 30
    remaining: int | None = None
    """Failures until the stand-in behaves again; None: until the plan is changed."""


class FaultSwitch:
    """Says of each request whether it fails; the same plan fails the same requests every time."""

    def __init__(self) -> None:
        self.plan = FaultPlan()
        self.requests = 0
        self.failures = 0
        self._debt = 0.0

    def set_plan(self, plan: FaultPlan) -> None:
        """Start `plan` now, with fresh counters."""
        self.plan = plan
        self.requests = self.failures = 0
        self._debt = 1 - plan.share if plan.share else 0.0

    def next_fails(self) -> bool:
        """Count one request and tell whether it fails."""
        self.requests += 1
        self._debt += self.plan.share
        # A hair below 1: ten times 0.1 is 0.9999999999999999.
        if self._debt < 1 - 1e-9 or self.plan.remaining == self.failures:
            return False
        self._debt -= 1
        self.failures += 1
        return True
