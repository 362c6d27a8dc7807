import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl, urlencode

import pytest

from sms_foundation.core.clock import utc_now
from sms_foundation.core.http import HttpClient, create_http_client
from sms_foundation.providers.base import MessageStatus, Price, WebhookRequest
from sms_foundation.providers.errors import ErrorKind, NotAuthenticError
from sms_foundation.providers.vonage.adapter import VonageConfig, VonageProvider
from sms_foundation.providers.vonage.signature import sign
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

SECRET = "the-signature-secret"
BASE = "https://sms.example.com"
ID = "0A0000000123ABCD1"
FORM = "application/x-www-form-urlencoded"


def answer(*parts: object) -> bytes:
    body = {"message-count": str(len(parts)), "messages": parts}
    return reply(200, json.dumps(body).encode(), content_type=JSON)


def part(status: str = "0", **changes: object) -> dict[str, object]:
    if status != "0":
        return {"status": status, "error-text": "No.", **changes}
    return {
        "to": "14155550123",
        "message-id": ID,
        "status": "0",
        "remaining-balance": "3.14159265",
        "message-price": "0.03330000",
        "network": "12345",
        **changes,
    }


def refused(status: str, kind: ErrorKind) -> Refusal:
    return Refusal(answer(part(status)), kind, status)


def open_provider(base_url: str, http: HttpClient, **changes: object) -> VonageProvider:
    settings = {
        "name": "vonage",
        "api_key": "abcd1234",
        "api_secret": "secret",
        "signature_secret": SECRET,
        "api_base_url": base_url,
        **changes,
    }
    return VonageProvider(VonageConfig.model_validate(settings), http, base_urls=(BASE,))


def webhook(
    path: str,
    fields: dict[str, str],
    *,
    how: str = "json",
    secret: str = SECRET,
    signed_at: datetime | None = None,
) -> WebhookRequest:
    timestamp = str(int((signed_at or utc_now()).timestamp()))
    pairs = [*fields.items(), ("timestamp", timestamp), ("nonce", "5d0d2a4f")]
    pairs.append(("sig", sign(secret, "sha256", pairs)))
    if how == "get":
        return WebhookRequest("GET", f"{path}?{urlencode(pairs)}", {}, b"")
    body, content_type = (json.dumps(dict(pairs)), JSON) if how == "json" else (urlencode(pairs), FORM)
    return WebhookRequest("POST", path, {b"content-type": content_type.encode()}, body.encode())


TEXT = {"msisdn": "14155550123", "to": "15005550006", "messageId": ID, "text": "Hola", "type": "text"}
REPORT = {
    "msisdn": "14155550123",
    "to": "15005550006",
    "messageId": ID,
    "price": "0.03330000",
    "status": "delivered",
    "err-code": "0",
    "client-ref": SMS.reference,
}


class TestContract(ProviderContract):
    dialect = Dialect(
        open=open_provider,
        kind="vonage",
        accepted=answer(part()),
        accepted_id=ID,
        refusals={
            "throttled": refused("1", ErrorKind.RATE_LIMITED),
            "missing parameter": refused("2", ErrorKind.INVALID_REQUEST),
            "wrong credentials": refused("4", ErrorKind.ACCOUNT),
            "internal error": refused("5", ErrorKind.UNAVAILABLE),
            "number barred": refused("7", ErrorKind.INVALID_RECIPIENT),
            "account barred": refused("8", ErrorKind.ACCOUNT),
            "no credit": refused("9", ErrorKind.ACCOUNT),
            "communication failed": refused("13", ErrorKind.UNAVAILABLE),
            "illegal sender": refused("15", ErrorKind.INVALID_SENDER),
            "undocumented number": refused("77", ErrorKind.INVALID_REQUEST),
            "all parts refused": Refusal(answer(part("7"), part("1")), ErrorKind.INVALID_RECIPIENT, "7"),
            "a part that says nothing": Refusal(answer(part("7"), {}), ErrorKind.UNKNOWN_OUTCOME),
            "http status": Refusal(reply(401), ErrorKind.ACCOUNT),
        },
        wrong_types=[
            {"messages": value}
            for value in (None, [], {}, "0", [1], [[]], [{"status": 0}], [{"status": "0", "message-id": None}])
        ]
        + [{"messages": [{"status": value, "message-id": ID}]} for value in (None, True, 0.0, "00", "ok", [], "-1")],
        inbound=lambda: webhook("/webhook/vonage/sms", TEXT),
        status=lambda: webhook("/webhook/vonage/status", REPORT),
        signature_headers=[],
    )


class TestSend:
    async def test_says_everything_about_the_message(self) -> None:
        async with answered(TestContract.dialect, always(answer(part()))) as (provider, server):
            receipt = await provider.send(replace(SMS, validity_s=120))

        [request] = server.received
        assert (request.method, request.target) == ("POST", "/sms/json")
        assert dict(parse_qsl(request.body.decode())) == {
            "api_key": "abcd1234",
            "api_secret": "secret",
            "from": "15005550006",
            "to": "14155550123",
            "text": SMS.body,
            "type": "unicode",
            "client-ref": SMS.reference,
            "status-report-req": "1",
            "callback": f"{BASE}/webhook/vonage/status",
            "ttl": "120000",
        }
        assert (receipt.num_segments, receipt.price) == (1, Price(33_300, "EUR"))

    async def test_gsm_text_is_sent_as_such(self) -> None:
        async with answered(TestContract.dialect, always(answer(part()))) as (provider, server):
            await provider.send(replace(SMS, body="plain"))

        assert dict(parse_qsl(server.received[0].body.decode()))["type"] == "text"

    @pytest.mark.parametrize(("validity_s", "ttl"), [(1, "20000"), (10**9, "604800000")])
    async def test_validity_is_kept_within_what_vonage_accepts(self, validity_s: int, ttl: str) -> None:
        async with answered(TestContract.dialect, always(answer(part()))) as (provider, server):
            await provider.send(replace(SMS, validity_s=validity_s))

        assert dict(parse_qsl(server.received[0].body.decode()))["ttl"] == ttl

    async def test_parts_make_one_message(self) -> None:
        parts = answer(part(), part(**{"message-id": "second"}), part(**{"message-id": "third"}))
        async with answered(TestContract.dialect, always(parts)) as (provider, _):
            receipt = await provider.send(SMS)

        assert (receipt.provider_message_id, receipt.num_segments) == (ID, 3)
        assert receipt.price == Price(99_900, "EUR")

    async def test_price_is_unknown_as_long_as_one_part_has_none(self) -> None:
        async with answered(TestContract.dialect, always(answer(part(), part(**{"message-price": "?"})))) as (
            provider,
            _,
        ):
            assert (await provider.send(SMS)).price is None

    @pytest.mark.parametrize("parts", [(part(), part("1")), (part("1"), part())])
    async def test_message_that_went_out_in_part_is_sent(self, parts: tuple[object, ...]) -> None:
        """Sent again, the accepted part would arrive twice."""
        async with answered(TestContract.dialect, always(answer(*parts))) as (provider, _):
            receipt = await provider.send(SMS)

        assert (receipt.provider_message_id, receipt.num_segments) == (ID, 1)
        assert "No." in receipt.raw, "the refusal is kept for people"

    async def test_throttling_tells_how_long(self) -> None:
        text = "Throughput Rate Exceeded - please wait [ 250 ] and retry"
        async with answered(TestContract.dialect, always(answer(part("1", **{"error-text": text})))) as (provider, _):
            failure = await error_of(provider.send(SMS))

        assert (failure.kind, failure.retry_after_s) == (ErrorKind.RATE_LIMITED, 0.25)

    async def test_header_counts_before_the_text(self) -> None:
        body = {"messages": [part("1", **{"error-text": "please wait [ 250 ] and retry"})]}
        throttled = reply(200, json.dumps(body).encode(), content_type=JSON, retry_after="7")
        async with answered(TestContract.dialect, always(throttled)) as (provider, _):
            assert (await error_of(provider.send(SMS))).retry_after_s == 7

    async def test_media_are_refused_before_anything_leaves(self) -> None:
        async with answered(TestContract.dialect, always(answer(part()))) as (provider, server):
            failure = await error_of(provider.send(replace(SMS, media_urls=("https://example.com/1.png",))))

        assert failure.kind is ErrorKind.INVALID_REQUEST
        assert server.received == []


class TestAsking:
    async def test_is_not_possible(self) -> None:
        async with opened(TestContract.dialect, "http://127.0.0.1:1") as provider:
            assert provider.can_look_up is False
            assert (await error_of(provider.find_sent(QUERY))).kind is ErrorKind.UNAVAILABLE
            assert await provider.fetch_status(ID) is None
            assert await provider.redact(ID) is False
            assert provider.can_redact is False
            assert [sms async for sms in provider.list_inbound(utc_now(), utc_now())] == []


class TestStatusUrl:
    async def test_longer_than_vonage_accepts_is_refused_at_the_start(self) -> None:
        config = VonageConfig.model_validate(
            {"name": "vonage", "api_key": "k", "api_secret": "s", "signature_secret": "s"}
        )
        async with create_http_client() as http:
            with pytest.raises(ValueError, match="100 characters"):
                VonageProvider(config, http, base_urls=("https://" + "x" * 90,))


class TestWebhooks:
    @pytest.mark.parametrize("how", ["get", "form", "json"])
    async def test_arrive_by_query_form_or_json(self, how: str) -> None:
        async with opened(TestContract.dialect, "http://127.0.0.1:1") as provider:
            sms = provider.read_inbound(webhook("/webhook/vonage/sms", TEXT, how=how))
            report = provider.read_status(webhook("/webhook/vonage/status", REPORT, how=how))

        assert (sms.sender, sms.recipient, sms.body) == ("+14155550123", "+15005550006", "Hola")
        assert (report.status, report.reference) == (MessageStatus.DELIVERED, SMS.reference)

    async def test_raw_holds_everything_but_the_signature(self) -> None:
        async with opened(TestContract.dialect, "http://127.0.0.1:1") as provider:
            sms = provider.read_inbound(webhook("/webhook/vonage/sms", TEXT))

        assert set(json.loads(sms.raw)) == {*TEXT, "timestamp", "nonce"}

    async def test_query_of_a_post_is_not_read_because_it_is_not_signed(self) -> None:
        request = webhook("/webhook/vonage/status", REPORT)
        forged = replace(request, path_and_query="/webhook/vonage/status?client-ref=another&messageId=another")
        async with opened(TestContract.dialect, "http://127.0.0.1:1") as provider:
            assert provider.read_status(forged) == provider.read_status(request)

    async def test_previous_secret_is_accepted_during_a_rotation(self) -> None:
        request = webhook("/webhook/vonage/sms", TEXT, secret="older")
        async with create_http_client() as http:
            rotated = open_provider("http://127.0.0.1:1", http, signature_secret_previous="older")

            assert rotated.read_inbound(request).body == "Hola"
            with pytest.raises(NotAuthenticError):
                open_provider("http://127.0.0.1:1", http).read_inbound(request)

    async def test_one_repeated_after_an_outage_of_a_day_is_accepted(self) -> None:
        signed_at = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
        request = webhook("/webhook/vonage/sms", TEXT, signed_at=signed_at)
        async with create_http_client() as http:
            config = VonageConfig.model_validate(
                {"name": "vonage", "api_key": "k", "api_secret": "s", "signature_secret": SECRET}
            )

            def at(age: timedelta) -> VonageProvider:
                return VonageProvider(config, http, base_urls=(BASE,), now=lambda: signed_at + age)

            assert at(timedelta(hours=24)).read_inbound(request).body == "Hola"
            with pytest.raises(NotAuthenticError):
                at(timedelta(hours=25)).read_inbound(request)
