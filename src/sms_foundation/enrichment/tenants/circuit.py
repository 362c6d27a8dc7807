"""The decision not to ask a service that is down: thousands of texts would otherwise each wait for it in turn."""

import structlog

from sms_foundation.enrichment.tenants import metrics
from sms_foundation.enrichment.tenants.timing import REAL_TIME, Timing

log = structlog.get_logger(__name__)


class Circuit:
    """Opens after `threshold` failures in a row; after a cool-down one call at a time may probe, and closes it.

    The cool-down lasts `cooldown_s`, half as much more or less, so that instances do not probe in step.
    """

    def __init__(self, *, threshold: int = 5, cooldown_s: float = 4.0, timing: Timing = REAL_TIME) -> None:
        self._threshold = threshold
        self._cooldown_s = cooldown_s
        self._timing = timing
        self._failures_in_a_row = 0
        self._probe_at: float | None = None  # None: closed
        self._is_probing = False

    @property
    def is_open(self) -> bool:
        """True until a call has succeeded again, also while one probes."""
        return self._probe_at is not None

    def admit(self) -> bool:
        """Tell whether a call may be made now; whoever is told yes must `record` how it ended."""
        if self._probe_at is None:
            return True
        if self._is_probing or self._timing.monotonic() < self._probe_at:
            return False
        self._is_probing = True
        return True

    def record(self, *, is_success: bool) -> None:
        """Take note of how an admitted call ended."""
        if is_success:
            self._close()
        elif self._is_probing or self._probe_at is None:
            self._note_failure()
        # Otherwise it is a call from before the circuit opened, and no reason to start the cool-down anew.

    def retry_after_s(self) -> float:
        """Return when a refused caller should come back: some time after the next probe, spread over a cool-down."""
        until_probe_s = max(0.0, (self._probe_at or 0.0) - self._timing.monotonic())
        return until_probe_s + self._timing.uniform(0.0, self._cooldown_s)

    def _note_failure(self) -> None:
        self._failures_in_a_row += 1
        if self._failures_in_a_row < self._threshold:
            return
        cooldown_s = self._cooldown_s * self._timing.uniform(0.5, 1.5)
        if self._probe_at is None:
            log.warning("tenants.circuit.opened", failures=self._failures_in_a_row, cooldown_s=round(cooldown_s, 1))
            metrics.CIRCUIT_OPEN.set(1)
        self._probe_at = self._timing.monotonic() + cooldown_s
        self._is_probing = False

    def _close(self) -> None:
        if self._probe_at is not None:
            log.info("tenants.circuit.closed")
            metrics.CIRCUIT_OPEN.set(0)
        self._failures_in_a_row = 0
        self._probe_at = None
        self._is_probing = False
