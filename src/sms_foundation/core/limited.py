"""Asking somebody who may never answer, without ever waiting for long and without ever asking twice at once."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Limited(Generic[T]):
    """Runs `ask` once at a time. A call waits `limit_s` at most; one that comes meanwhile shares the same run.

    A run that takes longer is left to end by itself: cancelling it could take as long, because a statement that is
    cancelled waits for the server's word. It must have a limit of its own.
    """

    def __init__(self, ask: Callable[[], Awaitable[T]], *, limit_s: float) -> None:
        self._ask = ask
        self._limit_s = limit_s
        self._running: asyncio.Task[T] | None = None

    async def __call__(self) -> T:
        """Return the answer. Raises what `ask` raises, and TimeoutError."""
        running = self._running
        if running is None or running.done():
            running = self._running = asyncio.create_task(self._run())
        await asyncio.wait([running], timeout=self._limit_s)
        if not running.done():
            raise TimeoutError
        return running.result()

    async def _run(self) -> T:
        return await self._ask()
