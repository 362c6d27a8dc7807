import asyncio
import json
from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
from twilio.base.exceptions import TwilioRestException
from twilio.rest import Client

from sms_foundation.core.http import HttpClient, create_http_client
from sms_foundation.providers.base import MessageStatus, Price, WebhookRequest
from sms_foundation.providers.errors import ErrorKind, NotAuthenticError
from sms_foundation.providers.twilio.adapter import TwilioConfig, TwilioProvider
from sms_foundation.providers.twilio.signature import sign
from tests.loopback import LoopbackServer, Received, reply
from tests.providers.contract import JSON, QUERY, SMS, Dialect, ProviderContract, Refusal, error_of

ACCOUNT = "AC" + "1" * 32
SERVICE = "MG" + "2" * 32
TOKEN = "the-token"
BASE = "https://sms.example.com"
SID = "SM" + "0" * 32
MESSAGE = {
    "account_sid": ACCOUNT,
    "api_version": "2010-04-01",
    "body": SMS.body,
    "date_created": "Fri, 20 Nov 2026 12:00:01 +0000",
    "date_sent": None,
    "date_updated": "Fri, 20 Nov 2026 12:00:01 +0000",
    "direction": "outbound-api",
    "error_code": None,
    "error_message": None,
    "from": SMS.sender,
    "messaging_service_sid": None,
    "num_media": "0",
    "num_segments": "1",
    "price": None,
    "price_unit": "USD",
    "sid": SID,
    "status": "queued",
    "subresource_uris": {"media": f"/2010-04-01/Accounts/{ACCOUNT}/Messages/{SID}/Media.json"},
    "to": SMS.recipient,
    "uri": f"/2010-04-01/Accounts/{ACCOUNT}/Messages/{SID}.json",
}


def message(**changes: object) -> dict[str, object]:
    return {**MESSAGE, **changes}


def answer(value: object, status: int = 200, **headers: str) -> bytes:
    return reply(status, json.dumps(value).encode(), content_type=JSON, **headers)


def error(code: int, status: int) -> bytes:
    return answer({"code": code, "message": "No.", "more_info": "https://www.twilio.com", "status": status}, status)


def open_provider(base_url: str, http: HttpClient, **changes: object) -> TwilioProvider:
    settings = {"name": "twilio", "account_sid": ACCOUNT, "auth_token": TOKEN, "api_base_url": base_url, **changes}
    return TwilioProvider(TwilioConfig.model_validate(settings), http, base_urls=(BASE, "http://localhost:8000"))


def webhook(path_and_query: str, *pairs: tuple[str, str]) -> WebhookRequest:
    headers = {
        b"content-type": b"application/x-www-form-urlencoded",
        b"x-twilio-signature": sign(TOKEN, BASE + path_and_query, pairs).encode(),
    }
    return WebhookRequest("POST", path_and_query, headers, urlencode(pairs).encode())


def inbound_webhook() -> WebhookRequest:
    return webhook(
        "/webhook/twilio/sms",
        ("MessageSid", SID),
        ("AccountSid", ACCOUNT),
        ("From", "+14155550123"),
        ("To", "+15005550006"),
        ("Body", "Hola"),
    )


def status_webhook(path_and_query: str = f"/webhook/twilio/status?ref={SMS.reference}") -> WebhookRequest:
    return webhook(path_and_query, ("MessageSid", SID), ("AccountSid", ACCOUNT), ("MessageStatus", "delivered"))


class TestContract(ProviderContract):
    dialect = Dialect(
        open=open_provider,
        kind="twilio",
        accepted=answer(MESSAGE, 201),
        accepted_id=SID,
        accepted_status=201,
        refusals={
            "invalid number": Refusal(error(21211, 400), ErrorKind.INVALID_RECIPIENT, "21211"),
            "unknown sender": Refusal(error(21606, 400), ErrorKind.INVALID_SENDER, "21606"),
            "too long": Refusal(error(21617, 400), ErrorKind.INVALID_REQUEST, "21617"),
            "a code of tomorrow": Refusal(error(21999, 400), ErrorKind.INVALID_REQUEST, "21999"),
            "texted STOP": Refusal(error(21610, 400), ErrorKind.OPTED_OUT, "21610"),
            "filtered": Refusal(error(30007, 400), ErrorKind.CONTENT_REJECTED, "30007"),
            "wrong token": Refusal(error(20003, 401), ErrorKind.ACCOUNT, "20003"),
            "suspended": Refusal(error(20005, 403), ErrorKind.ACCOUNT, "20005"),
            "too many at once": Refusal(error(20429, 429), ErrorKind.RATE_LIMITED, "20429"),
            "long queue": Refusal(error(21611, 429), ErrorKind.RATE_LIMITED, "21611"),
            "internal error": Refusal(error(20500, 500), ErrorKind.UNKNOWN_OUTCOME, "20500"),
            "no code": Refusal(reply(400, b"<html>"), ErrorKind.INVALID_REQUEST),
            "no code, no access": Refusal(reply(401), ErrorKind.ACCOUNT),
            "redirect": Refusal(reply(307, location="/elsewhere"), ErrorKind.UNKNOWN_OUTCOME),
        },
        wrong_types=[message(sid=None), message(sid=17), message(sid=[SID]), message(sid=""), {"messages": [MESSAGE]}],
        inbound=inbound_webhook,
        status=status_webhook,
        signature_headers=[b"x-twilio-signature"],
        rate_limited=b'{"code": 20429, "message": "Too Many Requests", "status": 429}',
    )


@asynccontextmanager
async def provider_at(
    answers: Callable[[Received], bytes], **changes: object
) -> AsyncIterator[tuple[TwilioProvider, LoopbackServer]]:
    async def respond(request: Received) -> bytes:
        return answers(request)

    async with LoopbackServer(respond) as server, create_http_client() as http:
        yield open_provider(server.base_url, http, **changes), server


def sdk_messages(server: LoopbackServer) -> Any:
    client = Client(ACCOUNT, TOKEN)
    client.api.base_url = server.base_url
    return client.messages


def form(request: Received) -> list[tuple[str, str]]:
    return parse_qsl(request.body.decode(), keep_blank_values=True, strict_parsing=True)


def pages(*each: list[dict[str, object]]) -> Callable[[Received], bytes]:
    """Answer with page after page, as Twilio links them."""

    def respond(request: Received) -> bytes:
        query = dict(parse_qsl(urlsplit(request.target).query))
        number = int(query.get("Page", "0"))
        is_last = number + 1 >= len(each)
        uri = f"{urlsplit(request.target).path}?{urlencode({**query, 'Page': str(number + 1), 'PageToken': 'PT'})}"
        return answer({"messages": each[number], "next_page_uri": None if is_last else uri, "page": number})

    return respond


class TestConfig:
    def test_messaging_service_alone_is_what_is_sent_from(self) -> None:
        service = "MG" + "0" * 32
        config = TwilioConfig.model_validate(
            {"name": "twilio", "auth_token": "t", "account_sid": "AC1", "messaging_service_sid": service}
        )

        assert config.senders == (service,)

    def test_numbers_that_are_named_come_first(self) -> None:
        given = {"name": "twilio", "auth_token": "t", "messaging_service_sid": "MG1", "senders": ["+15005550006"]}

        assert TwilioConfig.model_validate(given).senders == ("+15005550006",)


class TestSend:
    async def test_says_all_that_is_to_be_said(self) -> None:
        sms = replace(SMS, media_urls=("https://a.example/1.png?x=1&y=2", "https://a.example/2.png"), validity_s=600)
        async with provider_at(lambda _: answer(MESSAGE, 201)) as (provider, server):
            await provider.send(sms)

        [request] = server.received
        assert (request.method, request.target) == ("POST", f"/2010-04-01/Accounts/{ACCOUNT}/Messages.json")
        assert form(request) == [
            ("To", SMS.recipient),
            ("From", SMS.sender),
            ("Body", SMS.body),
            ("MediaUrl", "https://a.example/1.png?x=1&y=2"),
            ("MediaUrl", "https://a.example/2.png"),
            ("ValidityPeriod", "600"),
            ("StatusCallback", f"{BASE}/webhook/twilio/status?ref={SMS.reference}#rc=5&rp=all"),
        ]

    @pytest.mark.parametrize(("asked", "sent"), [(0, "1"), (1, "1"), (36_000, "36000"), (10**6, "36000")])
    async def test_validity_stays_within_what_twilio_takes(self, asked: int, sent: str) -> None:
        async with provider_at(lambda _: answer(MESSAGE, 201)) as (provider, server):
            await provider.send(replace(SMS, validity_s=asked))

        assert dict(form(server.received[0]))["ValidityPeriod"] == sent

    @pytest.mark.parametrize(
        ("sender", "expected"),
        [(SERVICE, {"MessagingServiceSid": SERVICE}), ("ACME", {"MessagingServiceSid": SERVICE, "From": "ACME"})],
    )
    async def test_messaging_service_chooses_the_number_unless_one_is_given(
        self, sender: str, expected: dict[str, str]
    ) -> None:
        async with provider_at(lambda _: answer(MESSAGE, 201), messaging_service_sid=SERVICE) as (provider, server):
            await provider.send(replace(SMS, sender=sender))

        sent = dict(form(server.received[0]))
        assert {name: sent[name] for name in ("MessagingServiceSid", "From") if name in sent} == expected

    @pytest.mark.parametrize(
        ("changes", "credentials"),
        [({}, f"{ACCOUNT}:{TOKEN}"), ({"api_key_sid": "SK1", "api_key_secret": "hush"}, "SK1:hush")],
    )
    async def test_signs_in_with_the_api_key_if_there_is_one(self, changes: dict[str, str], credentials: str) -> None:
        async with provider_at(lambda _: answer(MESSAGE, 201), **changes) as (provider, server):
            await provider.send(SMS)

        assert server.received[0].headers["authorization"] == "Basic " + b64encode(credentials.encode()).decode()

    async def test_receipt_tells_what_is_known_and_keeps_no_body(self) -> None:
        taken = message(status="accepted", num_segments="2", price="-0.01500")
        async with provider_at(lambda _: answer(taken, 201)) as (provider, _):
            receipt = await provider.send(SMS)

        assert (receipt.status, receipt.event_status) == (MessageStatus.ACCEPTED, "accepted")
        assert (receipt.num_segments, receipt.price) == (2, Price(15_000, "USD"))
        assert json.loads(receipt.raw)["uri"] == MESSAGE["uri"]
        assert "body" not in json.loads(receipt.raw)

    @pytest.mark.parametrize("changes", [{"num_segments": "0"}, {"num_segments": None}, {"num_segments": [1]}])
    async def test_segments_and_price_that_are_not_told_yet_are_none(self, changes: dict[str, object]) -> None:
        async with provider_at(lambda _: answer(message(**changes), 201)) as (provider, _):
            receipt = await provider.send(SMS)

        assert (receipt.num_segments, receipt.price) == (None, None)

    async def test_nothing_leaves_without_an_account(self) -> None:
        async with provider_at(lambda _: answer(MESSAGE, 201), account_sid="") as (provider, server):
            refused = await error_of(provider.send(SMS))

        assert refused.kind is ErrorKind.ACCOUNT
        assert server.received == []


class TestSdkAsReference:
    """The official SDK, pointed at the same server, asks and reads the same."""

    async def test_sends_the_same_request(self) -> None:
        sms = replace(SMS, media_urls=("https://a.example/1.png", "https://a.example/2.png"), validity_s=600)
        async with provider_at(lambda _: answer(MESSAGE, 201)) as (provider, server):
            receipt = await provider.send(sms)
            created = await asyncio.to_thread(
                sdk_messages(server).create,
                to=sms.recipient,
                from_=sms.sender,
                body=sms.body,
                media_url=list(sms.media_urls),
                validity_period=600,
                status_callback=f"{BASE}/webhook/twilio/status?ref={sms.reference}#rc=5&rp=all",
            )

        ours, theirs = server.received
        assert (ours.method, ours.target) == (theirs.method, theirs.target)
        assert sorted(form(ours)) == sorted(form(theirs))
        for name in ("authorization", "content-type", "accept"):
            assert ours.headers[name] == theirs.headers[name]
        assert (receipt.provider_message_id, receipt.event_status) == (created.sid, created.status)

    @pytest.mark.parametrize(("code", "status"), [(21211, 400), (20003, 401), (20429, 429), (20500, 500)])
    async def test_reads_the_same_code(self, code: int, status: int) -> None:
        async with provider_at(lambda _: error(code, status)) as (provider, server):
            refused = await error_of(provider.send(SMS))
            with pytest.raises(TwilioRestException) as caught:
                await asyncio.to_thread(sdk_messages(server).create, to="+1", from_="+2", body="x")

        assert (refused.provider_code, refused.status_code) == (str(caught.value.code), caught.value.status)

    async def test_asks_for_the_same_message_and_redacts_alike(self) -> None:
        async with provider_at(lambda _: answer(message(body=""))) as (provider, server):
            await provider.fetch_status(SID)
            await provider.redact(SID)
            await asyncio.to_thread(sdk_messages(server)(SID).fetch)
            await asyncio.to_thread(sdk_messages(server)(SID).update, body="")

        seen = [(each.method, each.target, each.body) for each in server.received]
        assert seen[:2] == seen[2:]

    async def test_lists_by_the_same_filters(self) -> None:
        since, until = datetime(2026, 11, 20, 1, tzinfo=UTC), datetime(2026, 11, 20, 5, tzinfo=UTC)
        async with provider_at(pages([])) as (provider, server):
            assert [sms async for sms in provider.list_inbound(since, until)] == []
            await asyncio.to_thread(
                sdk_messages(server).list,
                date_sent_after=datetime(2026, 11, 19).date(),  # noqa: DTZ001  # a day, which has no zone
                date_sent_before=datetime(2026, 11, 21).date(),  # noqa: DTZ001
            )

        ours, theirs = (dict(parse_qsl(urlsplit(target).query)) for target in server.targets)
        assert {name: day[:10] for name, day in theirs.items() if name.startswith("DateSent")} == {
            name: day for name, day in ours.items() if name.startswith("DateSent")
        }


class TestFindSent:
    @pytest.mark.parametrize(
        ("changes", "is_found"),
        [
            ({}, True),
            ({"status": "delivered"}, True),
            ({"from": None}, True),
            ({"date_created": "Fri, 20 Nov 2026 11:58:30 +0000"}, True),  # Twilio's clock may be behind
            ({"body": "Sent from your Twilio trial account - " + SMS.body}, True),
            ({"date_created": "soon"}, True),
            ({"date_created": "Fri, 20 Nov 2026 11:50:00 +0000"}, False),
            ({"body": SMS.body + " "}, False),
            ({"body": "Sent from " + SMS.body}, False),
            ({"body": None}, False),
            ({"from": "+15005550007"}, False),
            ({"direction": "inbound"}, False),
            ({"direction": "outbound-reply"}, False),
        ],
    )
    async def test_finds_what_may_be_the_message(self, changes: dict[str, object], is_found: bool) -> None:
        async with provider_at(pages([message(**changes)])) as (provider, server):
            found = await provider.find_sent(QUERY)

        assert [receipt.provider_message_id for receipt in found] == ([SID] if is_found else [])
        query = dict(parse_qsl(urlsplit(server.targets[0]).query))
        assert query == {"To": QUERY.recipient, "PageSize": "200"}

    async def test_returns_every_message_that_may_be_it(self) -> None:
        listed = [message(sid="SM1"), message(sid="SM2", body="other"), message(sid="SM3")]
        async with provider_at(pages(listed[:2], listed[2:])) as (provider, server):
            found = await provider.find_sent(QUERY)

        assert [receipt.provider_message_id for receipt in found] == ["SM1", "SM3"]
        assert len(server.received) == 2

    async def test_looks_no_further_than_anything_can_have_waited(self) -> None:
        old = message(sid="SM9", date_created="Thu, 19 Nov 2026 22:00:00 +0000")
        async with provider_at(pages([MESSAGE, old], [MESSAGE])) as (provider, server):
            found = await provider.find_sent(QUERY)

        assert len(found) == len(server.received) == 1

    async def test_does_not_say_absent_when_it_has_not_seen_everything(self) -> None:
        other = message(body="other")
        async with provider_at(pages(*[[other]] * 50)) as (provider, server):
            failed = await error_of(provider.find_sent(QUERY))

        assert failed.kind is ErrorKind.UNAVAILABLE
        assert len(server.received) == 10

    @pytest.mark.parametrize("uri", ["https://evil.example/", "//evil.example/", "@evil.example/", "/other"])
    async def test_credentials_follow_no_link_out_of_the_api(self, uri: str) -> None:
        async with provider_at(lambda _: answer({"messages": [], "next_page_uri": uri})) as (provider, server):
            failed = await error_of(provider.find_sent(QUERY))

        assert failed.kind is ErrorKind.UNAVAILABLE
        assert len(server.received) == 1

    @pytest.mark.parametrize("listed", [None, {}, "x", [1], [None], [{}], [{"sid": 5}]])
    async def test_list_of_anything_else_does_not_mean_absent(self, listed: object) -> None:
        async with provider_at(lambda _: answer({"messages": listed})) as (provider, _):
            assert (await error_of(provider.find_sent(QUERY))).kind is ErrorKind.UNAVAILABLE


class TestFetchStatus:
    async def test_reports_status_error_and_price(self) -> None:
        ended = message(status="undelivered", error_code=30003, error_message="Unreachable", price="-0.0079")
        async with provider_at(lambda _: answer(ended)) as (provider, _):
            report = await provider.fetch_status(SID)

        assert report is not None
        assert (report.provider, report.provider_message_id) == ("twilio", SID)
        assert (report.event_status, report.status) == ("undelivered", MessageStatus.UNDELIVERED)
        assert (report.error_code, report.error_message) == ("30003", "Unreachable")
        assert (report.error_kind, report.price) == (ErrorKind.UNAVAILABLE, Price(7900, "USD"))
        assert "body" not in json.loads(report.raw)

    async def test_status_of_another_message_is_not_taken_for_this_one(self) -> None:
        async with provider_at(lambda _: answer(message(sid="SM1"))) as (provider, _):
            assert (await error_of(provider.fetch_status(SID))).kind is ErrorKind.UNAVAILABLE

    async def test_unknown_message_is_told_from_an_outage(self) -> None:
        async with provider_at(lambda _: error(20404, 404)) as (provider, _):
            failed = await error_of(provider.fetch_status(SID))

        assert (failed.kind, failed.provider_code) == (ErrorKind.INVALID_REQUEST, "20404")

    async def test_odd_id_stays_within_its_part_of_the_path(self) -> None:
        async with provider_at(lambda _: error(20404, 404)) as (provider, server):
            await error_of(provider.fetch_status("../../x?y#z"))

        assert server.targets[0].endswith("/Messages/..%2F..%2Fx%3Fy%23z.json")


class TestListInbound:
    async def test_yields_what_came_in_within_the_period(self) -> None:
        since, until = datetime(2026, 11, 20, 12, 0, tzinfo=UTC), datetime(2026, 11, 20, 13, 0, tzinfo=UTC)

        def came(sid: str, at: str, **changes: object) -> dict[str, object]:
            return message(sid=sid, direction="inbound", date_sent=f"Fri, 20 Nov 2026 {at} +0000", **changes)

        first = [came("SM1", "12:59:59"), came("SM2", "13:00:00"), message(sid="SM3")]
        second = [came("SM4", "12:00:00", num_segments="3", num_media="1"), came("SM5", "11:59:59")]
        async with provider_at(pages(first, second)) as (provider, _):
            found = [sms async for sms in provider.list_inbound(since, until)]

        assert [sms.provider_message_id for sms in found] == ["SM1", "SM4"]
        assert (found[1].sender, found[1].recipient, found[1].body) == (SMS.sender, SMS.recipient, SMS.body)
        assert (found[1].provider, found[1].num_segments, found[1].media) == ("twilio", 3, ())
        assert json.loads(found[1].raw)["num_media"] == "1"


class TestRedact:
    async def test_empties_the_body(self) -> None:
        async with provider_at(lambda _: answer(message(body=""))) as (provider, server):
            assert await provider.redact(SID) is True

        assert [request.body for request in server.received] == [b"Body="]

    async def test_deletes_the_media_as_well(self) -> None:
        """An empty body leaves the photos where they are."""
        listed = ["ME1", "ME2"]

        def respond(request: Received) -> bytes:
            if request.method == "POST":
                return answer(message(body="", num_media="2"))
            if request.method == "GET":
                return reply(200, json.dumps({"media_list": [{"sid": sid} for sid in listed]}).encode())
            return reply(204) if "ME1" in request.target else error(20404, 404)  # somebody was faster

        async with provider_at(respond) as (provider, server):
            assert await provider.redact(SID) is True

        media = f"/2010-04-01/Accounts/{ACCOUNT}/Messages/{SID}/Media"
        assert [(request.method, request.target) for request in server.received[1:]] == [
            ("GET", f"{media}.json?PageSize=200"),
            ("DELETE", f"{media}/ME1.json"),
            ("DELETE", f"{media}/ME2.json"),
        ]

    @pytest.mark.parametrize("failing", ["GET", "DELETE"])
    async def test_media_that_cannot_be_deleted_now_is_no_success(self, failing: str) -> None:
        def respond(request: Received) -> bytes:
            if request.method == failing:
                return error(20503, 503)
            if request.method == "GET":
                return reply(200, b'{"media_list": [{"sid": "ME1"}]}')
            return answer(message(body="", num_media="1"))

        async with provider_at(respond) as (provider, _):
            assert (await error_of(provider.redact(SID))).kind is ErrorKind.UNAVAILABLE

    async def test_message_that_is_gone_needs_no_redaction(self) -> None:
        async with provider_at(lambda _: error(20404, 404)) as (provider, _):
            assert await provider.redact(SID) is True

    async def test_answer_that_still_holds_the_body_is_no_success(self) -> None:
        async with provider_at(lambda _: answer(MESSAGE)) as (provider, _):
            assert (await error_of(provider.redact(SID))).kind is ErrorKind.UNAVAILABLE


class TestWebhooks:
    @pytest.mark.parametrize(
        ("query", "reference"),
        [
            ("?ref=0a.1", "0a.1"),
            ("?x=1&ref=0a.1&y=2", "0a.1"),
            ("?ref=0a.1&ref=0b.2", "0a.1"),
            ("", None),
            ("?ref=", None),
            ("?reference=0a.1", None),
            ("?ref=0A", None),
            ("?ref=%00", None),
            ("?ref=" + "a" * 41, None),
            ("?ref=0a.1%20", None),
            ("?ref=0a.1\n", None),
            ("?xref=0a.1", None),
        ],
    )
    async def test_reference_is_taken_from_the_signed_url(self, query: str, reference: str | None) -> None:
        async with provider_at(lambda _: answer({})) as (provider, _):
            assert provider.read_status(status_webhook(f"/webhook/twilio/status{query}")).reference == reference

    async def test_name_of_the_configured_account_is_kept(self) -> None:
        async with provider_at(lambda _: answer({}), name="twilio-eu") as (provider, _):
            assert provider.read_inbound(inbound_webhook()).provider == "twilio-eu"
            assert provider.read_status(status_webhook()).provider == "twilio-eu"

    async def test_error_of_a_delivery_has_its_kind(self) -> None:
        fields = [("MessageSid", SID), ("MessageStatus", "failed"), ("ErrorCode", "21610")]
        async with provider_at(lambda _: answer({})) as (provider, _):
            report = provider.read_status(webhook("/webhook/twilio/status", *fields))

        assert (report.error_code, report.error_kind) == ("21610", ErrorKind.OPTED_OUT)

    @pytest.mark.parametrize(
        ("changes", "is_accepted"),
        [
            ({}, False),
            ({"inbound_account_sids": ["AC2"]}, True),
            ({"account_sid": ""}, True),
            ({"auth_token": "new", "auth_token_previous": TOKEN, "inbound_account_sids": ["AC2"]}, True),
            ({"auth_token": "new", "inbound_account_sids": ["AC2"]}, False),
        ],
    )
    async def test_accounts_and_tokens_are_those_configured(
        self, changes: dict[str, object], is_accepted: bool
    ) -> None:
        request = webhook("/webhook/twilio/sms", ("MessageSid", SID), ("From", "+1"), ("AccountSid", "AC2"))
        async with provider_at(lambda _: answer({}), **changes) as (provider, _):
            with nullcontext() if is_accepted else pytest.raises(NotAuthenticError):
                provider.read_inbound(request)
