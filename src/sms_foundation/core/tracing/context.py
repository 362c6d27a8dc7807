"""The W3C trace context and the request's id: what log lines, rows and calls say about where they come from.

Source: https://www.w3.org/TR/trace-context/ (read November 2026). Ours rather than OpenTelemetry's, because every
webhook passes here: a context costs 1 us, with nothing else installed.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from random import getrandbits
from typing import NamedTuple

_is_traceparent = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?").fullmatch
_NO_TRACE, _NO_SPAN = "0" * 32, "0" * 16
_SAMPLED = 1
# What everybody is asked to pass on; what is longer may be left out.
_LONGEST_STATE = 512


class TraceContext(NamedTuple):
    """One place in a trace: whoever is called from here is a child of `span_id`.

    `trace_id` and `span_id` are 32 and 16 lower-case hexadecimal digits, not all of them 0. `is_sampled`: somebody
    records this trace. `state`: the `tracestate` header, for the tracing systems that wrote it.
    """

    trace_id: str
    span_id: str
    is_sampled: bool = False
    state: str = ""

    @property
    def traceparent(self) -> str:
        """The header's text, of version 00."""
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.is_sampled else '00'}"

    def with_state(self, state: str) -> "TraceContext":
        """Return it with this `tracestate`, unless that is longer than one has to pass on."""
        return self._replace(state=state) if len(state) <= _LONGEST_STATE else self


class Origin(NamedTuple):
    """What caused something, as rows keep it: a `traceparent` and the id of a request; None where there was none."""

    trace_context: str | None = None
    request_id: str | None = None


NOWHERE = Origin()
# Variables of their own, because binding through structlog costs every webhook ten times as much.
trace: ContextVar[TraceContext | None] = ContextVar("trace", default=None)
request_id: ContextVar[str] = ContextVar("request_id", default="")


def new_context() -> TraceContext:
    """Begin a trace that nobody records, so that log lines and rows that belong together can be told."""
    # No secret, and a collision would only confuse a reader: the fast generator is good enough. 0 is no id.
    return TraceContext(f"{getrandbits(128) or 1:032x}", f"{getrandbits(64) or 1:016x}")


def parse_traceparent(text: str) -> TraceContext | None:
    """Read a `traceparent`; None for one that is not valid, which is to be treated as if it had not been sent.

    Versions to come are read as far as this one goes.
    """
    found = _is_traceparent(text)
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    if version == "ff" or (version == "00" and more is not None) or trace_id == _NO_TRACE or span_id == _NO_SPAN:
        return None
    return TraceContext(trace_id, span_id, bool(int(flags, 16) & _SAMPLED))


def origin() -> Origin:
    """Return what is current, as a row keeps it."""
    current = trace.get()
    return Origin(None if current is None else current.traceparent, request_id.get() or None)


def resume(cause: Origin) -> TraceContext | None:
    """Make current what caused this, as a row has kept it; return its place in a trace, None if a new one begins here.

    For the rest of this task: nothing puts back what was current before.
    """
    kept = None if cause.trace_context is None else parse_traceparent(cause.trace_context)
    trace.set(kept or new_context())
    request_id.set(cause.request_id or "")
    return kept


@contextmanager
def within(cause: Origin) -> Iterator[None]:
    """Make current what caused this, for a block: where one task does what several have caused."""
    context, request = trace.get(), request_id.get()
    resume(cause)
    try:
        yield
    finally:
        trace.set(context)
        request_id.set(request)
