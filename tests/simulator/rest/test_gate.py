"""Each fault as a client sees it on the wire, and whether the message was accepted all the same."""

import socket
import time
from collections.abc import Iterator

import httpx
import pytest

from sms_foundation.core.config import LOCAL_ACCOUNT_SID, LOCAL_PHONE_NUMBER
from tests.simulator.rest.running import RunningSimulator
from tests.simulator.servers import AUTH_TOKEN

PHONE, OTHER_PHONE = "+15125550142", "+15125550143"


@pytest.fixture
def api(simulator: RunningSimulator) -> Iterator[httpx.Client]:
    with httpx.Client(
        base_url=f"{simulator.url}/2010-04-01/Accounts/{LOCAL_ACCOUNT_SID}",
        auth=(LOCAL_ACCOUNT_SID, AUTH_TOKEN),
        trust_env=False,
    ) as client:
        yield client


def send(api: httpx.Client, to: str = PHONE, body: str = "Hola") -> httpx.Response:
    return api.post("/Messages.json", data={"To": to, "From": LOCAL_PHONE_NUMBER, "Body": body})


class TestRefusals:
    @pytest.mark.parametrize(
        ("fault", "status", "code"),
        [
            ({"kind": "rate_limit"}, 429, 20429),
            ({"kind": "server_error", "status": 500}, 500, 20500),
            ({"kind": "server_error", "status": 503}, 503, 20503),
            ({"kind": "account_suspended"}, 401, 20003),
            ({"kind": "stop"}, 400, 21610),
        ],
    )
    def test_it_is_told_in_the_providers_words_and_nothing_is_accepted(
        self, simulator: RunningSimulator, api: httpx.Client, fault: dict[str, object], status: int, code: int
    ) -> None:
        simulator.fault(**fault)  # type: ignore[arg-type]
        answer = send(api)
        assert (answer.status_code, answer.json()["code"], answer.json()["status"]) == (status, code, status)
        assert "retry-after" not in answer.headers
        assert simulator.summary()["accepted"] == 0

    def test_a_rate_limit_can_say_when_to_come_back(self, simulator: RunningSimulator, api: httpx.Client) -> None:
        simulator.fault("rate_limit", retry_after_s=7)
        assert send(api).headers["retry-after"] == "7"

    def test_a_rate_lets_so_many_pass_in_a_second(self, simulator: RunningSimulator, api: httpx.Client) -> None:
        simulator.fault("rate", per_second=0)
        assert send(api).status_code == 429
        simulator.control.delete("/simulator/faults")
        simulator.fault("rate", per_second=1000)
        assert send(api).status_code == 201

    def test_an_error_may_hide_that_it_was_accepted(self, simulator: RunningSimulator, api: httpx.Client) -> None:
        simulator.fault("server_error", status=500, is_accepted=True)
        assert send(api).status_code == 500
        assert simulator.summary()["accepted"] == 1


class TestBrokenAnswers:
    @pytest.mark.parametrize("is_accepted", [True, False])
    def test_html_comes_from_a_gateway(self, simulator: RunningSimulator, api: httpx.Client, is_accepted: bool) -> None:
        simulator.fault("html", status=502, is_accepted=is_accepted)
        answer = send(api)
        assert (answer.status_code, answer.headers["content-type"]) == (502, "text/html; charset=utf-8")
        assert simulator.summary()["accepted"] == int(is_accepted)

    def test_a_truncated_answer_is_half_a_document(self, simulator: RunningSimulator, api: httpx.Client) -> None:
        simulator.fault("truncated")
        answer = send(api)
        assert answer.status_code == 201
        with pytest.raises(ValueError, match=r"Unterminated|Expecting"):
            answer.json()
        assert simulator.summary()["accepted"] == 1


class TestNoAnswer:
    @pytest.mark.parametrize(("kind", "accepted"), [("drop_before", 0), ("drop_after", 1)])
    def test_a_dropped_connection_sends_not_one_byte(
        self, simulator: RunningSimulator, kind: str, accepted: int
    ) -> None:
        simulator.fault(kind)
        assert _raw_answer(simulator) == b""
        assert simulator.summary()["accepted"] == accepted

    @pytest.mark.parametrize(("kind", "accepted"), [("hang_before", 0), ("hang_after", 1)])
    def test_a_hanging_connection_is_held_then_cut(self, simulator: RunningSimulator, kind: str, accepted: int) -> None:
        simulator.fault(kind, hold_s=0.2)
        began = time.monotonic()
        assert _raw_answer(simulator) == b""
        assert time.monotonic() - began >= 0.2
        assert simulator.summary()["accepted"] == accepted

    def test_a_client_that_gives_up_ends_the_silence(self, simulator: RunningSimulator, api: httpx.Client) -> None:
        simulator.fault("hang_after", hold_s=600)
        with pytest.raises(httpx.ReadTimeout):
            api.post("/Messages.json", data={"To": PHONE, "From": LOCAL_PHONE_NUMBER, "Body": "Hola"}, timeout=0.1)
        assert simulator.summary()["accepted"] == 1  # and the simulator of this test can be stopped at once

    def test_what_would_be_refused_anyway_is_refused(self, simulator: RunningSimulator, api: httpx.Client) -> None:
        simulator.fault("drop_after")
        assert send(api, to="nobody at all").json()["code"] == 21211


class TestWhomItStrikes:
    def test_latency_comes_before_a_refusal(self, simulator: RunningSimulator, api: httpx.Client) -> None:
        simulator.fault("latency", latency_ms=150)
        simulator.fault("rate_limit")
        began = time.monotonic()
        assert send(api).status_code == 429
        assert time.monotonic() - began >= 0.15

    def test_only_the_phone_it_names(self, simulator: RunningSimulator, api: httpx.Client) -> None:
        simulator.fault("rate_limit", number="+1 512 555 0142")
        assert (send(api, PHONE).status_code, send(api, OTHER_PHONE).status_code) == (429, 201)

    def test_only_the_provider_it_names(self, simulator: RunningSimulator, api: httpx.Client) -> None:
        simulator.fault("rate_limit", provider="vonage")
        assert send(api).status_code == 201

    def test_only_as_often_as_it_says(self, simulator: RunningSimulator, api: httpx.Client) -> None:
        simulator.fault("rate_limit", count=2)
        assert [send(api).status_code for _ in range(3)] == [429, 429, 201]
        (fault,) = simulator.control.get("/simulator/faults").json()["faults"]
        assert (fault["strikes"], fault["is_spent"]) == (2, True)

    def test_reading_only_when_asked_for(self, simulator: RunningSimulator, api: httpx.Client) -> None:
        simulator.fault("rate_limit")
        assert api.get("/Messages.json").status_code == 200
        simulator.fault("server_error", on="reads")
        assert api.get("/Messages.json").status_code == 503


class TestReceipts:
    def send_with_receipts(self, simulator: RunningSimulator, api: httpx.Client) -> list[str]:
        callback = f"{simulator.receiver.base_url}/status"
        answer = api.post(
            "/Messages.json",
            data={"To": PHONE, "From": LOCAL_PHONE_NUMBER, "Body": "Hola", "StatusCallback": callback},
        )
        assert answer.status_code == 201
        simulator.settle()
        return [each.form["MessageStatus"] for each in simulator.receiver.received]

    def test_lost(self, simulator: RunningSimulator, api: httpx.Client) -> None:
        simulator.fault("lost_receipts")
        assert self.send_with_receipts(simulator, api) == []
        assert simulator.summary()["arrived"] == 1

    def test_late(self, simulator: RunningSimulator, api: httpx.Client) -> None:
        simulator.fault("late_receipts", delay_s=0.3)
        began = time.monotonic()
        assert sorted(self.send_with_receipts(simulator, api)) == ["delivered", "sent"]
        assert time.monotonic() - began >= 0.3

    def test_doubled(self, simulator: RunningSimulator, api: httpx.Client) -> None:
        simulator.fault("doubled_receipts", copies=3)
        assert sorted(self.send_with_receipts(simulator, api)) == ["delivered"] * 3 + ["sent"] * 3

    @pytest.mark.parametrize("code", [30003, 30004, 30005, 30006, 30007, 30008])
    def test_a_carrier_error_keeps_it_from_the_phone(
        self, simulator: RunningSimulator, api: httpx.Client, code: int
    ) -> None:
        simulator.fault("carrier_error", error_code=code)
        assert sorted(self.send_with_receipts(simulator, api)) == ["sent", "undelivered"]
        reported = {each.form["MessageStatus"]: each.form.get("ErrorCode") for each in simulator.receiver.received}
        assert reported == {"sent": None, "undelivered": str(code)}
        summary = simulator.summary()
        assert (summary["accepted"], summary["arrived"], summary["failed"]) == (1, 0, 1)
        assert simulator.control.get(f"/simulator/phones/{PHONE}").status_code == 404
        (message,) = api.get("/Messages.json").json()["messages"]
        assert (message["status"], message["error_code"]) == ("undelivered", code)


def _raw_answer(simulator: RunningSimulator) -> bytes:
    """Send one message over a bare socket and return every byte that comes back before the end."""
    body = f"To=%2B{PHONE[1:]}&From=%2B{LOCAL_PHONE_NUMBER[1:]}&Body=Hola".encode()
    auth = httpx.BasicAuth(LOCAL_ACCOUNT_SID, AUTH_TOKEN)._auth_header
    head = (
        f"POST /2010-04-01/Accounts/{LOCAL_ACCOUNT_SID}/Messages.json HTTP/1.1\r\nHost: simulator\r\n"
        f"Authorization: {auth}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    url = httpx.URL(simulator.url)
    with socket.create_connection((url.host, url.port or 80), timeout=10) as connection:
        connection.sendall(head.encode() + body)
        answer = b""
        try:
            while chunk := connection.recv(65536):
                answer += chunk
        except ConnectionResetError:
            pass
    return answer
