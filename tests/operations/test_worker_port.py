"""The port of a worker: the same answers as the service's, to the same callers, and nothing else."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from sms_foundation import __version__
from sms_foundation.core.db import Database, DatabaseUrl
from tests.loopback import LoopbackServer, Received
from tests.support.access import make_client, make_key
from tests.support.processes import Process, Processes, ServiceProcess, eventually, send_text
from tests.support.tcp_gate import TcpGate

PATHS = ["/health", "/health/live", "/health/ready", "/health/startup", "/metrics"]


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


def metric_names(text: str) -> set[str]:
    return {family.name for family in text_string_to_metric_families(text)}


def listening_sockets(process: Process) -> set[str]:
    """Return what the process listens on, as Linux shows it."""
    inodes = set()
    for link in Path(f"/proc/{process.pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            inodes.add(link.readlink().name.removeprefix("socket:[").removesuffix("]"))
    lines = [
        line.split()
        for name in ("tcp", "tcp6")
        for line in Path(f"/proc/{process.pid}/net/{name}").read_text().splitlines()[1:]
    ]
    return {fields[1] for fields in lines if fields[3] == "0A" and fields[9] in inodes}


class TestAnswers:
    async def test_are_those_of_the_service(self, processes: Processes, database_url: DatabaseUrl) -> None:
        service = processes.serve(DATABASE_URL=database_url.dsn, WORK_IN_PROCESS="false")
        worker = processes.work(DATABASE_URL=database_url.dsn)
        await service.until_ready()
        await worker.until_ready()

        for path in PATHS[1:4]:
            answers = [await each.get(path) for each in (service, worker)]
            assert [(each.status, each.json()) for each in answers] == [(200, {"ok": True})] * 2
        healths = [(await each.get("/health")).json() for each in (service, worker)]
        assert [(each["ok"], each["version"]) for each in healths] == [(True, __version__)] * 2
        assert list(healths[0]["dependencies"]) == list(healths[1]["dependencies"])
        assert [each["dependencies"]["work"]["runs_here"] for each in healths] == [False, True]
        metrics = [await each.get("/metrics") for each in (service, worker)]
        assert metrics[0].headers["content-type"] == metrics[1].headers["content-type"]
        assert metric_names(metrics[1].body.decode()) >= {"sms_work_backlog", "sms_work_runs", "sms_http_requests"}

    async def test_there_are_no_others(self, processes: Processes, database_url: DatabaseUrl) -> None:
        worker = processes.work(DATABASE_URL=database_url.dsn)
        await worker.until_ready()

        for path in ("/", "/docs", "/openapi.json", "/v1/sms", "/conversations", "/users/me", "/health/", "/metrics/x"):
            answer = await worker.get(path)
            assert (path, answer.status, answer.json()["error"]["code"]) == (path, 404, "sms.not_found")
        async with worker.connect() as connection:
            answer = await send_text(connection, "SM1")
            assert (answer.status, answer.json()["error"]["code"]) == (404, "sms.not_found")
            answer = await connection.request("POST", "/metrics")
            assert (answer.status, answer.json()["error"]["code"]) == (405, "sms.method_not_allowed")

    async def test_without_the_setting_there_is_no_port(self, processes: Processes, database_url: DatabaseUrl) -> None:
        worker = processes.start("worker", DATABASE_URL=database_url.dsn, PORT=str(processes.reserve_port()))

        async def has_started() -> bool:
            return any(each["event"] == "worker.started" for each in worker.events)

        await eventually(has_started, "it works")
        assert listening_sockets(worker) == set()

    async def test_the_setting_opens_one(self, processes: Processes, database_url: DatabaseUrl) -> None:
        port = processes.reserve_port()
        worker = processes.start("worker", DATABASE_URL=database_url.dsn, WORKER_PORT=str(port))

        async def is_listening() -> bool:
            return len(listening_sockets(worker)) == 1

        await eventually(is_listening, "it listens")

    async def test_a_port_that_is_taken_is_one_line(self, processes: Processes, database_url: DatabaseUrl) -> None:
        first = processes.work(DATABASE_URL=database_url.dsn)
        await first.until_ready()
        second = processes.work(port=first.port, DATABASE_URL=database_url.dsn)

        assert await second.exit_code() == 1
        assert second.log == f"error: cannot listen on 127.0.0.1:{first.port}: Address already in use; " + (
            "choose another with --port\n"
        )


class TestAccess:
    async def test_is_decided_by_the_same_rules(
        self, processes: Processes, database_url: DatabaseUrl, database: Database
    ) -> None:
        """From outside OPERATIONS_NETWORKS it takes a key, and one that may."""
        worker = processes.work(
            DATABASE_URL=database_url.dsn,
            APP_ENV="development",
            OPERATIONS_NETWORKS="203.0.113.0/24",
            SIMULATOR_URL="http://127.0.0.1:9",
        )
        admin = await make_key(database, await make_client(database, "operators"))
        nobody = await make_key(database, await make_client(database, "nobody", roles=()))
        await worker.until_status("/metrics", 401)

        for path in PATHS:
            statuses = [(await worker.get(path)).status]
            statuses += [(await worker.get(path, Authorization=f"Bearer {key}")).status for key in (nobody, admin)]
            assert (path, statuses[:2]) == (path, [401, 403])
            assert statuses[2] == 200
        answer = await worker.get("/health")
        assert answer.json()["error"]["code"] == "sms.unauthorized"


class TestWithTheDatabaseAway:
    async def test_it_is_alive_and_not_ready_until_it_is_back(self, processes: Processes, gate: TcpGate) -> None:
        worker = processes.work(DATABASE_URL=gate.url)
        await worker.until_status("/health/live", 200)
        not_ready = await worker.until_status("/health/ready", 503)
        assert str(not_ready.json()["reason"]).startswith("database: ConnectionRefusedError")
        assert (await worker.get("/health/startup")).status == 503
        assert (await worker.get("/health")).status == 503
        assert "sms_work_runs" in metric_names((await worker.get("/metrics")).body.decode())

        await gate.open()

        await worker.until_ready()
        assert (await worker.get("/health/startup")).status == 200


class TestSigterm:
    async def test_while_it_finishes_it_is_alive_and_not_ready(
        self,
        processes: Processes,
        database_url: DatabaseUrl,
        database: Database,
        hanging_monitor: LoopbackServer,
        silence: asyncio.Event,
    ) -> None:
        worker = processes.work(
            DATABASE_URL=database_url.dsn,
            MONITOR_API_URL=hanging_monitor.base_url,
            MONITOR_TIMEOUT_S="60",
            WORK_LEASE_S="600",
            WORK_POLL_S="0.05",
            SHUTDOWN_TIMEOUT_S="60",
        )
        await worker.until_ready()
        await _receive_a_text(processes, database_url)

        async def is_hanging() -> bool:
            return bool(hanging_monitor.received)

        await eventually(is_hanging, "the lookup hangs")
        worker.signal(signal.SIGTERM)

        stopping = await worker.until_status("/health/ready", 503)
        assert stopping.json() == {"ok": False, "reason": "stopping"}
        assert stopping.headers["connection"] == "close"
        assert (await worker.get("/health/live")).status == 200
        assert (await worker.get("/metrics")).status == 200
        assert (await worker.get("/health")).json()["dependencies"]["work"]["runs_here"] is False
        worker.signal(signal.SIGTERM)  # heard already
        silence.set()
        assert await worker.exit_code() == 0
        assert await database.pool.fetchval("SELECT count(*) FROM work WHERE state = 'leased'") == 0
        assert [each["event"] for each in worker.events][-1] == "worker.stopped"


async def _receive_a_text(processes: Processes, database_url: DatabaseUrl) -> ServiceProcess:
    service = processes.serve(DATABASE_URL=database_url.dsn, WORK_IN_PROCESS="false")
    await service.until_ready()
    async with service.connect() as connection:
        assert (await send_text(connection, "SM1")).status == 200
    return service
