import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

import pytest

from sms_foundation.core.config import Settings
from sms_foundation.core.db import Database
from sms_foundation.core.http import create_http_client
from sms_foundation.core.ids import NIL
from sms_foundation.core.work.runner import WorkRunner
from sms_foundation.enrichment.findings import FindingStore
from sms_foundation.enrichment.jobs import LOOK_UP_CONVERSATION, TELL_LANGUAGE
from sms_foundation.enrichment.tasks import Enrichment
from sms_foundation.enrichment.tenants.circuit import Circuit
from sms_foundation.enrichment.tenants.lookup import TenantLookup
from sms_foundation.enrichment.tenants.monitor import MonitorClient
from sms_foundation.enrichment.tenants.profile import TenantProfile
from sms_foundation.enrichment.tenants.retry import RetryPolicy
from sms_foundation.messaging.jobs import MESSAGE_RECEIVED
from tests.support.monitor import RunningMonitor, running_monitor
from tests.support.service import make_settings


@pytest.fixture
async def monitor() -> AsyncIterator[RunningMonitor]:
    async with running_monitor() as monitor:
        yield monitor


@pytest.fixture
def settings() -> Settings:
    """The service only takes texts in: a `Workshop` does the work, when the test says so."""
    return make_settings(work_in_process=False)


@dataclass
class Workshop:
    """The background work of one process, which loses patience within milliseconds instead of seconds."""

    database: Database
    enrichment: Enrichment
    runner: WorkRunner

    async def finish(self) -> None:
        """Do all work, retries included."""
        await self.until_none("SELECT 1 FROM work WHERE state <> 'dead' AND ref_id <> $1", NIL)

    async def until_none(self, query: str, *args: object) -> None:
        """Work until `query` finds no row."""
        for _ in range(1000):
            if not await self.database.pool.fetch(query, *args):
                return
            await asyncio.sleep(0.01)
        raise AssertionError(f"still there: {await self.database.pool.fetch(query, *args)}")

    async def until_put_off(self) -> None:
        """Work until every open row waits for its next try."""
        await self.until_none(
            "SELECT 1 FROM work WHERE ref_id <> $1 AND (state <> 'due' OR last_error IS NULL OR run_at < now())", NIL
        )

    async def try_again_now(self) -> None:
        """Let the time pass that rows have to wait for their next try."""
        await self.database.pool.execute("UPDATE work SET run_at = now() WHERE state = 'due' AND attempts > 0")
        self.runner.wake()


@asynccontextmanager
async def open_workshop(
    database: Database, url: str | None, *, profile_url: str | None = None, max_attempts: int = 12
) -> AsyncIterator[Workshop]:
    """Put together what `worker.open_core` does, with shorter waits; runs nothing before `runner.start()`.

    It leaves reconciliation alone, whose lookups would come in between.
    """
    policy = RetryPolicy(attempts=2, shortest_s=0.005, longest_s=0.01)
    async with AsyncExitStack() as stack:
        lookup_client = await stack.enter_async_context(create_http_client())
        profile_client = await stack.enter_async_context(create_http_client())
        lookup = TenantLookup(
            None if url is None else MonitorClient(lookup_client, base_url=url),
            circuit=Circuit(threshold=1000),
            policy=policy,
        )
        stack.push_async_callback(lookup.aclose)
        told_url = profile_url or url
        profile = None if told_url is None else TenantProfile(profile_client, base_url=told_url, policy=policy)

        def wake_runner() -> None:
            runner.wake()

        findings = FindingStore(database, tells_profiles=profile is not None, on_work=wake_runner)
        enrichment = Enrichment(database, lookup, profile, findings, reconcile_every=timedelta(hours=1))
        stack.push_async_callback(enrichment.close)
        runner = WorkRunner(
            database,
            {
                MESSAGE_RECEIVED: enrichment.enrich_message,
                LOOK_UP_CONVERSATION: enrichment.look_up_conversation,
                TELL_LANGUAGE: enrichment.tell_language,
            },
            concurrency=8,
            poll_s=0.05,
            lease_s=30,
            max_attempts=max_attempts,
        )
        stack.push_async_callback(runner.stop, 2.0)
        yield Workshop(database, enrichment, runner)


@pytest.fixture
async def workshop(database: Database, monitor: RunningMonitor) -> AsyncIterator[Workshop]:
    """One that is at work; a test that wants to see texts arrive first uses `open_workshop` itself."""
    async with open_workshop(database, monitor.url) as workshop:
        workshop.runner.start()
        yield workshop
