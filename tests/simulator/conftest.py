from collections.abc import Iterator

import pytest
import structlog

from tests.simulator.servers import FakeTime, Receiver, ReceiverServer, serve


@pytest.fixture(scope="session")
def receiver_server() -> Iterator[ReceiverServer]:
    server = ReceiverServer()
    with serve(server.app) as server.url:
        yield server


@pytest.fixture(autouse=True)
def _unchanged_logging() -> Iterator[None]:
    """Commands quieten the log of their process, which here is that of all tests."""
    config = structlog.get_config()
    yield
    structlog.configure(**config)


@pytest.fixture
def receiver(receiver_server: ReceiverServer) -> Receiver:
    """A service that nobody else delivers to."""
    return receiver_server.add_receiver()


@pytest.fixture
def fake_time() -> FakeTime:
    return FakeTime()
