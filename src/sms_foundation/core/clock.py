"""The one clock: aware UTC wall time, and a monotonic one for durations."""

import time
from datetime import UTC, datetime

monotonic = time.monotonic


def utc_now() -> datetime:
    """Return the current time as an aware datetime in UTC."""
    return datetime.now(UTC)
