"""Spans by OpenTelemetry, sent to a collector by OTLP over HTTP. Nothing else imports it: it is an extra.

Everything about where spans go, and which, is in OpenTelemetry's own variables (OTEL_EXPORTER_OTLP_ENDPOINT,
OTEL_TRACES_SAMPLER, OTEL_RESOURCE_ATTRIBUTES, ...), which it reads itself.
Source: https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/ (read November 2026).
"""

import asyncio
from collections.abc import Mapping, Sequence
from threading import Thread
from typing import Final

from opentelemetry import trace as otel
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace.span import TraceState

from sms_foundation import __version__
from sms_foundation.core.tracing.context import TraceContext, new_context
from sms_foundation.core.tracing.tracer import Attribute, Span, SpanKind

_KINDS: Final = {
    SpanKind.SERVER: otel.SpanKind.SERVER,
    SpanKind.CLIENT: otel.SpanKind.CLIENT,
    SpanKind.CONSUMER: otel.SpanKind.CONSUMER,
    SpanKind.INTERNAL: otel.SpanKind.INTERNAL,
}


class OpenTelemetry:
    """The tracer of one process. Spans wait in memory, a bounded number of them, for a thread that exports them.

    So a collector that is slow or away delays nobody: what it does not take in time is dropped. The provider is not
    made OpenTelemetry's global one, through which FastAPI and others would add spans of their own, with paths in them.
    """

    def __init__(self) -> None:
        ours = Resource.create({"service.name": "sms-foundation", "service.version": __version__})
        # Merged last, the environment wins.
        self._provider = TracerProvider(resource=ours.merge(OTELResourceDetector().detect()), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("sms_foundation", __version__)

    def start(
        self,
        name: str,
        kind: SpanKind,
        attributes: Mapping[str, Attribute],
        *,
        parent: TraceContext | None,
        links: Sequence[TraceContext] = (),
        started_at_ns: int | None = None,
    ) -> Span:
        """Begin a span; see `Tracer`."""
        context = Context()
        if parent is not None:
            context = otel.set_span_in_context(otel.NonRecordingSpan(_to_otel(parent)), context)
        started = self._tracer.start_span(
            name,
            context=context,
            kind=_KINDS[kind],
            attributes=attributes,
            links=[otel.Link(_to_otel(each)) for each in links],
            start_time=started_at_ns,
        )
        return _OtelSpan(started, parent)

    async def close(self, timeout_s: float) -> None:
        """Export what has ended, for `timeout_s` at most."""
        # A thread that holds up nobody's end: a collector that is away is asked again and again.
        closing = Thread(target=self._provider.shutdown, daemon=True)
        closing.start()
        await asyncio.to_thread(closing.join, timeout_s)


class _OtelSpan:
    """A span of OpenTelemetry's, as our code knows it."""

    __slots__ = ("_has_failed", "_span", "context")

    def __init__(self, span: otel.Span, parent: TraceContext | None) -> None:
        self._span = span
        self._has_failed = False
        made = span.get_span_context()
        # Switched off by OTEL_SDK_DISABLED there is no span: things still belong together.
        self.context = _from_otel(made) if made.is_valid else parent or new_context()

    def rename(self, name: str) -> None:
        self._span.update_name(name)

    def set(self, attributes: Mapping[str, Attribute]) -> None:
        self._span.set_attributes(attributes)

    def fail(self, reason: str) -> None:
        if not self._has_failed:
            self._has_failed = True
            self._span.set_attribute("error.type", reason)
            self._span.set_status(otel.StatusCode.ERROR)

    def end(self) -> None:
        self._span.end()


def _to_otel(context: TraceContext) -> otel.SpanContext:
    return otel.SpanContext(
        int(context.trace_id, 16),
        int(context.span_id, 16),
        is_remote=True,
        trace_flags=otel.TraceFlags(otel.TraceFlags.SAMPLED if context.is_sampled else otel.TraceFlags.DEFAULT),
        trace_state=TraceState.from_header([context.state]) if context.state else None,
    )


def _from_otel(context: otel.SpanContext) -> TraceContext:
    return TraceContext(
        otel.format_trace_id(context.trace_id),
        otel.format_span_id(context.span_id),
        context.trace_flags.sampled,
        context.trace_state.to_header() if context.trace_state else "",
    )
