"""SIGTERM, in the middle of whatever is going on."""

import asyncio
import signal
from collections.abc import AsyncIterator
from itertools import count

import pytest

from sms_foundation.core.db import Database, DatabaseUrl
from tests.loopback import LoopbackServer, Received
from tests.support.http_connection import RefusedError
from tests.support.processes import Processes, ServiceProcess, eventually, send_text
from tests.support.tcp_gate import TcpGate


@pytest.fixture
def silence() -> asyncio.Event:
    """Set when the Collections Monitor may answer at last."""
    return asyncio.Event()


@pytest.fixture
async def hanging_monitor(silence: asyncio.Event) -> AsyncIterator[LoopbackServer]:
    """A Collections Monitor that takes every request and answers none while the test runs."""

    async def answer(_request: Received) -> None:
        await silence.wait()

    async with LoopbackServer(answer) as monitor:
        yield monitor
        silence.set()


class Traffic:
    """Connections that send texts one after another until they are refused."""

    def __init__(self, service: ServiceProcess) -> None:
        self._service = service
        self._numbers = count()
        self.answered: dict[str, int] = {}

    async def flow(self, connections: int) -> None:
        """Raises HalfAnswerError when an answer breaks off."""
        async with asyncio.TaskGroup() as group:
            for _ in range(connections):
                group.create_task(self._send_until_refused())

    async def _send_until_refused(self) -> None:
        async with self._service.connect() as connection:
            while True:
                number = next(self._numbers)
                sid = f"SM{number:032x}"
                try:
                    answer = await send_text(connection, sid, "Hola, no hay agua", sender=f"+1415555{number % 97:04d}")
                except RefusedError:
                    return
                self.answered[sid] = answer.status


async def _stored_sids(database: Database) -> list[str]:
    return [row[0] for row in await database.pool.fetch("SELECT provider_message_id FROM sms_messages")]


async def _leased_rows(database: Database) -> int:
    return int(await database.pool.fetchval("SELECT count(*) FROM work WHERE state = 'leased'"))


class TestServeGetsSigterm:
    async def test_under_load_it_answers_or_refuses_and_has_stored_what_it_acknowledged(
        self, processes: Processes, database_url: DatabaseUrl, database: Database
    ) -> None:
        service = processes.serve(DATABASE_URL=database_url.dsn)
        await service.until_ready()
        traffic = Traffic(service)
        flow = asyncio.create_task(traffic.flow(connections=12))

        async def is_busy() -> bool:
            return len(traffic.answered) > 100

        await eventually(is_busy, "a hundred texts are answered")
        service.signal(signal.SIGTERM)
        await flow  # no half answers

        assert await service.exit_code() == 0
        assert set(traffic.answered.values()) <= {200, 503}
        acknowledged = {sid for sid, status in traffic.answered.items() if status == 200}
        stored = await _stored_sids(database)
        assert acknowledged <= set(stored)
        assert len(stored) == len(set(stored))
        assert await _leased_rows(database) == 0
        assert service.events[-1]["event"] == f"Finished server process [{service.pid}]"

    async def test_with_lookups_that_hang_it_ends_and_hands_their_work_back(
        self, processes: Processes, database_url: DatabaseUrl, database: Database, hanging_monitor: LoopbackServer
    ) -> None:
        service = processes.serve(
            DATABASE_URL=database_url.dsn,
            MONITOR_API_URL=hanging_monitor.base_url,
            MONITOR_TIMEOUT_S="60",
            WORK_LEASE_S="600",
            SHUTDOWN_TIMEOUT_S="2",
        )
        await service.until_ready()
        async with service.connect() as connection:
            for number in range(40):  # more than run at once: some wait in the process, leased
                answer = await send_text(connection, f"SM{number}", sender=f"+1415555{number:04d}")
                assert answer.status == 200

        async def is_hanging() -> bool:
            return len(hanging_monitor.received) >= 16

        await eventually(is_hanging, "sixteen lookups hang")
        service.signal(signal.SIGTERM)

        assert await service.exit_code() == 0
        rows = await database.pool.fetch(
            "SELECT state, attempts, lease_token, run_at <= now() AS is_due FROM work WHERE kind = 'message_received'"
        )
        assert {tuple(row) for row in rows} == {("due", 0, None, True)}
        assert len(rows) == 40
        assert await _leased_rows(database) == 0

    async def test_with_a_silent_database_it_ends_and_acknowledges_nothing(
        self, processes: Processes, gate: TcpGate, database: Database
    ) -> None:
        await gate.open()
        service = processes.serve(DATABASE_URL=gate.url, DATABASE_COMMAND_TIMEOUT_S="60", SHUTDOWN_TIMEOUT_S="4")
        await service.until_ready()
        gate.freeze()
        traffic = Traffic(service)
        flow = asyncio.create_task(traffic.flow(connections=4))
        await asyncio.sleep(0.2)
        service.signal(signal.SIGTERM)

        async with asyncio.timeout(10):  # what orchestrators grant before they kill; its own share of that is 4
            assert await service.exit_code() == 0
        await flow
        assert 200 not in traffic.answered.values()
        assert await _stored_sids(database) == []

    async def test_before_the_database_was_ever_there_it_ends(self, processes: Processes, gate: TcpGate) -> None:
        service = processes.serve(DATABASE_URL=gate.url)
        await service.until_status("/health/live", 200)
        service.signal(signal.SIGTERM)

        assert await service.exit_code() == 0


class TestWorkerGetsSigterm:
    async def test_with_lookups_that_hang_it_ends_and_hands_their_work_back(
        self, processes: Processes, database_url: DatabaseUrl, database: Database, hanging_monitor: LoopbackServer
    ) -> None:
        database_settings = {"DATABASE_URL": database_url.dsn}
        service = processes.serve(**database_settings, WORK_IN_PROCESS="false")
        worker = processes.start(
            "worker",
            **database_settings,
            MONITOR_API_URL=hanging_monitor.base_url,
            MONITOR_TIMEOUT_S="60",
            WORK_LEASE_S="600",
            WORK_POLL_S="0.05",
            SHUTDOWN_TIMEOUT_S="2",
        )
        await service.until_ready()
        async with service.connect() as connection:
            for number in range(20):
                await send_text(connection, f"SM{number}", sender=f"+1415555{number:04d}")

        async def is_hanging() -> bool:
            return len(hanging_monitor.received) >= 16

        await eventually(is_hanging, "sixteen lookups hang")
        worker.signal(signal.SIGTERM)

        assert await worker.exit_code() == 0
        assert await _leased_rows(database) == 0
        assert await database.pool.fetchval("SELECT count(*) FROM work WHERE kind = 'message_received'") == 20
