"""Rate, errors and duration of every route, each under its template and nothing under a path."""

import re

import pytest
from prometheus_client import REGISTRY

from sms_foundation.access_rules import RULES
from sms_foundation.core.ids import new_id
from tests.support.service import SMS_PATH, STATUS_PATH, TENANT_PHONE, Service, encode_form

WEBHOOKS = [("POST", SMS_PATH), ("POST", STATUS_PATH)]
VALUES = {"phone_number": TENANT_PHONE, "prefix": "+1", "name": "nobody", "client_id": "nobody"}


def target(template: str) -> str:
    """A path of this template; whatever it names does not exist."""
    return re.sub(r"\{(\w+)\}", lambda match: VALUES.get(match[1], str(new_id())), template)


def counted(metric: str, route: str, **labels: str) -> dict[str, float]:
    """Values of a route by status ("" where that is no label), over the labels that are left."""
    found: dict[str, float] = {}
    for family in REGISTRY.collect():
        for sample in family.samples:
            if sample.name == metric and labels.items() | {("route", route)} <= sample.labels.items():
                status = sample.labels.get("status", "")
                found[status] = found.get(status, 0.0) + sample.value
    return found


async def assert_counted(service: Service, method: str, path: str, *, route: str, as_method: str, body: bytes) -> None:
    """Call `path` and see that exactly this route's request, status and duration were counted."""
    before = counted("sms_http_requests_total", route, method=as_method)
    seconds = counted("sms_http_request_seconds_count", route)

    answer = await service.client.request(method, path, content=body)

    after = counted("sms_http_requests_total", route, method=as_method)
    assert {key: value - before.get(key, 0.0) for key, value in after.items() if value != before.get(key)} == {
        str(answer.status_code): 1.0
    }
    assert counted("sms_http_request_seconds_count", route)[""] == seconds.get("", 0.0) + 1


class TestEveryRoute:
    async def test_is_counted_under_its_template(self, service: Service) -> None:
        for method, template in sorted(RULES):
            body = b"{}" if method in ("POST", "PUT", "PATCH") else b""
            await assert_counted(service, method, target(template), route=template, as_method=method, body=body)

    @pytest.mark.parametrize(("method", "path"), WEBHOOKS)
    async def test_webhooks_too_and_those_of_other_methods(self, service: Service, method: str, path: str) -> None:
        for each in (method, "DELETE"):
            await assert_counted(service, each, path, route=path, as_method=each, body=b"")

    async def test_webhooks_of_every_provider(self, service: Service) -> None:
        for name in ("messagebird", "vonage", "telnyx"):
            for kind in ("sms", "status"):
                path = f"/webhook/{name}/{kind}"
                await assert_counted(service, "POST", path, route=path, as_method="POST", body=b"{}")

    async def test_what_succeeds_is_counted_with_its_status(self, service: Service) -> None:
        before = counted("sms_http_requests_total", SMS_PATH, method="POST").get("200", 0.0)

        assert (await service.text("SM" + "1" * 32)).status_code == 200

        assert counted("sms_http_requests_total", SMS_PATH, method="POST")["200"] == before + 1


class TestWhatIsNoRoute:
    @pytest.mark.parametrize(
        "path", ["/wp-login.php", f"/x/{TENANT_PHONE}", "/webhook/nobody/sms", "/%F0%9F%98%80", "/a//b"]
    )
    async def test_counts_under_one_label(self, service: Service, path: str) -> None:
        await assert_counted(service, "GET", path, route="unmatched", as_method="GET", body=b"")

    @pytest.mark.parametrize("method", ["PROPFIND", "BREW"])
    async def test_unknown_methods_are_one(self, service: Service, method: str) -> None:
        await assert_counted(
            service, method, SMS_PATH, route=SMS_PATH, as_method="other", body=encode_form([("a", "b")])
        )
