"""What the code that is traced knows of spans. Without TRACING there is no tracer, and nobody asks for a span."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import Enum, auto
from typing import Protocol, TypeAlias

from sms_foundation.core.tracing.context import TraceContext, trace

Attribute: TypeAlias = str | int | float | bool
"""Never content, a phone number, a path or a query: attributes leave the house."""


class SpanKind(Enum):
    """Which side of a call a span is."""

    SERVER = auto()  # answers a request
    CLIENT = auto()  # waits for somebody's answer
    CONSUMER = auto()  # works on what was queued before
    INTERNAL = auto()


class Span(Protocol):
    """Something that takes time, until `end`."""

    @property
    def context(self) -> TraceContext:
        """What is called meanwhile is a child of this."""

    def rename(self, name: str) -> None:
        """Give it the name that only became known on the way."""

    def set(self, attributes: Mapping[str, Attribute]) -> None:
        """Add attributes, or replace them."""

    def fail(self, reason: str) -> None:
        """Mark it as failed. `reason` is one of a bounded set, such as the name of an error's type; the first stays."""

    def end(self) -> None:
        """Close it now; it is exported later, by somebody else's thread. Ending it again changes nothing."""


class Tracer(Protocol):
    """Makes spans. One per process; `open_telemetry` has the only one, behind an import that may not be there."""

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
        """Begin a span below `parent`, or a trace of its own, now or at `started_at_ns` (nanoseconds since 1970).

        `links` are other places it has to do with. Does not make it current.
        """

    async def close(self, timeout_s: float) -> None:
        """Export what has ended, for `timeout_s` at most; the rest is lost."""


@contextmanager
def span(
    tracer: Tracer,
    name: str,
    kind: SpanKind,
    attributes: Mapping[str, Attribute],
    *,
    parent: TraceContext | None,
    links: Sequence[TraceContext] = (),
) -> Iterator[Span]:
    """Run a block as a span that is current meanwhile; an exception marks it as failed, by its type alone."""
    started = tracer.start(name, kind, attributes, parent=parent, links=links)
    before = trace.set(started.context)
    try:
        yield started
    except BaseException as error:
        started.fail(type(error).__name__)  # its text may quote a message
        raise
    finally:
        trace.reset(before)
        started.end()
