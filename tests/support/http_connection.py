"""HTTP as it is on the wire: tells a complete answer from a refusal, and from half an answer."""

import asyncio
import contextlib
from dataclasses import dataclass
from typing import Any, Self

import orjson

from tests.support.service import Pairs, encode_form

_PATIENCE_S = 30.0


class RefusedError(Exception):
    """No connection, or it was closed before the first byte of an answer."""


class HalfAnswerError(Exception):
    """The connection was closed in the middle of an answer."""


@dataclass(frozen=True)
class Answer:
    """A complete response; header names are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return orjson.loads(self.body)


class HttpConnection:
    """One connection to 127.0.0.1, opened by the first request and kept until the server or `close` ends it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection; the next request opens another."""
        if self._streams is not None:
            writer = self._streams[1]
            self._streams = None
            writer.close()
            with contextlib.suppress(OSError):  # reset by a server that was killed
                await writer.wait_closed()

    async def request(
        self, method: str, target: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> Answer:
        """Send one request and return the complete answer. Raises RefusedError or HalfAnswerError."""
        lines = [f"{method} {target} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        try:
            async with asyncio.timeout(_PATIENCE_S):
                return await self._exchange("\r\n".join([*lines, "", ""]).encode() + body)
        except BaseException:
            await self.close()
            raise

    async def get(self, target: str, **headers: str) -> Answer:
        return await self.request("GET", target, headers=headers)

    async def post_form(self, target: str, pairs: Pairs, signature: str, **headers: str) -> Answer:
        """POST a form as Twilio does."""
        given = {"Content-Type": "application/x-www-form-urlencoded; charset=UTF-8", "X-Twilio-Signature": signature}
        return await self.request("POST", target, encode_form(pairs), given | headers)

    async def _exchange(self, request: bytes) -> Answer:
        try:
            if self._streams is None:
                self._streams = await asyncio.open_connection("127.0.0.1", self._port)
            reader, writer = self._streams
            writer.write(request)
            await writer.drain()
            first = await reader.read(1)
        except OSError as error:
            raise RefusedError(type(error).__name__) from None
        if not first:
            raise RefusedError("closed without an answer")
        try:
            head = first + await reader.readuntil(b"\r\n\r\n")
            status_line, *lines = head.decode("latin-1").split("\r\n")[:-2]
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            has_body = status_line.split(" ")[1] != "204"
            body = await reader.readexactly(int(headers["content-length"])) if has_body else b""
        except (OSError, asyncio.IncompleteReadError) as error:
            raise HalfAnswerError(type(error).__name__) from None
        if headers.get("connection") == "close":
            await self.close()
        return Answer(int(status_line.split(" ")[1]), headers, body)
