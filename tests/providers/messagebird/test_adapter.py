import json
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from urllib.parse import parse_qs, urlencode, urlsplit

import jwt
import pytest

from sms_foundation.core.clock import utc_now
from sms_foundation.core.http import HttpClient, create_http_client
from sms_foundation.providers.base import MessageStatus, Price, WebhookRequest
from sms_foundation.providers.errors import ErrorKind
from sms_foundation.providers.messagebird.adapter import MessageBirdConfig, MessageBirdProvider
from tests.loopback import LoopbackServer, Received, reply
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

KEY = "signing-key-" * 6
BASE = "https://sms.example.com"
ID = "e8077d803532c0b5937c639b60216938"
MESSAGE = {
    "id": ID,
    "href": f"https://rest.messagebird.com/messages/{ID}",
    "direction": "mt",
    "type": "sms",
    "originator": "15005550006",
    "body": SMS.body,
    "reference": SMS.reference,
    "createdDatetime": "2026-11-20T12:00:00+00:00",
    "recipients": {
        "totalCount": 1,
        "totalSentCount": 1,
        "items": [
            {
                "recipient": 14155550123,
                "status": "sent",
                "statusDatetime": "2026-11-20T12:00:00+00:00",
                "messagePartCount": 2,
                "price": {"amount": 0.075, "currency": "EUR"},
            }
        ],
    },
}


def answer(value: object, status: int = 200) -> bytes:
    return reply(status, json.dumps(value).encode(), content_type=JSON)


def error(code: int, status: int, parameter: str | None = None) -> bytes:
    return answer({"errors": [{"code": code, "description": "No.", "parameter": parameter}]}, status)


def page(*messages: object, total: int | None = None) -> bytes:
    return answer({"offset": 0, "items": messages, "totalCount": len(messages) if total is None else total})


def open_provider(base_url: str, http: HttpClient, **changes: object) -> MessageBirdProvider:
    settings = {"name": "messagebird", "access_key": "key", "signing_key": KEY, "api_base_url": base_url, **changes}
    return MessageBirdProvider(
        MessageBirdConfig.model_validate(settings), http, base_urls=(BASE, "http://localhost:8000")
    )


def webhook(
    path: str, *pairs: tuple[str, str], method: str = "GET", key: str = KEY, base: str = BASE, json_body: bool = False
) -> WebhookRequest:
    fields = urlencode(pairs)
    path_and_query, body = (f"{path}{'&' if '?' in path else '?'}{fields}", b"") if method == "GET" else (path, b"")
    if method == "POST":
        body = json.dumps(dict(pairs)).encode() if json_body else fields.encode()
    claims = {
        "iss": "MessageBird",
        "nbf": utc_now() - timedelta(seconds=5),
        "exp": utc_now() + timedelta(seconds=55),
        "jti": "1",
        "url_hash": sha256((base + path_and_query).encode()).hexdigest(),
        **({"payload_hash": sha256(body).hexdigest()} if body else {}),
    }
    headers = {
        b"content-type": JSON.encode() if json_body else b"application/x-www-form-urlencoded",
        b"messagebird-signature-jwt": jwt.encode(claims, key, algorithm="HS256").encode(),
    }
    return WebhookRequest(method, path_and_query, headers, body)


TEXT = (("id", ID), ("originator", "14155550123"), ("recipient", "15005550006"), ("body", "Hola"))
REPORT = (
    ("id", ID),
    ("reference", SMS.reference),
    ("recipient", "14155550123"),
    ("status", "delivered"),
    ("statusDatetime", "2026-11-20T12:00:05+00:00"),
)


class TestContract(ProviderContract):
    dialect = Dialect(
        open=open_provider,
        kind="messagebird",
        accepted=answer(MESSAGE, 201),
        accepted_id=ID,
        accepted_status=201,
        refusals={
            "wrong access key": Refusal(error(2, 401, "access_key"), ErrorKind.ACCOUNT, "2"),
            "no balance": Refusal(error(25, 422), ErrorKind.ACCOUNT, "25"),
            "bad recipient": Refusal(error(10, 422, "recipients"), ErrorKind.INVALID_RECIPIENT, "10"),
            "missing recipient": Refusal(error(9, 422, "recipient"), ErrorKind.INVALID_RECIPIENT, "9"),
            "bad sender": Refusal(error(10, 422, "originator"), ErrorKind.INVALID_SENDER, "10"),
            "bad body": Refusal(error(10, 422, "body"), ErrorKind.INVALID_REQUEST, "10"),
            "bad request": Refusal(error(21, 422), ErrorKind.INVALID_REQUEST, "21"),
            "unknown code": Refusal(error(77, 422), ErrorKind.INVALID_REQUEST, "77"),
            "internal error": Refusal(error(99, 422), ErrorKind.UNAVAILABLE, "99"),
            "internal error as a 5xx": Refusal(error(99, 500), ErrorKind.UNKNOWN_OUTCOME, "99"),
        },
        wrong_types=[{"id": value} for value in (None, True, 1.5, [ID], {"id": ID}, "", " ", "x" * 200)],
        rate_limited=b'{"errors": [{"code": 2, "description": "slow down"}]}',
        inbound=lambda: webhook("/webhook/messagebird/sms", *TEXT),
        status=lambda: webhook(f"/webhook/messagebird/status?ref={SMS.reference}", *REPORT),
        signature_headers=[b"messagebird-signature-jwt"],
    )


class TestSend:
    async def test_says_everything_about_the_message(self) -> None:
        async with answered(TestContract.dialect, always(answer(MESSAGE, 201))) as (provider, server):
            receipt = await provider.send(SMS)

        [request] = server.received
        assert (request.method, request.target) == ("POST", "/messages")
        assert request.headers["authorization"] == "AccessKey key"
        assert json.loads(request.body) == {
            "originator": "15005550006",
            "recipients": ["14155550123"],
            "body": SMS.body,
            "type": "sms",
            "datacoding": "unicode",
            "reference": SMS.reference,
            "reportUrl": f"{BASE}/webhook/messagebird/status?ref={SMS.reference}",
        }
        assert (receipt.event_status, receipt.status) == ("sent", MessageStatus.SENT)
        assert (receipt.num_segments, receipt.price) == (2, Price(75_000, "EUR"))

    async def test_gsm_text_is_sent_plain_and_validity_in_seconds(self) -> None:
        sms = type(SMS)(reference="r", recipient="+1", sender="Health", body="plain", validity_s=120)
        async with answered(TestContract.dialect, always(answer(MESSAGE, 201))) as (provider, server):
            await provider.send(sms)

        sent = json.loads(server.received[0].body)
        assert (sent["datacoding"], sent["validity"], sent["originator"]) == ("plain", 120, "Health")

    async def test_media_are_refused_before_anything_leaves(self) -> None:
        sms = type(SMS)(reference="r", recipient="+1", sender="+2", body="", media_urls=("https://example.com/1.png",))
        async with answered(TestContract.dialect, always(answer(MESSAGE, 201))) as (provider, server):
            failure = await error_of(provider.send(sms))

        assert failure.kind is ErrorKind.INVALID_REQUEST
        assert server.received == []


class TestFindSent:
    async def test_asks_by_reference(self) -> None:
        async with answered(TestContract.dialect, always(page(MESSAGE))) as (provider, server):
            [receipt] = await provider.find_sent(QUERY)

        assert receipt.provider_message_id == ID
        asked = parse_qs(urlsplit(server.targets[0]).query)
        assert asked["reference"] == [QUERY.reference]

    async def test_empty_list_means_that_it_is_not_there(self) -> None:
        async with answered(TestContract.dialect, always(page())) as (provider, _):
            assert await provider.find_sent(QUERY) == []

    async def test_messages_with_another_reference_are_not_ours(self) -> None:
        other = {**MESSAGE, "id": "other", "reference": "another"}
        async with answered(TestContract.dialect, always(page(other, MESSAGE, {**MESSAGE, "reference": None}))) as (
            provider,
            _,
        ):
            found = await provider.find_sent(QUERY)

        assert [receipt.provider_message_id for receipt in found] == [ID]

    async def test_every_page_is_read(self) -> None:
        other = {**MESSAGE, "reference": "another"}

        async def paged(request: Received) -> bytes:
            offset = int(parse_qs(urlsplit(request.target).query)["offset"][0])
            return page(MESSAGE if offset == 2 else other, total=3)

        async with answered(TestContract.dialect, LoopbackServer(paged)) as (provider, server):
            found = await provider.find_sent(QUERY)

        assert [receipt.provider_message_id for receipt in found] == [ID]
        assert len(server.received) == 3

    @pytest.mark.parametrize("total", [5, 1_000_000])
    async def test_list_that_stops_short_does_not_mean_absent(self, total: int) -> None:
        async with answered(TestContract.dialect, always(page(total=total))) as (provider, _):
            failure = await error_of(provider.find_sent(QUERY))

        assert failure.kind is ErrorKind.UNAVAILABLE

    async def test_list_without_end_is_given_up(self) -> None:
        other = {**MESSAGE, "reference": "another"}
        async with answered(TestContract.dialect, always(page(other, total=1_000_000))) as (provider, server):
            failure = await error_of(provider.find_sent(QUERY))

        assert failure.kind is ErrorKind.UNAVAILABLE
        assert len(server.received) == 10

    async def test_ours_without_an_id_does_not_mean_absent(self) -> None:
        async with answered(TestContract.dialect, always(page({**MESSAGE, "id": None}))) as (provider, _):
            failure = await error_of(provider.find_sent(QUERY))

        assert failure.kind is ErrorKind.UNAVAILABLE


class TestFetchStatus:
    async def test_reads_the_recipient(self) -> None:
        recipient = {"recipient": 1, "status": "delivery_failed", "statusErrorCode": 1, "statusReason": "unknown"}
        message = {**MESSAGE, "recipients": {"items": [recipient]}}
        async with answered(TestContract.dialect, always(answer(message))) as (provider, server):
            report = await provider.fetch_status("a/b")

        assert server.targets == ["/messages/a%2Fb"]
        assert report is not None
        assert (report.status, report.error_code) == (MessageStatus.UNDELIVERED, "1")
        assert report.reference == SMS.reference

    async def test_missing_message_is_an_error(self) -> None:
        async with answered(TestContract.dialect, always(error(20, 404))) as (provider, _):
            failure = await error_of(provider.fetch_status(ID))

        assert (failure.kind, failure.provider_code) == (ErrorKind.INVALID_REQUEST, "20")

    async def test_answer_without_a_status_is_unavailable(self) -> None:
        async with answered(TestContract.dialect, always(answer({**MESSAGE, "recipients": {}}))) as (provider, _):
            assert (await error_of(provider.fetch_status(ID))).kind is ErrorKind.UNAVAILABLE


class TestListInbound:
    SINCE = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)

    def received(self, at: str, **changes: object) -> dict[str, object]:
        recipients = {"items": [{"recipient": 15005550006, "status": "sent"}]}
        mo = {"direction": "mo", "originator": "14155550123", "createdDatetime": at, "recipients": recipients}
        return {**MESSAGE, **mo, **changes}

    async def test_yields_what_lies_in_the_window(self) -> None:
        listed = page(
            self.received("2026-11-20T11:59:59+00:00", id="before"),
            self.received("2026-11-20T12:00:00Z", id="first"),
            self.received("2026-11-20T13:59:59+01:00", id="last"),
            self.received("2026-11-20T13:00:00+00:00", id="after"),
            self.received("", id="undated"),
            self.received("2026-11-20T12:00:00Z", id="sent", direction="mt"),
            self.received("2026-11-20T12:00:00Z", id="unreadable", originator=None),
        )
        async with answered(TestContract.dialect, always(listed)) as (provider, server):
            found = [sms async for sms in provider.list_inbound(self.SINCE, self.SINCE + timedelta(hours=1))]

        assert [sms.provider_message_id for sms in found] == ["first", "last", "undated"]
        assert (found[0].sender, found[0].recipient) == ("+14155550123", "+15005550006")
        asked = parse_qs(urlsplit(server.targets[0]).query)
        assert (asked["direction"], asked["from"]) == (["mo"], ["2026-11-20T12:00:00+00:00"])


class TestRedact:
    async def test_is_not_possible(self) -> None:
        async with opened(TestContract.dialect, "http://127.0.0.1:1") as provider:
            assert await provider.redact(ID) is False
            assert provider.can_redact is False


class TestWebhooks:
    @pytest.mark.parametrize(("method", "json_body"), [("GET", False), ("POST", False), ("POST", True)])
    async def test_arrive_by_query_form_or_json(self, method: str, json_body: bool) -> None:
        request = webhook("/webhook/messagebird/sms", *TEXT, method=method, json_body=json_body)
        async with opened(TestContract.dialect, "http://127.0.0.1:1") as provider:
            sms = provider.read_inbound(request)

        assert (sms.sender, sms.recipient, sms.body) == ("+14155550123", "+15005550006", "Hola")

    async def test_each_base_url_and_the_previous_key_are_accepted(self) -> None:
        old = "previous-key" * 6
        request = webhook("/webhook/messagebird/sms", *TEXT, base="http://localhost:8000", key=old)
        async with create_http_client() as http:
            provider = open_provider("http://127.0.0.1:1", http, signing_key_previous=old)

            assert provider.read_inbound(request).body == "Hola"
