"""A TCP port in front of a PostgreSQL server, through which a test lets pass what it wants."""

import asyncio
import socket
from typing import Self
from urllib.parse import parse_qsl, quote, urlsplit

from sms_foundation.core.db import DatabaseUrl

PASSWORD = "pw-of-the-database-3141"  # asked for by nobody when the server behind is the embedded one


class TcpGate:
    """The way to the server of `url`: `open`, `close` (refused, and cut), `cut`, `freeze` (silence), `thaw`.

    While frozen, connections are still taken, as the kernel does for a server that has been stopped. `hold_answers`
    freezes one direction: what is asked still arrives. It starts closed.
    """

    def __init__(self, url: DatabaseUrl) -> None:
        self._server = urlsplit(url.dsn)
        self._folder = dict(parse_qsl(self._server.query)).get("host")
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._answering = asyncio.Event()
        self._answering.set()
        self._listener: asyncio.Server | None = None
        self._pumps: set[asyncio.Task[None]] = set()
        self._reserved = socket.socket()
        self._reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._reserved.bind(("127.0.0.1", 0))
        self.port: int = self._reserved.getsockname()[1]

    @property
    def url(self) -> str:
        """DATABASE_URL of whoever goes through."""
        user, password = self._server.username or "postgres", self._server.password or PASSWORD
        return f"postgresql://{user}:{quote(password)}@127.0.0.1:{self.port}{self._server.path}"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()
        self._reserved.close()

    async def open(self) -> None:
        """Take connections."""
        self._listener = await asyncio.start_server(self._accept, "127.0.0.1", self.port)

    async def close(self) -> None:
        """Refuse connections and cut those there are."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        for _ in range(10):  # one that was accepted this very moment is served some rounds of the loop later
            await self.cut()
            await asyncio.sleep(0)

    async def cut(self) -> None:
        """Break every connection, in whatever it is doing."""
        pumps = list(self._pumps)
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)

    def freeze(self) -> None:
        """Let nothing pass, in either direction."""
        self._flowing.clear()

    def hold_answers(self) -> None:
        """Let questions pass, and no answers."""
        self._answering.clear()

    def thaw(self) -> None:
        """Let pass what has waited, and all that follows."""
        self._flowing.set()
        self._answering.set()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pump = asyncio.current_task()
        assert pump is not None
        self._pumps.add(pump)
        try:
            await self._connect(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._pumps.discard(pump)
            writer.transport.abort()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._folder:
            server_reader, server_writer = await asyncio.open_unix_connection(f"{self._folder}/.s.PGSQL.5432")
        else:
            server_reader, server_writer = await asyncio.open_connection(
                self._server.hostname, self._server.port or 5432
            )
        directions = [
            asyncio.create_task(self._pump(reader, server_writer, self._flowing)),
            asyncio.create_task(self._pump(server_reader, writer, self._flowing, self._answering)),
        ]
        try:
            await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for direction in directions:
                direction.cancel()
            await asyncio.gather(*directions, return_exceptions=True)
            server_writer.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *valves: asyncio.Event) -> None:
        while data := await reader.read(65536):
            for valve in valves:
                await valve.wait()
            writer.write(data)
            await writer.drain()
