import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
from prometheus_client import REGISTRY

from sms_foundation.core.http import HttpClient, create_http_client
from sms_foundation.enrichment.tenants.timing import Timing
from tests.loopback import LoopbackServer, Received


class ManualTime:
    """Time that passes only when something sleeps or the test says so; chance that always draws the middle."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.sleeps: list[float] = []
        self.timing = Timing(monotonic=lambda: self.now_s, sleep=self._sleep, uniform=lambda a, b: (a + b) / 2)

    def advance(self, seconds: float) -> None:
        self.now_s += seconds

    async def _sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.now_s += seconds
        await asyncio.sleep(0)


@pytest.fixture
def time() -> ManualTime:
    return ManualTime()


@pytest.fixture
async def http() -> AsyncIterator[HttpClient]:
    async with create_http_client() as client:
        yield client


@pytest.fixture
def serve() -> Callable[..., LoopbackServer]:
    """Make a server that gives these answers in turn, the last one for ever."""

    def make(*answers: bytes | Callable[[Received], Awaitable[bytes | None]] | None) -> LoopbackServer:
        left = list(answers)

        async def respond(request: Received) -> bytes | None:
            answer = left.pop(0) if len(left) > 1 else left[0]
            return await answer(request) if callable(answer) else answer

        return LoopbackServer(respond)

    return make


@pytest.fixture
def counted() -> Callable[..., AbstractContextManager[None]]:
    """Assert that a sample grows by exactly `by` inside the block."""

    @contextmanager
    def check(name: str, by: float = 1, **labels: str) -> Iterator[None]:
        before = REGISTRY.get_sample_value(name, labels) or 0.0
        yield
        assert (REGISTRY.get_sample_value(name, labels) or 0.0) - before == by, (name, labels)

    return check
