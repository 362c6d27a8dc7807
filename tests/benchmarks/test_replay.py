"""The load generator and the arithmetic on what it notes."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.errors import BenchmarkError
from benchmarks.replay import compiler, percentile, replay
from tests.loopback import LoopbackServer, Received, reply

needs_compiler = pytest.mark.skipif(compiler() is None, reason="the load generator needs a C compiler")


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


@pytest.fixture
async def server() -> AsyncIterator[LoopbackServer]:
    """Answers `/503` with 503, hangs up on `/hang-up`, everything else is 200."""

    async def answer(request: Received) -> bytes | None:
        match request.target:
            case "/hang-up":
                return None
            case "/503":
                return reply(503, b"not now")
        return reply(200, b"x" * 5000)

    async with LoopbackServer(answer) as server:
        yield server


def port_of(server: LoopbackServer) -> int:
    return int(server.base_url.rpartition(":")[2])


class TestPercentile:
    def test_is_the_nearest_rank(self) -> None:
        values = [float(value) for value in range(100, 0, -1)]
        assert [percentile(values, share) for share in (0.0, 0.01, 0.5, 0.99, 1.0)] == [1, 1, 50, 99, 100]

    def test_of_one_value_is_that_value(self) -> None:
        assert percentile([7.5], 0.99) == 7.5

    def test_of_nothing_is_refused(self) -> None:
        with pytest.raises(ValueError, match="no values"):
            percentile([], 0.5)

    @given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0, 1))
    def test_at_least_that_share_is_not_above_it(self, values: list[float], share: float) -> None:
        found = percentile(values, share)
        assert found in values
        assert sum(value <= found for value in values) >= share * len(values) * (1 - 1e-12)


@needs_compiler
class TestReplay:
    async def test_sends_each_request_once_and_in_order_over_one_connection(self, server: LoopbackServer) -> None:
        paths = [f"/{number}" for number in range(50)]
        result = await asyncio.to_thread(
            replay, [get(path) for path in paths], port=port_of(server), connections=1, seconds=30
        )

        assert server.targets == paths
        assert server.connections == 1
        assert result.statuses == [200] * 50
        assert len(result.latencies_ms) == 50

    async def test_spreads_requests_over_the_connections(self, server: LoopbackServer) -> None:
        result = await asyncio.to_thread(replay, [get("/")] * 200, port=port_of(server), connections=8, seconds=30)

        assert (result.succeeded, result.failed, server.connections) == (200, 0, 8)

    async def test_notes_each_status_with_its_request(self, server: LoopbackServer) -> None:
        requests = [get("/"), get("/503"), get("/hang-up"), get("/")]
        result = await asyncio.to_thread(replay, requests, port=port_of(server), connections=1, seconds=30)

        assert result.statuses == [200, 503, 0, 200]
        assert result.status_counts() == {"0": 1, "200": 2, "503": 1}

    async def test_at_a_rate_takes_its_time(self, server: LoopbackServer) -> None:
        result = await asyncio.to_thread(
            replay, [get("/")] * 20, port=port_of(server), connections=4, seconds=30, rate=100
        )

        assert result.succeeded == 20
        assert result.seconds >= 0.19  # the twentieth is due 190 ms after the first

    async def test_stops_when_the_time_is_over(self, server: LoopbackServer) -> None:
        result = await asyncio.to_thread(
            replay, [get("/")] * 1000, port=port_of(server), connections=4, seconds=0.1, rate=100
        )

        assert 0 < result.succeeded < 1000

    async def test_without_a_server_says_so(self, server: LoopbackServer) -> None:
        port = port_of(server)
        await server.__aexit__()

        with pytest.raises(BenchmarkError, match="connect"):
            await asyncio.to_thread(replay, [get("/")], port=port, connections=1, seconds=1)


class TestCompiled:
    def test_without_a_compiler_is_one_clear_line(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CC", str(tmp_path / "no-such-compiler"))
        assert compiler() is None
