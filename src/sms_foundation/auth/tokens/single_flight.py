"""Work that any number of callers wait for, done once at a time."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress


class SingleFlight:
    """Runs `work` for whoever asks; who asks while it runs gets the run that is under way."""

    def __init__(self, work: Callable[[], Awaitable[None]]) -> None:
        self._work = work
        self._task: asyncio.Task[None] | None = None

    @property
    def is_running(self) -> bool:
        return self._task is not None

    def start(self) -> asyncio.Task[None]:
        """Return the run that is under way, or begin one. Nobody has to wait for it."""
        if self._task is None:
            self._task = asyncio.create_task(self._run())
            self._task.add_done_callback(_look_at)
        return self._task

    async def join(self) -> None:
        """Wait for a run; cancelling the caller leaves it to the others. Raises what `work` does."""
        await asyncio.shield(self.start())

    async def close(self) -> None:
        """Cancel the run that is under way."""
        if (task := self._task) is not None:
            task.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await task

    async def _run(self) -> None:
        try:
            await self._work()
        finally:
            self._task = None


def _look_at(task: asyncio.Task[None]) -> None:
    """Whoever waits for it gets the error; where nobody does, `work` has said what there is to say."""
    if not task.cancelled():
        task.exception()
