"""A real HTTP/1.1 server on loopback whose every byte the test decides: what it answers, and when it does not."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True)
class Received:
    """One request as it arrived: `target` is the undecoded path and query, header names are in lower case."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


def reply(status: int, body: bytes = b"", **headers: str) -> bytes:
    """Return the bytes of a response; `retry_after="1"` becomes the header `retry-after: 1`."""
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    head = "\r\n".join([f"HTTP/1.1 {status} Status", f"content-length: {len(body)}", *lines])
    return f"{head}\r\n\r\n".encode() + body


class LoopbackServer:
    """Answers with the bytes that `answer` returns; `None` closes the connection without a word."""

    def __init__(self, answer: Callable[[Received], Awaitable[bytes | None]]) -> None:
        self._answer = answer
        self._writers: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self.received: list[Received] = []
        self.has_received = asyncio.Event()
        self.connections = 0
        self.base_url = ""

    @property
    def targets(self) -> list[str]:
        return [request.target for request in self.received]

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.base_url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._server.close()
        for _ in range(10):  # one that was accepted this very moment is served some rounds of the loop later
            for writer in list(self._writers):
                writer.close()
            await asyncio.sleep(0)
        await self._server.wait_closed()
        if self._serving:
            _, late = await asyncio.wait(self._serving, timeout=1)
            for task in late:  # whoever waits for something that never comes
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        try:
            while (request := await _read_request(reader)) is not None:
                self.received.append(request)
                self.has_received.set()
                answer = await self._answer(request)
                if answer is None:
                    break
                writer.write(answer)
                await writer.drain()
        except ConnectionError:
            pass  # the client hung up, which some tests are about
        finally:
            self._writers.discard(writer)
            writer.close()


async def _read_request(reader: asyncio.StreamReader) -> Received | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    request_line, *lines = head.decode("latin-1").split("\r\n")[:-2]
    method, target, _ = request_line.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Received(method, target, headers, body)
