"""A simulator that runs, as the tests of its REST side hold it."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import httpx

from tests.simulator.servers import Receiver, until


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


StartSimulator = Callable[[str], AbstractContextManager[RunningSimulator]]
