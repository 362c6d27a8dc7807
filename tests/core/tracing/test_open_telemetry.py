"""Spans on their way to a collector, which is a real one as far as HTTP goes."""

import asyncio
import subprocess
import sys

import pytest

from sms_foundation.core.errors import StartupError
from sms_foundation.core.tracing.context import TraceContext, parse_traceparent, trace
from sms_foundation.core.tracing.opening import open_tracer
from sms_foundation.core.tracing.tracer import SpanKind, Tracer, span
from tests.support.collector import Collector
from tests.support.service import make_settings

SECRET = "Hola, mi clave es 4711"
CALLER = TraceContext("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", is_sampled=True, state="one=1,two=2")


async def opened(collector: Collector) -> Tracer:
    tracer = open_tracer(make_settings(tracing=True))
    assert tracer is not None
    return tracer


class TestSpan:
    async def test_arrives_with_name_kind_parent_links_and_attributes(
        self, tracer: Tracer, collector: Collector
    ) -> None:
        linked = TraceContext("a" * 32, "b" * 16)
        made = tracer.start("GET", SpanKind.SERVER, {"a": 1}, parent=CALLER, links=[linked])
        made.rename("GET /things")
        made.set({"b": "two"})
        made.end()

        arrived = await collector.one("GET /things")
        assert (arrived.kind, arrived.trace_id, arrived.parent_id) == ("server", CALLER.trace_id, CALLER.span_id)
        assert (arrived.span_id, arrived.links) == (made.context.span_id, [(linked.trace_id, linked.span_id)])
        assert arrived.attributes == {"a": 1, "b": "two"}
        assert not arrived.has_failed
        assert made.context.is_sampled

    async def test_passes_the_state_of_others_on(self, tracer: Tracer, collector: Collector) -> None:
        made = tracer.start("it", SpanKind.INTERNAL, {}, parent=CALLER)
        made.end()

        assert made.context.state == "one=1,two=2"
        assert (await collector.one("it")).state == "one=1,two=2"

    async def test_is_current_within_its_block_and_not_after(self, tracer: Tracer, collector: Collector) -> None:
        trace.set(None)
        with span(tracer, "outer", SpanKind.INTERNAL, {}, parent=None) as outer:
            with span(tracer, "inner", SpanKind.INTERNAL, {}, parent=trace.get()) as inner:
                assert trace.get() == inner.context
            assert trace.get() == outer.context
        assert trace.get() is None

        arrived = await collector.one("inner")
        assert (arrived.trace_id, arrived.parent_id) == (outer.context.trace_id, outer.context.span_id)
        assert (await collector.one("outer")).parent_id == ""

    async def test_that_failed_says_with_what_type_and_never_with_what_words(
        self, tracer: Tracer, collector: Collector
    ) -> None:
        with pytest.raises(ValueError, match=SECRET), span(tracer, "it", SpanKind.INTERNAL, {}, parent=None):
            raise ValueError(SECRET)

        arrived = await collector.one("it")
        assert (arrived.has_failed, arrived.attributes) == (True, {"error.type": "ValueError"})
        assert not any(SECRET.encode() in body for body in collector.bodies)

    async def test_keeps_the_first_reason_of_its_failure(self, tracer: Tracer, collector: Collector) -> None:
        made = tracer.start("it", SpanKind.INTERNAL, {}, parent=None)
        made.fail("rate_limited")
        made.fail("ValueError")
        made.end()

        assert (await collector.one("it")).attributes == {"error.type": "rate_limited"}

    async def test_below_a_caller_that_is_not_recorded_is_not_recorded_either(
        self, tracer: Tracer, collector: Collector
    ) -> None:
        quiet = tracer.start("quiet", SpanKind.SERVER, {}, parent=CALLER._replace(is_sampled=False))
        quiet.end()
        tracer.start("loud", SpanKind.SERVER, {}, parent=CALLER).end()

        await collector.one("loud")
        assert [each.name for each in collector.spans] == ["loud"]
        assert (quiet.context.trace_id, quiet.context.is_sampled) == (CALLER.trace_id, False)


class TestEnvironment:
    async def test_names_the_service_unless_told_otherwise(self, tracer: Tracer, collector: Collector) -> None:
        tracer.start("it", SpanKind.INTERNAL, {}, parent=None).end()

        assert (await collector.one("it")).resource["service.name"] == "sms-foundation"

    async def test_decides_names_attributes_and_which_are_recorded(
        self, collector: Collector, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("OTEL_SERVICE_NAME", "texts")
        monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=staging")
        monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
        monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0")
        tracer = await opened(collector)
        tracer.start("one of ours", SpanKind.SERVER, {}, parent=None).end()
        tracer.start("one of a caller", SpanKind.SERVER, {}, parent=CALLER).end()

        arrived = await collector.one("one of a caller")
        await tracer.close(5)
        assert (arrived.resource["service.name"], arrived.resource["deployment.environment.name"]) == (
            "texts",
            "staging",
        )
        assert len(collector.spans) == 1

    async def test_switched_off_by_it_things_still_belong_together(
        self, collector: Collector, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
        tracer = await opened(collector)

        made = [tracer.start("it", SpanKind.SERVER, {}, parent=parent) for parent in (None, CALLER)]

        assert parse_traceparent(made[0].context.traceparent) == made[0].context
        assert made[1].context.trace_id == CALLER.trace_id
        await tracer.close(5)


class TestClose:
    async def test_sends_what_has_ended(self, collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "3600000")
        tracer = await opened(collector)
        tracer.start("the last one", SpanKind.SERVER, {}, parent=None).end()

        await tracer.close(30)

        assert [each.name for each in collector.spans] == ["the last one"]

    async def test_waits_for_a_collector_that_is_silent_no_longer_than_it_is_told(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        has_given_up = asyncio.Event()

        async def stay_silent(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
            while await reader.read(65536):
                pass
            has_given_up.set()

        server = await asyncio.start_server(stay_silent, "127.0.0.1", 0)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        tracer = open_tracer(make_settings(tracing=True))
        assert tracer is not None
        tracer.start("it", SpanKind.SERVER, {}, parent=None).end()

        await tracer.close(0.05)

        assert not has_given_up.is_set()  # the exporter waits for ten seconds, and then asks again
        server.close()


class TestOpenTracer:
    def test_is_none_unless_asked_for(self) -> None:
        assert open_tracer(make_settings()) is None

    def test_says_what_to_install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delitem(sys.modules, "sms_foundation.core.tracing.open_telemetry", raising=False)
        monkeypatch.setitem(sys.modules, "opentelemetry.sdk.resources", None)

        with pytest.raises(
            StartupError, match=r"^TRACING=true needs OpenTelemetry: pip install 'sms-foundation\[otel\]'$"
        ):
            open_tracer(make_settings(tracing=True))

    def test_off_nothing_of_ours_loads_opentelemetry(self) -> None:
        """FastAPI loads its API for itself; what makes and exports spans would cost a start 50 ms and 15 MiB."""
        code = (
            "import sys, sms_foundation.app, sms_foundation.cli.serve, sms_foundation.cli.worker; "
            "from sms_foundation.core.config import Settings; "
            "from sms_foundation.core.tracing.opening import open_tracer; "
            "open_tracer(Settings(_env_file=None)); "
            "print([name for name in sys.modules if name.startswith(("
            "'opentelemetry.sdk', 'opentelemetry.exporter', 'opentelemetry.proto', 'google.protobuf', "
            "'sms_foundation.core.tracing.open_telemetry'))])"
        )
        output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

        assert output == "[]\n"
