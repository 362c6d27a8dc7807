"""Where time and chance come from, so that tests need neither."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from sms_foundation.core import clock


@dataclass(frozen=True, slots=True)
class Timing:
    """`monotonic` and `sleep` count seconds; `uniform(a, b)` returns a number between `a` and `b`."""

    monotonic: Callable[[], float] = clock.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    uniform: Callable[[float, float], float] = random.uniform


REAL_TIME: Final = Timing()
