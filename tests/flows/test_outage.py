"""The database away, silent or dying: what is acknowledged is stored, and the service comes back by itself."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sms_foundation.core.db import Database, DatabaseUrl
from tests.support import postgres
from tests.support.http_connection import Answer
from tests.support.processes import Processes, ServiceProcess, eventually, send_status, send_text
from tests.support.tcp_gate import TcpGate

# An outage must not take the default patience of seconds to be noticed.
IMPATIENT = {
    "DATABASE_CONNECT_TIMEOUT_S": "0.5",
    "DATABASE_POOL_TIMEOUT_S": "0.5",
    "DATABASE_COMMAND_TIMEOUT_S": "0.5",
    "WEBHOOK_TIMEOUT_S": "1",
    "WORK_POLL_S": "0.1",
    "WORK_LEASE_S": "1",
}


async def _text(service: ServiceProcess, sid: str) -> Answer:
    async with service.connect() as connection:
        return await send_text(connection, sid, "Hola, no hay agua caliente")


async def _until_stored(service: ServiceProcess, sid: str) -> list[int]:
    """Deliver one text again and again, as Twilio would, until it is acknowledged; returns every status before that."""
    statuses: list[int] = []

    async def is_acknowledged() -> bool:
        statuses.append((await _text(service, sid)).status)
        return statuses[-1] == 200

    await eventually(is_acknowledged, f"{sid} is acknowledged")
    return statuses[:-1]


async def _stored(database: Database) -> set[str]:
    return {row[0] for row in await database.pool.fetch("SELECT provider_message_id FROM sms_messages")}


async def _until_enriched(database: Database) -> None:
    async def is_enriched() -> bool:
        return not await database.pool.fetchval("SELECT count(*) FROM work WHERE kind = 'message_received'")

    await eventually(is_enriched, "no work is left")


def _assert_no_traceback(service: ServiceProcess) -> None:
    assert "Traceback" not in service.log
    for event in service.events:  # each line is JSON, and none is a defect
        assert "error_at" not in event, json.dumps(event)
        assert "\n" not in str(event.get("error", ""))


class TestUnreachableAtStart:
    @pytest.fixture
    async def empty_gate(self, postgres_server: str) -> AsyncIterator[TcpGate]:
        """The way, closed, to a database without any schema."""
        url = await postgres.clone(postgres_server, "template0")
        async with TcpGate(url) as gate:
            yield gate
        await postgres.drop(postgres_server, url)

    async def test_serve_says_what_is_wrong_stays_up_and_gets_ready_by_itself(
        self, processes: Processes, empty_gate: TcpGate
    ) -> None:
        service = processes.serve(DATABASE_URL=empty_gate.url, **IMPATIENT)

        assert (await service.until_status("/health/live", 200)).json() == {"ok": True}
        not_ready = await service.get("/health/ready")
        assert not_ready.status == 503
        assert not_ready.json()["reason"].startswith("database: ConnectionRefusedError")
        assert "\n" not in not_ready.json()["reason"]
        health = await service.get("/health")
        assert (health.status, health.json()["dependencies"]["database"]["state"]) == (503, "down")
        refused = await _text(service, "SM1")
        assert (refused.status, refused.headers["retry-after"]) == (503, "5")
        assert refused.json()["error"]["code"] == "sms.unavailable"
        async with service.connect() as connection:
            assert (await send_status(connection, "SM1", "sent")).status == 503
        assert (await service.get("/conversations/+14155550123")).status == 503
        assert (await service.get("/metrics")).status == 200

        await empty_gate.open()

        await service.until_ready()  # the schema was made, too
        assert (await _text(service, "SM1")).status == 200
        assert [each["twilio_sid"] for each in (await service.conversation())["messages"]] == ["SM1"]
        _assert_no_traceback(service)
        started = [each for each in service.events if each["event"] == "service.started"]
        assert len(started) == 1

    async def test_a_worker_stays_up_and_starts_to_work_by_itself(
        self, processes: Processes, gate: TcpGate, database_url: DatabaseUrl, database: Database
    ) -> None:
        worker = processes.start("worker", DATABASE_URL=gate.url, **IMPATIENT)
        service = processes.serve(DATABASE_URL=database_url.dsn, WORK_IN_PROCESS="false")
        await service.until_ready()
        assert (await _text(service, "SM1")).status == 200

        async def has_complained() -> bool:
            return "work.claim_failed" in worker.log

        await eventually(has_complained, "the worker says that it cannot reach the database")
        await gate.open()

        await _until_enriched(database)
        assert (await service.conversation())["language_detected"] == "es"
        assert worker.is_running
        assert "Traceback" not in worker.log


class TestLostLater:
    async def test_after_cut_connections_texts_are_stored_again(
        self, processes: Processes, gate: TcpGate, database: Database
    ) -> None:
        await gate.open()
        service = processes.serve(DATABASE_URL=gate.url, **IMPATIENT)
        await service.until_ready()
        acknowledged = set()
        for number in range(30):
            if number % 10 == 5:
                await gate.cut()
            if (await _text(service, f"SM{number}")).status == 200:
                acknowledged.add(f"SM{number}")
        await gate.close()
        assert (await _text(service, "SM-lost")).status == 503
        assert (await service.get("/health/ready")).status == 503
        await gate.open()
        await service.until_ready()
        assert await _until_stored(service, "SM-again") in ([], [503])

        assert await _stored(database) - {"SM-again"} >= acknowledged
        assert len(acknowledged) >= 27  # a cut costs at most the text that meets it
        assert "SM-lost" not in await _stored(database)
        await _until_enriched(database)
        _assert_no_traceback(service)

    async def test_a_silent_server_makes_503_and_speaking_again_it_is_used_again(
        self, processes: Processes, gate: TcpGate, database: Database
    ) -> None:
        await gate.open()
        service = processes.serve(DATABASE_URL=gate.url, **IMPATIENT)
        await service.until_ready()
        assert (await _text(service, "SM-before")).status == 200
        gate.freeze()

        answers = await asyncio.gather(*(_text(service, f"SM-silent-{number}") for number in range(20)))
        ready, live = await service.get("/health/ready"), await service.get("/health/live")

        assert {each.status for each in answers} == {503}
        assert (ready.status, live.status) == (503, 200)
        assert "\n" not in ready.json()["reason"]
        gate.thaw()
        await service.until_ready()
        await _until_stored(service, "SM-after")
        for number in range(20):  # what was not acknowledged comes again
            await _until_stored(service, f"SM-silent-{number}")
        assert await _stored(database) == {"SM-before", "SM-after", *(f"SM-silent-{number}" for number in range(20))}
        await _until_enriched(database)
        _assert_no_traceback(service)


class TestEmbeddedServerIsKilled:
    async def test_it_is_started_again_nothing_is_lost_and_sigterm_takes_it_along(self, processes: Processes) -> None:
        service = processes.serve(**IMPATIENT)
        await service.until_ready()
        pid_file = processes.data_dir / "data" / "postmaster.pid"
        assert (await _text(service, "SM1")).status == 200
        first_pid = _postmaster(pid_file)
        assert first_pid is not None

        os.kill(first_pid, signal.SIGKILL)

        # A connection's own server process may outlive the postmaster for a moment: then SM2 is stored at once.
        failures = await _until_stored(service, "SM2")
        assert set(failures) <= {503}

        async def is_started_again() -> bool:
            return _postmaster(pid_file) not in (None, first_pid)

        await eventually(is_started_again, "another postmaster runs")
        await service.until_ready()
        sids = [each["twilio_sid"] for each in (await service.conversation())["messages"]]
        assert sids == ["SM2", "SM1"]
        _assert_no_traceback(service)

        service.signal(signal.SIGTERM)
        assert await service.exit_code() == 0
        assert not pid_file.exists()
        server_log = (processes.data_dir / "postgres.log").read_text()
        assert "agua" not in server_log
        assert "5550123" not in server_log


def _postmaster(pid_file: Path) -> int | None:
    try:
        return int(pid_file.read_text().splitlines()[0])
    except (FileNotFoundError, IndexError):  # none runs, or one is just writing it
        return None
