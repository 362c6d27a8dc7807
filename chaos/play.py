"""One run from the first process to the last count: the stage is set, everything happens at once, then it is quiet."""

import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Final

from chaos.cast import Cast
from chaos.client import Client
from chaos.faults import Saboteur
from chaos.load import Load, Rates
from chaos.observe import Observer
from chaos.plan import make_plan
from chaos.postgres import Postgres
from chaos.record import Evidence
from chaos.report import Run
from sms_foundation.simulator.monitor.tenants import make_tenants

_PATIENCE_S: Final = 420.0
"""A provider that failed too often gets a rest of five minutes, and for so long nothing might be sent."""
_TOO_YOUNG_S: Final = 125.0
"""For two minutes a text may still be on its way to the webhook, and reconciling leaves it alone."""
_PHONES: Final = 200


async def play(run: Run, evidence: Evidence, folder: Path) -> None:
    """Set the stage, let it all happen, wait, and look."""
    plan = make_plan(run.seed, run.seconds)
    phones = [tenant.texts_from for tenant in make_tenants()][:_PHONES]
    async with _stage(folder, evidence, run) as (postgres, cast, client):
        observer = Observer(cast, client, evidence)
        saboteur = Saboteur(cast, postgres, client, evidence)
        load = Load(client, evidence, phones, run.seed, Rates())
        await observer.look_at_rest()
        await client.simulator("DELETE", f"/simulator/faults?seed={run.seed}")
        _say("all is up; the load begins")
        using = asyncio.create_task(load.run(run.seconds))
        breaking = asyncio.create_task(saboteur.carry_out(plan))
        try:
            await _until_done(breaking, using)
            run.faults = saboteur.done
            await saboteur.make_peace()
            run.strikes = saboteur.strikes
            evidence.accidents += await cast.bring_up()
            if not await _until_done(using, patience_s=_PATIENCE_S):
                evidence.unsettled.append("requests without an answer, though repeated")
        finally:
            for task in (breaking, using):
                task.cancel()
            await asyncio.wait([breaking, using])
        _say("the load has ended; waiting until all is settled")
        run.settled_after_s = await observer.settle(_PATIENCE_S)
        _say(f"settled after {run.settled_after_s:.0f} s")
        if run.reconciles:
            _say("waiting until no text is too young for reconciling")
            await asyncio.sleep(_TOO_YOUNG_S)
            await cast.reconcile()
            evidence.is_reconciled = True
            await observer.settle(_PATIENCE_S)
        _say("counting")
        await load.read_journal()
        try:
            async with asyncio.timeout(_PATIENCE_S):
                await observer.read_all()
        except TimeoutError:
            evidence.unsettled.append("the history could not be read")


async def _until_done(
    awaited: asyncio.Task[None], *beside: asyncio.Task[None], patience_s: float | None = None
) -> bool:
    """Wait for `awaited`; False when patience ran out. Raises what it or any of those beside it raises, at once."""
    pending = {awaited, *beside}
    while awaited in pending:
        done, pending = await asyncio.wait(pending, timeout=patience_s, return_when=asyncio.FIRST_COMPLETED)
        if not done:
            return False
        for task in done:
            task.result()
    return True


@contextlib.asynccontextmanager
async def _stage(folder: Path, evidence: Evidence, run: Run) -> AsyncIterator[tuple[Postgres, Cast, Client]]:
    """Start everything; end every process that was started, however this ends."""
    with contextlib.ExitStack() as stack:
        postgres = Postgres(folder / "postgres")
        stack.callback(postgres.close)
        await postgres.open()
        run.database = postgres.description
        cast = Cast(folder, postgres.url, run.settings, evidence)
        stack.callback(cast.close)
        await cast.open()
        watching = asyncio.create_task(cast.watch())
        try:
            async with Client(cast.service_urls, cast.simulator_url, cast.api_key, evidence) as client:
                yield postgres, cast, client
        finally:
            watching.cancel()
            await asyncio.wait([watching])


async def until_told(playing: Coroutine[None, None, None]) -> None:
    """Run until it ends, or SIGTERM or Ctrl-C end it, which unwinds and so ends every process we started."""
    task = asyncio.ensure_future(playing)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    await task


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')}  {text}", file=sys.stderr, flush=True)
