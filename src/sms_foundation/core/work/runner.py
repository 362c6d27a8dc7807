"""The loop that runs due work: inside `serve` beside the requests, or alone in `worker`.

Requests come first. While the edge is busy the runner starts only a trickle; what it leaves is in the table, not lost.
"""

import asyncio
import heapq
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from typing import TypeVar
from uuid import UUID, uuid4

import structlog

from sms_foundation.core.batching import Batcher, Write
from sms_foundation.core.clock import monotonic
from sms_foundation.core.db import Database, explain_outage, is_outage
from sms_foundation.core.saturation import Read, Use
from sms_foundation.core.tracing.context import resume
from sms_foundation.core.tracing.tracer import Attribute, SpanKind, span
from sms_foundation.core.work import queue
from sms_foundation.core.work.metrics import WORK_RUNS, WORK_SECONDS, WORK_TAKEN_OVER
from sms_foundation.core.work.queue import Lane, Priority, Work
from sms_foundation.core.work.retry import backoff

log = structlog.get_logger(__name__)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Done:
    """The work is done."""


@dataclass(frozen=True, slots=True)
class Settled:
    """The handler has written what becomes of its row itself, in the transaction of its own effects.

    `has_made_due`: with it, work has become due that should not wait for the next look.
    """

    has_made_due: bool = False


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


@dataclass(frozen=True, slots=True)
class Later:
    """It was not the row's turn: try again after `delay`, as if it had not been started."""

    delay: timedelta
    reason: str


Outcome = Done | Settled | Retry | Again | Later
Handler = Callable[[Work], Awaitable[Outcome]]

_FAILURES = frozenset({"retry", "dead", "unrecorded"})
# Attempts that an outage can use up: after it, work is tried within about a minute, and has most of its attempts left.
_OUTAGE_ATTEMPTS = 5

# While the edge is busy: enough to show life and keep the first texts of a burst from waiting for its end. Some at
# once, because together they cost a third of what they cost one by one.
_TRICKLE_ROWS = 10
_TRICKLE_INTERVAL_S = 0.25

# Claims that follow one another at once would mostly be empty: what becomes due meanwhile goes into the next one.
_CLAIM_INTERVAL_S = 0.01
# How soon to look again at a lane that had no room.
_ROOM_INTERVAL_S = 0.05

Room = Callable[[str, Priority], int]
_Group = list[tuple[str, Priority]]


def _always(_kind: str, _priority: Priority) -> int:
    return 1_000_000


@dataclass(frozen=True, slots=True, order=True)
class _Ready:
    """A leased row that waits for its start: urgent ones first, then in the order of arrival."""

    priority: Priority
    position: int
    work: Work = field(compare=False)
    received: float = field(compare=False)


class WorkRunner:
    """Runs due rows of the kinds it has handlers for, `concurrency` at a time, urgent ones first.

    A handler gets a leased row and returns what became of it; an exception counts as a failure to be retried. It has
    half the lease for one run, so a slow run ends before somebody else starts the same row.

    `priorities` names the priorities under which rows of a kind exist; of one not named there only normal ones.
    `reserved` of the runs at once are for urgent rows alone. `room(kind, priority)` tells how many more rows it makes
    sense to start now, where something other than time limits them. `trickle_rows` is how many that are not urgent
    still start in a quarter of a second while the edge is busy.
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
        priorities: Mapping[str, Iterable[Priority]] | None = None,
        reserved: int = 0,
        room: Room = _always,
        trickle_rows: int = _TRICKLE_ROWS,
    ) -> None:
        self._database = database
        self._tracer = database.tracer
        self._handlers = handlers
        priorities = priorities or {}
        self._lanes = sorted(
            ((kind, each) for kind in handlers for each in priorities.get(kind, (Priority.NORMAL,))),
            key=lambda lane: (lane[1], lane[0]),
        )
        if reserved >= concurrency:
            raise ValueError("some of the runs at once must be left to what is not urgent")
        self._concurrency = concurrency
        self._reserved = reserved
        self._trickle_rows = trickle_rows
        self._room_of = room
        self._poll_s = poll_s
        self._max_attempts = max_attempts
        self._is_edge_busy = is_edge_busy
        self.lease = timedelta(seconds=lease_s)
        self.lease_token: UUID = uuid4()
        self._capacity = 8 * concurrency
        self._ready: list[_Ready] = []
        self._positions = count()
        self._running: set[asyncio.Task[None]] = set()
        # Urgent lanes are claimed by themselves: however much there is to walk through in the others, they are not.
        urgent = [lane for lane in self._lanes if lane[1] is Priority.URGENT]
        rest = [lane for lane in self._lanes if lane[1] is not Priority.URGENT]
        self._wakes = {id(lanes): asyncio.Event() for lanes in (urgent, rest)}
        self._lane_groups = [lanes for lanes in (rest, urgent) if lanes]
        self._gate = asyncio.Lock()
        self._next_trickle = 0.0
        self._trickle_left = 0
        self._finisher = self._batcher("work_finish", self._finish_batch)
        self._postponer = self._batcher("work_postpone", self._postpone_batch)
        self._feeders: list[asyncio.Task[None]] = []
        self._is_full = False
        self._is_stopping = False

    def start(self) -> None:
        """Begin to claim and run."""
        self._feeders = [
            asyncio.create_task(self._feed(lanes, takes_over=index == 0), name=f"work-feeder-{index}")
            for index, lanes in enumerate(self._lane_groups)
        ]

    @property
    def room(self) -> int:
        """How many rows could be offered now."""
        return 0 if self._is_stopping or not self._feeders else max(self._capacity - len(self._ready), 0)

    def use(self) -> Use:
        """Tell how many of the runs at once are under way, and how many leased rows wait here for theirs."""
        return Use(self._concurrency, len(self._running), len(self._ready))

    @property
    def queues(self) -> dict[str, Read]:
        """What it collects to write together, by what that does to a row."""
        return {"finish": self._finisher.use, "postpone": self._postponer.use}

    @property
    def is_running(self) -> bool:
        """Whether it claims and runs: from `start` to `stop`, unless it has died."""
        return bool(self._feeders) and not self._is_stopping and not self.has_died

    @property
    def has_died(self) -> bool:
        """Whether a loop that should run until `stop` has ended before: due rows are left lying, and nothing here
        would ever notice."""
        return not self._is_stopping and any(feeder.done() for feeder in self._feeders)

    async def offer(self, work: Work) -> None:
        """Queue a row that was just written and is leased to us already.

        Taken even without room: whoever asked for room counted on it, and nobody else could run the row before its
        lease has run out. Once stopping, the lease is given up with all others.
        """
        if not self._is_stopping:
            self._add(work)
            self._start_ready()

    def wake(self) -> None:
        """Look for due rows now instead of at the next poll."""
        for event in self._wakes.values():
            event.set()

    async def stop(self, timeout_s: float) -> None:
        """Claim nothing more, let what runs finish for a little more than half of `timeout_s`, hand the rest back.

        Returns within `timeout_s`, however silent the database is.
        """
        self._is_stopping = True
        if not self._feeders:
            return
        for feeder in self._feeders:
            feeder.cancel()
        step_s = timeout_s * 0.1
        waiting, self._ready = [each.work for each in self._ready], []
        if waiting:
            await _try_within(step_s, self._give_back(waiting))
        if self._running:
            _, late = await asyncio.wait(self._running, timeout=timeout_s * 0.55)
            for task in late:
                task.cancel()
        await asyncio.wait([*self._feeders, *self._running], timeout=step_s)
        await _try_within(step_s, self._close_batchers())
        # Also what was interrupted, and what a claim had leased whose answer nobody waited for.
        await _try_within(step_s, self._release())

    async def _feed(self, group: _Group, *, takes_over: bool) -> None:
        wake = self._wakes[id(group)]
        last_take_over = 0.0
        failures = 0
        while True:
            try:
                if takes_over and monotonic() - last_take_over > self.lease.total_seconds() / 4:
                    last_take_over = monotonic()
                    await self._take_over()
                pause_s = await self._claim_and_wait_time(group)
                failures = 0
            except Exception as error:  # noqa: BLE001  # the loop outlives any failure of one round
                failures += 1
                if failures in (1, 10) or failures % 100 == 0:
                    log.warning("work.claim_failed", error=explain_outage(error), failures=failures)
                pause_s = backoff(failures, base=timedelta(seconds=0.5), cap=timedelta(seconds=10)).total_seconds()
            if pause_s > _CLAIM_INTERVAL_S:
                await asyncio.sleep(_CLAIM_INTERVAL_S)
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause_s - _CLAIM_INTERVAL_S):
                        await wake.wait()
            else:
                await asyncio.sleep(pause_s)
            wake.clear()

    async def _claim_and_wait_time(self, group: _Group) -> float:
        lanes, limit, rooms = self._open_lanes(group)
        if not lanes:
            return _ROOM_INTERVAL_S if rooms else 2 * _CLAIM_INTERVAL_S  # busy: look again when there is room
        async with self._database.connection() as connection:
            claimed = await queue.claim(
                connection, lanes=lanes, limit=limit, lease_token=self.lease_token, lease=self.lease
            )
            counts = Counter((work.kind, work.priority) for work in claimed)
            has_more = len(claimed) == limit or any(
                counts[lane.kind, lane.priority] == lane.room
                for lane in lanes
                if (lane.kind, lane.priority) not in rooms
            )
            seconds = None if has_more else await queue.seconds_until_next(connection, lanes=lanes)
        for work in claimed:
            self._add(work)
        self._start_ready()
        if has_more:
            return 0.0
        # Rows that are due, yet blocked behind another of their order_key, are looked for when that one ends.
        pause_s = self._poll_s if seconds is None else min(self._poll_s, max(seconds, 0.0))
        # A lane that gave all there was room for is asked again when there may be room once more, and not sooner.
        is_held_back = any(counts[lane] == max(room, 0) for lane, room in rooms.items())
        return min(pause_s, _ROOM_INTERVAL_S) if is_held_back else pause_s

    def _open_lanes(self, group: _Group) -> tuple[list[Lane], int, dict[tuple[str, Priority], int]]:
        """Return the lanes to claim from, how much at most in all, and the room of those that `room` limits."""
        wanted = max(self._capacity // 2 - len(self._ready), 0)
        if group[0][1] is not Priority.URGENT:
            self._is_full = not wanted
        lanes: list[Lane] = []
        rooms: dict[tuple[str, Priority], int] = {}
        for kind, priority in group:
            # What waits here already must not keep an urgent row from being seen.
            most = max(wanted, self._concurrency) if priority is Priority.URGENT else wanted
            room = self._room_of(kind, priority)
            if room < most:
                rooms[kind, priority] = room
            if min(room, most) > 0:
                lanes.append(Lane(kind, priority, min(room, most)))
        return lanes, max([wanted, *(lane.room for lane in lanes)]), rooms

    async def _take_over(self) -> None:
        async with self._database.connection() as connection:
            taken = await queue.take_over_expired(connection, max_attempts=self._max_attempts)
        if taken:
            WORK_TAKEN_OVER.inc(taken)
            log.warning("work.taken_over", rows=taken)

    def _add(self, work: Work) -> None:
        heapq.heappush(self._ready, _Ready(work.priority, next(self._positions), work, monotonic()))

    def _start_ready(self) -> None:
        while self._ready and not self._is_stopping:
            is_urgent = self._ready[0].priority is Priority.URGENT
            if len(self._running) >= (self._concurrency if is_urgent else self._concurrency - self._reserved):
                return
            task = asyncio.create_task(self._start(heapq.heappop(self._ready)))
            self._running.add(task)
            task.add_done_callback(self._on_end)

    def _on_end(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._start_ready()
        if self._is_full and len(self._ready) <= self._capacity // 4:
            self.wake()  # there is room again for more than what is urgent

    async def _start(self, ready: _Ready) -> None:
        if ready.priority is not Priority.URGENT:
            async with self._gate:
                await self._give_way()
        if monotonic() - ready.received > self.lease.total_seconds() / 2:
            return  # too old to start: another process may be about to take it over
        outcome = await self._run(ready.work)
        # The next one of its key may go now; not so when this one stays, for another time.
        is_gone = ready.work.is_ordered and isinstance(outcome, Done | Settled)
        if is_gone or outcome == Settled(has_made_due=True):
            self.wake()

    async def _give_way(self) -> None:
        while self._is_edge_busy() and not self._is_stopping:
            now = monotonic()
            if now >= self._next_trickle:
                self._next_trickle = now + _TRICKLE_INTERVAL_S
                self._trickle_left = self._trickle_rows
            if self._trickle_left:
                self._trickle_left -= 1
                return
            await asyncio.sleep(_TRICKLE_INTERVAL_S / 10)

    async def _run(self, work: Work) -> Outcome:
        # This task was begun wherever a run had ended: nothing of that is to be seen in this one.
        parent = resume(work.cause)
        if self._tracer is None:
            outcome, _ = await self._handle(work)
            return outcome
        attributes: dict[str, Attribute] = {
            "sms.work.kind": work.kind,
            "sms.work.id": work.id,
            "sms.work.attempt": work.attempts,
        }
        with span(self._tracer, f"work {work.kind}", SpanKind.CONSUMER, attributes, parent=parent) as current:
            outcome, label = await self._handle(work)
            current.set({"sms.work.outcome": label})
            if label in _FAILURES:
                current.fail(label)
            return outcome

    async def _handle(self, work: Work) -> tuple[Outcome, str]:
        """Run the handler and record what became of the row, which is also said in a word."""
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
        return outcome, label

    async def _record(self, work: Work, outcome: Outcome) -> str:
        match outcome:
            case Settled():
                return "done"
            case Done():
                await self._finisher.submit(work)
                return "done"
            case Later(delay, reason):
                await self._postponer.submit((work, delay, reason))
                return "later"
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

    async def _finish_batch(self, done: Sequence[Work]) -> list[None]:
        async with self._database.connection() as connection:
            await queue.finish(connection, done)
        return [None] * len(done)

    async def _postpone_batch(self, held: Sequence[tuple[Work, timedelta, str]]) -> list[None]:
        async with self._database.connection() as connection:
            await queue.postpone(connection, held)
        return [None] * len(held)

    def _batcher(self, name: str, write: Write[T, None]) -> Batcher[T, None]:
        return Batcher(
            write,
            is_item_to_blame=lambda error: not is_outage(error),
            max_items=256,
            tracer=self._tracer,
            name=name,
        )

    async def _close_batchers(self) -> None:
        await self._finisher.close()
        await self._postponer.close()

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
