"""The service's own adapters against the simulator over real HTTP: what one says, the other understands."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import orjson
import pytest

from sms_foundation.core import local_accounts as local
from sms_foundation.core.clock import utc_now
from sms_foundation.core.config import LOCAL_ACCOUNT_SID, LOCAL_PHONE_NUMBER
from sms_foundation.core.http import HttpClient, create_http_client
from sms_foundation.providers.base import MessageStatus, OutboundSms, Provider, SentQuery, StatusReport, WebhookRequest
from sms_foundation.providers.errors import ErrorKind, NotAuthenticError, ProviderError
from sms_foundation.providers.messagebird.adapter import MessageBirdConfig, MessageBirdProvider
from sms_foundation.providers.telnyx.adapter import TelnyxConfig, TelnyxProvider
from sms_foundation.providers.twilio.adapter import TwilioConfig, TwilioProvider
from sms_foundation.providers.vonage.adapter import VonageConfig, VonageProvider
from tests.loopback import LoopbackServer, Received, reply
from tests.simulator.rest.running import RunningSimulator, StartSimulator
from tests.simulator.servers import AUTH_TOKEN

PHONE = "+15125550142"
BODY = "Hola, ¿ya hay agua? €5"

Maker = Callable[[str, HttpClient, str], Provider]


def make_twilio(url: str, http: HttpClient, base_url: str) -> Provider:
    config = TwilioConfig(
        name="twilio",
        account_sid=LOCAL_ACCOUNT_SID,
        auth_token=AUTH_TOKEN,
        api_base_url=url,  # type: ignore[arg-type]
    )
    return TwilioProvider(config, http, base_urls=[base_url])


def make_messagebird(url: str, http: HttpClient, base_url: str) -> Provider:
    config = MessageBirdConfig(
        name="messagebird",
        access_key=local.LOCAL_MESSAGEBIRD_ACCESS_KEY,  # type: ignore[arg-type]
        signing_key=local.LOCAL_MESSAGEBIRD_SIGNING_KEY,  # type: ignore[arg-type]
        api_base_url=f"{url}/messagebird",
    )
    return MessageBirdProvider(config, http, base_urls=[base_url])


def make_vonage(url: str, http: HttpClient, base_url: str) -> Provider:
    config = VonageConfig(
        name="vonage",
        api_key=local.LOCAL_VONAGE_API_KEY,
        api_secret=local.LOCAL_VONAGE_API_SECRET,  # type: ignore[arg-type]
        signature_secret=local.LOCAL_VONAGE_SIGNATURE_SECRET,  # type: ignore[arg-type]
        signature_method=local.LOCAL_VONAGE_SIGNATURE_METHOD,  # type: ignore[arg-type]
        api_base_url=f"{url}/vonage",
    )
    return VonageProvider(config, http, base_urls=[base_url])


def make_telnyx(url: str, http: HttpClient, base_url: str) -> Provider:
    config = TelnyxConfig(
        name="telnyx",
        api_key=local.LOCAL_TELNYX_API_KEY,  # type: ignore[arg-type]
        public_key=local.LOCAL_TELNYX_PUBLIC_KEY,
        api_base_url=f"{url}/telnyx",
    )
    return TelnyxProvider(config, http, base_urls=[base_url])


MAKERS = {"twilio": make_twilio, "messagebird": make_messagebird, "vonage": make_vonage, "telnyx": make_telnyx}
all_providers = pytest.mark.parametrize("name", MAKERS)


async def take(_: Received) -> bytes:
    return reply(200)


@asynccontextmanager
async def service_with(name: str, simulator: RunningSimulator) -> AsyncIterator[tuple[Provider, LoopbackServer]]:
    """An adapter, and the address it names for receipts."""

    async with LoopbackServer(take) as server:
        provider = MAKERS[name](simulator.url, create_http_client(), server.base_url)
        try:
            yield provider, server
        finally:
            await provider.aclose()


def sms(**changes: Any) -> OutboundSms:
    return OutboundSms(
        **{"reference": "r1.a", "recipient": PHONE, "sender": LOCAL_PHONE_NUMBER, "body": BODY, **changes}
    )


def as_webhook(request: Received) -> WebhookRequest:
    headers = {key.encode(): value.encode("latin-1") for key, value in request.headers.items()}
    return WebhookRequest(request.method, request.target, headers, request.body)


async def settle(simulator: RunningSimulator) -> None:
    await asyncio.to_thread(simulator.settle)


def _text(simulator: RunningSimulator, request: dict[str, object]) -> dict[str, Any]:
    return dict(simulator.control.post("/simulator/texts", json=request).json())


class TestSend:
    @all_providers
    async def test_it_reaches_the_phone_under_the_id_that_was_told(
        self, simulator: RunningSimulator, name: str
    ) -> None:
        async with service_with(name, simulator) as (provider, _):
            receipt = await provider.send(sms())
            await settle(simulator)
        (row,) = simulator.received()
        assert (row["provider"], row["provider_message_id"]) == (name, receipt.provider_message_id)
        assert (row["recipient"], row["sender"], row["body"]) == (PHONE, LOCAL_PHONE_NUMBER, BODY)
        assert row["reference"] == "r1.a"
        (text,) = simulator.control.get(f"/simulator/phones/{PHONE}").json()["received"]
        assert text["body"] == BODY

    @all_providers
    async def test_its_receipts_are_genuine_and_carry_the_reference(
        self, simulator: RunningSimulator, name: str
    ) -> None:
        async with service_with(name, simulator) as (provider, server):
            receipt = await provider.send(sms())
            await settle(simulator)
            reports = [provider.read_status(as_webhook(request)) for request in server.received]
        assert {report.provider_message_id for report in reports} == {receipt.provider_message_id}
        assert {report.reference for report in reports} == {"r1.a"}
        assert {report.status for report in reports} == {MessageStatus.SENT, MessageStatus.DELIVERED}

    @all_providers
    async def test_a_receipt_that_was_tampered_with_is_not_genuine(
        self, simulator: RunningSimulator, name: str
    ) -> None:
        async with service_with(name, simulator) as (provider, server):
            await provider.send(sms())
            await settle(simulator)
            request = server.received[0]
            forged = Received(request.method, request.target + "&a=b", request.headers, request.body + b"&a=b")
            with pytest.raises(NotAuthenticError):
                provider.read_status(as_webhook(forged))

    @all_providers
    async def test_a_carrier_error_is_reported_with_a_code(self, simulator: RunningSimulator, name: str) -> None:
        simulator.fault("carrier_error", error_code=30007)
        async with service_with(name, simulator) as (provider, server):
            await provider.send(sms())
            await settle(simulator)
            reports = [provider.read_status(as_webhook(request)) for request in server.received]
        (failed,) = [report for report in reports if report.status is MessageStatus.UNDELIVERED]
        assert failed.error_code

    async def test_vonage_reports_every_part_of_a_long_text(self, simulator: RunningSimulator) -> None:
        async with service_with("vonage", simulator) as (provider, server):
            receipt = await provider.send(sms(body="a" * 161))
            await settle(simulator)
            reports = [provider.read_status(as_webhook(request)) for request in server.received]
        assert receipt.num_segments == 2
        ids = {report.provider_message_id for report in reports}
        assert ids == {receipt.provider_message_id, f"{receipt.provider_message_id}-2"}


class TestInbound:
    @pytest.mark.parametrize("name", ["messagebird", "vonage", "telnyx"])
    async def test_a_phones_text_is_genuine_and_says_what_was_said(self, start: StartSimulator, name: str) -> None:
        async with LoopbackServer(take) as service:
            with start(service.base_url) as simulator:
                request = {"from": PHONE, "body": BODY, "provider": name, "copies": 2}
                outcome = await asyncio.to_thread(_text, simulator, request)
                phone = simulator.control.get(f"/simulator/phones/{PHONE}").json()
            provider = MAKERS[name](simulator.url, create_http_client(), service.base_url)
            texts = [provider.read_inbound(as_webhook(each)) for each in service.received]
            await provider.aclose()
        assert outcome["is_delivered"]
        assert len(texts) == 2
        for text in texts:
            assert (text.sender, text.recipient, text.body) == (PHONE, LOCAL_PHONE_NUMBER, BODY)
            assert text.provider_message_id == outcome["message_sid"]
        assert {each.target for each in service.received} == {f"/webhook/{name}/sms"}
        assert [text["body"] for text in phone["sent"]] == [BODY]

    async def test_messagebird_lists_what_came_in(self, simulator: RunningSimulator) -> None:
        since = utc_now() - timedelta(seconds=2)
        await asyncio.to_thread(_text, simulator, {"from": PHONE, "body": "Hola", "provider": "messagebird"})
        async with service_with("messagebird", simulator) as (provider, _):
            await provider.send(sms())
            found = [each async for each in provider.list_inbound(since, utc_now() + timedelta(seconds=2))]
        assert [(each.sender, each.body) for each in found] == [(PHONE, "Hola")]

    @pytest.mark.parametrize("extra", [{"message_sid": "SM" + "0a" * 16}, {"media": ["https://m.example/a.png"]}])
    def test_what_only_twilio_has_is_refused(self, simulator: RunningSimulator, extra: dict[str, object]) -> None:
        request = {"from": PHONE, "body": "Hola", "provider": "vonage", **extra}
        assert simulator.control.post("/simulator/texts", json=request).status_code == 400


class TestRefusals:
    @pytest.mark.parametrize(
        ("fault", "kind"),
        [
            ({"kind": "rate_limit"}, ErrorKind.RATE_LIMITED),
            ({"kind": "account_suspended"}, ErrorKind.ACCOUNT),
            ({"kind": "server_error"}, ErrorKind.UNKNOWN_OUTCOME),
            ({"kind": "html"}, ErrorKind.UNKNOWN_OUTCOME),
            ({"kind": "truncated"}, ErrorKind.UNKNOWN_OUTCOME),
            ({"kind": "drop_after"}, ErrorKind.UNKNOWN_OUTCOME),
            ({"kind": "hang_before", "hold_s": 0.05}, ErrorKind.UNKNOWN_OUTCOME),
        ],
    )
    @all_providers
    async def test_the_adapter_understands_each_fault(
        self, simulator: RunningSimulator, name: str, fault: dict[str, object], kind: ErrorKind
    ) -> None:
        simulator.fault(**fault)  # type: ignore[arg-type]
        async with service_with(name, simulator) as (provider, _):
            with pytest.raises(ProviderError) as refused:
                await provider.send(sms())
        assert refused.value.kind is kind

    @pytest.mark.parametrize("name", ["twilio", "telnyx"])
    async def test_who_texted_stop_gets_nothing(self, simulator: RunningSimulator, name: str) -> None:
        simulator.control.post("/simulator/texts", json={"from": PHONE, "body": "STOP"})
        async with service_with(name, simulator) as (provider, _):
            with pytest.raises(ProviderError) as refused:
                await provider.send(sms())
        assert refused.value.kind is ErrorKind.OPTED_OUT

    @all_providers
    async def test_an_impossible_recipient_is_permanent(self, simulator: RunningSimulator, name: str) -> None:
        async with service_with(name, simulator) as (provider, _):
            with pytest.raises(ProviderError) as refused:
                await provider.send(sms(recipient="nobody at all"))
        assert refused.value.kind in (ErrorKind.INVALID_RECIPIENT, ErrorKind.INVALID_REQUEST)
        assert simulator.summary()["accepted"] == 0


class TestLookUp:
    @pytest.mark.parametrize("name", ["twilio", "messagebird"])
    async def test_what_was_accepted_without_an_answer_is_found(self, simulator: RunningSimulator, name: str) -> None:
        simulator.fault("drop_after", count=1)
        simulator.fault("drop_before", count=1)
        query = SentQuery(
            reference="r1.a", recipient=PHONE, sender=LOCAL_PHONE_NUMBER, body=BODY, attempted_at=utc_now()
        )
        other = SentQuery(
            reference="r2.a", recipient="+15125550143", sender=LOCAL_PHONE_NUMBER, body=BODY, attempted_at=utc_now()
        )
        async with service_with(name, simulator) as (provider, _):
            for each in (query, other):
                with pytest.raises(ProviderError):
                    await provider.send(sms(reference=each.reference, recipient=each.recipient))
            (found,) = await provider.find_sent(query)
            assert await provider.find_sent(other) == []
        (row,) = simulator.received()
        assert found.provider_message_id == row["provider_message_id"]

    @pytest.mark.parametrize("name", ["twilio", "messagebird", "telnyx"])
    async def test_a_status_can_be_asked_for(self, simulator: RunningSimulator, name: str) -> None:
        async with service_with(name, simulator) as (provider, _):
            receipt = await provider.send(sms())
            await settle(simulator)
            report = await provider.fetch_status(receipt.provider_message_id)
            assert isinstance(report, StatusReport)
            assert report.status is MessageStatus.DELIVERED
            with pytest.raises(ProviderError):
                await provider.fetch_status(receipt.provider_message_id[:-4] + "0000")

    async def test_twilio_lists_what_came_in(self, simulator: RunningSimulator) -> None:
        since = utc_now() - timedelta(seconds=2)
        simulator.control.post("/simulator/texts", json={"from": PHONE, "body": "Hola"})
        async with service_with("twilio", simulator) as (provider, _):
            await provider.send(sms())
            found = [each async for each in provider.list_inbound(since, utc_now() + timedelta(seconds=2))]
        assert [(each.sender, each.body) for each in found] == [(PHONE, "Hola")]

    async def test_twilio_forgets_a_redacted_body(self, simulator: RunningSimulator) -> None:
        async with service_with("twilio", simulator) as (provider, _):
            receipt = await provider.send(sms())
            await settle(simulator)
            assert await provider.redact(receipt.provider_message_id) is True
            assert await provider.redact(receipt.provider_message_id) is True

    async def test_twilio_forgets_the_media_of_a_redacted_message(self, simulator: RunningSimulator) -> None:
        async with service_with("twilio", simulator) as (provider, _):
            receipt = await provider.send(
                sms(media_urls=("https://media.example/1.jpg", "https://media.example/2.jpg"))
            )
            await settle(simulator)
            assert await provider.redact(receipt.provider_message_id) is True
            status = await provider.fetch_status(receipt.provider_message_id)
        assert status is not None
        assert orjson.loads(status.raw)["num_media"] == "0"
        assert simulator.received()[0]["body"] == BODY
