"""Whole processes, ended and cleaned up after each test, and a database that asks for a password."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from sms_foundation.core.db import DatabaseUrl
from tests.support.collector import Collector, running_collector
from tests.support.processes import Processes
from tests.support.tcp_gate import TcpGate


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    """Starts `sms-foundation` commands."""
    processes = Processes(tmp_path)
    yield processes
    processes.end()


@pytest.fixture
async def gate(database_url: DatabaseUrl) -> AsyncIterator[TcpGate]:
    """The way to the test's own database, open."""
    async with TcpGate(database_url) as gate:
        await gate.open()
        yield gate


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    """Where spans go."""
    async with running_collector() as collector:
        yield collector
