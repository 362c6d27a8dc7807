"""Everything of one process but the HTTP edge: database, clients, background work. Runs alone, or under `app`."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta

import structlog

from sms_foundation.core.config import Settings
from sms_foundation.core.db import Database, DatabaseUrl, explain_outage
from sms_foundation.core.http import HttpClient, create_http_client
from sms_foundation.core.work import queue
from sms_foundation.core.work.runner import WorkRunner
from sms_foundation.enrichment.findings import FindingStore
from sms_foundation.enrichment.jobs import LOOK_UP_CONVERSATION, RECONCILE, TELL_LANGUAGE
from sms_foundation.enrichment.tasks import Enrichment, recurring_work
from sms_foundation.enrichment.tenants.lookup import TenantLookup
from sms_foundation.enrichment.tenants.monitor import MonitorClient
from sms_foundation.enrichment.tenants.profile import TenantProfile
from sms_foundation.messaging.jobs import MESSAGE_RECEIVED, RECEIPT_UNMATCHED
from sms_foundation.messaging.tasks import ReceiptMatching
from sms_foundation.migrations.state import schema_problem

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Core:
    """The long-lived collaborators of one process."""

    database: Database
    runner: WorkRunner
    lookup: TenantLookup
    enrichment: Enrichment


@asynccontextmanager
async def open_core(
    settings: Settings, url: DatabaseUrl, *, is_edge_busy: Callable[[], bool] = lambda: False
) -> AsyncIterator[Core]:
    """Build the collaborators and close them in reverse order; starts no work and needs no reachable database."""
    async with AsyncExitStack() as stack:
        database = Database(url, settings)
        await database.open()
        stack.push_async_callback(database.close)

        async def client() -> HttpClient:
            return await stack.enter_async_context(
                create_http_client(
                    connect_timeout_s=settings.monitor_timeout_s, read_timeout_s=settings.monitor_timeout_s
                )
            )

        monitor = profile = None
        if settings.monitor_api_url is not None:
            key = settings.monitor_api_key.get_secret_value() if settings.monitor_api_key else None
            monitor = MonitorClient(await client(), base_url=settings.monitor_api_url, api_key=key)
        if settings.tenant_profile_api_url is not None:
            key = settings.monitor_api_key.get_secret_value() if settings.monitor_api_key else None
            profile = TenantProfile(await client(), base_url=settings.tenant_profile_api_url, api_key=key)
        lookup = TenantLookup(monitor)
        stack.push_async_callback(lookup.aclose)

        def wake_runner() -> None:
            runner.wake()

        findings = FindingStore(database, tells_profiles=profile is not None, on_work=wake_runner)
        enrichment = Enrichment(
            database,
            lookup,
            profile,
            findings,
            reconcile_every=timedelta(seconds=settings.reconcile_interval_s),
        )

        async def close_enrichment() -> None:
            with suppress(TimeoutError):  # what could not be written down is found out again: its work is still there
                async with asyncio.timeout(settings.shutdown_timeout_s * 0.05):
                    await enrichment.close()

        stack.push_async_callback(close_enrichment)
        runner = WorkRunner(
            database,
            {
                MESSAGE_RECEIVED: enrichment.enrich_message,
                RECEIPT_UNMATCHED: ReceiptMatching(database).match,
                LOOK_UP_CONVERSATION: enrichment.look_up_conversation,
                TELL_LANGUAGE: enrichment.tell_language,
                RECONCILE: enrichment.reconcile,
            },
            concurrency=settings.work_concurrency,
            poll_s=settings.work_poll_s,
            lease_s=settings.work_lease_s,
            max_attempts=settings.work_max_attempts,
            is_edge_busy=is_edge_busy,
        )
        yield Core(database, runner, lookup, enrichment)


async def keep_recurring_work(database: Database) -> None:
    """See that the row of recurring work exists; waits for a database that is not there yet."""
    pause_s = 1.0
    while True:
        try:
            async with database.transaction() as connection:
                await queue.enqueue(connection, [recurring_work()])
        except Exception as error:  # noqa: BLE001  # whatever is wrong now may be right later
            log.debug("work.recurring_not_scheduled", error=explain_outage(error))
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, 30.0)
        else:
            return


async def run_worker(settings: Settings, url: DatabaseUrl) -> None:
    """Run background work until SIGTERM or SIGINT, then finish or hand back what is under way."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with open_core(settings, url) as core:
        checking = asyncio.create_task(_check_schema(core.database))
        recurring = asyncio.create_task(keep_recurring_work(core.database))
        core.runner.start()
        log.info("worker.started")
        await stop.wait()
        log.info("worker.stopping")
        checking.cancel()
        recurring.cancel()
        await core.runner.stop(settings.shutdown_timeout_s * 0.6)
    log.info("worker.stopped")


async def _check_schema(database: Database) -> None:
    with suppress(Exception):  # an unreachable database is reported by the runner, again and again
        async with database.connection() as connection:
            if problem := await schema_problem(connection):
                log.warning("worker.schema", problem=problem)
