"""An OpenTelemetry collector: a real HTTP server that reads what the exporter sends, as protobuf, and keeps it."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, Span, Status

from tests.loopback import LoopbackServer, Received, reply
from tests.support.processes import eventually


@dataclass(frozen=True)
class Recorded:
    """One span as it arrived. Ids are hexadecimal; `parent_id` is "" for the first of a trace."""

    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str
    links: list[tuple[str, str]]
    attributes: dict[str, str | int]
    resource: dict[str, str | int]
    has_failed: bool
    state: str
    took_s: float


@dataclass
class Collector:
    """What has arrived so far, and where to send it."""

    url: str
    spans: list[Recorded] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    @property
    def variables(self) -> dict[str, str]:
        """What a traced process has in its environment: where to, and to be quick about it."""
        return {"TRACING": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": self.url, "OTEL_BSP_SCHEDULE_DELAY": "20"}

    def apply_to(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let tracers that are opened in this process send here."""
        for name, value in self.variables.items():
            if name.startswith("OTEL_"):
                monkeypatch.setenv(name, value)

    def of(self, trace_id: str) -> list[Recorded]:
        """The spans of one trace."""
        return [span for span in self.spans if span.trace_id == trace_id]

    async def one(self, name: str, *, trace_id: str | None = None) -> Recorded:
        """Wait for a span of this name (in this trace), which must be the only one."""
        await self.until(lambda: bool(self._named(name, trace_id)), f"there is a span {name}")
        (span,) = self._named(name, trace_id)
        return span

    async def until(self, is_true: Callable[[], bool], what: str) -> None:
        """Wait until `is_true`."""

        async def check() -> bool:
            return is_true()

        await eventually(check, what)

    def _named(self, name: str, trace_id: str | None) -> list[Recorded]:
        return [span for span in self.spans if span.name == name and trace_id in (None, span.trace_id)]

    async def receive(self, request: Received) -> bytes:
        self.bodies.append(request.body)
        assert request.target == "/v1/traces"
        message = ExportTraceServiceRequest.FromString(request.body)
        for group in message.resource_spans:
            self.spans += [_recorded(span, group) for scope in group.scope_spans for span in scope.spans]
        return reply(200, content_type="application/x-protobuf")


@asynccontextmanager
async def running_collector() -> AsyncIterator[Collector]:
    """Listen on a free port of the loopback."""
    collector = Collector("")
    async with LoopbackServer(collector.receive) as server:
        collector.url = server.base_url
        yield collector


def _recorded(span: Span, group: ResourceSpans) -> Recorded:
    return Recorded(
        name=span.name,
        kind=Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_").lower(),
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        links=[(link.trace_id.hex(), link.span_id.hex()) for link in span.links],
        attributes=_values(span.attributes),
        resource=_values(group.resource.attributes),
        has_failed=span.status.code == Status.STATUS_CODE_ERROR,
        state=span.trace_state,
        took_s=(span.end_time_unix_nano - span.start_time_unix_nano) / 1e9,
    )


def _values(pairs: "list[KeyValue]") -> dict[str, str | int]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}
