"""A pooler in transaction mode, to show that nothing of ours assumes a session.

It treats a client as PgBouncer and Supavisor do: a server connection is the client's only from a transaction's first
message to its ReadyForQuery with status "I" (idle), and the next transaction gets another one. Nothing is reset between
them. So a named prepared statement, a session advisory lock, or a SET outside a transaction breaks as it would there.

Source: https://www.postgresql.org/docs/current/protocol-flow.html and protocol-message-formats.html (version 3.0);
https://www.pgbouncer.org/features.html (what transaction pooling breaks), read November 2026.
"""

import asyncio
import contextlib
from itertools import count
from types import TracebackType
from typing import NamedTuple, Self

_PROTOCOL_3_0 = 196608
_CANCEL_REQUEST = 80877102
_SSL_REQUEST = 80877103
_GSSENC_REQUEST = 80877104
_ACCEPTED_PARAMETERS = {"user", "database", "application_name", "client_encoding"}
_ANSWERED_BY_READY = {b"Q", b"S", b"F"}  # Query, Sync, FunctionCall: each is followed by one ReadyForQuery


class _Backend(NamedTuple):
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    key: bytes  # process id and secret, as CancelRequest wants them
    parameters: bytes  # its ParameterStatus messages


class _Client:
    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        self.backend: _Backend | None = None
        self.relay: asyncio.Task[None] | None = None
        self.unanswered = 0  # messages that a ReadyForQuery is still to come for
        self.is_mid_batch = False  # extended-protocol messages were sent without their Sync yet


class TransactionPooler:
    """Listens on 127.0.0.1 while entered and shares `backends` connections to one server, in rotation, among clients.

    `host` is a name or, beginning with "/", the folder of a unix socket. Nobody is asked for a password: the server
    must trust `user`. Startup parameters but user, database, application_name and client_encoding are refused, as
    PgBouncer refuses those that it does not track. When the server goes away, each lost connection costs the one client
    that meets it; then it is connected to again.
    """

    def __init__(self, *, host: str, port: int = 5432, user: str, database: str, backends: int = 2) -> None:
        self._host, self._server_port, self._user, self._database = host, port, user, database
        self._idle: asyncio.Queue[_Backend | None] = asyncio.Queue()  # None: to be connected when its turn comes
        for _ in range(backends):
            self._idle.put_nowait(None)
        self._clients: dict[bytes, _Client] = {}
        self._keys = count(1)
        self._tasks: set[asyncio.Task[None]] = set()
        self._listener: asyncio.Server | None = None

    @property
    def port(self) -> int:
        """The TCP port of this pooler; only while entered."""
        assert self._listener is not None
        port: int = self._listener.sockets[0].getsockname()[1]
        return port

    async def __aenter__(self) -> Self:
        self._listener = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._listener is not None
        self._listener.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        while not self._idle.empty():
            if backend := self._idle.get_nowait():
                await _close(backend.writer)
        await self._listener.wait_closed()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: writer.close())

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client, key = _Client(writer), next(self._keys).to_bytes(8, "big")
        try:
            if await self._greet(reader, writer, key):
                self._clients[key] = client
                await self._pass_on(reader, client)
        except (OSError, asyncio.IncompleteReadError):
            pass  # either side hung up; the other learns of it below
        finally:
            self._clients.pop(key, None)
            await self._take_back(client)

    async def _greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, key: bytes) -> bool:
        """Answer the startup messages; False when this is no client to serve."""
        while True:
            size = int.from_bytes(await reader.readexactly(4), "big")
            body = await reader.readexactly(size - 4)
            code = int.from_bytes(body[:4], "big")
            if code not in {_SSL_REQUEST, _GSSENC_REQUEST}:
                break
            writer.write(b"N")
        if code == _CANCEL_REQUEST:
            await self._cancel(body[4:])
            return False
        if code != _PROTOCOL_3_0:
            writer.write(_fatal("0A000", f"unsupported protocol {code >> 16}.{code & 0xFFFF}"))
            return False
        words = body[4:].split(b"\0")
        unknown = {name.decode() for name in words[0::2] if name} - _ACCEPTED_PARAMETERS
        if unknown:
            writer.write(_fatal("08P01", f"unsupported startup parameter: {min(unknown)}"))
            return False
        backend = await self._acquire()
        self._idle.put_nowait(backend)
        ok = _message(b"R", (0).to_bytes(4, "big"))
        writer.write(ok + backend.parameters + _message(b"K", key) + _message(b"Z", b"I"))
        return True

    async def _pass_on(self, reader: asyncio.StreamReader, client: _Client) -> None:
        """Give the client's messages to its backend, finding one for a transaction's first, until it says goodbye."""
        while True:
            kind, message = await _read(reader)
            if kind == b"X":
                return
            if client.backend is None:
                client.backend = await self._acquire()
                client.relay = asyncio.create_task(self._answer(client, client.backend))
            client.unanswered += kind in _ANSWERED_BY_READY
            client.is_mid_batch = kind not in _ANSWERED_BY_READY
            client.backend.writer.write(message)
            await client.backend.writer.drain()

    async def _answer(self, client: _Client, backend: _Backend) -> None:
        """Give the backend's messages to the client until its transaction is over, then let go of the backend."""
        try:
            while True:
                kind, message = await _read(backend.reader)
                client.writer.write(message)
                if kind == b"Z":
                    client.unanswered -= 1
                    if message[5:] == b"I" and not client.unanswered and not client.is_mid_batch:
                        client.backend = None
                        self._idle.put_nowait(backend)
                        return
        except (OSError, asyncio.IncompleteReadError):
            client.writer.close()

    async def _take_back(self, client: _Client) -> None:
        """Drop the backend of a client that left in the middle of something, for the server to roll back."""
        if client.relay is not None:
            client.relay.cancel()
            await asyncio.gather(client.relay, return_exceptions=True)
        if client.backend is not None:
            await _close(client.backend.writer)
            self._idle.put_nowait(None)

    async def _acquire(self) -> _Backend:
        backend = await self._idle.get()
        if backend is not None and not backend.reader.at_eof():
            return backend
        try:
            return await self._connect()
        except BaseException:
            self._idle.put_nowait(None)
            raise

    async def _connect(self) -> _Backend:
        reader, writer = await self._open()
        pairs = {"user": self._user, "database": self._database, "client_encoding": "UTF8"}
        startup = b"".join(f"{name}\0{value}\0".encode() for name, value in pairs.items()) + b"\0"
        writer.write(_message(b"", _PROTOCOL_3_0.to_bytes(4, "big") + startup))
        key = parameters = b""
        while True:
            kind, message = await _read(reader)
            if kind == b"E" or (kind == b"R" and any(message[5:9])):
                await _close(writer)
                raise ConnectionError(f"the server wants more than trust, or refused: {message[5:]!r}")
            if kind == b"S":
                parameters += message
            elif kind == b"K":
                key = message[5:]
            elif kind == b"Z":
                return _Backend(reader, writer, key, parameters)

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._host.startswith("/"):
            return await asyncio.open_unix_connection(f"{self._host}/.s.PGSQL.{self._server_port}")
        return await asyncio.open_connection(self._host, self._server_port)

    async def _cancel(self, key: bytes) -> None:
        client = self._clients.get(key)
        if client is None or client.backend is None:
            return
        _, writer = await self._open()
        writer.write(_message(b"", _CANCEL_REQUEST.to_bytes(4, "big") + client.backend.key))
        await writer.drain()
        await _close(writer)


async def _read(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """The next message: its type byte, and all of it."""
    head = await reader.readexactly(5)
    return head[:1], head + await reader.readexactly(int.from_bytes(head[1:], "big") - 4)


def _message(kind: bytes, body: bytes) -> bytes:
    return kind + (len(body) + 4).to_bytes(4, "big") + body


def _fatal(code: str, text: str) -> bytes:
    return _message(b"E", f"SFATAL\0VFATAL\0C{code}\0M{text}\0\0".encode())


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
