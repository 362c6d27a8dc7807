"""Time as the simulator sees it, so that a test can replace all waiting at once."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime

from sms_foundation.core.clock import monotonic, utc_now


@dataclass(frozen=True, slots=True)
class Timing:
    """The clocks and the sleep that every part of one simulator shares."""

    now: Callable[[], datetime] = utc_now
    """Aware UTC wall time."""
    monotonic: Callable[[], float] = monotonic
    """Seconds from an arbitrary origin; for durations and deadlines."""
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
    """Wait so many seconds, letting others run even for zero."""
