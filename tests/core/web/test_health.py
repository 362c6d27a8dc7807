"""What the service says about itself, with the database there, away, silent and behind."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from unittest.mock import ANY
from uuid import UUID

import pytest
from prometheus_client.parser import text_string_to_metric_families

from sms_foundation import __version__
from sms_foundation.core.config import Settings
from sms_foundation.core.db import Database, DatabaseUrl, parse_database_url
from sms_foundation.core.work import queue
from sms_foundation.core.work.queue import NewWork
from sms_foundation.migrations import runner as migrations
from sms_foundation.migrations.state import head_revision
from tests.support import postgres
from tests.support.processes import eventually
from tests.support.service import Service, make_settings, running_service
from tests.support.tcp_gate import TcpGate

IMPATIENT = {
    "database_connect_timeout_s": 0.5,
    "database_pool_timeout_s": 0.5,
    "database_command_timeout_s": 0.5,
    "auto_migrate": False,
}


@pytest.fixture
async def gate(database_url: DatabaseUrl) -> AsyncIterator[TcpGate]:
    async with TcpGate(database_url) as gate:
        yield gate


@pytest.fixture
async def silent_port() -> AsyncIterator[int]:
    """The port of somebody who takes every connection and never says a word."""

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.transport.abort()

    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()


@pytest.fixture
def deaf_port() -> Iterator[int]:
    """The port of somebody who does not even take connections: as many as fit wait already."""
    with ExitStack() as stack:
        deaf = stack.enter_context(socket.socket())
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(deaf.getsockname())
        yield deaf.getsockname()[1]


async def answer(service: Service, path: str) -> tuple[int, dict[str, object]]:
    response = await service.client.get(path)
    assert response.headers["content-type"] == "application/json"
    return response.status_code, response.json()


async def until_ready(service: Service) -> None:
    async def is_ready() -> bool:
        return (await answer(service, "/health/ready"))[0] == 200

    await eventually(is_ready, "the service is ready")


class TestHealth:
    async def test_shows_every_dependency_with_its_latency(self, service: Service) -> None:
        status, body = await answer(service, "/health")

        assert (status, body["ok"], body["version"]) == (200, True, __version__)
        dependencies = body["dependencies"]
        assert isinstance(dependencies, dict)
        assert {name: each["state"] for name, each in dependencies.items()} == {
            "database": "ok",
            "twilio": "ok",
            "providers": "ok",
            "collections_monitor": "not_configured",
            "redis": "not_configured",
            "work": "ok",
        }
        assert all(each["latency_ms"] >= 0 for each in dependencies.values())
        assert dependencies["twilio"]["credentials"] == "simulator"
        assert dependencies["work"].keys() >= {"due", "oldest_due_s", "dead"}
        assert dependencies["work"]["runs_here"] is True
        assert dependencies["database"]["pool"] == {"limit": 6, "in_use": ANY, "waiting": ANY}
        assert dependencies["providers"]["providers"].keys() == {"twilio", "messagebird", "vonage", "telnyx"}

    async def test_provider_in_trouble_is_named_and_no_reason_to_restart(
        self, service: Service, database: Database
    ) -> None:
        await answer(service, "/health")  # its row is there now
        await database.pool.execute(
            "UPDATE sms_providers SET circuit = 'open', circuit_until = now() + interval '1 hour' WHERE name = 'vonage'"
        )

        async def is_seen() -> bool:
            return (await answer(service, "/health"))[1]["dependencies"]["providers"]["state"] == "degraded"  # type: ignore[index]

        await eventually(is_seen, "the open circuit is seen")
        status, body = await answer(service, "/health")
        assert (status, body["ok"]) == (200, True)
        providers = body["dependencies"]["providers"]["providers"]  # type: ignore[index]
        assert (providers["vonage"]["state"], providers["vonage"]["circuit"]) == ("in_trouble", "open")
        assert datetime.fromisoformat(providers["vonage"]["circuit_until"]) > datetime.now(UTC)
        assert providers["twilio"] == {
            "state": "available",
            "circuit": "closed",
            "consecutive_failures": 0,
            "weight_percent": 100,
        }

    async def test_twilio_in_trouble_is_said_of_it_too(self, service: Service, database: Database) -> None:
        await answer(service, "/health")  # its row is there now
        await database.pool.execute(
            "UPDATE sms_providers SET circuit = 'open', circuit_until = now() + interval '1 hour' WHERE name = 'twilio'"
        )

        async def is_seen() -> bool:
            return (await answer(service, "/health"))[1]["dependencies"]["twilio"]["state"] == "degraded"  # type: ignore[index]

        await eventually(is_seen, "the open circuit is seen")
        status, body = await answer(service, "/health")
        assert (status, body["ok"]) == (200, True)
        twilio = body["dependencies"]["twilio"]  # type: ignore[index]
        assert (twilio["credentials"], twilio["last_messages"]) == ("simulator", "in_trouble")

    async def test_dead_and_old_work_is_a_reason_to_look(self, service: Service, database: Database) -> None:
        async with database.transaction() as connection:
            await queue.enqueue(connection, [NewWork("gone", UUID(int=n)) for n in (1, 2, 3)])
        await database.pool.execute("UPDATE work SET state = 'dead' WHERE ref_id = $1", UUID(int=1))
        await database.pool.execute("UPDATE work SET run_at = now() - interval '2 minutes' WHERE kind = 'gone'")

        status, body = await answer(service, "/health")

        work = body["dependencies"]["work"]  # type: ignore[index]
        assert (status, work["state"], work["dead"]) == (200, "degraded", 1)
        assert work["due"] >= 2
        assert work["oldest_due_s"] >= 120

    async def test_a_database_away_is_503_without_credentials(
        self, gate: TcpGate, database: Database, settings: Settings
    ) -> None:
        url = parse_database_url(gate.url)
        async with running_service(make_settings(**IMPATIENT), url, database) as service:
            status, body = await answer(service, "/health")

            assert (status, body["ok"]) == (503, False)
            away = body["dependencies"]["database"]  # type: ignore[index]
            assert away["state"] == "down"
            assert away["error"].startswith("ConnectionRefusedError: ")
            assert body["dependencies"]["twilio"]["state"] == "ok"  # type: ignore[index]
            assert body["dependencies"]["twilio"]["last_messages"] == "unknown"  # type: ignore[index]
            assert "pw-of-the-database" not in str(body)


class TestHealthOfWhatHangs:
    """Nobody is waited for longer than a little, and all of them side by side."""

    async def test_all_that_hangs_is_shown_by_one_answer(
        self, gate: TcpGate, database: Database, silent_port: int, deaf_port: int
    ) -> None:
        await gate.open()
        settings = make_settings(
            auto_migrate=False,
            database_command_timeout_s=60,
            redis_url=f"redis://127.0.0.1:{silent_port}/0",
            monitor_api_url=f"http://127.0.0.1:{deaf_port}",
            shutdown_timeout_s=1,
        )
        async with running_service(settings, parse_database_url(gate.url), database) as service:
            await until_ready(service)
            gate.freeze()
            started = time.monotonic()
            status, body = await answer(service, "/health")
            took_ms = (time.monotonic() - started) * 1000
            gate.thaw()

            dependencies = body["dependencies"]
            assert (status, body["ok"]) == (503, False)
            shown = {name: (each["state"], each.get("error")) for name, each in dependencies.items()}  # type: ignore[attr-defined]
            assert shown == {
                "database": ("down", "TimeoutError"),
                "twilio": ("ok", None),
                "providers": ("down", "TimeoutError"),
                "collections_monitor": ("degraded", "TimeoutError"),
                "redis": ("degraded", "TimeoutError"),
                "work": ("down", "TimeoutError"),
            }
            latencies = [each["latency_ms"] for each in dependencies.values()]  # type: ignore[attr-defined]
            assert max(latencies) <= took_ms < sum(latencies)
            assert max(latencies) < settings.database_command_timeout_s * 1000 / 2

    async def test_many_who_look_do_not_use_up_what_hangs(self, gate: TcpGate, database: Database) -> None:
        """They share one question: the pool has six connections, and nobody waits five seconds for one of them."""
        await gate.open()
        settings = make_settings(auto_migrate=False, database_command_timeout_s=60, shutdown_timeout_s=1)
        async with running_service(settings, parse_database_url(gate.url), database) as service:
            await until_ready(service)
            gate.freeze()
            for _ in range(2):
                bodies = await asyncio.gather(*(answer(service, "/health") for _ in range(10)))
            gate.thaw()

            assert {body["dependencies"]["database"]["error"] for _, body in bodies} == {"TimeoutError"}  # type: ignore[index]
            assert (await answer(service, "/health"))[0] == 200

    async def test_a_monitor_that_cannot_be_reached_is_seen_before_the_first_lookup(
        self, database_url: DatabaseUrl, database: Database
    ) -> None:
        settings = make_settings(monitor_api_url="http://127.0.0.1:9")  # nobody listens there
        async with running_service(settings, database_url, database) as service:
            status, body = await answer(service, "/health")

        monitor = body["dependencies"]["collections_monitor"]  # type: ignore[index]
        assert (status, monitor["state"], monitor["last_lookup"]) == (200, "degraded", "untried")
        assert monitor["error"] == "ConnectionRefusedError"

    async def test_redis_away_stops_no_text_from_coming_in(self, database_url: DatabaseUrl, database: Database) -> None:
        settings = make_settings(redis_url="redis://:s3cr3t@127.0.0.1:9/0")
        async with running_service(settings, database_url, database) as service:
            status, body = await answer(service, "/health")

        assert (status, body["dependencies"]["redis"]["state"]) == (200, "degraded")  # type: ignore[index]
        assert "s3cr3t" not in str(body)


class TestLive:
    @pytest.mark.parametrize("name", ["work-feeder-0", "work-feeder-1"])
    async def test_is_red_once_background_work_has_ended_by_itself(self, service: Service, name: str) -> None:
        """Nothing here would ever begin with it again: only a new process does."""
        loops = [each for each in asyncio.all_tasks() if each.get_name() == name]
        loops[0].cancel()
        await asyncio.wait(loops[:1])

        reason = "background work has ended by itself"
        assert await answer(service, "/health/live") == (503, {"ok": False, "reason": reason})
        assert await answer(service, "/health/ready") == (503, {"ok": False, "reason": reason})
        assert (await answer(service, "/health"))[1]["dependencies"]["work"]["error"] == reason  # type: ignore[index]

    async def test_is_green_whatever_the_database_does(self, gate: TcpGate, database: Database) -> None:
        async with running_service(make_settings(**IMPATIENT), parse_database_url(gate.url), database) as service:
            assert await answer(service, "/health/live") == (200, {"ok": True})
            await gate.open()
            assert await answer(service, "/health/live") == (200, {"ok": True})


class TestReady:
    async def test_is_red_while_the_database_is_away_and_green_again_after(
        self, gate: TcpGate, database: Database
    ) -> None:
        async with running_service(make_settings(**IMPATIENT), parse_database_url(gate.url), database) as service:
            status, body = await answer(service, "/health/ready")
            assert status == 503
            assert str(body["reason"]).startswith("database: ConnectionRefusedError: ")

            for _ in range(2):
                await gate.open()
                await until_ready(service)
                await gate.close()
                status, body = await answer(service, "/health/ready")
                assert (status, body["ok"]) == (503, False)
                assert str(body["reason"]).startswith("database: ")
                assert "\n" not in str(body["reason"])

    async def test_startup_is_red_until_it_was_ready_once_and_green_from_then_on(
        self, gate: TcpGate, database: Database
    ) -> None:
        """Whoever asks it restarts the process, which helps nobody when the database goes away later."""
        async with running_service(make_settings(**IMPATIENT), parse_database_url(gate.url), database) as service:
            status, body = await answer(service, "/health/startup")
            assert (status, body["ok"]) == (503, False)
            assert str(body["reason"]).startswith("database: ")

            await gate.open()
            await until_ready(service)
            assert await answer(service, "/health/startup") == (200, {"ok": True})

            await gate.close()
            assert (await answer(service, "/health/ready"))[0] == 503
            assert await answer(service, "/health/startup") == (200, {"ok": True})

    async def test_is_red_while_the_database_is_silent(self, gate: TcpGate, database: Database) -> None:
        async with running_service(make_settings(**IMPATIENT), parse_database_url(gate.url), database) as service:
            await gate.open()
            await until_ready(service)
            gate.freeze()
            assert await answer(service, "/health/ready") == (503, {"ok": False, "reason": "database: TimeoutError"})
            gate.thaw()
            await until_ready(service)

    async def test_is_red_while_the_schema_is_behind_and_green_after_the_migration(
        self, postgres_server: str, database: Database
    ) -> None:
        empty = await postgres.clone(postgres_server, "template1")
        try:
            async with running_service(make_settings(**IMPATIENT), empty, database) as service:
                reason = "the database is empty: run `sms-foundation migrate`"
                for _ in range(2):
                    assert await answer(service, "/health/ready") == (503, {"ok": False, "reason": reason})
                assert (await answer(service, "/health"))[1]["dependencies"]["database"]["error"] == reason  # type: ignore[index]

                await migrations.upgrade(empty)

                assert await answer(service, "/health/ready") == (200, {"ok": True})
        finally:
            await postgres.drop(postgres_server, empty)

    async def test_names_both_revisions_of_an_old_schema(self, database_url: DatabaseUrl, database: Database) -> None:
        await database.pool.execute("UPDATE alembic_version SET version_num = '0000'")
        async with running_service(make_settings(auto_migrate=False), database_url, database) as service:
            reason = f"the schema is at 0000, this version needs {head_revision()}: run `sms-foundation migrate`"
            assert await answer(service, "/health/ready") == (503, {"ok": False, "reason": reason})

    async def test_a_local_service_brings_an_empty_database_up_to_date_by_itself(
        self, postgres_server: str, database: Database
    ) -> None:
        empty = await postgres.clone(postgres_server, "template1")
        try:
            async with running_service(make_settings(), empty, database) as service:
                assert await answer(service, "/health/ready") == (200, {"ok": True})
        finally:
            await postgres.drop(postgres_server, empty)


class TestMetrics:
    async def test_show_the_backlog_and_what_was_done(self, service: Service, database: Database) -> None:
        await service.text("SM1", "Hola, no hay agua")
        await service.text("SM1")
        await service.status("SM1", "delivered")
        await service.client.post("/webhook/twilio/sms", content=b"")
        await service.finish_work()
        async with database.transaction() as connection:
            await queue.enqueue(connection, [NewWork("gone", UUID(int=n)) for n in (1, 2, 3)])

        response = await service.client.get("/metrics")

        assert response.headers["content-type"].startswith("text/plain")
        samples = {
            (sample.name, tuple(sorted(sample.labels.values()))): sample.value
            for family in text_string_to_metric_families(response.text)
            for sample in family.samples
        }
        assert samples["sms_work_backlog", ("due", "gone")] == 3
        assert samples["sms_work_oldest_due_seconds", ("gone",)] >= 0
        names = {name for name, _ in samples}
        assert names >= {
            "sms_http_requests_total",
            "sms_http_request_seconds_count",
            "sms_http_requests_in_flight",
            "sms_webhooks_total",
            "sms_messages_stored_total",
            "sms_receipts_stored_total",
            "sms_commit_batch_size_count",
            "sms_store_seconds_count",
            "sms_language_detected_total",
            "sms_numbers_enriched_total",
            "sms_work_runs_total",
        }

    async def test_a_kind_that_has_no_more_work_is_shown_no_more(self, service: Service, database: Database) -> None:
        async with database.transaction() as connection:
            await queue.enqueue(connection, [NewWork("gone", UUID(int=1))])
        assert 'kind="gone"' in (await service.client.get("/metrics")).text
        await database.pool.execute("DELETE FROM work WHERE kind = 'gone'")

        assert 'kind="gone"' not in (await service.client.get("/metrics")).text

    async def test_are_there_while_the_database_is_away(self, gate: TcpGate, database: Database) -> None:
        async with running_service(make_settings(**IMPATIENT), parse_database_url(gate.url), database) as service:
            response = await service.client.get("/metrics")

        assert response.status_code == 200
        assert "sms_http_requests_total" in response.text


class TestRoot:
    async def test_leads_to_the_documentation(self, service: Service) -> None:
        response = await service.client.get("/")

        assert (response.status_code, response.headers["location"]) == (307, "/docs")
        for path in ("/docs", "/redoc"):
            page = await service.client.get(path)
            assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
