"""The Collections Monitor and the far database that the benchmarks bring along."""

import asyncio
from pathlib import Path

from benchmarks.processes import free_port, serving


async def exchange(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    answer = await reader.readuntil(b"\r\n\r\n")
    writer.close()
    return answer


class TestMonitor:
    async def test_knows_even_numbers_only(self, tmp_path: Path) -> None:
        port = free_port()
        with serving(["-m", "benchmarks.monitor", str(port), "0", "known"], port=port, ready_path="/", folder=tmp_path):
            even = await exchange(port, b"GET /tenants/lookup?phone=%2B14155550122 HTTP/1.1\r\n\r\n")
            odd = await exchange(port, b"GET /tenants/lookup?phone=%2B14155550123 HTTP/1.1\r\n\r\n")
        assert (even[:12], odd[:12]) == (b"HTTP/1.1 200", b"HTTP/1.1 404")
