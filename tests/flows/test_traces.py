"""One trace from the webhook to the receipt, over processes, work rows and the calls of others."""

import signal
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from sms_foundation.core.config import LOCAL_AUTH_TOKEN
from sms_foundation.core.db import Database, DatabaseUrl
from sms_foundation.core.tracing.context import TraceContext, parse_traceparent
from tests.support.access import make_client, make_key
from tests.support.collector import Collector, Recorded, running_collector
from tests.support.http_connection import Answer
from tests.support.monitor import RunningMonitor, running_monitor
from tests.support.processes import Processes, ServiceProcess, eventually, send_text
from tests.support.sending import call, start_simulator, true_record
from tests.support.service import TENANT_PHONE

SECRET = "Hola, mi clave es 4711"
REPLY = "Your plumber comes at 10."
CALLER = TraceContext("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", is_sampled=True)


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    async with running_collector() as collector:
        yield collector


@pytest.fixture
async def monitor() -> AsyncIterator[RunningMonitor]:
    async with running_monitor() as monitor:
        yield monitor


class Stage:
    """The service on the test's own database, the simulator beside it, and a calling service's key."""

    def __init__(self, processes: Processes, environment: dict[str, str], port: int, key: str) -> None:
        self._processes = processes
        self._environment = environment
        self._port = port
        self._key = key
        self.simulator: ServiceProcess

    async def start(self, **variables: str) -> ServiceProcess:
        """Start the service; another one only after the end of the one before."""
        service = self._processes.serve(port=self._port, **{**self._environment, **variables})
        await service.until_ready()
        return service

    async def start_simulator(self) -> None:
        self.simulator = await start_simulator(self._processes, service_port=self._port)
        self._environment["SIMULATOR_URL"] = f"http://127.0.0.1:{self.simulator.port}"

    async def send(self, service: ServiceProcess, traceparent: str, **more: str) -> str:
        """Send as a calling service does that has traces of its own; returns the message's id."""
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self._key}"}
        body = orjson.dumps({"to": TENANT_PHONE, "message": REPLY, "provider": "twilio"})
        async with service.connect() as connection:
            answer: Answer = await connection.request(
                "POST", "/v1/sms/send", body, {**headers, "traceparent": traceparent, **more}
            )
        assert answer.status == 202, answer.body
        return str(answer.json()["id"])

    async def read(self, service: ServiceProcess, target: str) -> dict[str, Any]:
        answer = await call(service, "GET", target, token=self._key)
        assert answer.status == 200, answer.body
        return dict(answer.json())

    async def until_delivered(self, service: ServiceProcess, message_id: str) -> dict[str, Any]:
        found: dict[str, Any] = {}

        async def is_delivered() -> bool:
            found.update(await self.read(service, f"/v1/sms/{message_id}"))
            return bool(found["status"] == "delivered")

        await eventually(is_delivered, "the message is delivered")
        return found


@pytest.fixture
async def stage(processes: Processes, database_url: DatabaseUrl, database: Database, monitor: RunningMonitor) -> Stage:
    key = await make_key(database, await make_client(database))
    environment = {
        "DATABASE_URL": database_url.dsn,
        "OPEN_ACCESS": "false",
        "WORK_POLL_S": "0.05",
        "LOG_FORMAT": "json",
        "MONITOR_API_URL": monitor.url,
    }
    stage = Stage(processes, environment, processes.reserve_port(), key)
    await stage.start_simulator()
    return stage


def child(spans: list[Recorded], name: str, parent: str) -> Recorded:
    """The only span of this name below this one."""
    (found,) = [span for span in spans if (span.name, span.parent_id) == (name, parent)]
    return found


async def text_in(service: ServiceProcess, monitor: RunningMonitor, sid: str) -> TraceContext:
    """Let a text arrive; returns where its lookup at the Monitor said it comes from."""
    async with service.connect() as connection:
        answer = await send_text(connection, sid, SECRET)
    assert answer.status == 200

    async def is_looked_up() -> bool:
        return bool(monitor.traceparents)

    await eventually(is_looked_up, "the number is looked up")
    context = parse_traceparent(monitor.traceparents[0])
    assert context is not None
    return context


class TestOneTrace:
    async def test_shows_webhook_lookup_reply_provider_and_receipt_each_below_what_caused_it(
        self, stage: Stage, collector: Collector, monitor: RunningMonitor
    ) -> None:
        await monitor.add_tenant("tenant-1", TENANT_PHONE)
        service = await stage.start(**collector.variables)
        sid = "SM" + "1" * 32

        at_monitor = await text_in(service, monitor, sid)
        message_id = await stage.send(service, at_monitor.traceparent)
        await stage.until_delivered(service, message_id)

        trace_id = at_monitor.trace_id
        receipt = await collector.one("receipt delivered", trace_id=trace_id)
        await collector.one("send twilio", trace_id=trace_id)
        await collector.one("work send_message", trace_id=trace_id)
        spans = collector.of(trace_id)
        webhook = child(spans, "POST /webhook/twilio/sms", "")
        enriching = child(spans, "work message_received", webhook.span_id)
        lookup = child(spans, "GET", enriching.span_id)
        reply = child(spans, "POST /v1/sms/send", lookup.span_id)
        sending = child(spans, "work send_message", reply.span_id)
        provider = child(spans, "send twilio", sending.span_id)
        http = child(spans, "POST", provider.span_id)
        assert receipt.parent_id == reply.span_id
        assert at_monitor.span_id == lookup.span_id
        assert [each.kind for each in (webhook, enriching, lookup, reply, sending, provider, http, receipt)] == (
            "server consumer client server consumer client client internal".split()
        )
        assert not any(each.has_failed for each in spans)

        # The callback is a request of its own, and the receipt says which.
        (callback,) = receipt.links
        request = await collector.one("POST /webhook/twilio/status", trace_id=callback[0])
        assert (request.trace_id, request.span_id) == callback
        assert callback[0] != trace_id
        # It is answered after its commit, and asks nothing more for the sake of the trace.
        assert not [span.name for span in collector.of(request.trace_id) if span.name.startswith("SELECT")]

        # The commits are in it too, with what the database did.
        stored = child(spans, "commit inbound", webhook.span_id)
        assert stored.links == [(trace_id, webhook.span_id)]
        child(spans, "INSERT sms_conversations, INSERT sms_messages, INSERT work", stored.span_id)
        assert {"commit outbound", "commit findings", "commit send_begin", "commit send_finish"} <= {
            span.name for span in spans
        }

        # Records tell it.
        shown = await stage.read(service, f"/messages/{sid}")
        assert shown["trace_id"] == trace_id

    async def test_holds_how_it_went_and_no_number_content_or_secret(
        self, stage: Stage, collector: Collector, monitor: RunningMonitor
    ) -> None:
        await monitor.add_tenant("tenant-1", TENANT_PHONE)
        service = await stage.start(**collector.variables)
        at_monitor = await text_in(service, monitor, "SM" + "1" * 32)
        await stage.until_delivered(service, await stage.send(service, at_monitor.traceparent))
        await stage.read(service, f"/conversations/{TENANT_PHONE}?limit=1")
        await collector.one("receipt delivered")
        shown = await collector.one("GET /conversations/{phone_number}")

        assert shown.attributes == {
            "url.scheme": "http",
            "http.request.method": "GET",
            "http.route": "/conversations/{phone_number}",
            "http.response.status_code": 200,
        }
        (lookup,) = [span for span in collector.of(at_monitor.trace_id) if span.name == "GET"]
        assert lookup.attributes == {
            "http.request.method": "GET",
            "server.address": "127.0.0.1",
            "http.response.status_code": 200,
        }
        provider = await collector.one("send twilio")
        assert provider.attributes == {"sms.provider": "twilio", "sms.outcome": "sent"}
        work = await collector.one("work send_message")
        row_id = work.attributes.pop("sms.work.id")
        assert isinstance(row_id, int)
        assert work.attributes == {"sms.work.kind": "send_message", "sms.work.attempt": 1, "sms.work.outcome": "done"}
        receipt = await collector.one("receipt delivered")
        assert receipt.attributes == {
            "sms.provider": "twilio",
            "sms.receipt.status": "delivered",
            "sms.receipt.outcome": "applied",
        }
        everything = b"".join(collector.bodies)
        for secret in (
            SECRET,
            REPLY,
            TENANT_PHONE,
            TENANT_PHONE[1:],
            TENANT_PHONE[2:],
            LOCAL_AUTH_TOKEN,
            "sk_",
            "?phone",
        ):
            assert secret.encode() not in everything, secret

    async def test_goes_on_where_it_stopped_when_a_process_is_killed(
        self, stage: Stage, collector: Collector, database: Database
    ) -> None:
        first = await stage.start(**collector.variables, WORK_IN_PROCESS="false")
        message_id = await stage.send(first, CALLER.traceparent)
        first.kill()
        assert await true_record(stage.simulator) == []

        second = await stage.start(**collector.variables)
        await stage.until_delivered(second, message_id)

        work = await collector.one("work send_message", trace_id=CALLER.trace_id)
        kept = parse_traceparent(
            await database.pool.fetchval("SELECT trace_context FROM sms_messages WHERE id::text = $1", message_id)
        )
        assert kept is not None
        assert (kept.trace_id, kept.span_id) == (CALLER.trace_id, work.parent_id)
        provider = await collector.one("send twilio", trace_id=CALLER.trace_id)
        assert provider.parent_id == work.span_id
        await collector.one("receipt delivered", trace_id=CALLER.trace_id)

    async def test_of_a_receipt_that_came_before_its_message_is_told_when_both_are_there(
        self, stage: Stage, collector: Collector, database: Database
    ) -> None:
        service = await stage.start(**collector.variables, UNKNOWN_SETTLE_S="0.1")
        message_id = await stage.send(service, CALLER.traceparent)
        await stage.until_delivered(service, message_id)
        await collector.one("receipt delivered")
        # As if the receipt had not been matched: a callback that came before the message was written down.
        await database.pool.execute(
            "UPDATE sms_message_status_events SET message_id = NULL WHERE message_id::text = $1 "
            "AND event_status = 'delivered'",
            message_id,
        )
        await database.pool.execute(
            "INSERT INTO work (kind, ref_id, trace_context) SELECT 'receipt_unmatched', id, $1 "
            "FROM sms_message_status_events WHERE message_id IS NULL",
            f"00-{'c' * 32}-{'d' * 16}-01",
        )

        await collector.until(
            lambda: sum(span.name == "receipt delivered" for span in collector.spans) == 2, "it is told again"
        )
        *_, matched = [span for span in collector.spans if span.name == "receipt delivered"]
        assert matched.trace_id == CALLER.trace_id
        assert matched.attributes["sms.receipt.outcome"] == "matched"
        run = await collector.one("work receipt_unmatched", trace_id="c" * 32)
        assert matched.links == [(run.trace_id, run.span_id)]


class TestOff:
    async def test_rows_requests_and_log_lines_carry_it_all_the_same(
        self, stage: Stage, monitor: RunningMonitor, database: Database
    ) -> None:
        await monitor.add_tenant("tenant-1", TENANT_PHONE)
        service = await stage.start()
        sid = "SM" + "1" * 32

        at_monitor = await text_in(service, monitor, sid)
        message_id = await stage.send(service, CALLER.traceparent, **{"X-Request-ID": "req-4711"})
        sent = await stage.until_delivered(service, message_id)
        received = await stage.read(service, f"/messages/{sid}")

        # A caller's place is passed on as it is: no span of ours is in between.
        assert (sent["trace_id"], sent["x_request_id"]) == (CALLER.trace_id, "req-4711")
        kept = await database.pool.fetchval("SELECT trace_context FROM sms_messages WHERE id::text = $1", message_id)
        assert kept == CALLER.traceparent
        assert received["trace_id"] == at_monitor.trace_id
        assert not at_monitor.is_sampled
        lines = {(event["event"], event.get("route")): event for event in service.events}
        webhook = lines["http.request", "/webhook/twilio/sms"]
        decided = lines["language.decided", None]
        assert webhook["trace_id"] == decided["trace_id"] == at_monitor.trace_id
        assert webhook["request_id"] == decided["request_id"] == received["request_id"]
        accepted = lines["http.request", "/v1/sms/send"]
        assert (accepted["trace_id"], accepted["request_id"]) == (CALLER.trace_id, "req-4711")

    async def test_nobody_else_tells_a_collector_anything(self, stage: Stage, collector: Collector) -> None:
        """FastAPI has telemetry of its own, with paths and what callers sent in it; a variable would switch it on."""
        variables = {**collector.variables, "TRACING": "false", "FASTAPI_OTEL_AUTO_CONFIGURE": "true"}
        service = await stage.start(**variables)
        await stage.until_delivered(service, await stage.send(service, CALLER.traceparent))
        assert (await call(service, "POST", "/v1/sms/send/batch", {"messages": SECRET})).status == 401

        service.signal(signal.SIGTERM)
        assert await service.exit_code() == 0
        assert collector.bodies == []


class TestCollectorAway:
    async def test_nothing_fails_and_nobody_waits(self, stage: Stage, monitor: RunningMonitor) -> None:
        """Nobody listens on port 9."""
        service = await stage.start(
            TRACING="true", OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9", OTEL_BSP_SCHEDULE_DELAY="20"
        )

        await text_in(service, monitor, "SM" + "1" * 32)
        await stage.until_delivered(service, await stage.send(service, CALLER.traceparent))

        service.signal(signal.SIGTERM)
        assert await service.exit_code() == 0
        assert [event["event"] for event in service.events if event["level"] == "error"] == []
