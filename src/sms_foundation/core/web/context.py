"""What every request gets: an id, a place in a trace, one log line, metrics, and a 500 that tells nothing.

Pure ASGI and one layer, because every webhook passes through it.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sms_foundation.core.errors import UnavailableError
from sms_foundation.core.stopping import Stopping
from sms_foundation.core.tracing import context as origins
from sms_foundation.core.tracing.tracer import Span, Tracer
from sms_foundation.core.web.errors import as_public_error, error_response
from sms_foundation.core.web.metrics import HTTP_IN_FLIGHT, HTTP_REQUESTS, HTTP_SECONDS
from sms_foundation.core.web.origin import begin_span, end_span, read_origin
from sms_foundation.core.web.security_headers import SecurityHeaders

log = structlog.get_logger("sms_foundation.http")

_CLOSE = (b"connection", b"close")  # the next request of this caller is for somebody else
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
# Asked for every few seconds by machines: logged only when somebody debugs, and never traced.
_QUIET_ROUTES = frozenset({"/health", "/health/live", "/health/ready", "/health/startup", "/metrics"})


class EdgeLoad:
    """How many requests are being answered; background work gives way while there are many."""

    BUSY = 6

    def __init__(self) -> None:
        self.in_flight = 0

    def is_busy(self) -> bool:
        return self.in_flight >= self.BUSY


class RequestContext:
    """Outermost middleware. `scope["state"]` gets `request_id`, and `log`: fields that join the request's log line.

    What is put there under `headers` joins those of the answer, whoever writes it.
    """

    def __init__(
        self,
        app: ASGIApp,
        load: EdgeLoad,
        security: SecurityHeaders,
        stopping: Stopping | None = None,
        *,
        tracer: Tracer | None = None,
    ) -> None:
        self._app = app
        self._load = load
        self._security = security
        self._stopping = stopping or Stopping()
        self._tracer = tracer
        self._children: dict[tuple[str, str, int], Callable[[float], None]] = {}
        HTTP_IN_FLIGHT.set_function(lambda: load.in_flight)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        request_id, span = self._begin(scope)
        id_header = (b"x-request-id", request_id.encode())
        fields: dict[str, Any] = {}
        scope.setdefault("state", {}).update(request_id=request_id, log=fields)
        status = 0
        is_answered = False
        self._load.in_flight += 1

        async def send_with_context(message: Message) -> None:
            nonlocal status, is_answered
            if message["type"] == "http.response.start":
                status = message["status"]
                own = [*message.get("headers", ()), id_header, *scope["state"].get("headers", ())]
                if self._stopping.has_begun:
                    own.append(_CLOSE)
                message["headers"] = self._security.join(scope["path"], own)
                await send(message)
                return
            await send(message)
            if not message.get("more_body", False) and not is_answered:
                # The line is written when the answer is out; work in the background goes on after it.
                is_answered = True
                self._load.in_flight -= 1
                self._record(scope, status, started, fields, span)

        try:
            await self._app(scope, receive, send_with_context)
        except asyncio.CancelledError:
            # The server's way to say that a request has had its time. Half an answer cannot be made whole.
            if status or not self._stopping.has_begun:
                raise
            too_late = UnavailableError("the service is stopping", retry_after_s=1)
            await error_response(too_late, request_id)(scope, receive, send_with_context)
        except Exception as error:  # noqa: BLE001  # the last net: nothing reaches the server's own handler
            if not status:
                await error_response(as_public_error(error), request_id)(scope, receive, send_with_context)
            elif scope["state"].get("answered_error") is not error:
                as_public_error(error)  # came after the answer, and is only to be seen in the log
        finally:
            if not is_answered:
                self._load.in_flight -= 1
                self._record(scope, status or 499, started, fields, span)

    def _begin(self, scope: Scope) -> tuple[str, Span | None]:
        """Make current where the request comes from; returns its id, and its span where spans are made."""
        request_id, caller = read_origin(scope["headers"])
        span = None
        if self._tracer is not None and scope["path"] not in _QUIET_ROUTES:
            span = begin_span(self._tracer, scope, caller)
        origins.request_id.set(request_id)
        # Passed on as it came, unless a span of ours is between the caller and whom we call.
        origins.trace.set(span.context if span is not None else caller or origins.new_context())
        return request_id, span

    def _record(self, scope: Scope, status: int, started: float, fields: dict[str, Any], span: Span | None) -> None:
        elapsed_s = time.perf_counter() - started
        route = _route(scope)
        method = scope["method"] if scope["method"] in _METHODS else "other"
        key = (route, method, status)
        observe = self._children.get(key)
        if observe is None:
            observe = self._children[key] = _recorder(*key)
        observe(elapsed_s)
        write = log.debug if route in _QUIET_ROUTES else log.info
        write(
            "http.request", route=route, method=method, status=status, elapsed_ms=round(elapsed_s * 1000, 2), **fields
        )
        if span is not None:
            end_span(span, method=method, route=route, status=status)


def _recorder(route: str, method: str, status: int) -> Callable[[float], None]:
    count, observe = HTTP_REQUESTS.labels(route, method, status).inc, HTTP_SECONDS.labels(route).observe

    def record(elapsed_s: float) -> None:
        count()
        observe(elapsed_s)

    return record


def _route(scope: Scope) -> str:
    """Return the template of the matched route: the path itself may hold a phone number."""
    route = scope.get("route")
    return getattr(route, "path", None) or "unmatched"
