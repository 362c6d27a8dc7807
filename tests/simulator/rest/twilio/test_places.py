"""Where texts are handed in, as the unmodified SDK reads it from the simulator over real HTTP."""

from collections.abc import Iterator

import pytest
from twilio.base.exceptions import TwilioRestException
from twilio.http.http_client import TwilioHttpClient
from twilio.rest import Client

import requests
from sms_foundation.core.config import LOCAL_ACCOUNT_SID, LOCAL_PHONE_NUMBER
from sms_foundation.simulator.app import build_app
from tests.simulator.servers import AUTH_TOKEN, SwitchingServer, settings_for

SERVICE = "MG" + "1b" * 16
SMS_URL = "https://sms.example.com/webhook/twilio/sms#rc=5&rp=all"


@pytest.fixture
def client(switching_server: SwitchingServer) -> Iterator[Client]:
    """The SDK, with an account whose number and Messaging Service lead to a service of ours."""
    settings = settings_for(
        "https://sms.example.com",
        sms_path="/webhook/twilio/sms#rc=5&rp=all",
        fallback_url="https://other.example.com/fallback",
        messaging_service_sid=SERVICE,
    )
    with switching_server.running(build_app(settings)) as url, requests.Session() as session:
        http_client = TwilioHttpClient()
        http_client.session = session
        client = Client(LOCAL_ACCOUNT_SID, AUTH_TOKEN, http_client=http_client)
        client.api.base_url = client.messaging.base_url = url
        yield client


class TestNumbers:
    def test_the_account_has_its_number_with_its_webhooks(self, client: Client) -> None:
        (number,) = client.incoming_phone_numbers.list()

        assert (number.phone_number, number.sms_url, number.sms_method) == (LOCAL_PHONE_NUMBER, SMS_URL, "POST")
        assert number.sms_fallback_url == "https://other.example.com/fallback"
        assert str(number.sid).startswith("PN")

    @pytest.mark.parametrize(
        ("wanted", "is_there"),
        [
            (LOCAL_PHONE_NUMBER, True),
            ("5005550006", True),
            ("500******6", True),
            ("+14155550123", False),
            ("9" * 20, False),
        ],
    )
    def test_a_filter_is_the_number_or_a_part_of_it(self, client: Client, wanted: str, is_there: bool) -> None:
        assert bool(client.incoming_phone_numbers.list(phone_number=wanted)) is is_there


class TestService:
    def test_it_tells_its_webhooks(self, client: Client) -> None:
        service = client.messaging.v1.services(SERVICE).fetch()

        assert (service.sid, service.inbound_request_url, service.inbound_method) == (SERVICE, SMS_URL, "POST")
        assert service.status_callback == "https://sms.example.com/webhook/twilio/status"
        assert service.use_inbound_webhook_on_number is False

    def test_another_is_not_found(self, client: Client) -> None:
        with pytest.raises(TwilioRestException) as error:
            client.messaging.v1.services("MG" + "00" * 16).fetch()
        assert (error.value.status, error.value.code) == (404, 20404)
