"""Carrying out the plan: what happens to whom, and that all of it is over at the end."""

import asyncio
import signal
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from chaos.cast import Actor, Cast
from chaos.client import Client
from chaos.plan import MONITOR, POSTGRES, PROVIDERS, RECEIPTS, Fault, Kind
from chaos.postgres import Postgres
from chaos.record import Evidence

Rule = Mapping[str, Any]
"""The body of POST /simulator/faults, without provider and length."""

# To the service what was accepted all the same and what was not look alike. Only `fails` strikes every request: more of
# the others would open the circuit, and for half a minute there would be nothing left to spoil.
PROVIDER_RULES: Final[Mapping[Kind, Sequence[Rule]]] = {
    Kind.FAIL: (
        {"kind": "server_error", "status": 500, "share": 0.2, "is_accepted": True},
        {"kind": "server_error", "status": 503, "on": "all"},
    ),
    Kind.HANG: ({"kind": "hang_after", "share": 0.15}, {"kind": "hang_before", "share": 0.1, "on": "all"}),
    # The service hangs up after 10 s; the provider accepts the message 2 s after that.
    Kind.LATE: ({"kind": "latency", "latency_ms": 12_000, "share": 0.2},),
    Kind.DROP: ({"kind": "drop_after", "share": 0.2}, {"kind": "drop_before", "share": 0.1, "on": "all"}),
}
RECEIPT_RULES: Final[Mapping[Kind, Rule]] = {
    Kind.RECEIPTS_LATE: {"kind": "late_receipts", "share": 0.5, "delay_s": 8},
    Kind.RECEIPTS_DOUBLED: {"kind": "doubled_receipts", "share": 0.5, "copies": 3},
    Kind.RECEIPTS_REORDERED: {"kind": "reordered_receipts", "share": 0.8, "delay_s": 3},
    Kind.RECEIPTS_LOST: {"kind": "lost_receipts", "share": 0.5},
}
MONITOR_PLANS: Final[Mapping[Kind, Rule]] = {
    Kind.MONITOR_DOWN: {"kind": "status", "status": 503, "share": 1},
    Kind.MONITOR_SLOW: {"latency_ms": 5_000},  # the service hangs up after 3 s
    Kind.MONITOR_NONSENSE: {"kind": "malformed_json", "share": 1},
}


class Saboteur:
    """Breaks the cast by plan. `done` are the faults that were carried out."""

    def __init__(self, cast: Cast, postgres: Postgres, client: Client, evidence: Evidence) -> None:
        self._cast = cast
        self._postgres = postgres
        self._client = client
        self._evidence = evidence
        self.done: list[Fault] = []
        self.strikes: Counter[str] = Counter()
        """How often the simulator did what it was told to do wrong, by kind of rule; known after `make_peace`."""

    async def carry_out(self, plan: Sequence[Fault]) -> None:
        """Run the whole plan from now on; returns when the last fault is over and its target up again, or starting."""
        begun = time.monotonic()

        async def run(fault: Fault) -> None:
            await asyncio.sleep(max(begun + fault.at_s - time.monotonic(), 0))
            await self._break(fault)
            self.done.append(fault)

        async with asyncio.TaskGroup() as group:
            for fault in plan:
                group.create_task(run(fault))

    async def make_peace(self) -> None:
        """End what providers and Monitor still do wrong; receipts that are late already stay late."""
        for fault in (await self._client.simulator("GET", "/simulator/faults"))["faults"]:
            self.strikes[fault["rule"]["kind"]] += fault["strikes"]
        await self._client.simulator("DELETE", "/simulator/faults")
        await self._client.simulator("POST", "/monitor/faults", {})

    async def _break(self, fault: Fault) -> None:
        if fault.target == POSTGRES:
            await self._break_postgres(fault)
        elif fault.target == MONITOR:
            await self._break_monitor(fault)
        elif fault.target == RECEIPTS:
            await self._bend(fault, None, [RECEIPT_RULES[fault.kind]])
        elif fault.target in PROVIDERS:
            await self._bend(fault, fault.target, PROVIDER_RULES[fault.kind])
        else:
            await self._break_process(fault)

    async def _break_process(self, fault: Fault) -> None:
        actor = self._cast.actors[fault.target]
        async with actor.turn:  # SIGTERM may take seconds: the next fault of the same process waits for its restart
            if fault.kind is Kind.KILL:
                actor.kill()
            else:
                await self._terminate(actor)
            await asyncio.sleep(fault.for_s)
            actor.start()

    async def _terminate(self, actor: Actor) -> None:
        is_excused = actor.is_young or actor.exit_status is not None
        status = await actor.terminate()
        if status is None:
            self._evidence.accidents.append(f"{actor.name} did not end within 20 s of SIGTERM")
        elif status and not is_excused:
            self._evidence.accidents.append(f"{actor.name} ended with exit status {status} on SIGTERM")

    async def _break_postgres(self, fault: Fault) -> None:
        match fault.kind:
            case Kind.STOP:
                await self._postgres.stop_for(fault.for_s, signal.SIGQUIT)
            case Kind.RESTART:
                await self._postgres.stop_for(fault.for_s, signal.SIGINT)
            case Kind.FREEZE:
                await self._postgres.freeze_for(fault.for_s)
            case _:
                await self._postgres.cut()

    async def _break_monitor(self, fault: Fault) -> None:
        await self._client.simulator("POST", "/monitor/faults", MONITOR_PLANS[fault.kind])
        await asyncio.sleep(fault.for_s)
        await self._client.simulator("POST", "/monitor/faults", {})

    async def _bend(self, fault: Fault, provider: str | None, rules: Sequence[Rule]) -> None:
        """Let the simulator itself keep the time: a rule ends even if we could not end it."""
        for rule in rules:
            length = {"provider": provider, "for_s": fault.for_s}
            await self._client.simulator("POST", "/simulator/faults", {**rule, **length})
        await asyncio.sleep(fault.for_s)
