"""What happens later: one heap and one task, however many messages are on their way."""

import asyncio
import heapq
from collections.abc import Callable
from itertools import count
from typing import Final

import structlog

from sms_foundation.simulator.timing import Timing

_log = structlog.get_logger(__name__)

_TICK_S: Final = 0.02
"""Longest sleep while anything is due later: what is planned meanwhile may come sooner."""


class Schedule:
    """Calls plain functions when their time has come, those of one moment in the order in which they were planned."""

    def __init__(self, timing: Timing) -> None:
        self._timing = timing
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._task: asyncio.Task[None] | None = None

    def at(self, moment: float, action: Callable[[], None]) -> None:
        """Call `action` at `moment` of the monotonic clock, or soon after it. Needs a running loop."""
        heapq.heappush(self._due, (moment, next(self._order), action))
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    def __len__(self) -> int:
        return len(self._due)

    async def close(self) -> None:
        """Forget what is still to come. Idempotent."""
        self._due.clear()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        try:
            while self._due:
                wait_s = self._due[0][0] - self._timing.monotonic()
                if wait_s > 0:
                    await self._timing.sleep(min(wait_s, _TICK_S))
                else:
                    self._run_one()
        finally:
            self._task = None

    def _run_one(self) -> None:
        _, _, action = heapq.heappop(self._due)
        try:
            action()
        except Exception:  # noqa: BLE001  # logged; one broken message must not stop all the others
            _log.exception("simulator.schedule.broken")
