from collections.abc import Iterator

import pytest

from tests.simulator.servers import FakeTime, Receiver, ReceiverServer, serve


@pytest.fixture(scope="session")
def receiver_server() -> Iterator[ReceiverServer]:
    server = ReceiverServer()
    with serve(server.app) as server.url:
        yield server


@pytest.fixture
def receiver(receiver_server: ReceiverServer) -> Receiver:
    """A service that nobody else delivers to."""
    return receiver_server.add_receiver()


@pytest.fixture
def fake_time() -> FakeTime:
    return FakeTime()
