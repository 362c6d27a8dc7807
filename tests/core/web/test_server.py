"""How a port closes."""

import asyncio
import signal
import socket
from collections.abc import AsyncIterator

import pytest
from starlette.types import Receive, Scope, Send

from sms_foundation.core.stopping import Stopping
from sms_foundation.core.web.context import EdgeLoad, RequestContext
from sms_foundation.core.web.security_headers import SecurityHeaders
from sms_foundation.core.web.server import Server, serving
from tests.support.http_connection import HttpConnection, RefusedError
from tests.support.processes import eventually

REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def hello(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": b"hello"})


@pytest.fixture
def listener() -> socket.socket:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    return listener


@pytest.fixture
def stopping() -> Stopping:
    return Stopping()


@pytest.fixture
async def server(listener: socket.socket, stopping: Stopping) -> AsyncIterator[Server]:
    """A running server."""
    app = RequestContext(hello, EdgeLoad(), SecurityHeaders(), stopping)
    server = Server(app, stopping, closing_s=5, has_lifespan=False)
    task = asyncio.create_task(server.serve(sockets=[listener]))

    async def has_started() -> bool:
        return server.started

    await eventually(has_started, "the server has started")
    yield server
    server.should_exit = True
    await task


class TestServer:
    async def test_a_signal_is_known_before_anything_is_closed(
        self, server: Server, listener: socket.socket, stopping: Stopping
    ) -> None:
        async with HttpConnection(listener.getsockname()[1]) as connection:
            assert "connection" not in (await connection.get("/")).headers
            server.handle_exit(signal.SIGTERM, None)
            server._captured_signals.clear()  # which the server would raise again at its end

            assert stopping.has_begun
            assert (await connection.get("/")).headers["connection"] == "close"

    async def test_a_connection_that_the_kernel_took_is_served_though_the_port_is_closed(
        self, server: Server, listener: socket.socket
    ) -> None:
        address = listener.getsockname()
        with socket.create_connection(address) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await server.close_port([listener])  # nobody has looked for connections in between
            client.setblocking(False)
            answer = await asyncio.get_running_loop().sock_recv(client, 65536)

        assert answer.startswith(b"HTTP/1.1 200 OK")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address)


class AskedAtTheEnd(Server):
    """Gets one more request at the very moment in which its port has been closed."""

    caller: socket.socket

    async def close_port(self, sockets: list[socket.socket]) -> None:
        await super().close_port(sockets)
        self.caller.sendall(REQUEST)


class TestShutdown:
    async def test_what_was_sent_before_connections_are_closed_is_answered(self, listener: socket.socket) -> None:
        stopping = Stopping()
        app = RequestContext(hello, EdgeLoad(), SecurityHeaders(), stopping)
        server = AskedAtTheEnd(app, stopping, closing_s=5, has_lifespan=False)
        task = asyncio.create_task(server.serve(sockets=[listener]))
        loop = asyncio.get_running_loop()

        async def has_started() -> bool:
            return server.started

        await eventually(has_started, "the server has started")
        with socket.create_connection(listener.getsockname()) as server.caller:
            server.caller.sendall(REQUEST)
            server.caller.setblocking(False)
            assert (await loop.sock_recv(server.caller, 65536)).startswith(b"HTTP/1.1 200 OK")
            server.should_exit = True
            await task

            assert (await loop.sock_recv(server.caller, 65536)).startswith(b"HTTP/1.1 200 OK")


class TestServing:
    async def test_serves_while_the_block_runs_and_leaves_signals_alone(
        self, listener: socket.socket, stopping: Stopping
    ) -> None:
        handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
        port = listener.getsockname()[1]
        async with serving(hello, listener, stopping, closing_s=1), HttpConnection(port) as connection:

            async def is_answered() -> bool:
                try:
                    return (await connection.get("/")).body == b"hello"
                except RefusedError:
                    return False

            await eventually(is_answered, "it answers")
            assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == handlers

        assert stopping.has_begun
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
