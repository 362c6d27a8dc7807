"""kill -9 while messages go out and receipts come in any order: each is sent once, and each phone gets its in order."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest

from sms_foundation.core.db import Database, DatabaseUrl
from tests.support.processes import Processes, ServiceProcess, eventually
from tests.support.sending import (
    Campaign,
    assert_each_once_and_in_order,
    call,
    moments,
    set_fault,
    summary,
    true_record,
    unlimited_providers,
    until_sent,
)

# SMS_CRASH_TEST_MESSAGES=5000 is the full size.
MESSAGES = int(os.environ.get("SMS_CRASH_TEST_MESSAGES", "1000"))
PHONES = 100
SEED = 20261120

_OPEN = """
SELECT count(*) FROM sms_messages WHERE provider_message_id IS NULL OR delivery_status = 'unknown'
"""
_OPEN_WORK = "SELECT count(*) FROM work WHERE ref_id <> '00000000-0000-0000-0000-000000000000'"


@dataclass(frozen=True)
class Stage:
    """A simulator whose providers behave badly, and what a service on it is started with."""

    simulator: ServiceProcess
    service_port: int
    environment: dict[str, str]


@pytest.fixture
async def stage(processes: Processes, database_url: DatabaseUrl) -> Stage:
    """Providers that are slow and break connections; their receipts come twice, in any order, or never."""
    service_port = processes.reserve_port()
    simulator = processes.serve_simulator(
        port=processes.reserve_port(), PORT=str(service_port), LOG_LEVEL="WARNING", LOG_FORMAT="json"
    )
    await simulator.until_status("/simulator/received/summary", 200)
    await call(simulator, "DELETE", f"/simulator/faults?seed={SEED}")
    await set_fault(simulator, "latency", latency_ms=40)
    await set_fault(simulator, "reordered_receipts", share=0.5, delay_s=1)
    await set_fault(simulator, "doubled_receipts", share=0.2)
    await set_fault(simulator, "lost_receipts", share=0.1)
    await set_fault(simulator, "drop_after", share=0.01)
    await set_fault(simulator, "server_error", share=0.01)
    environment = {
        "DATABASE_URL": database_url.dsn,
        "PROVIDERS": unlimited_providers(simulator),
        "UNKNOWN_SETTLE_S": "2",
        "WORK_LEASE_S": "2",
        "WORK_POLL_S": "0.05",
        "LOG_LEVEL": "WARNING",
    }
    return Stage(simulator, service_port, environment)


async def _until_all_is_over(stage: Stage, database: Database, total: int) -> None:
    """Wait until every message has an answer and every receipt has been delivered."""

    async def is_over() -> bool:
        is_known = not await database.pool.fetchval(_OPEN) and not await database.pool.fetchval(_OPEN_WORK)
        return is_known and bool((await summary(stage.simulator))["is_quiet"])

    await until_sent(stage.simulator, total)
    try:
        await eventually(is_over, "every message has an answer, every receipt is in")
    finally:
        print(await summary(stage.simulator))
        ds = (await stage.simulator.get("/simulator/deliveries?is_delivered=false&limit=1000")).json()["deliveries"]
        print(len(ds), ds[:3])
        ds = (await stage.simulator.get("/simulator/deliveries?limit=1000")).json()["deliveries"]
        from collections import Counter
        print(Counter((d["message_sid"][:2], d["message_status"], d["status_code"], d["error_code"]) for d in ds))
        import re
        print(Counter(re.sub('[0-9a-f]{20,}','X',a["url"]) for d in ds for a in d["attempts"]).most_common(8))
        tw = [d for d in ds if d["message_sid"].startswith("SM")][:300]
        ids = [d["message_sid"] for d in tw if d["message_status"]=="delivered"]
        print("DELIVERED ACKED", len(ids), await database.pool.fetchval("select count(*) from sms_messages where provider_message_id=any($1) and delivery_status='delivered'", ids))
        for q in ("select delivery_status, provider_message_id is null, count(*) from sms_messages group by 1,2", "select kind,state,attempts,last_error,run_at-now(),lease_until-now() from work order by 1 limit 20", "select outcome,count(*) from sms_send_attempts group by 1", "select m.provider, delivery_status, (select string_agg(event_status, ',' order by e.created_at) from sms_message_status_events e where e.message_id=m.id) as ev, count(*) from sms_messages m group by 1,2,3 order by 4 desc limit 30", "select message_id is null, provider, event_status, count(*) from sms_message_status_events group by 1,2,3", "select name, circuit, unhealthy_until from sms_providers"):
            print([tuple(r) for r in await database.pool.fetch(q)])


async def _statuses(database: Database) -> dict[str, int]:
    rows = await database.pool.fetch("SELECT delivery_status, count(*) FROM sms_messages GROUP BY 1 ORDER BY 1")
    return {row[0]: row[1] for row in rows}


async def _kill_now_and_then(
    stage: Stage, kills: int, service: ServiceProcess, restart: Callable[[], Awaitable[ServiceProcess]]
) -> None:
    for count, pause_s in moments(SEED, kills, MESSAGES):
        await until_sent(stage.simulator, count)
        await asyncio.sleep(pause_s)
        service.kill()
        service = await restart()


class TestServeIsKilled:
    async def test_again_and_again_yet_each_message_is_sent_once_and_in_order(
        self, processes: Processes, stage: Stage, database: Database
    ) -> None:
        async def start() -> ServiceProcess:
            service = processes.serve(port=stage.service_port, **stage.environment)
            await service.until_ready()
            return service

        service = await start()
        campaign = Campaign(MESSAGES, PHONES)

        async with asyncio.TaskGroup() as group:
            group.create_task(campaign.hand_in(service))
            group.create_task(_kill_now_and_then(stage, 3 if MESSAGES <= 1000 else 10, service, start))
        await _until_all_is_over(stage, database, MESSAGES)

        assert campaign.refusals, "it was never killed while messages were handed in"
        assert_each_once_and_in_order(campaign, await true_record(stage.simulator))
        unknown = await database.pool.fetchval("SELECT count(*) FROM sms_message_status_events WHERE event_status = 'unknown'")
        assert unknown, "it was never killed in the middle of a call"
        print(await _statuses(database), unknown, campaign.refusals)

