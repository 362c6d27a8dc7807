"""SIGTERM, and what becomes of connections that are open: idle ones, and those in the middle of a request."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import orjson

from sms_foundation.core.config import LOCAL_AUTH_TOKEN
from sms_foundation.core.db import Database, DatabaseUrl
from sms_foundation.providers.twilio.signature import sign
from tests.support.http_connection import RefusedError
from tests.support.processes import Processes, ServiceProcess, eventually
from tests.support.service import BASE_URL, SMS_PATH, encode_form, text_form
from tests.support.tcp_gate import TcpGate

# Longer than any test waits: whoever waits for it to pass fails.
FOR_EVER = {"SHUTDOWN_TIMEOUT_S": "600"}


@dataclass
class SlowText:
    """A text on its way in, whose body has arrived in part."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    rest: bytes

    async def finish(self) -> None:
        """Send the rest."""
        self.writer.write(self.rest)
        await self.writer.drain()

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """Read until the connection is closed: status, headers, body."""
        head, _, body = (await self.reader.read()).partition(b"\r\n\r\n")
        status, *lines = head.decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines)
        return int(status.split(" ")[1]), headers, body


@asynccontextmanager
async def slow_text(service: ServiceProcess, sid: str) -> AsyncIterator[SlowText]:
    """Let a text arrive up to the middle of its body; it is in the service's hands when this begins."""
    pairs = text_form(sid, "Hola, no hay agua")
    body = encode_form(pairs)
    head = (
        f"POST {SMS_PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\nExpect: 100-continue\r\n"
        f"Content-Type: application/x-www-form-urlencoded; charset=UTF-8\r\n"
        f"X-Twilio-Signature: {sign(LOCAL_AUTH_TOKEN, BASE_URL + SMS_PATH, pairs)}\r\n\r\n"
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    try:
        writer.write(head.encode())
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"  # somebody waits for the body
        writer.write(body[:20])
        await writer.drain()
        yield SlowText(reader, writer, body[20:])
    finally:
        writer.close()


async def until_it_is_closed(service: ServiceProcess) -> None:
    """Wait until nobody gets a new connection."""

    async def is_refused() -> bool:
        try:
            await service.get("/health/live")
        except RefusedError:
            return True
        return False

    await eventually(is_refused, "it takes no connections")


async def stored_sids(database: Database) -> list[str]:
    return [row[0] for row in await database.pool.fetch("SELECT provider_message_id FROM sms_messages")]


class TestIdleConnections:
    async def test_hold_nobody_up(self, processes: Processes, database_url: DatabaseUrl) -> None:
        service = processes.serve(DATABASE_URL=database_url.dsn, **FOR_EVER)
        await service.until_ready()
        reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
        unused, other = await asyncio.open_connection("127.0.0.1", service.port)
        writer.write(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"connection: close" not in head.lower()
        await reader.readexactly(len(b'{"ok":true}'))
        service.signal(signal.SIGTERM)

        assert await service.exit_code() == 0
        assert (await reader.read(), await unused.read()) == (b"", b"")
        writer.close()
        other.close()


class TestSlowBody:
    async def test_that_ends_in_time_is_answered_after_a_second_sigterm_too(
        self, processes: Processes, database_url: DatabaseUrl, database: Database
    ) -> None:
        service = processes.serve(DATABASE_URL=database_url.dsn, **FOR_EVER)
        await service.until_ready()
        async with slow_text(service, "SM1") as text:
            service.signal(signal.SIGTERM)
            await until_it_is_closed(service)
            service.signal(signal.SIGTERM)
            await text.finish()
            status, headers, body = await text.answer()

        assert (status, headers["connection"]) == (200, "close")
        assert len(body) == int(headers["content-length"])
        assert await service.exit_code() == 0
        assert await stored_sids(database) == ["SM1"]
        assert await database.pool.fetchval("SELECT count(*) FROM work WHERE state = 'leased'") == 0

    async def test_that_never_ends_is_refused_in_the_envelope_and_leaves_nothing_behind(
        self, processes: Processes, database_url: DatabaseUrl, database: Database
    ) -> None:
        service = processes.serve(DATABASE_URL=database_url.dsn, SHUTDOWN_TIMEOUT_S="3")
        await service.until_ready()
        async with slow_text(service, "SM1") as text:
            service.signal(signal.SIGTERM)
            status, headers, body = await text.answer()

        error = orjson.loads(body)["error"]
        assert (status, headers["connection"], headers["retry-after"]) == (503, "close", "1")
        assert (error["code"], error["message"]) == ("sms.unavailable", "the service is stopping")
        assert error["request_id"] == headers["x-request-id"]
        assert await service.exit_code() == 0
        assert await stored_sids(database) == []
        (line,) = [each for each in service.events if each.get("request_id") == error["request_id"]]
        assert (line["event"], line["status"], line["level"]) == ("http.request", 503, "info")


class TestStarting:
    async def test_it_ends_though_the_database_is_silent(self, processes: Processes, gate: TcpGate) -> None:
        await gate.open()
        gate.freeze()
        service = processes.serve(DATABASE_URL=gate.url, DATABASE_CONNECT_TIMEOUT_S="60", DATABASE_POOL_TIMEOUT_S="60")

        async def is_starting() -> bool:
            return "Waiting for application startup." in service.log

        await eventually(is_starting, "it starts")
        service.signal(signal.SIGTERM)

        assert await service.exit_code() == 0
