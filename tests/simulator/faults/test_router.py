from collections.abc import Iterator

import httpx
import pytest

from sms_foundation.simulator.app import build_app
from tests.simulator.servers import Receiver, serve, settings_for


@pytest.fixture
def control(receiver: Receiver) -> Iterator[httpx.Client]:
    with (
        serve(build_app(settings_for(receiver.base_url))) as url,
        httpx.Client(base_url=url + "/simulator", trust_env=False) as client,
    ):
        yield client


class TestFaults:
    def test_they_are_listed_with_their_strikes_and_can_be_ended(self, control: httpx.Client) -> None:
        first = control.post("/faults", json={"kind": "html", "provider": "twilio", "share": 0.5}).json()
        second = control.post("/faults", json={"kind": "latency", "latency_ms": 20}).json()
        assert first["strikes"] == 0
        assert [each["id"] for each in control.get("/faults").json()["faults"]] == [first["id"], second["id"]]
        assert control.delete(f"/faults/{first['id']}").status_code == 204
        assert control.delete(f"/faults/{first['id']}").status_code == 404
        assert control.delete("/faults?seed=3").status_code == 204
        assert control.get("/faults").json() == {"faults": []}

    @pytest.mark.parametrize(
        "fault",
        [
            {"kind": "earthquake"},
            {"kind": "html", "share": 1.5},
            {"kind": "html", "provider": "nobody"},
            {"kind": "server_error", "status": 404},
            {"kind": "html", "number": "nobody at all"},
            {"kind": "html", "colour": "red"},
            {},
        ],
    )
    def test_what_is_no_fault_is_400(self, control: httpx.Client, fault: dict[str, object]) -> None:
        assert control.post("/faults", json=fault).status_code == 400
        assert control.get("/faults").json() == {"faults": []}
