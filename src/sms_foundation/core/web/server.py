"""The HTTP server of every port that stays open, and how it closes: nobody who was heard stays without an answer.

After SIGTERM, for a moment, everything goes on, but every answer says `Connection: close` and readiness is red, so that
callers leave by themselves. Then no connection is taken any more; requests that are there already are answered, idle
connections are closed, and a request that has not ended when its time is over gets a 503.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Generator
from contextlib import asynccontextmanager, contextmanager, suppress
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from sms_foundation.core.stopping import Stopping
from sms_foundation.core.web.connection import Connection, Patience

# The longest goodbye: more helps nobody who uses his connection, and delays the rest of the shutdown.
_LONGEST_GOODBYE_S = 0.5
_GOODBYE_SHARE = 0.1
# What was sent before the port was closed is read within this.
_LAST_READ_S = 0.1
_TICKS_PER_LOOK = 10  # of 0.1 s


class Server(uvicorn.Server):
    """Serves until SIGTERM or SIGINT, which begins `stopping`. Closing takes `closing_s` at most, and some ticks."""

    def __init__(
        self,
        app: ASGIApp,
        stopping: Stopping,
        *,
        closing_s: float,
        has_lifespan: bool = True,
        patience: Patience | None = None,
    ) -> None:
        self._stopping = stopping
        self._patience = patience or Patience()
        self._goodbye_s = min(_LONGEST_GOODBYE_S, closing_s * _GOODBYE_SHARE)
        config = uvicorn.Config(
            app,
            interface="asgi3",
            loop="uvloop",
            http=Connection,
            ws="none",
            lifespan="on" if has_lifespan else "off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=True,
            proxy_headers=False,  # nothing here believes a forwarded address or host
            backlog=2048,
            timeout_keep_alive=75,  # longer than a load balancer's, so that it never reuses one that we just closed
            timeout_graceful_shutdown=closing_s - self._goodbye_s,  # type: ignore[arg-type]  # fractions are fine
        )
        super().__init__(config)

    async def on_tick(self, counter: int) -> bool:
        """Look after connections that are waited for, once a second, so that no request pays for a timer."""
        if counter % _TICKS_PER_LOOK == 0:
            now = asyncio.get_running_loop().time()
            for connection in tuple(self.server_state.connections):
                if isinstance(connection, Connection):
                    connection.cut_off_if_stalled(now, self._patience)
        return await super().on_tick(counter)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Take a signal. A second SIGTERM changes nothing; a second SIGINT waits for nobody."""
        self._stopping.begin()
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close as the module says, then end the application."""
        self._stopping.begin()
        await asyncio.sleep(self._goodbye_s)
        await self.close_port(sockets or [])
        # Left to itself, the server would close what it has accepted and not read yet, as if it had refused it.
        await asyncio.sleep(_LAST_READ_S)
        await super().shutdown(sockets)

    async def close_port(self, sockets: list[socket.socket]) -> None:
        """Take no more connections, and leave none behind that the kernel has taken: it would break. Idempotent."""
        late = [each for listener in sockets if listener.fileno() >= 0 for each in _waiting(listener)]
        for server in self.servers:
            server.close()
        for listener in sockets:
            listener.close()
        for connection in late:
            await asyncio.get_running_loop().connect_accepted_socket(self._protocol, connection)

    def _protocol(self) -> asyncio.Protocol:
        """Do what the server does itself for every connection that it takes."""
        make = self.config.http_protocol_class
        return make(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)  # type: ignore[call-arg]


def _waiting(listener: socket.socket) -> list[socket.socket]:
    """Accept what waits at a listener that the event loop has made non-blocking."""
    found = []
    with suppress(BlockingIOError):
        while True:
            found.append(listener.accept()[0])
    return found


class _Guest(Server):
    """A server in a process whose signals are somebody else's."""

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


@asynccontextmanager
async def serving(
    app: ASGIApp, listener: socket.socket, stopping: Stopping, *, closing_s: float
) -> AsyncIterator[None]:
    """Serve an application without a lifespan on `listener` while the block runs; signals are left alone."""
    server = _Guest(app, stopping, closing_s=closing_s, has_lifespan=False)
    task = asyncio.create_task(server.serve(sockets=[listener]), name="operations-port")
    try:
        yield
    finally:
        server.should_exit = True
        await task
