from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from sms_foundation.simulator.app import build_app
from sms_foundation.simulator.scenario import Scenario, TravelTime
from tests.simulator.rest.running import RunningSimulator, StartSimulator
from tests.simulator.servers import Receiver, SwitchingServer, serve, settings_for


@pytest.fixture(scope="session")
def switching_server() -> Iterator[SwitchingServer]:
    server = SwitchingServer()
    with serve(server) as server.url:
        yield server


@pytest.fixture
def start(receiver: Receiver, switching_server: SwitchingServer) -> StartSimulator:
    """Return a context manager that runs a simulator before a service at any base URL."""

    @contextmanager
    def start(service_url: str) -> Iterator[RunningSimulator]:
        settings = settings_for(service_url, scenario=Scenario(travel=TravelTime(0, 0)))
        with (
            switching_server.running(build_app(settings)) as url,
            httpx.Client(base_url=url, trust_env=False, timeout=10) as control,
        ):
            yield RunningSimulator(url, control, receiver)

    return start


@pytest.fixture
def simulator(start: StartSimulator, receiver: Receiver) -> Iterator[RunningSimulator]:
    with start(receiver.base_url) as simulator:
        yield simulator
