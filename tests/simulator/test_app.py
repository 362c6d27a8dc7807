import json
import time
from collections.abc import Iterator

import httpx
import pytest
from starlette.responses import Response

from sms_foundation.simulator.app import build_app
from tests.simulator.servers import FakeTime, Receiver, serve, settings_for

SID = "SM" + "0a" * 16


@pytest.fixture
def control(receiver: Receiver, fake_time: FakeTime) -> Iterator[httpx.Client]:
    app = build_app(settings_for(receiver.base_url), fake_time.timing)
    with serve(app) as url, httpx.Client(base_url=url, trust_env=False, timeout=10) as client:
        yield client


class TestTexts:
    def test_it_reaches_the_service_and_the_record_comes_back(self, control: httpx.Client, receiver: Receiver) -> None:
        answer = control.post("/simulator/texts", json={"from": "+15125550142", "body": "Hola, no hay agua"})
        assert answer.status_code == 200
        outcome = answer.json()
        (delivery,) = outcome["deliveries"]
        assert outcome["is_delivered"] is True
        assert outcome["message_sid"] == receiver.received[0].form["MessageSid"]
        assert (delivery["status_code"], delivery["error_code"], len(delivery["attempts"])) == (200, None, 1)

    def test_a_refusal_is_told_with_twilios_code(self, control: httpx.Client, receiver: Receiver) -> None:
        receiver.answers.append(Response("{}", media_type="application/json"))
        outcome = control.post("/simulator/texts", json={"from": "+15125550142"}).json()
        assert outcome["is_delivered"] is False
        assert outcome["deliveries"][0]["error_code"] == 12300

    def test_everything_can_be_said(self, control: httpx.Client, receiver: Receiver) -> None:
        request = {
            "from": "24273", "to": "+15005550009", "body": "STOP\x00", "media": ["https://m.example/a.gif"],
            "message_sid": SID, "copies": 3, "parameters": {"OptOutType": "STOP"},
        }  # fmt: skip
        assert control.post("/simulator/texts", json=request).json()["is_delivered"]
        assert len(receiver.received) == 3
        form = receiver.received[0].form
        assert (form["From"], form["To"], form["MessageSid"]) == ("24273", "+15005550009", SID)
        assert (form["Body"], form["OptOutType"], form["MediaContentType0"]) == ("STOP\x00", "STOP", "image/gif")

    @pytest.mark.parametrize(
        ("body", "status"),
        [
            (b'{"from": "nobody at all", "body": ""}', 400),
            (b'{"body": "Hola"}', 400),
            (b'{"from": "+15125550142", "body": "' + b"a" * 1601 + b'"}', 400),
            (b'{"from": "+15125550142", "text": "Hola"}', 400),
            (b'{"from": "+15125550142", "body": "\\ud800"}', 400),
            (b'{"from": "+15125550142", "copies": 0}', 400),
            (b'{"from": "+15125550142", "message_sid": "SM1"}', 400),
            (b"{", 422),
            (b"\xff", 422),
        ],
    )
    def test_bad_input_is_told_in_the_envelope_and_nothing_is_sent(
        self, control: httpx.Client, receiver: Receiver, body: bytes, status: int
    ) -> None:
        answer = control.post(
            "/simulator/texts", content=body, headers={"Content-Type": "application/json", "X-Request-ID": "r-1"}
        )
        assert answer.status_code == status
        error = answer.json()["error"]
        assert set(error) <= {"code", "message", "details", "timestamp", "request_id"}
        assert error["request_id"] == answer.headers["X-Request-ID"] == "r-1"
        assert error["message"]
        assert receiver.received == []

    def test_the_input_is_not_repeated_in_the_error(self, control: httpx.Client) -> None:
        answer = control.post("/simulator/texts", json={"from": "+15125550142", "body": ["a secret"]})
        assert "secret" not in answer.text


class TestStatuses:
    def test_they_are_delivered_in_order(self, control: httpx.Client, receiver: Receiver) -> None:
        request = {"message_sid": SID, "statuses": ["delivered", "sent"], "order": "documented", "to": "+15125550142"}
        assert control.post("/simulator/statuses", json=request).json()["is_delivered"]
        assert [each.form["MessageStatus"] for each in receiver.received] == ["sent", "delivered"]
        assert receiver.received[0].form["To"] == "+15125550142"

    def test_a_status_twilio_does_not_have_is_400_and_named(self, control: httpx.Client) -> None:
        answer = control.post("/simulator/statuses", json={"message_sid": SID, "statuses": ["teleported"]})
        assert answer.status_code == 400
        assert "delivered" in answer.json()["error"]["details"]["statuses"]


class TestRecord:
    def test_deliveries_are_listed_newest_first_and_filtered(self, control: httpx.Client, receiver: Receiver) -> None:
        receiver.answers.append(Response(status_code=503))
        control.post("/simulator/texts", json={"from": "+15125550142"})
        control.post("/simulator/statuses", json={"message_sid": SID, "statuses": ["sent"]})
        kinds = [each["kind"] for each in control.get("/simulator/deliveries").json()["deliveries"]]
        assert kinds == ["status", "text"]
        (failed,) = control.get("/simulator/deliveries?is_delivered=false").json()["deliveries"]
        assert failed["attempts"][0]["status_code"] == 503
        (by_number,) = control.get("/simulator/deliveries?number=+15125550142").json()["deliveries"]
        assert by_number == failed
        (by_sid,) = control.get(f"/simulator/deliveries?message_sid={SID}").json()["deliveries"]
        assert by_sid["message_status"] == "sent"

    def test_a_phone_remembers_what_it_sent(self, control: httpx.Client) -> None:
        assert control.get("/simulator/phones/+15125550142").status_code == 404
        control.post("/simulator/texts", json={"from": "+15125550142", "body": "Hola"})
        for spelling in ("+15125550142", "%2B1%20512-555-0142"):
            phone = control.get(f"/simulator/phones/{spelling}").json()
            assert phone["number"] == "+15125550142"
            assert [text["body"] for text in phone["sent"]] == ["Hola"]


class TestCrowd:
    def test_it_runs_in_the_background_and_shows_its_progress(self, control: httpx.Client, receiver: Receiver) -> None:
        assert control.get("/simulator/crowd").status_code == 404
        request = {"count": 20, "rate_per_s": 1000, "seed": 4, "mix": {"es": 1}}
        assert control.post("/simulator/crowd", json=request).status_code == 202
        run = _finished_run(control)
        assert (run["state"], run["delivered"], run["by_language"]) == ("finished", 20, {"es": 20})
        assert run["latency_ms"]["p50"] is not None
        assert len(receiver.received) == 20

    def test_it_can_be_stopped(self, control: httpx.Client) -> None:
        control.post("/simulator/crowd", json={"count": 100_000, "rate_per_s": 1000})
        assert control.post("/simulator/crowd", json={"count": 1}).status_code == 409
        assert control.delete("/simulator/crowd").json()["state"] == "stopped"

    @pytest.mark.parametrize("crowd", [{"count": 0}, {"count": 100_001}, {"rate_per_s": 0}, {"mix": {"fr": 1}}])
    def test_it_is_bounded(self, control: httpx.Client, crowd: dict[str, object]) -> None:
        assert control.post("/simulator/crowd", json=crowd).status_code == 400

    def test_a_mix_without_weight_is_400(self, control: httpx.Client) -> None:
        assert control.post("/simulator/crowd", json={"mix": {"en": 0}}).status_code == 400


class TestPages:
    def test_the_first_page_explains_itself(self, control: httpx.Client, receiver: Receiver) -> None:
        page = control.get("/")
        assert page.headers["content-type"].startswith("text/plain")
        assert f"{receiver.base_url}/webhook/twilio/sms" in page.text
        assert "made-up-token" not in page.text

    def test_unknown_paths_and_methods_answer_in_the_envelope(self, control: httpx.Client) -> None:
        assert control.get("/nowhere").json()["error"]["code"] == "sms.not_found"
        refused = control.get("/simulator/texts")
        assert (refused.status_code, refused.json()["error"]["code"]) == (405, "sms.method_not_allowed")

    def test_every_route_is_documented(self, control: httpx.Client) -> None:
        document = control.get("/openapi.json").json()
        operations = [each for path in document["paths"].values() for each in path.values()]
        assert len(operations) == 21
        assert all(each["summary"] and each["tags"] for each in operations)
        assert "made-up-token" not in json.dumps(document)


def _finished_run(control: httpx.Client) -> dict[str, object]:
    while (run := control.get("/simulator/crowd").json())["state"] == "running":
        time.sleep(0.005)
    return dict(run)
