"""A worker's parts in the test's own event loop, and whole processes."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from sms_foundation.core.config import Settings
from sms_foundation.core.db import DatabaseUrl
from sms_foundation.worker import Core, open_core
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
    """The way to the test's own database, closed."""
    async with TcpGate(database_url) as gate:
        yield gate


@pytest.fixture
async def core(settings: Settings, database_url: DatabaseUrl) -> AsyncIterator[Core]:
    """The collaborators of one process, with no work begun."""
    async with open_core(settings, database_url) as core:
        yield core
        await core.stop(1.0)
