"""kill -9 while messages go out and receipts come in any order: each is sent once, and each phone gets its in order."""

import asyncio
import os
import random
import signal
from dataclasses import dataclass

import pytest

from sms_foundation.core.db import Database, DatabaseUrl
from sms_foundation.core.ids import NIL
from tests.support.processes import Process, Processes, ServiceProcess, eventually
from tests.support.sending import (
    Campaign,
    assert_each_once_and_in_order,
    call,
    set_fault,
    start_simulator,
    summary,
    true_record,
    unlimited_providers,
    until_sent,
)
from tests.support.service import BASE_URL

# SMS_CRASH_TEST_MESSAGES=5000 is the full size, about a minute.
MESSAGES = int(os.environ.get("SMS_CRASH_TEST_MESSAGES", "1000"))
PHONES = 100
KILLS = max(MESSAGES // 500, 3)
SEED = 20261120


@dataclass(frozen=True)
class Stage:
    """A simulator whose providers behave badly, and what services on it are started with."""

    simulator: ServiceProcess
    service_port: int
    environment: dict[str, str]


@pytest.fixture
async def stage(processes: Processes, database_url: DatabaseUrl) -> Stage:
    """Providers that are slow and break connections; their receipts come twice, in any order, or never."""
    service_port = processes.reserve_port()
    simulator = await start_simulator(processes, service_port=service_port, LOG_LEVEL="WARNING")
    await call(simulator, "DELETE", f"/simulator/faults?seed={SEED}")
    await set_fault(simulator, "latency", latency_ms=40)
    await set_fault(simulator, "drop_after", share=0.01)
    await set_fault(simulator, "server_error", share=0.01)
    await set_fault(simulator, "reordered_receipts", share=0.5, delay_s=1)
    await set_fault(simulator, "doubled_receipts", share=0.2)
    await set_fault(simulator, "lost_receipts", share=0.1)
    environment = {
        "DATABASE_URL": database_url.dsn,
        "PUBLIC_BASE_URL": BASE_URL,
        "PROVIDERS": unlimited_providers(simulator),
        "UNKNOWN_SETTLE_S": "2",
        "WORK_LEASE_S": "2",
        "WORK_POLL_S": "0.05",
        "LOG_LEVEL": "WARNING",
    }
    return Stage(simulator, service_port, environment)


async def _until_all_is_over(stage: Stage, database: Database, total: int) -> None:
    """Wait until every message has an answer and every receipt has been delivered or given up."""

    async def is_over() -> bool:
        if await database.pool.fetchval("SELECT count(*) FROM work WHERE ref_id <> $1", NIL):
            return False
        return bool((await summary(stage.simulator))["is_quiet"])

    await until_sent(stage.simulator, total)
    await eventually(is_over, "every message has an answer, every receipt is in")


async def _statuses(database: Database) -> dict[str, int]:
    rows = await database.pool.fetch("SELECT delivery_status, count(*) FROM sms_messages GROUP BY 1")
    return {row[0]: row[1] for row in rows}


async def _count_killed_calls(database: Database) -> int:
    """Return how many calls were under way when their process was killed."""
    return int(
        await database.pool.fetchval(
            "SELECT count(*) FROM sms_message_status_events "
            "WHERE event_status = 'unknown' AND error_message LIKE 'the process%died%'"
        )
    )


def _moments(total: int, kills: int) -> list[tuple[int, float]]:
    """Return when to kill: after so many messages are sent, and so many seconds more."""
    chance = random.Random(SEED)
    return [(count, chance.uniform(0, 0.2)) for count in sorted(chance.sample(range(total * 9 // 10), kills))]


async def _kill_at_work(worker: Process, database: Database) -> None:
    """Kill one of two workers while it holds work, for which it is stopped: nothing can end then."""

    async def holds_work() -> bool:
        worker.signal(signal.SIGSTOP)
        holders = await database.pool.fetchval("SELECT count(DISTINCT lease_token) FROM work WHERE state = 'leased'")
        if holders < 2:
            worker.signal(signal.SIGCONT)
        return bool(holders == 2)

    await eventually(holds_work, "both workers have work")
    worker.kill()


class TestServeIsKilled:
    async def test_at_random_moments_each_message_is_sent_once_and_each_phone_gets_its_in_order(
        self, processes: Processes, stage: Stage, database: Database
    ) -> None:
        async def start() -> ServiceProcess:
            service = processes.serve(port=stage.service_port, **stage.environment)
            await service.until_ready()
            return service

        async def kill_now_and_then(service: ServiceProcess) -> None:
            for count, pause_s in _moments(MESSAGES, KILLS):
                await until_sent(stage.simulator, count)
                await asyncio.sleep(pause_s)
                service.kill()
                service = await start()

        service = await start()
        campaign = Campaign(MESSAGES, PHONES)
        async with asyncio.TaskGroup() as group:
            group.create_task(campaign.hand_in(service))
            group.create_task(kill_now_and_then(service))
        await _until_all_is_over(stage, database, MESSAGES)

        assert_each_once_and_in_order(campaign, await true_record(stage.simulator))
        assert await _count_killed_calls(database)
        assert await database.pool.fetchval("SELECT count(*) FROM sms_messages") == MESSAGES
        assert await database.pool.fetchval("SELECT count(*) FROM sms_send_attempts WHERE outcome = 'sent'") == MESSAGES

        # Receipts that were lost, or came while nobody listened, are asked for.
        assert (await _statuses(database))["delivered"] < MESSAGES
        reconciling = processes.start("reconcile", "--since", "1h", "--only", "statuses", **stage.environment)
        assert await reconciling.exit_code() == 0, reconciling.log
        assert await _statuses(database) == {"delivered": MESSAGES}


class TestWorkerIsKilled:
    async def test_of_two_beside_one_api_the_other_goes_on_and_nothing_is_sent_twice_or_out_of_order(
        self, processes: Processes, stage: Stage, database: Database
    ) -> None:
        service = processes.serve(port=stage.service_port, WORK_IN_PROCESS="false", **stage.environment)
        workers = [processes.start("worker", **stage.environment) for _ in range(2)]
        await service.until_ready()
        campaign = Campaign(400, PHONES)

        async with asyncio.TaskGroup() as group:
            group.create_task(campaign.hand_in(service))
            await until_sent(stage.simulator, 50)
            await _kill_at_work(workers[0], database)
        await _until_all_is_over(stage, database, 400)

        assert_each_once_and_in_order(campaign, await true_record(stage.simulator))
        assert "work.taken_over" in workers[1].log
        assert service.is_running
        assert workers[1].is_running
