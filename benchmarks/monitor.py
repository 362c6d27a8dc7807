"""A Collections Monitor that answers after a fixed time: the tenants of even numbers, or nobody.

`python -m benchmarks.monitor PORT DELAY_MS known|unknown`. A protocol of its own instead of a web framework, so that it
takes no noticeable part of the machine.
"""

import asyncio
import sys
from typing import cast
from urllib.parse import unquote

_FOUND = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
_NOBODY = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"


class Monitor(asyncio.Protocol):
    """Answers `GET /tenants/lookup?phone=...`, one request at a time per connection."""

    def __init__(self, delay_s: float, *, knows_even_numbers: bool) -> None:
        self._delay_s = delay_s
        self._knows_even_numbers = knows_even_numbers
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._loop = asyncio.get_running_loop()

    def data_received(self, data: bytes) -> None:
        self._received += data
        while b"\r\n\r\n" in self._received:
            head, _, self._received = self._received.partition(b"\r\n\r\n")
            target = head.split(b" ", 2)[1].decode()
            self._loop.call_later(self._delay_s, self._transport.write, self._answer(target))

    def _answer(self, target: str) -> bytes:
        phone = unquote(target.partition("phone=")[2])
        if not self._knows_even_numbers or not phone[-1:].isdigit() or int(phone[-1]) % 2:
            return _NOBODY
        body = b'{"tenant_id": "tenant-%s"}' % phone[-10:].encode()
        return _FOUND % (len(body), body)


async def serve(port: int, delay_s: float, *, knows_even_numbers: bool) -> None:
    """Serve until cancelled."""
    server = await asyncio.get_running_loop().create_server(
        lambda: Monitor(delay_s, knows_even_numbers=knows_even_numbers), "127.0.0.1", port
    )
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), float(sys.argv[2]) / 1000, knows_even_numbers=sys.argv[3] == "known"))
