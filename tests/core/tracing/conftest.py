from collections.abc import AsyncIterator

import pytest

from sms_foundation.core.tracing.opening import open_tracer
from sms_foundation.core.tracing.tracer import Tracer
from tests.support.collector import Collector, running_collector
from tests.support.service import make_settings


@pytest.fixture
async def collector(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Collector]:
    async with running_collector() as collector:
        collector.apply_to(monkeypatch)
        yield collector


@pytest.fixture
async def tracer(collector: Collector) -> AsyncIterator[Tracer]:
    tracer = open_tracer(make_settings(tracing=True))
    assert tracer is not None
    yield tracer
    await tracer.close(5)
