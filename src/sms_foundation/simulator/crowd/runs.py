"""A crowd at work: one run at a time, in the background, with its figures."""

import asyncio
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from itertools import islice

import structlog

from sms_foundation.core.errors import ValidationError
from sms_foundation.simulator.account import SimulatedAccount, Text
from sms_foundation.simulator.crowd.generator import (
    DEFAULT_MIX,
    DEFAULT_STRANGERS,
    CrowdText,
    Voice,
    generate_crowd,
    pace,
)
from sms_foundation.simulator.errors import ConflictError
from sms_foundation.simulator.journal import Delivery
from sms_foundation.simulator.timing import Timing

_log = structlog.get_logger(__name__)

MAX_COUNT = 100_000
MAX_RATE_PER_S = 1_000
MAX_IN_FLIGHT = 64
_LATENCIES_KEPT = 10_000


class RunState(StrEnum):
    RUNNING = "running"
    FINISHED = "finished"
    STOPPED = "stopped"
    """By request, or because the simulator ended."""
    BROKEN = "broken"
    """By a fault of the simulator; its log tells."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CrowdPlan:
    count: int
    """Texts, 1 to `MAX_COUNT`."""
    rate_per_s: float
    """Above 0, at most `MAX_RATE_PER_S`; a service that answers slower lowers it (`MAX_IN_FLIGHT`)."""
    seed: int = 1
    mix: Mapping[Voice, float] = field(default_factory=lambda: dict(DEFAULT_MIX))
    strangers: int = DEFAULT_STRANGERS


@dataclass(slots=True)
class CrowdRun:
    """Figures of one run, the last one included while it goes on."""

    plan: CrowdPlan
    started_at: datetime
    state: RunState = RunState.RUNNING
    finished_at: datetime | None = None
    sent: int = 0
    """Texts handed over for delivery; `delivered` and `failed` follow when their answers come."""
    delivered: int = 0
    failed: int = 0
    by_language: Counter[str] = field(default_factory=Counter)
    """What was sent."""
    by_status_code: Counter[str] = field(default_factory=Counter)
    """Last HTTP status of each text, `none` where no answer came."""
    by_error_code: Counter[str] = field(default_factory=Counter)
    """Twilio's debugger codes of the failed ones."""
    latencies_ms: deque[float] = field(default_factory=lambda: deque(maxlen=_LATENCIES_KEPT))

    def record(self, delivery: Delivery) -> None:
        self.delivered += delivery.is_delivered
        self.failed += not delivery.is_delivered
        self.by_status_code[str(delivery.status_code or "none")] += 1
        if delivery.error_code is not None:
            self.by_error_code[str(delivery.error_code.value)] += 1
        self.latencies_ms.append(delivery.latency_ms)

    def latency_ms(self, share: float) -> float | None:
        """Return the latency that `share` (0 to 1) of the last deliveries stayed within; None before the first."""
        ordered = sorted(self.latencies_ms)
        return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else None


class CrowdRuns:
    """Starts and stops crowds; remembers the last run."""

    def __init__(self, account: SimulatedAccount, timing: Timing) -> None:
        self._account = account
        self._timing = timing
        self._task: asyncio.Task[None] | None = None
        self.last: CrowdRun | None = None

    def start(self, plan: CrowdPlan) -> CrowdRun:
        """Start a run in the background. Raises ConflictError while one goes on, ValidationError for an empty mix."""
        if self._task is not None and not self._task.done():
            raise ConflictError("a crowd is already running: wait for it, or stop it with DELETE /simulator/crowd")
        if not any(weight > 0 for weight in plan.mix.values()):
            raise ValidationError("mix: at least one language needs a weight above 0")
        run = CrowdRun(plan, self._timing.now())
        self.last = run
        self._task = asyncio.create_task(self._play(run), name="simulator-crowd")
        return run

    async def close(self) -> None:
        """Stop the run, if one goes on; texts already on their way are given up."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _play(self, run: CrowdRun) -> None:
        end = RunState.BROKEN
        try:
            await self._send_all(run)
            end = RunState.FINISHED
        except asyncio.CancelledError:
            end = RunState.STOPPED
            raise
        except Exception:  # noqa: BLE001  # nobody waits for this task: what broke it would be lost
            _log.exception("simulator.crowd.broken", seed=run.plan.seed)
        finally:
            run.state, run.finished_at = end, self._timing.now()
            _log.info("simulator.crowd.ended", state=end, sent=run.sent, delivered=run.delivered, failed=run.failed)

    async def _send_all(self, run: CrowdRun) -> None:
        plan = run.plan
        texts = islice(generate_crowd(plan.seed, mix=plan.mix, strangers=plan.strangers), plan.count)
        free_places = asyncio.Semaphore(MAX_IN_FLIGHT)
        async with asyncio.TaskGroup() as sending:
            async for text in pace(texts, rate_per_s=plan.rate_per_s, timing=self._timing):
                await free_places.acquire()
                run.sent += 1
                run.by_language[text.language] += 1
                sending.create_task(self._send(text, run)).add_done_callback(lambda _: free_places.release())

    async def _send(self, text: CrowdText, run: CrowdRun) -> None:
        for delivery in await self._account.send_text(
            Text(sender=text.sender, body=text.body, media_urls=text.media_urls)
        ):
            run.record(delivery)
