"""Where Twilio hands texts in is asked of it, and compared with PUBLIC_BASE_URL. Twilio is real HTTP on loopback."""

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import orjson
import pytest

from sms_foundation.core.config import LOCAL_ACCOUNT_SID
from sms_foundation.core.db import Database
from sms_foundation.doctor.context import Context
from sms_foundation.doctor.findings import Report, Severity
from sms_foundation.doctor.limits import Limits
from sms_foundation.doctor.reading import Reader
from sms_foundation.doctor.webhooks import WebhooksUnaskedError, check_webhooks
from sms_foundation.providers.configured import simulated_providers
from sms_foundation.providers.registry import AnyProviderConfig
from sms_foundation.providers.twilio.adapter import TwilioConfig
from sms_foundation.providers.twilio.webhook_settings import messaging_base
from sms_foundation.simulator.app import build_app
from sms_foundation.simulator.settings import SimulatorSettings
from tests.doctor.examined import SENDER, Examined
from tests.loopback import LoopbackServer, Received, reply
from tests.support.http_server import serving
from tests.support.service import BASE_URL, make_settings

OURS = f"{BASE_URL}/webhook/twilio/sms#rc=5&rp=all"
SERVICE = "MG" + "1b" * 16
FALLBACK = "https://other.example.com/webhook/twilio/sms"


class Twilio:
    """An account with one number and one Messaging Service, both as they should be."""

    def __init__(self) -> None:
        self.number: dict[str, Any] = {
            "sid": "PN1",
            "phone_number": SENDER,
            "sms_url": OURS,
            "sms_method": "POST",
            "sms_fallback_url": FALLBACK,
            "sms_application_sid": "",
        }
        self.service: dict[str, Any] = {
            "sid": SERVICE,
            "inbound_request_url": OURS,
            "inbound_method": "POST",
            "fallback_url": FALLBACK,
            "status_callback": None,
            "use_inbound_webhook_on_number": False,
        }
        self.refusal: bytes | None = None

    async def answer(self, request: Received) -> bytes:
        if self.refusal is not None:
            return self.refusal
        parts = urlsplit(request.target)
        if parts.path == f"/v1/Services/{SERVICE}":
            return reply(200, orjson.dumps(self.service))
        assert parts.path == f"/2010-04-01/Accounts/{LOCAL_ACCOUNT_SID}/IncomingPhoneNumbers.json"
        is_it = parse_qs(parts.query)["PhoneNumber"] == [self.number["phone_number"]]
        return reply(200, orjson.dumps({"incoming_phone_numbers": [self.number] if is_it else []}))


@pytest.fixture
def twilio() -> Twilio:
    return Twilio()


@pytest.fixture
async def server(twilio: Twilio) -> AsyncIterator[LoopbackServer]:
    async with LoopbackServer(twilio.answer) as server:
        yield server


def account(url: str, *senders: str, service: str | None = None) -> TwilioConfig:
    values = {"name": "twilio", "account_sid": LOCAL_ACCOUNT_SID, "auth_token": "s3cr3t", "api_base_url": url}
    return TwilioConfig.model_validate({**values, "senders": senders, "messaging_service_sid": service})


async def check(database: Database, *configs: AnyProviderConfig) -> Examined:
    settings = make_settings()
    report = Report()
    context = Context(
        settings=settings,
        configs=configs,
        reader=Reader(database),
        since=None,
        limits=Limits.of(settings),
        report=report,
    )
    report.findings += await check_webhooks(context)
    return Examined(report)


async def test_an_account_that_hands_in_here_has_no_findings(database: Database, server: LoopbackServer) -> None:
    found = await check(database, account(server.base_url, SENDER, service=SERVICE))

    assert (found.names(), found.names(Severity.NOTICE)) == (set(), set())
    assert all(request.headers["authorization"].startswith("Basic ") for request in server.received)


@pytest.mark.parametrize(
    ("field", "value", "name", "severity"),
    [
        ("sms_url", "", "webhook_not_set", "wrong"),
        ("sms_url", "https://old.example.com/webhook/twilio/sms", "webhook_differs", "wrong"),
        ("sms_url", OURS.replace("https:", "http:"), "webhook_differs", "wrong"),
        ("sms_url", OURS.replace("twilio", "twilio-eu"), "webhook_differs", "wrong"),
        ("sms_method", "GET", "webhook_differs", "wrong"),
        ("sms_url", OURS.partition("#")[0], "webhook_without_retries", "notice"),
        ("sms_fallback_url", "", "no_fallback_url", "notice"),
        ("sms_application_sid", "AP1", "webhook_overruled", "notice"),
    ],
)
async def test_what_a_number_says_is_compared(
    database: Database, twilio: Twilio, server: LoopbackServer, field: str, value: str, name: str, severity: str
) -> None:
    twilio.number[field] = value

    found = await check(database, account(server.base_url, SENDER))

    assert found.names() | found.names(Severity.NOTICE) == {name}
    assert (found[name].severity, found[name].examples) == (severity, ("PN1",))


@pytest.mark.parametrize(
    ("field", "value", "name"),
    [
        ("inbound_request_url", None, "webhook_not_set"),
        ("inbound_request_url", "https://old.example.com/sms", "webhook_differs"),
        ("status_callback", "https://old.example.com/status", "status_callback_differs"),
        ("use_inbound_webhook_on_number", True, "webhook_overruled"),
    ],
)
async def test_what_a_messaging_service_says_is_compared(
    database: Database, twilio: Twilio, server: LoopbackServer, field: str, value: object, name: str
) -> None:
    twilio.service[field] = value

    found = await check(database, account(server.base_url, service=SERVICE))

    assert found.names() | found.names(Severity.NOTICE) == {name}
    assert found[name].examples == (SERVICE,)


async def test_numbers_the_account_does_not_have_are_counted_and_not_shown(
    database: Database, server: LoopbackServer
) -> None:
    found = await check(database, account(server.base_url, "+14155550199", "12345"))

    assert (found["senders_not_in_account"].count, found["senders_cannot_be_asked"].count) == (1, 1)
    assert "4155550199" not in repr(found.report.findings)


async def test_credentials_that_are_refused_are_a_finding(
    database: Database, twilio: Twilio, server: LoopbackServer
) -> None:
    twilio.refusal = reply(401, b'{"code": 20003, "message": "Authenticate", "status": 401}')

    assert (await check(database, account(server.base_url, SENDER))).names() == {"provider_refuses_us"}


@pytest.mark.parametrize("answer", [reply(500), reply(200, b"<html>"), reply(429), None])
async def test_a_twilio_that_does_not_answer_could_not_be_asked(
    database: Database, twilio: Twilio, server: LoopbackServer, answer: bytes | None
) -> None:
    twilio.refusal = answer or b""

    with pytest.raises(WebhooksUnaskedError, match="twilio: "):
        await check(database, account(server.base_url, SENDER))


async def test_other_providers_cannot_be_asked_and_it_says_so(database: Database) -> None:
    configs = [each for each in simulated_providers("http://127.0.0.1:9") if each.kind != "twilio"]

    found = await check(database, *configs)

    assert (found["webhooks_cannot_be_asked"].count, found.names()) == (3, set())


async def test_the_simulator_tells_what_twilio_would(database: Database) -> None:
    settings = SimulatorSettings(
        service_url=BASE_URL, sms_path="/webhook/twilio/sms#rc=5&rp=all", messaging_service_sid=SERVICE
    )
    async with serving(build_app(settings)) as simulator:
        (config, *_) = simulated_providers(f"http://127.0.0.1:{simulator.port}")
        assert isinstance(config, TwilioConfig)
        found = await check(database, config.model_copy(update={"messaging_service_sid": SERVICE}))

    assert (found.names(), found.names(Severity.NOTICE)) == (set(), {"no_fallback_url"})
    assert found["no_fallback_url"].count == 2


@pytest.mark.parametrize(
    ("api", "messaging"),
    [
        ("https://api.twilio.com", "https://messaging.twilio.com"),
        ("https://api.dublin.ie1.twilio.com", "https://messaging.dublin.ie1.twilio.com"),
        ("https://api.twilio.com.evil.example", "https://api.twilio.com.evil.example"),
    ],
)
def test_services_are_asked_about_at_the_host_of_their_own_api(api: str, messaging: str) -> None:
    assert messaging_base(api) == messaging
