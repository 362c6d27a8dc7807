"""Whoever is slow, or sends more than anybody needs, is cut off, over real sockets; everybody else is served."""

import asyncio
import gzip
import socket
from collections.abc import AsyncIterator
from contextlib import suppress

import orjson
import psutil
import pytest

from sms_foundation.access_rules import RULES
from sms_foundation.app import create_app
from sms_foundation.core.db import Database, DatabaseUrl
from sms_foundation.core.stopping import Stopping
from sms_foundation.core.web.connection import MAX_HEAD_BYTES, MAX_HEADERS, MAX_URL_BYTES, Patience
from sms_foundation.core.web.server import Server
from tests.fuzz.world import world_settings
from tests.support.access import bearer, make_client, make_key
from tests.support.http_connection import HttpConnection
from tests.support.processes import eventually

_SHORT = Patience(request_s=0.2, head_s=0.2, body_s=0.2, reader_s=0.2)
_JSON = {"Content-Type": "application/json"}
_WRITING = sorted((method, path) for method, path in RULES if method in ("POST", "PUT", "PATCH"))


class Target:
    """The service on a port, as `serve` runs it but with little patience."""

    def __init__(self, port: int, key: str, database: Database) -> None:
        self.port = port
        self.credentials = bearer(key)
        self.database = database

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def drip(self, start: bytes, drop: bytes) -> bytes:
        """Send `start`, then `drop` again and again; returns what came back when the service has hung up."""
        reader, writer = await self.open()
        received = bytearray()

        async def read() -> None:
            with suppress(ConnectionError):  # a reset comes after an answer, and must not take it along
                while chunk := await reader.read(65_536):
                    received.extend(chunk)

        answer = asyncio.create_task(read())
        try:
            async with asyncio.timeout(30):
                writer.write(start)
                while not answer.done():
                    with suppress(ConnectionError):
                        writer.write(drop)
                        await writer.drain()
                    await asyncio.wait([answer], timeout=0.05)
            return bytes(received)
        finally:
            answer.cancel()
            writer.close()

    async def post(self, method: str, path: str, body: bytes, **headers: str) -> int:
        """Call a route with a key that may do everything; returns the status."""
        given = {**_JSON, **self.credentials, **{name.replace("_", "-"): value for name, value in headers.items()}}
        async with HttpConnection(self.port) as connection:
            return (await connection.request(method, path.format_map(_Places()), body, given)).status

    async def is_alive(self) -> bool:
        async with HttpConnection(self.port) as connection:
            return (await connection.get("/.well-known/jwks.json")).status == 200

    async def messages(self) -> int:
        return int(await self.database.pool.fetchval("SELECT count(*) FROM sms_messages"))


class _Places(dict[str, str]):
    def __missing__(self, name: str) -> str:
        return "00000000-0000-0000-0000-000000000000" if name.endswith("_id") else "nobody"


@pytest.fixture
async def target(database: Database, database_url: DatabaseUrl) -> AsyncIterator[Target]:
    """A running server."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    await make_client(database, "tests", roles=["admin"])
    key = await make_key(database, "tests")
    stopping = Stopping()
    app = create_app(world_settings(), database_url, stopping=stopping)
    server = Server(app, stopping, closing_s=1, patience=_SHORT)
    task = asyncio.create_task(server.serve(sockets=[listener]))

    async def has_started() -> bool:
        assert not task.done()
        return server.started

    await eventually(has_started, "the server has started")
    yield Target(listener.getsockname()[1], key, database)
    server.should_exit = True
    await task


def head(line: str, *lines: str) -> bytes:
    return "\r\n".join([f"{line} HTTP/1.1", "Host: localhost", *lines, "", ""]).encode()


class TestSlowConnections:
    async def test_a_head_that_never_ends_is_given_up(self, target: Target) -> None:
        answer = await target.drip(b"POST /webhook/twilio/sms HTTP/1.1\r\nX-A: ", b"b")

        assert answer.startswith(b"HTTP/1.1 408 ")

    async def test_headers_one_by_one_are_given_up(self, target: Target) -> None:
        assert (await target.drip(b"GET / HTTP/1.1\r\n", b"X-A: b\r\n")).startswith(b"HTTP/1.1 408 ")

    async def test_a_connection_without_a_request_is_closed(self, target: Target) -> None:
        assert await target.drip(b"", b"") == b""

    async def test_blank_lines_are_no_request(self, target: Target) -> None:
        assert await target.drip(b"", b"\r\n") == b""
        answer = await target.drip(head("GET /.well-known/jwks.json"), b"\r\n")
        assert answer.count(b"HTTP/1.1 ") == 1

    async def test_a_body_that_drips_is_given_up_and_changes_nothing(self, target: Target) -> None:
        for path in ("/webhook/twilio/sms", "/v1/sms/send", "/v1/clients", "/auth/login"):
            await self._drip_body(target, path)
        assert await target.messages() == 0

    async def _drip_body(self, target: Target, path: str) -> None:
        lines = [f"{name}: {value}" for name, value in target.credentials.items()]
        kind = "application/x-www-form-urlencoded" if path.startswith("/webhook") else "application/json"
        start = head(f"POST {path}", f"Content-Type: {kind}", "Content-Length: 1000", *lines)

        assert (await target.drip(start, b" ")).startswith(b"HTTP/1.1 408 "), path

    async def test_a_body_that_nobody_wants_does_not_keep_a_connection(self, target: Target) -> None:
        answer = await target.drip(head("POST /nowhere", "Transfer-Encoding: chunked"), b"1\r\na\r\n")

        assert answer.startswith(b"HTTP/1.1 404 ")

    async def test_somebody_who_does_not_read_answers_is_cut_off(self, target: Target) -> None:
        with socket.socket() as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(deaf, ("127.0.0.1", target.port))
            asked = head("GET /openapi.json")
            with suppress(ConnectionError):
                async with asyncio.timeout(30):
                    while True:  # until it is reset, or takes nothing any more because it waits for us to read
                        with suppress(TimeoutError):
                            async with asyncio.timeout(5):
                                await loop.sock_sendall(deaf, asked)
                                continue
                        assert await target.is_alive()

    async def test_many_of_them_keep_nobody_from_being_served(self, target: Target) -> None:
        streams = [await target.open() for _ in range(200)]
        for _, writer in streams:
            writer.write(b"POST /webhook/twilio/sms HTTP/1.1\r\nX-A: ")

        assert await target.is_alive()
        answers = await asyncio.gather(*(reader.read() for reader, _ in streams))
        assert all(answer.startswith(b"HTTP/1.1 408 ") for answer in answers)
        for _, writer in streams:
            writer.close()


class TestFloods:
    async def test_more_headers_than_anybody_sends_are_refused(self, target: Target) -> None:
        allowed = ["Connection: close"] + [f"X-{number}: a" for number in range(MAX_HEADERS - 2)]

        assert (await self._send(target, head("GET /.well-known/jwks.json", *allowed))).startswith(b"HTTP/1.1 200 ")
        refused = await self._send(target, head("GET /.well-known/jwks.json", *allowed, "X-Last: a"))
        assert refused.startswith(b"HTTP/1.1 431 ")

    async def test_a_url_longer_than_anybody_needs_is_refused(self, target: Target) -> None:
        answer = await self._send(target, head("GET /" + "a" * MAX_URL_BYTES))

        assert answer.startswith(b"HTTP/1.1 414 ")

    async def test_a_head_without_end_is_not_read_to_it(self, target: Target) -> None:
        for start in (b"GET /", b"GET / HTTP/1.1\r\nX-A: ", b"GET / HTTP/1.1\r\n"):
            drop = b"X-A: b\r\n" * 1000 if start.endswith(b"1.1\r\n") else b"a" * 8000

            assert (await target.drip(start, drop)).startswith(b"HTTP/1.1 431 "), start

    async def test_a_refused_head_is_counted_and_answered_once(self, target: Target) -> None:
        flood = b"GET / HTTP/1.1\r\n" + b"X-A: b\r\n" * (MAX_HEAD_BYTES // 4)

        answer = await self._send(target, flood)

        assert answer.count(b"HTTP/1.1 ") <= 1  # a reset may swallow it
        assert await target.is_alive()

    async def test_a_body_without_end_is_read_to_it_by_no_route(self, target: Target) -> None:
        await asyncio.gather(*(self._flood(target, method, path.format_map(_Places())) for method, path in _WRITING))
        assert await target.is_alive()
        assert await target.messages() == 0

    async def _flood(self, target: Target, method: str, path: str) -> None:
        lines = [f"{name}: {value}" for name, value in {**_JSON, **target.credentials}.items()]
        start = head(f"{method} {path}", "Transfer-Encoding: chunked", "Idempotency-Key: a", *lines)
        answer = await target.drip(start, b"200000\r\n" + b" " * 0x200000 + b"\r\n")

        # The rest of a body is thrown away for a while; the reset that ends this can swallow the answer.
        assert not answer or answer.split(b" ")[1] in (b"400", b"403", b"404", b"413"), (path, answer[:200])

    async def _send(self, target: Target, data: bytes) -> bytes:
        reader, writer = await target.open()
        with suppress(ConnectionError):
            writer.write(data)
            await writer.drain()
        try:
            async with asyncio.timeout(30):
                return await reader.read()
        except ConnectionError:
            return b""
        finally:
            writer.close()


_DEEP = 100_000
_ABSURD = {
    "nested lists": b"[" * _DEEP,
    "complete nested lists": b"[" * _DEEP + b"]" * _DEEP,
    "nested objects": b'{"a":' * 20_000,
    "a whole number": b'{"validity_s": ' + b"9" * 5000 + b', "limit": ' + b"9" * 5000 + b"}",
    "an exponent": b'{"validity_s": 1e999999999, "request_limit": 1e999999999}',
    "no number": b'{"validity_s": NaN, "is_allowed": -Infinity}',
    "a large number": b'{"to": 99999999999999999999999999999999, "id": 99999999999999999999999999999999}',
    "nested within a field": b'{"metadata": ' + b"[" * 20_000 + b"]" * 20_000 + b"}",
    "half a pair within depth": b'{"a": "\\ud800", "b": ' + b"[" * 20_000 + b"]" * 20_000 + b"}",
}


_MISTAKES = (400, 401, 403, 404, 413, 422)  # 404: has no use for a body, and does not know whom it is about


class TestAbsurdBodies:
    async def test_depth_and_size_are_refused_like_any_other_mistake(self, target: Target) -> None:
        for name, body in _ABSURD.items():
            for method, path in _WRITING:
                assert await target.post(method, path, body) in _MISTAKES, (name, method, path)
        assert await target.messages() == 0

    async def test_a_compressed_body_is_never_unpacked(self, target: Target) -> None:
        bomb = gzip.compress(b'{"to": "+14155550123", "message": "' + b" " * 100_000_000 + b'"}')
        before = psutil.Process().memory_info().rss
        for method, path in _WRITING:
            assert await target.post(method, path, bomb, Content_Encoding="gzip") in _MISTAKES, (method, path)
        assert psutil.Process().memory_info().rss - before < 50_000_000

    async def test_a_webhook_is_not_unpacked_either(self, target: Target) -> None:
        bomb = gzip.compress(b"Body=" + b"a" * 100_000_000)
        form = {"Content_Type": "application/x-www-form-urlencoded", "Content_Encoding": "gzip"}
        for path in ("/webhook/twilio/sms", "/webhook/twilio/status"):
            assert await target.post("POST", path, bomb, **form) == 415

    async def test_huge_numbers_in_a_query_are_refused(self, target: Target) -> None:
        queries = ["limit=" + "9" * 5000, "limit=1e999", "limit=-1", "cursor=" + "A" * 10_000]
        async with HttpConnection(target.port) as connection:
            for path in ("/conversations/+14155550123", "/v1/sms", "/conversations", "/v1/keys", "/v1/audit"):
                for query in queries:
                    answer = await connection.request("GET", f"{path}?{query}", headers=target.credentials)
                    assert answer.status == 400, (path, query[:20], answer.body)

    async def test_json_is_read_once(self, target: Target) -> None:
        body = orjson.dumps({"id": "one", "roles": ["viewer"]})

        assert await target.post("POST", "/v1/clients", body) == 201
        assert await target.post("POST", "/v1/clients", b" " * 65536 + body) == 413
