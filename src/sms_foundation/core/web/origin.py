"""Where a request comes from, by its headers, and the span of answering it."""

import re
from collections.abc import Iterable
from typing import Final

from starlette.types import Scope

from sms_foundation.core.ids import new_request_id
from sms_foundation.core.tracing.context import TraceContext, parse_traceparent
from sms_foundation.core.tracing.tracer import Span, SpanKind, Tracer

_is_request_id = re.compile(rb"[A-Za-z0-9._:/+=-]{1,128}").fullmatch
# Random ids, in which any digits may follow each other: UUIDs, and ids of spans and traces.
_random: Final = re.compile(
    rb"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}|(?<![0-9a-z])(?=[0-9]{0,31}[a-f])(?:[0-9a-f]{16}){1,2}(?![0-9a-z])",
    re.IGNORECASE,
)
# As people write numbers, with something between the digits or not.
_has_number = re.compile(rb"\+[0-9](?:[-._:/]?[0-9]){6}|[0-9](?:[-._:/]?[0-9]){9}").search
_SERVER_ERROR: Final = 500
_HEADERS = Iterable[tuple[bytes, bytes]]


def read_origin(headers: _HEADERS) -> tuple[str, TraceContext | None]:
    """Return the request's id, the caller's or a new one, and the caller's place in a trace; None without a valid one.

    Of several ids the first counts; several places are none. An id goes into every log line and row about its request:
    one with a phone number in it is not taken.
    """
    request_id: bytes | None = None
    parents: list[bytes] | None = None
    for name, value in headers:
        if name == b"x-request-id":
            request_id = request_id or value
        elif name == b"traceparent":
            parents = [value] if parents is None else [*parents, value]
    given = request_id.decode() if request_id is not None and _may_be_kept(request_id) else new_request_id()
    if parents is None or len(parents) > 1:
        return given, None
    return given, parse_traceparent(parents[0].decode("latin-1").strip())


def _may_be_kept(request_id: bytes) -> bool:
    return _is_request_id(request_id) is not None and _has_number(_random.sub(b"", request_id)) is None


def begin_span(tracer: Tracer, scope: Scope, parent: TraceContext | None) -> Span:
    """Begin the span of answering a request. It never holds a path or a query: both can hold phone numbers."""
    if parent is not None:
        states = [value.decode("latin-1") for name, value in scope["headers"] if name == b"tracestate"]
        parent = parent.with_state(",".join(states))
    return tracer.start("HTTP", SpanKind.SERVER, {"url.scheme": scope.get("scheme", "http")}, parent=parent)


def end_span(span: Span, *, method: str, route: str, status: int) -> None:
    """Give the span its name, now that the route is known, and close it. A refusal is no failure of ours, a 5xx is."""
    span.rename(f"{method} {route}")
    span.set({"http.request.method": method, "http.route": route, "http.response.status_code": status})
    if status >= _SERVER_ERROR:
        span.fail(str(status))
    span.end()
