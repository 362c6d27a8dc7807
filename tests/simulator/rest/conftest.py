from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from sms_foundation.simulator.app import build_app
from sms_foundation.simulator.scenario import Scenario, TravelTime
from tests.simulator.servers import Receiver, serve, settings_for, until


@dataclass
class RunningSimulator:
    """A simulator over real HTTP, with its control API at hand; messages reach their phones at once."""

    url: str
    control: httpx.Client
    receiver: Receiver

    def summary(self) -> dict[str, Any]:
        return dict(self.control.get("/simulator/received/summary").json())

    def received(self, **params: str | int) -> list[dict[str, Any]]:
        return list(self.control.get("/simulator/received", params=params).json()["received"])

    def settle(self) -> dict[str, Any]:
        """Wait until nothing is on its way any more; return the summary."""
        return until(self.summary, lambda summary: bool(summary["is_quiet"]))

    def fault(self, kind: str, **values: Any) -> dict[str, Any]:
        answer = self.control.post("/simulator/faults", json={"kind": kind, **values})
        assert answer.status_code == 201, answer.text
        return dict(answer.json())


@pytest.fixture
def start(receiver: Receiver) -> Iterator[Callable[..., RunningSimulator]]:
    """Return a function that starts a simulator with settings of its own."""
    stack = []

    def start(**changes: object) -> RunningSimulator:
        changes = {"scenario": Scenario(travel=TravelTime(0, 0)), **changes}
        running = serve(build_app(settings_for(receiver.base_url, **changes)))
        client = httpx.Client(base_url=running.__enter__(), trust_env=False, timeout=10)
        stack.append((running, client))
        return RunningSimulator(str(client.base_url).rstrip("/"), client, receiver)

    yield start
    for running, client in reversed(stack):
        client.close()
        running.__exit__(None, None, None)


@pytest.fixture
def simulator(start: Callable[..., RunningSimulator]) -> RunningSimulator:
    return start()
