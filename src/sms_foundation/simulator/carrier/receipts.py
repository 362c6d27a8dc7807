"""Receipts on their way back to the client: delivered by the dialect, a bounded number at once, retried."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import structlog

from sms_foundation.simulator.carrier.messages import Message, Stage

_log = structlog.get_logger(__name__)

MAX_IN_FLIGHT: Final = 64
MAX_TRIES: Final = 6
_FIRST_RETRY_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Receipt:
    """One report about a message, as it was when the report was made out."""

    message: Message
    stage: Stage
    at: datetime
    error_code: int | None = None
    tries: int = 0
    """How often it was delivered in vain so far."""


Reporter = Callable[[Receipt], Awaitable[bool]]
"""Delivers a receipt in a provider's dialect; False: the service did not take it, try again later. Does not raise."""


class ReceiptDesk:
    """A queue of receipts and at most `MAX_IN_FLIGHT` tasks that work it off; they end when it is empty."""

    def __init__(self, later: Callable[[float, Callable[[], None]], None]) -> None:
        """`later` calls a function after so many seconds."""
        self._later = later
        self._reporters: dict[str, Reporter] = {}
        self._queue: deque[Receipt] = deque()
        self._workers: set[asyncio.Task[None]] = set()
        self.delivered = 0
        self.given_up = 0

    def use(self, reporters: Mapping[str, Reporter]) -> None:
        """Deliver each provider's receipts through its reporter."""
        self._reporters.update(reporters)

    def __len__(self) -> int:
        return len(self._queue) + len(self._workers)

    def hand_in(self, receipt: Receipt) -> None:
        """Queue a receipt. Needs a running loop."""
        self._queue.append(receipt)
        if len(self._workers) < MAX_IN_FLIGHT:
            worker = asyncio.get_running_loop().create_task(self._work())
            self._workers.add(worker)
            worker.add_done_callback(self._workers.discard)

    async def close(self) -> None:
        """Drop what is queued and stop what is under way. Idempotent."""
        self._queue.clear()
        for worker in self._workers:
            worker.cancel()
        if self._workers:
            await asyncio.wait(self._workers)

    async def _work(self) -> None:
        while self._queue:
            receipt = self._queue.popleft()
            try:
                is_taken = await self._reporters[receipt.message.provider](receipt)
            except Exception:  # noqa: BLE001  # logged; one broken receipt must not stop all the others
                _log.exception("simulator.receipt.broken", provider=receipt.message.provider)
                continue
            if is_taken:
                self.delivered += 1
            else:
                self._try_later(receipt)

    def _try_later(self, receipt: Receipt) -> None:
        tries = receipt.tries + 1
        if tries == MAX_TRIES:
            self.given_up += 1
            _log.warning("simulator.receipt.given_up", provider=receipt.message.provider, stage=receipt.stage)
            return
        again = Receipt(receipt.message, receipt.stage, receipt.at, receipt.error_code, tries)
        self._later(_FIRST_RETRY_S * 2 ** (tries - 1), lambda: self.hand_in(again))
