"""The loop that runs due work: inside `serve` beside the requests, or alone in `worker`.

Requests come first. While the edge is busy the runner starts only a trickle; what it leaves is in the table, not lost.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID, uuid4

import structlog

from sms_foundation.core.batching import Batcher
from sms_foundation.core.clock import monotonic
from sms_foundation.core.db import Database, explain_outage, is_outage
from sms_foundation.core.work import queue
from sms_foundation.core.work.metrics import WORK_RUNS, WORK_SECONDS, WORK_TAKEN_OVER
from sms_foundation.core.work.queue import Work
from sms_foundation.core.work.retry import backoff

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Done:
    """The work is done; `is_row_gone`: the handler deleted its row in the transaction of its own effects."""

    is_row_gone: bool = False


@dataclass(frozen=True, slots=True)
class Retry:
    """Try again, after the usual backoff and not before `delay`. `reason` is kept in the row: no content, no numbers.

    `is_outage`: somebody we depend on is away, which is no reason ever to give up.
    """

    reason: str
    delay: timedelta | None = None
    is_outage: bool = False


@dataclass(frozen=True, slots=True)
class Again:
    """Recurring work: done for now, next time after `delay`."""

    delay: timedelta


Outcome = Done | Retry | Again
Handler = Callable[[Work], Awaitable[Outcome]]

# Attempts that an outage can use up: after it, work is tried within about a minute, and has most of its attempts left.
_OUTAGE_ATTEMPTS = 5

# While the edge is busy: enough to show life and keep the first texts of a burst from waiting for its end. Some at
# once, because together they cost a third of what they cost one by one.
_TRICKLE_ROWS = 10
_TRICKLE_INTERVAL_S = 0.25


class WorkRunner:
    """Runs due rows of the kinds it has handlers for, `concurrency` at a time.

    A handler gets a leased row and returns what became of it; an exception counts as a failure to be retried. It has
    half the lease for one run, so a slow run ends before somebody else starts the same row.
    """

    def __init__(
        self,
        database: Database,
        handlers: Mapping[str, Handler],
        *,
        concurrency: int,
        poll_s: float,
        lease_s: float,
        max_attempts: int,
        is_edge_busy: Callable[[], bool] = lambda: False,
    ) -> None:
        self._database = database
        self._handlers = handlers
        self._kinds = sorted(handlers)
        self._concurrency = concurrency
        self._poll_s = poll_s
        self._max_attempts = max_attempts
        self._is_edge_busy = is_edge_busy
        self.lease = timedelta(seconds=lease_s)
        self.lease_token: UUID = uuid4()
        self._capacity = 8 * concurrency
        self._ready: asyncio.Queue[tuple[float, Work]] = asyncio.Queue()
        self._wake = asyncio.Event()
        self._gate = asyncio.Lock()
        self._next_trickle = 0.0
        self._trickle_left = 0
        self._finisher = Batcher(self._finish_batch, is_item_to_blame=lambda error: not is_outage(error), max_items=256)
        self._feeder: asyncio.Task[None] | None = None
        self._consumers: list[asyncio.Task[None]] = []
        self._is_stopping = False

    def start(self) -> None:
        """Begin to claim and run."""
        self._feeder = asyncio.create_task(self._feed(), name="work-feeder")
        self._consumers = [
            asyncio.create_task(self._consume(), name=f"work-{index}") for index in range(self._concurrency)
        ]

    @property
    def room(self) -> int:
        """How many rows could be offered now."""
        return 0 if self._is_stopping or self._feeder is None else max(self._capacity - self._ready.qsize(), 0)

    async def offer(self, work: Work) -> None:
        """Queue a row that was just written and is leased to us already.

        Taken even without room: whoever asked for room counted on it, and nobody else could run the row before its
        lease has run out. Once stopping, the lease is given up with all others.
        """
        if not self._is_stopping:
            self._ready.put_nowait((monotonic(), work))

    def wake(self) -> None:
        """Look for due rows now instead of at the next poll."""
        self._wake.set()

    async def stop(self, timeout_s: float) -> None:
        """Claim nothing more, let what runs finish for a little more than half of `timeout_s`, hand the rest back.

        Returns within `timeout_s`, however silent the database is.
        """
        self._is_stopping = True
        if self._feeder is None:
            return
        self._feeder.cancel()
        step_s = timeout_s * 0.1
        if waiting := self._drop_waiting():
            await _try_within(step_s, self._give_back(waiting))
        for _ in self._consumers:
            self._ready.put_nowait((monotonic(), _STOP))
        _, late = await asyncio.wait(self._consumers, timeout=timeout_s * 0.55)
        for task in late:
            task.cancel()
        await asyncio.wait([self._feeder, *self._consumers], timeout=step_s)
        await _try_within(step_s, self._finisher.close())
        # Also what was interrupted, and what a claim had leased whose answer nobody waited for.
        await _try_within(step_s, self._release())

    def _drop_waiting(self) -> list[Work]:
        dropped = []
        with suppress(asyncio.QueueEmpty):
            while True:
                dropped.append(self._ready.get_nowait()[1])
        return dropped

    async def _feed(self) -> None:
        last_take_over = 0.0
        failures = 0
        while True:
            try:
                if monotonic() - last_take_over > self.lease.total_seconds() / 4:
                    last_take_over = monotonic()
                    await self._take_over()
                pause_s = await self._claim_and_wait_time()
                failures = 0
            except Exception as error:  # noqa: BLE001  # the loop outlives any failure of one round
                failures += 1
                if failures in (1, 10) or failures % 100 == 0:
                    log.warning("work.claim_failed", error=explain_outage(error), failures=failures)
                pause_s = backoff(failures, base=timedelta(seconds=0.5), cap=timedelta(seconds=10)).total_seconds()
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._wake.wait()
            self._wake.clear()

    async def _claim_and_wait_time(self) -> float:
        wanted = self._capacity // 2 - self._ready.qsize()
        if wanted <= 0:
            return 0.02  # busy: look again when consumers have made room
        async with self._database.connection() as connection:
            claimed = await queue.claim(
                connection, kinds=self._kinds, limit=wanted, lease_token=self.lease_token, lease=self.lease
            )
            seconds = None
            if len(claimed) < wanted:
                seconds = await queue.seconds_until_next(connection, kinds=self._kinds)
        now = monotonic()
        for work in claimed:
            self._ready.put_nowait((now, work))
        if len(claimed) == wanted:
            return 0.0
        # Rows may be due yet blocked behind another of their order_key: never spin on them.
        return self._poll_s if seconds is None else min(self._poll_s, max(seconds, 0.05))

    async def _take_over(self) -> None:
        async with self._database.connection() as connection:
            taken = await queue.take_over_expired(connection, max_attempts=self._max_attempts)
        if taken:
            WORK_TAKEN_OVER.inc(taken)
            log.warning("work.taken_over", rows=taken)

    async def _consume(self) -> None:
        while True:
            received, work = await self._ready.get()
            if work is _STOP:
                return
            async with self._gate:
                await self._give_way()
            if monotonic() - received > self.lease.total_seconds() / 2:
                continue  # too old to start: another process may be about to take it over
            await self._run(work)

    async def _give_way(self) -> None:
        while self._is_edge_busy() and not self._is_stopping:
            now = monotonic()
            if now >= self._next_trickle:
                self._next_trickle = now + _TRICKLE_INTERVAL_S
                self._trickle_left = _TRICKLE_ROWS
            if self._trickle_left:
                self._trickle_left -= 1
                return
            await asyncio.sleep(_TRICKLE_INTERVAL_S / 10)

    async def _run(self, work: Work) -> None:
        started = monotonic()
        outcome: Outcome
        try:
            async with asyncio.timeout(self.lease.total_seconds() / 2) as limit:
                outcome = await self._handlers[work.kind](work)
        except Exception as error:  # whatever it is, the row must be retried or put aside
            # The text of an unexpected error may quote a message; its type does not.
            if limit.expired():
                outcome = Retry("took longer than half its lease")
            elif is_outage(error):
                outcome = Retry(explain_outage(error), is_outage=True)
            else:
                outcome = Retry(type(error).__name__)
            if limit.expired():
                log.warning("work.too_slow", kind=work.kind, work_id=work.id, attempts=work.attempts)
            elif not outcome.is_outage:
                log.exception("work.failed", kind=work.kind, work_id=work.id, attempts=work.attempts)
        WORK_SECONDS.labels(work.kind).observe(monotonic() - started)
        try:
            label = await self._record(work, outcome)
        except Exception as error:  # noqa: BLE001  # the lease runs out and the row is run again
            label = "unrecorded"
            log.warning("work.unrecorded", kind=work.kind, work_id=work.id, error=explain_outage(error))
        WORK_RUNS.labels(work.kind, label).inc()

    async def _record(self, work: Work, outcome: Outcome) -> str:
        match outcome:
            case Done(is_row_gone=True):
                return "done"
            case Done():
                await self._finisher.submit(work)
                return "done"
            case Again(delay):
                async with self._database.connection() as connection:
                    await queue.run_again(connection, work, delay=delay)
                return "again"
            case Retry(reason, is_outage=False) if work.attempts >= self._max_attempts:
                log.error("work.dead", kind=work.kind, work_id=work.id, attempts=work.attempts, reason=reason)
                async with self._database.connection() as connection:
                    await queue.put_aside(connection, work, error=reason)
                return "dead"
            case Retry(reason, delay, is_outage):
                at_most = max(min(_OUTAGE_ATTEMPTS, self._max_attempts // 2), 1) if is_outage else None
                async with self._database.connection() as connection:
                    pause = max(delay or timedelta(0), backoff(work.attempts))
                    await queue.retry_later(connection, work, delay=pause, error=reason, attempts_at_most=at_most)
                return "retry"

    async def _finish_batch(self, done: Iterable[Work]) -> list[None]:
        done = list(done)
        async with self._database.connection() as connection:
            await queue.finish(connection, done)
        return [None] * len(done)

    async def _give_back(self, waiting: list[Work]) -> None:
        async with self._database.connection() as connection:
            await queue.give_back(connection, waiting)

    async def _release(self) -> None:
        async with self._database.connection() as connection:
            released = await queue.release(connection, self.lease_token)
        if released:
            log.info("work.released", rows=released)


async def _try_within(timeout_s: float, closing: Coroutine[None, None, None]) -> None:
    # Not `asyncio.timeout`: a cancelled statement waits until the server confirms, which a silent one does not.
    task = asyncio.create_task(closing)
    await asyncio.wait([task], timeout=timeout_s)
    error = task.exception() if task.done() else TimeoutError()
    task.cancel()
    if error is not None:  # shutting down: the leases run out by themselves
        log.warning("work.not_handed_back", error=explain_outage(error))


_STOP = Work(id=0, kind="", ref_id=UUID(int=0), attempts=0, lease_token=UUID(int=0))
