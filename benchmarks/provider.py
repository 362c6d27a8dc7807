"""A provider that takes every message after a fixed time: Twilio's Messages API, as far as sending needs it.

`python -m benchmarks.provider PORT DELAY_MS`. A protocol of its own instead of a web framework, so that it takes no
noticeable part of the machine. `GET /` tells how many it took, `GET /urgent` when those arrived whose body begins with
"urgent": a JSON object {body: seconds since 1970}.
"""

import asyncio
import itertools
import json
import sys
import time
from typing import cast
from urllib.parse import parse_qs

import uvloop

_numbers = itertools.count(1)
_urgent: dict[str, float] = {}
_taken = 0

_MESSAGE = (
    '{"sid": "SM%032x", "status": "queued", "num_segments": "1", "num_media": "0", "price": null, "price_unit": "USD", '
    '"error_code": null, "error_message": null, "direction": "outbound-api", "api_version": "2010-04-01", "body": "", '
    '"to": "+14155550123", "from": "+15005550006", "account_sid": "AC", "uri": "/", "date_sent": null, '
    '"date_created": "Thu, 20 Aug 2026 05:01:45 +0000", "date_updated": "Thu, 20 Aug 2026 05:01:45 +0000", '
    '"messaging_service_sid": null, "subresource_uris": {}}'
)


class Provider(asyncio.Protocol):
    """Answers one request at a time per connection."""

    def __init__(self, delay_s: float) -> None:
        self._delay_s = delay_s
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._loop = asyncio.get_running_loop()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, separator, rest = self._received.partition(b"\r\n\r\n")
        if not separator:
            return
        length = 0
        for line in head.split(b"\r\n"):
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        if len(rest) < length:
            return
        self._received = rest[length:]
        if head.startswith(b"GET"):
            self._transport.write(_answer(200, json.dumps(_urgent if b"/urgent" in head else _taken).encode()))
        else:
            _note(rest[:length])
            answer = _answer(201, (_MESSAGE % next(_numbers)).encode())
            self._loop.call_later(self._delay_s, self._transport.write, answer)


def _note(form: bytes) -> None:
    global _taken  # noqa: PLW0603  # the whole process is this one counter
    _taken += 1
    if b"Body=urgent" in form:
        _urgent[parse_qs(form.decode())["Body"][0]] = time.time()


def _answer(status: int, body: bytes) -> bytes:
    head = f"HTTP/1.1 {status} OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def serve(port: int, delay_s: float) -> None:
    """Serve until cancelled."""
    server = await asyncio.get_running_loop().create_server(lambda: Provider(delay_s), "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), float(sys.argv[2]) / 1000))
