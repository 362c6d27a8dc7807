"""The service behind the HTTP server it runs on in production, for what only the wire can carry."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import uvicorn
from starlette.types import ASGIApp


@dataclass(frozen=True)
class HttpServer:
    """A listening server and what a test does with it."""

    port: int

    async def send(self, *parts: bytes, hang_up: bool = False) -> int | None:
        """Send bytes as they are; returns the status of the answer, None when there was none.

        `hang_up`: close our side after the last byte.
        """
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            for part in parts:
                writer.write(part)
                with suppress(ConnectionError):  # refused already, and the answer is waiting to be read
                    await writer.drain()
            if hang_up:
                writer.write_eof()
            async with asyncio.timeout(10):
                line = await reader.readline()
        except ConnectionError:
            return None
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()
        return int(line.split(b" ")[1]) if line else None


@asynccontextmanager
async def serving(app: ASGIApp, listener: socket.socket | None = None) -> AsyncIterator[HttpServer]:
    """Serve `app`, its lifespan included, in this event loop: on `listener`, or on a free port."""
    if listener is None:
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(
        app, http="httptools", ws="none", lifespan="on", log_config=None, access_log=False, proxy_headers=False
    )
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:
        assert not task.done(), "the server did not start"
        await asyncio.sleep(0.005)
    try:
        yield HttpServer(listener.getsockname()[1])
    finally:
        server.should_exit = True
        await task
        listener.close()
