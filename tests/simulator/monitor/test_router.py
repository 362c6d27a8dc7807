from collections.abc import Iterator

import httpx
import pytest

from sms_foundation.simulator.app import build_app
from sms_foundation.simulator.monitor.tenants import make_tenants, spell
from tests.simulator.servers import FakeTime, serve, settings_for


@pytest.fixture
def monitor(fake_time: FakeTime) -> Iterator[httpx.Client]:
    app = build_app(settings_for("http://unused.example"), fake_time.timing)
    with serve(app) as url, httpx.Client(base_url=f"{url}/monitor", trust_env=False, timeout=5) as client:
        yield client


def lookup(monitor: httpx.Client, phone: str) -> httpx.Response:
    return monitor.get("/tenants/lookup", params={"phone": phone})


KNOWN = make_tenants()[0]


class TestLookup:
    def test_the_typed_in_spelling_finds_the_tenant(self, monitor: httpx.Client) -> None:
        answer = lookup(monitor, KNOWN.phone_numbers[0])
        assert answer.status_code == 200
        assert answer.json() == {"tenant_id": KNOWN.tenant_id}

    def test_any_other_spelling_and_any_stranger_is_404_in_the_envelope(self, monitor: httpx.Client) -> None:
        for phone in (spell(KNOWN.texts_from, "digits_only"), "+19995550100", ""):
            answer = lookup(monitor, phone)
            assert answer.status_code == 404
            assert answer.json()["error"]["code"] == "sms.not_found"

    def test_without_a_number_it_is_400(self, monitor: httpx.Client) -> None:
        assert monitor.get("/tenants/lookup").status_code == 400


class TestSetLanguage:
    def test_it_is_remembered_and_a_repetition_changes_nothing(self, monitor: httpx.Client) -> None:
        for _ in range(2):
            answer = monitor.put(f"/tenants/{KNOWN.tenant_id}/language", json={"language": "es"})
            assert answer.status_code == 200
            assert answer.json() == {"tenant_id": KNOWN.tenant_id, "language": "es"}
        profile = monitor.get(f"/tenants/{KNOWN.tenant_id}").json()
        assert (profile["language"], profile["language_updates"]) == ("es", 1)

    @pytest.mark.parametrize("language", ["fr", "ES", "unknown", ""])
    def test_anything_but_the_three_languages_is_422(self, monitor: httpx.Client, language: str) -> None:
        answer = monitor.put(f"/tenants/{KNOWN.tenant_id}/language", json={"language": language})
        assert answer.status_code == 422
        assert answer.json()["error"]["code"] == "monitor.unsupported_language"

    @pytest.mark.parametrize("body", [{"language": None}, {}, [], "es"])
    def test_a_body_of_another_shape_is_400(self, monitor: httpx.Client, body: object) -> None:
        answer = monitor.put(f"/tenants/{KNOWN.tenant_id}/language", json=body)
        assert answer.status_code == 400
        assert answer.json()["error"]["code"] == "sms.validation_error"

    def test_an_unknown_tenant_is_404(self, monitor: httpx.Client) -> None:
        assert monitor.put("/tenants/nobody/language", json={"language": "es"}).status_code == 404


class TestTenants:
    def test_the_list_shows_numbers_to_text_from(self, monitor: httpx.Client) -> None:
        page = monitor.get("/tenants", params={"language": "pt", "limit": 5}).json()
        assert len(page["tenants"]) == 5
        assert page["total"] == 300
        assert all(each["texts_in"] == "pt" and each["texts_from"].startswith("+") for each in page["tenants"])

    def test_one_added_at_run_time_is_found_from_then_on(self, monitor: httpx.Client) -> None:
        new = {"tenant_id": "t-new", "phone_numbers": ["(512) 555-0199"], "name": "Ada"}
        assert lookup(monitor, "(512) 555-0199").status_code == 404
        assert monitor.post("/tenants", json=new).status_code == 201
        assert lookup(monitor, "(512) 555-0199").json() == {"tenant_id": "t-new"}
        conflict = monitor.post("/tenants", json=new)
        assert (conflict.status_code, conflict.json()["error"]["code"]) == (409, "simulator.conflict")


class TestKey:
    def test_a_configured_key_must_be_sent(self) -> None:
        app = build_app(settings_for("http://unused.example", monitor_api_key="made-up-key"))
        with serve(app) as url, httpx.Client(base_url=f"{url}/monitor", trust_env=False) as client:
            refused = lookup(client, KNOWN.phone_numbers[0])
            assert (refused.status_code, refused.json()["error"]["code"]) == (401, "sms.unauthorized")
            assert client.get("/tenants", headers={"Authorization": "Bearer wrong"}).status_code == 401
            client.headers["Authorization"] = "Bearer made-up-key"
            assert lookup(client, KNOWN.phone_numbers[0]).status_code == 200


class TestFaults:
    def test_latency_is_waited_before_every_answer(self, monitor: httpx.Client, fake_time: FakeTime) -> None:
        monitor.post("/faults", json={"latency_ms": 1500})
        assert lookup(monitor, KNOWN.phone_numbers[0]).status_code == 200
        assert fake_time.slept == [1.5]

    def test_a_share_of_requests_fails_with_the_status(self, monitor: httpx.Client) -> None:
        monitor.post("/faults", json={"share": 0.5, "status": 500})
        assert [lookup(monitor, KNOWN.phone_numbers[0]).status_code for _ in range(4)] == [500, 200, 500, 200]
        counted = monitor.get("/faults").json()
        assert (counted["requests"], counted["failures"]) == (4, 2)

    def test_429_says_when_to_come_back(self, monitor: httpx.Client) -> None:
        monitor.post("/faults", json={"share": 1, "status": 429, "retry_after_s": 7, "remaining": 1})
        answer = monitor.put(f"/tenants/{KNOWN.tenant_id}/language", json={"language": "es"})
        assert (answer.status_code, answer.headers["Retry-After"]) == (429, "7")
        assert monitor.put(f"/tenants/{KNOWN.tenant_id}/language", json={"language": "es"}).status_code == 200

    def test_a_failed_update_is_not_remembered(self, monitor: httpx.Client) -> None:
        monitor.post("/faults", json={"share": 1})
        monitor.put(f"/tenants/{KNOWN.tenant_id}/language", json={"language": "pt"})
        assert monitor.get(f"/tenants/{KNOWN.tenant_id}").json()["language_updates"] == 0

    def test_hang_malformed_and_empty(self, monitor: httpx.Client, fake_time: FakeTime) -> None:
        monitor.post("/faults", json={"share": 1, "kind": "hang", "hang_s": 40})
        assert lookup(monitor, "x").status_code == 504
        assert fake_time.slept == [40]
        monitor.post("/faults", json={"share": 1, "kind": "malformed_json"})
        malformed = lookup(monitor, "x")
        assert malformed.status_code == 200
        with pytest.raises(ValueError, match="Unterminated"):
            malformed.json()
        monitor.post("/faults", json={"share": 1, "kind": "empty"})
        empty = lookup(monitor, "x")
        assert (empty.status_code, empty.content) == (204, b"")

    def test_an_empty_plan_ends_it(self, monitor: httpx.Client) -> None:
        monitor.post("/faults", json={"share": 1})
        monitor.post("/faults", json={})
        assert lookup(monitor, KNOWN.phone_numbers[0]).status_code == 200

    @pytest.mark.parametrize("plan", [{"share": 2}, {"status": 200}, {"kind": "sulk"}, {"latency": 5}])
    def test_a_plan_that_makes_no_sense_is_refused(self, monitor: httpx.Client, plan: dict[str, object]) -> None:
        assert monitor.post("/faults", json=plan).status_code == 400
