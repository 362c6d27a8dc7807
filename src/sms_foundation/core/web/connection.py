"""One HTTP connection, and what it may cost: how large the head of a request is, and how long anybody is waited for.

The parser itself sets no limit to either. What a route reads of a body is limited where it is read (`bodies`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from sms_foundation.core.web.metrics import HTTP_CUT_OFF

MAX_HEADERS: Final = 100
MAX_URL_BYTES: Final = 16 * 1024
MAX_HEAD_BYTES: Final = 64 * 1024
"""Of what has come without the head being complete; one read of the socket more may be looked at."""
_SLOWEST_BYTES_PER_S: Final = 64 * 1024
_LINGER_S: Final = 1.0
_TOO_LARGE: Final = "431 Request Header Fields Too Large"
_URL_TOO_LONG: Final = "414 URI Too Long"
_TOO_SLOW: Final = "408 Request Timeout"


class Stall(StrEnum):
    """What a connection is waited for."""

    REQUEST = "request"  # a first byte of it
    HEAD = "head"  # the rest of its head
    BODY = "body"  # the rest of its body
    END = "end"  # the end of a body that was answered without it
    READER = "reader"  # somebody who reads the answer


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds. A body gets one more for every 64 KiB of it that have come, so that a large one may take its time."""

    request_s: float = 75.0  # as long as a connection may idle after an answer: proxies open some ahead of need
    head_s: float = 20.0
    body_s: float = 60.0
    reader_s: float = 60.0

    def of(self, stall: Stall, received_bytes: int) -> float:
        match stall:
            case Stall.REQUEST:
                return self.request_s
            case Stall.HEAD | Stall.END:
                return self.head_s
            case Stall.BODY:
                return self.body_s + received_bytes / _SLOWEST_BYTES_PER_S
            case Stall.READER:
                return self.reader_s


class Connection(HttpToolsProtocol):
    """Refuses heads that are too large; `cut_off_if_stalled` is to be called about every second."""

    _received_bytes = 0
    _head_bytes = 0
    _is_refused = False
    _stall: tuple[Stall, object] | None = None
    _stalled_at = 0.0

    def data_received(self, data: bytes) -> None:
        """Hand on what has come, unless it is more of a head than anybody needs."""
        if self._is_refused:
            return
        self._received_bytes += len(data)
        super().data_received(data)
        if self._is_in_head() and not self.transport.is_closing():
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse(_TOO_LARGE, "head_too_large")
        else:
            self._head_bytes = 0

    def on_headers_complete(self) -> None:
        """Begin a request, unless its head is absurd."""
        if self._is_refused:
            return
        if len(self.headers) > MAX_HEADERS:
            self._refuse(_TOO_LARGE, "head_too_large")
        elif len(self.url) > MAX_URL_BYTES:
            self._refuse(_URL_TOO_LONG, "head_too_large")
        else:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if not self._is_refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if not self._is_refused:
            super().on_message_complete()

    def cut_off_if_stalled(self, now: float, patience: Patience) -> None:
        """Close the connection if it has been waited for too long; `now` is on the event loop's clock, in seconds."""
        if self._is_refused:
            return
        stall = self._find_stall()
        if stall is None or self._stall is None or stall[0] is not self._stall[0] or stall[1] is not self._stall[1]:
            self._stall, self._stalled_at, self._received_bytes = stall, now, 0
        elif now - self._stalled_at > patience.of(stall[0], self._received_bytes):
            self._cut_off(stall[0])

    def _find_stall(self) -> tuple[Stall, object] | None:
        """Return what this connection is waited for, and for which request; None while the wait is for the service."""
        if self.flow.write_paused:
            return Stall.READER, self.scope
        if self.flow.read_paused:  # what has come is still being worked at
            return None
        if self._is_in_head():
            return Stall.HEAD, self.scope
        if (cycle := self._last_cycle()) is None:
            return Stall.REQUEST, self.scope
        if cycle.more_body:
            return Stall.END if cycle.response_complete else Stall.BODY, self.scope
        # After an answer the server's own time runs, until a byte comes: also one that begins no request.
        if cycle.response_complete and self.timeout_keep_alive_task is None:
            return Stall.REQUEST, self.scope
        return None

    def _is_in_head(self) -> bool:
        """Tell whether a head has begun and is not complete: only then is it known what is asked for."""
        scope: Mapping[str, object] | None = self.scope  # None before the first request, whatever its type says
        return scope is not None and "method" not in scope

    def _last_cycle(self) -> RequestResponseCycle | None:
        return self.cycle  # None before the first request, whatever its type says

    def _cut_off(self, stall: Stall) -> None:
        is_asking = stall in (Stall.HEAD, Stall.BODY)
        cycle = self._last_cycle()
        if is_asking and (cycle is None or cycle.response_complete or not cycle.response_started):
            self._refuse(_TOO_SLOW, f"{stall}_too_slow")
            return
        HTTP_CUT_OFF.labels(f"{stall}_too_slow").inc()
        self.transport.abort()

    def _refuse(self, status: str, reason: str) -> None:
        """Answer without the application, which is told that nobody is there any more, and hang up."""
        HTTP_CUT_OFF.labels(reason).inc()
        self._is_refused = True
        cycle = self._last_cycle()
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True
            cycle.message_event.set()
        text = status.partition(" ")[2]
        head = f"HTTP/1.1 {status}\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {len(text)}\r\n"
        self.transport.write(f"{head}connection: close\r\n\r\n{text}".encode())
        # Closed at once, the answer would be lost with what still comes in: the kernel would reset the connection.
        self.transport.write_eof()
        self.loop.call_later(_LINGER_S, self.transport.close)
