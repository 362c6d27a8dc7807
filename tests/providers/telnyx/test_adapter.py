import base64
import json
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import ValidationError

from sms_foundation.core.clock import utc_now
from sms_foundation.core.http import HttpClient, create_http_client
from sms_foundation.providers.base import MessageStatus, Price, WebhookRequest
from sms_foundation.providers.errors import ErrorKind, NotAuthenticError
from sms_foundation.providers.telnyx.adapter import TelnyxConfig, TelnyxProvider
from tests.loopback import reply
from tests.providers.contract import (
    JSON,
    QUERY,
    SMS,
    Dialect,
    ProviderContract,
    Refusal,
    always,
    answered,
    error_of,
    opened,
)

PRIVATE_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
BASE = "https://sms.example.com"
ID = "40385f64-5717-4562-b3fc-2c963f66afa6"
STATUS_URL = f"{BASE}/webhook/telnyx/status?ref={SMS.reference}"
MESSAGE = {
    "record_type": "message",
    "direction": "outbound",
    "id": ID,
    "type": "SMS",
    "from": {"phone_number": "+15005550006", "carrier": "TELNYX LLC", "line_type": "VoIP"},
    "to": [{"phone_number": "+14155550123", "status": "queued", "carrier": "T-MOBILE", "line_type": "Wireless"}],
    "text": SMS.body,
    "media": [],
    "webhook_url": STATUS_URL,
    "encoding": "UCS-2",
    "parts": 2,
    "cost": {"amount": "0.0051", "currency": "USD"},
    "errors": [],
}


def public_key(private_key: Ed25519PrivateKey) -> str:
    return base64.b64encode(private_key.public_key().public_bytes_raw()).decode()


def answer(value: object, status: int = 200) -> bytes:
    return reply(status, json.dumps(value).encode(), content_type=JSON)


def error(code: str, status: int, pointer: str = "/") -> bytes:
    found = {"code": code, "title": "No.", "detail": "Never.", "source": {"pointer": pointer}}
    return answer({"errors": [found]}, status)


def open_provider(base_url: str, http: HttpClient, **changes: object) -> TelnyxProvider:
    settings = {
        "name": "telnyx",
        "api_key": "KEY",
        "public_key": public_key(PRIVATE_KEY),
        "api_base_url": base_url,
        **changes,
    }
    return TelnyxProvider(TelnyxConfig.model_validate(settings), http, base_urls=(BASE,))


def webhook(
    path: str, event_type: str, payload: object, *, private_key: Ed25519PrivateKey = PRIVATE_KEY
) -> WebhookRequest:
    event = {"data": {"event_type": event_type, "id": "1", "record_type": "event", "payload": payload}}
    body = json.dumps(event).encode()
    timestamp = str(int(utc_now().timestamp())).encode()
    signature = base64.b64encode(private_key.sign(timestamp + b"|" + body))
    headers = {
        b"content-type": JSON.encode(),
        b"telnyx-timestamp": timestamp,
        b"telnyx-signature-ed25519": signature,
    }
    return WebhookRequest("POST", path, headers, body)


def inbound_webhook(**changes: object) -> WebhookRequest:
    payload = {
        **MESSAGE,
        "direction": "inbound",
        "from": {"phone_number": "+14155550123"},
        "to": [{"phone_number": "+15005550006", "status": "webhook_delivered"}],
        "text": "Hola",
        **changes,
    }
    return webhook("/webhook/telnyx/sms", "message.received", payload)


def status_webhook(word: str = "delivered", path: str = "/webhook/telnyx/status", **changes: object) -> WebhookRequest:
    recipient = {"phone_number": "+14155550123", "status": word}
    return webhook(path, "message.finalized", {**MESSAGE, "to": [recipient], **changes})


class TestContract(ProviderContract):
    dialect = Dialect(
        open=open_provider,
        kind="telnyx",
        accepted=answer({"data": MESSAGE}),
        accepted_id=ID,
        refusals={
            "wrong key": Refusal(error("10009", 401), ErrorKind.ACCOUNT, "10009"),
            "no funds": Refusal(error("20100", 402), ErrorKind.ACCOUNT, "20100"),
            "stopped": Refusal(error("40300", 400), ErrorKind.OPTED_OUT, "40300"),
            "bad recipient": Refusal(error("40310", 422, "/to"), ErrorKind.INVALID_RECIPIENT, "40310"),
            "bad number of recipient": Refusal(error("10002", 422, "/to"), ErrorKind.INVALID_RECIPIENT, "10002"),
            "bad number of sender": Refusal(error("10002", 422, "/from"), ErrorKind.INVALID_SENDER, "10002"),
            "sender not on profile": Refusal(error("40305", 400), ErrorKind.INVALID_SENDER, "40305"),
            "spam": Refusal(error("40322", 400), ErrorKind.CONTENT_REJECTED, "40322"),
            "missing parameter": Refusal(error("10004", 422), ErrorKind.INVALID_REQUEST, "10004"),
            "unknown code": Refusal(error("49999", 422), ErrorKind.INVALID_REQUEST, "49999"),
            "profile disabled": Refusal(error("40312", 403), ErrorKind.ACCOUNT, "40312"),
            "queue full": Refusal(error("40318", 503), ErrorKind.RATE_LIMITED, "40318"),
            "unexpected error": Refusal(error("10007", 500), ErrorKind.UNKNOWN_OUTCOME, "10007"),
        },
        wrong_types=[{"data": value} for value in (None, [], "x", {}, {"id": None}, {"id": [ID]}, {"id": "x" * 200})],
        rate_limited=json.dumps({"errors": [{"code": "10009"}]}).encode(),
        inbound=inbound_webhook,
        status=status_webhook,
        signature_headers=[b"telnyx-timestamp", b"telnyx-signature-ed25519"],
    )


class TestConfig:
    @pytest.mark.parametrize("key", ["", "not base64!", "AAAA", "A" * 44])  # no bytes, none, 3 and 33 of them
    def test_public_key_must_be_one(self, key: str) -> None:
        with pytest.raises(ValidationError, match="Ed25519"):
            TelnyxConfig.model_validate({"name": "telnyx", "api_key": "k", "public_key": key})


class TestSend:
    async def test_says_everything_about_the_message(self) -> None:
        async with answered(TestContract.dialect, always(answer({"data": MESSAGE}))) as (provider, server):
            receipt = await provider.send(replace(SMS, media_urls=("https://example.com/1.png",)))

        [request] = server.received
        assert (request.method, request.target) == ("POST", "/v2/messages")
        assert request.headers["authorization"] == "Bearer KEY"
        assert json.loads(request.body) == {
            "from": "+15005550006",
            "to": "+14155550123",
            "text": SMS.body,
            "media_urls": ["https://example.com/1.png"],
            "webhook_url": STATUS_URL,
        }
        assert (receipt.event_status, receipt.status) == ("queued", MessageStatus.QUEUED)
        assert (receipt.num_segments, receipt.price) == (2, Price(5_100, "USD"))

    async def test_messaging_profile_is_passed_on(self) -> None:
        async with always(answer({"data": MESSAGE})) as server, create_http_client() as http:
            await open_provider(server.base_url, http, messaging_profile_id="p1").send(SMS)

        assert json.loads(server.received[0].body)["messaging_profile_id"] == "p1"

    async def test_price_and_parts_that_are_not_told_are_unknown(self) -> None:
        message = {**MESSAGE, "cost": None, "parts": None}
        async with answered(TestContract.dialect, always(answer({"data": message}))) as (provider, _):
            receipt = await provider.send(SMS)

        assert (receipt.num_segments, receipt.price) == (None, None)


class TestAsking:
    async def test_status_is_read_from_the_message(self) -> None:
        failed = {**MESSAGE, "to": [{"status": "delivery_failed"}], "errors": [{"code": "40001", "title": "No route"}]}
        async with answered(TestContract.dialect, always(answer({"data": failed}))) as (provider, server):
            report = await provider.fetch_status("a/b")

        assert server.targets == ["/v2/messages/a%2Fb"]
        assert report is not None
        assert (report.status, report.error_code, report.error_message) == (
            MessageStatus.UNDELIVERED,
            "40001",
            "No route",
        )
        assert report.reference == SMS.reference

    @pytest.mark.parametrize("data", [None, {}, {"id": ID}, {"to": [{"status": "sent"}]}])
    async def test_answer_without_a_status_is_unavailable(self, data: object) -> None:
        async with answered(TestContract.dialect, always(answer({"data": data}))) as (provider, _):
            assert (await error_of(provider.fetch_status(ID))).kind is ErrorKind.UNAVAILABLE

    async def test_missing_message_is_an_error(self) -> None:
        async with answered(TestContract.dialect, always(error("10005", 404))) as (provider, _):
            failure = await error_of(provider.fetch_status(ID))

        assert (failure.kind, failure.provider_code) == (ErrorKind.INVALID_REQUEST, "10005")

    async def test_nothing_else_can_be_asked(self) -> None:
        async with opened(TestContract.dialect, "http://127.0.0.1:1") as provider:
            assert provider.can_look_up is False
            assert (await error_of(provider.find_sent(QUERY))).kind is ErrorKind.UNAVAILABLE
            assert await provider.redact(ID) is False
            assert provider.can_redact is False
            assert [sms async for sms in provider.list_inbound(utc_now(), utc_now())] == []


class TestWebhooks:
    async def test_reference_is_the_signed_one_not_that_of_the_url(self) -> None:
        async with opened(TestContract.dialect, "http://127.0.0.1:1") as provider:
            report = provider.read_status(status_webhook(path="/webhook/telnyx/status?ref=another"))
            bare = provider.read_status(status_webhook(path="/webhook/telnyx/status?ref=another", webhook_url=None))

        assert report.reference == SMS.reference
        assert bare.reference is None

    async def test_previous_key_is_accepted_during_a_rotation(self) -> None:
        old = Ed25519PrivateKey.from_private_bytes(bytes(32))
        payload = json.loads(inbound_webhook().body)["data"]["payload"]
        request = webhook("/webhook/telnyx/sms", "message.received", payload, private_key=old)
        async with create_http_client() as http:
            rotated = open_provider("http://127.0.0.1:1", http, public_key_previous=public_key(old))

            assert rotated.read_inbound(request).body == "Hola"
            with pytest.raises(NotAuthenticError):
                open_provider("http://127.0.0.1:1", http).read_inbound(request)
