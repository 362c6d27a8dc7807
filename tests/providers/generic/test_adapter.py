import json
from dataclasses import replace
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

import pytest
from pydantic import ValidationError

from sms_foundation.core.clock import utc_now
from sms_foundation.core.http import HttpClient, create_http_client
from sms_foundation.providers.base import MessageStatus, WebhookRequest
from sms_foundation.providers.errors import ErrorKind, NotAuthenticError, WebhookParseError
from sms_foundation.providers.generic.adapter import GenericConfig, GenericProvider
from sms_foundation.providers.generic.signature import sign_body
from tests.loopback import LoopbackServer, reply
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

BASE = "https://sms.example.com"
FORM = "application/x-www-form-urlencoded"
SECRET = "webhook-secret"
SETTINGS: dict[str, object] = {
    "name": "other",
    "headers": {"X-Api-Key": "key"},
    "body": {
        "message": {"recipients": ["{to}"], "sender": "{from_digits}", "text": "{body}"},
        "ref": "{reference}",
        "callback": "{status_url}",
        "flash": False,
    },
    "answer": {
        "message_id_path": "result.ids.0",
        "code_path": "result.code",
        "text_path": "result.text",
        "kinds_by_code": {"77": "opted_out", "SLOW": "rate_limited"},
        "kinds_by_status": {"418": "content_rejected", "502": "unavailable"},
    },
    "inbound": {
        "message_id_path": "sms.id",
        "sender_path": "sms.from",
        "recipient_path": "sms.to",
        "body_path": "sms.text",
    },
    "status": {
        "reference_path": "ref",
        "statuses": {"handed-over": "sent", "arrived": "delivered"},
        "kinds_by_error_code": {"7": "opted_out"},
    },
    "webhook_auth": {"scheme": "hmac", "header": "X-Signature", "secret": SECRET, "prefix": "sha256="},
}


def config(base_url: str = "https://api.example.com", **changes: object) -> GenericConfig:
    look_up = {"url": base_url + "/messages?ref={reference}", "list_path": "found"}
    return GenericConfig.model_validate({"send_url": f"{base_url}/messages", "look_up": look_up, **SETTINGS, **changes})


def open_provider(base_url: str, http: HttpClient, **changes: object) -> GenericProvider:
    return GenericProvider(config(base_url, **changes), http, base_urls=(BASE,))


def answer(value: object, status: int = 200) -> bytes:
    return reply(status, json.dumps(value).encode(), content_type=JSON)


ACCEPTED = answer({"result": {"ids": ["m-1"], "code": "OK"}}, 202)


def signed(path: str, body: bytes, *, content_type: str = JSON, secret: str = SECRET) -> WebhookRequest:
    signature = b"sha256=" + sign_body(secret, body, encoding="hex")
    headers = {b"content-type": content_type.encode(), b"x-signature": signature}
    return WebhookRequest("POST", path, headers, body)


def inbound_webhook() -> WebhookRequest:
    text = {"sms": {"id": "in-1", "from": "14155550123", "to": "15005550006", "text": "Hola"}}
    return signed("/webhook/other/sms", json.dumps(text).encode())


def status_webhook() -> WebhookRequest:
    report = {"id": "m-1", "status": "Arrived", "ref": SMS.reference}
    return signed("/webhook/other/status", json.dumps(report).encode())


class TestContract(ProviderContract):
    dialect = Dialect(
        open=open_provider,
        kind="http",
        accepted=ACCEPTED,
        accepted_id="m-1",
        accepted_status=202,
        refusals={
            "bad request": Refusal(reply(400), ErrorKind.INVALID_REQUEST),
            "not found": Refusal(reply(404), ErrorKind.INVALID_REQUEST),
            "unprocessable": Refusal(reply(422), ErrorKind.INVALID_REQUEST),
            "unauthorized": Refusal(reply(401), ErrorKind.ACCOUNT),
            "forbidden": Refusal(reply(403), ErrorKind.ACCOUNT),
            "configured status": Refusal(reply(418), ErrorKind.CONTENT_REJECTED),
            "configured code": Refusal(answer({"result": {"code": 77}}, 400), ErrorKind.OPTED_OUT, "77"),
            "configured code in a 200": Refusal(
                answer({"result": {"code": "SLOW", "ids": ["m-1"]}}), ErrorKind.RATE_LIMITED, "SLOW"
            ),
            "server error": Refusal(reply(500), ErrorKind.UNKNOWN_OUTCOME),
        },
        wrong_types=[
            {"result": value}
            for value in (None, [], "m-1", {"ids": "m-1"}, {"ids": [None]}, {"ids": [{}]}, {"ids": []})
        ],
        inbound=inbound_webhook,
        status=status_webhook,
        signature_headers=[b"x-signature"],
    )

    @pytest.mark.parametrize("status", [500, 503, 504, 599])  # what 502 means is configured here
    @pytest.mark.parametrize("body", [b"", b"{}"])
    async def test_5xx_without_a_code_leaves_the_outcome_unknown(self, status: int, body: bytes) -> None:
        async with answered(self.dialect, always(reply(status, body))) as (provider, _):
            assert (await error_of(provider.send(SMS))).kind is ErrorKind.UNKNOWN_OUTCOME


class TestSend:
    async def sent(self, sms: object = SMS, **changes: object) -> LoopbackServer:
        async with always(ACCEPTED) as server, create_http_client() as http:
            receipt = await open_provider(server.base_url, http, **changes).send(SMS)

        assert receipt.provider_message_id == "m-1"
        return server

    async def test_json_template_is_filled_in_at_any_depth(self) -> None:
        [request] = (await self.sent()).received

        assert (request.method, request.target, request.headers["x-api-key"]) == ("POST", "/messages", "key")
        assert json.loads(request.body) == {
            "message": {"recipients": ["+14155550123"], "sender": "15005550006", "text": SMS.body},
            "ref": SMS.reference,
            "callback": f"{BASE}/webhook/other/status?ref={SMS.reference}",
            "flash": False,
        }

    async def test_form_template_is_encoded(self) -> None:
        body = {"To": "{to}", "Text": "<{body}>", "Fixed": "1"}
        [request] = (await self.sent(body_format="form", body=body)).received

        assert request.headers["content-type"] == FORM
        assert dict(parse_qsl(request.body.decode())) == {"To": SMS.recipient, "Text": f"<{SMS.body}>", "Fixed": "1"}

    async def test_url_template_is_percent_encoded_and_a_get_has_no_body(self) -> None:
        async with always(ACCEPTED) as server, create_http_client() as http:
            url = server.base_url + "/send/{to_digits}?text={body}&ref={reference}"
            await open_provider(server.base_url, http, send_url=url, method="GET").send(SMS)

        [request] = server.received
        assert (request.method, request.body) == ("GET", b"")
        assert urlsplit(request.target).path == "/send/14155550123"
        assert parse_qs(urlsplit(request.target).query) == {"text": [SMS.body], "ref": [SMS.reference]}

    async def test_url_with_half_a_character_is_refused_before_anything_leaves(self) -> None:
        async with always(ACCEPTED) as server, create_http_client() as http:
            provider = open_provider(server.base_url, http, send_url=server.base_url + "/?text={body}", method="GET")
            failure = await error_of(provider.send(replace(SMS, body="\ud83d")))

        assert failure.kind is ErrorKind.INVALID_REQUEST
        assert server.received == []

    async def test_media_are_refused_before_anything_leaves(self) -> None:
        async with answered(TestContract.dialect, always(ACCEPTED)) as (provider, server):
            failure = await error_of(provider.send(replace(SMS, media_urls=("https://example.com/1.png",))))

        assert failure.kind is ErrorKind.INVALID_REQUEST
        assert server.received == []

    async def test_configured_status_may_say_that_nothing_was_taken(self) -> None:
        async with answered(TestContract.dialect, always(reply(502))) as (provider, _):
            assert (await error_of(provider.send(SMS))).kind is ErrorKind.UNAVAILABLE


class TestFindSent:
    async def test_asks_by_reference_with_the_same_headers(self) -> None:
        found = [{"id": "m-1", "reference": QUERY.reference}]
        async with answered(TestContract.dialect, always(answer({"found": found}))) as (provider, server):
            [receipt] = await provider.find_sent(QUERY)

        assert receipt.provider_message_id == "m-1"
        assert server.targets == [f"/messages?ref={QUERY.reference}"]
        assert server.received[0].headers["x-api-key"] == "key"

    async def test_empty_list_means_that_it_is_not_there(self) -> None:
        async with answered(TestContract.dialect, always(answer({"found": []}))) as (provider, _):
            assert provider.can_look_up is True
            assert await provider.find_sent(QUERY) == []

    @pytest.mark.parametrize(
        "found",
        [None, {}, "none", [1], [{"id": "m-2", "reference": "another"}], [{"id": None, "reference": QUERY.reference}]],
    )
    async def test_anything_else_does_not_mean_absent(self, found: object) -> None:
        async with answered(TestContract.dialect, always(answer({"found": found}))) as (provider, _):
            failure = await error_of(provider.find_sent(QUERY))

        assert failure.kind is ErrorKind.UNAVAILABLE

    async def test_missing_page_does_not_mean_absent(self) -> None:
        async with answered(TestContract.dialect, always(reply(404))) as (provider, _):
            assert (await error_of(provider.find_sent(QUERY))).status_code == 404

    async def test_is_not_possible_unless_configured(self) -> None:
        async with create_http_client() as http:
            provider = open_provider("http://127.0.0.1:1", http, look_up=None)

            assert provider.can_look_up is False
            assert (await error_of(provider.find_sent(QUERY))).kind is ErrorKind.UNAVAILABLE


class TestWhatCannotBeAsked:
    async def test_status_inbound_and_redaction(self) -> None:
        async with opened(TestContract.dialect, "http://127.0.0.1:1") as provider:
            assert await provider.fetch_status("m-1") is None
            assert await provider.redact("m-1") is False
            assert provider.can_redact is False
            assert [sms async for sms in provider.list_inbound(utc_now(), utc_now())] == []


class TestWebhooks:
    async def test_fields_are_found_by_their_paths(self) -> None:
        async with opened(TestContract.dialect, "http://127.0.0.1:1") as provider:
            sms = provider.read_inbound(inbound_webhook())
            report = provider.read_status(status_webhook())

        assert (sms.provider_message_id, sms.body) == ("in-1", "Hola")
        assert (sms.sender, sms.recipient) == ("+14155550123", "+15005550006")
        assert (report.event_status, report.status) == ("arrived", MessageStatus.DELIVERED)

    async def test_form_is_read_as_well(self) -> None:
        body = urlencode({"id": "m-1", "status": "lost", "error_code": "7", "error_text": "gone"}).encode()
        async with opened(TestContract.dialect, "http://127.0.0.1:1") as provider:
            report = provider.read_status(signed("/webhook/other/status", body, content_type=FORM))

        assert (report.status, report.error_code, report.error_message) == (None, "7", "gone")
        assert report.error_kind is ErrorKind.OPTED_OUT

    async def test_reference_comes_from_our_url_when_the_provider_echoes_none(self) -> None:
        request = signed("/webhook/other/status?ref=abc.1", b'{"id": "m-1", "status": "sent"}')
        async with create_http_client() as http:
            provider = open_provider("http://127.0.0.1:1", http, status={})

            assert provider.read_status(request).reference == "abc.1"
            assert provider.read_status(replace(request, path_and_query="/webhook/other/status")).reference is None

    @pytest.mark.parametrize("text", [None, 7, ["a"]])
    async def test_text_without_words_is_refused(self, text: object) -> None:
        body = json.dumps({"sms": {"id": "1", "from": "+1", "text": text}}).encode()
        async with opened(TestContract.dialect, "http://127.0.0.1:1") as provider:
            with pytest.raises(WebhookParseError, match=r"sms\.text is missing"):
                provider.read_inbound(signed("/webhook/other/sms", body))

    async def test_query_is_not_read_under_an_hmac_because_it_is_not_signed(self) -> None:
        request = replace(status_webhook(), path_and_query="/webhook/other/status?id=another&error_code=9")
        async with opened(TestContract.dialect, "http://127.0.0.1:1") as provider:
            assert provider.read_status(request) == provider.read_status(status_webhook())
            assert provider.webhook_shape.methods == {"POST"}

    async def test_bearer_token_lets_a_get_in(self) -> None:
        request = WebhookRequest(
            "GET", "/webhook/other/status?id=m-1&status=sent", {b"authorization": b"Bearer t"}, b""
        )
        async with create_http_client() as http:
            provider = open_provider("http://127.0.0.1:1", http, webhook_auth={"scheme": "bearer", "token": "t"})

            assert provider.webhook_shape.methods == {"GET", "POST"}
            assert provider.read_status(request).provider_message_id == "m-1"

    async def test_every_webhook_is_refused_without_a_configured_secret(self) -> None:
        async with create_http_client() as http:
            provider = open_provider("http://127.0.0.1:1", http, webhook_auth=None)
            with pytest.raises(NotAuthenticError):
                provider.read_inbound(inbound_webhook())


class TestConfig:
    @pytest.mark.parametrize(
        ("changes", "problem"),
        [
            ({"send_url": "ftp://example.com"}, "http://"),
            ({"send_url": "https://example.com/{too}"}, "unknown placeholder {too}"),
            ({"body": {"a": [{"b": "{text}"}]}}, "unknown placeholder {text}"),
            ({"body_format": "form", "body": {"a": 1}}, "a form holds texts only"),
            ({"look_up": {"url": "https://example.com", "list_path": "x"}}, "must hold {reference}"),
            ({"look_up": {"url": "https://example.com/{reference}/{body}", "list_path": "x"}}, "unknown placeholder"),
            ({"headers": {"X-Key": "a\r\nX-Other: b"}}, "printable ASCII"),
            ({"headers": {"X Key": "a"}}, "headers"),
            ({"answer": {"message_id_path": "id", "kinds_by_status": {"200": "account"}}}, "greater than"),
            ({"answer": {"message_id_path": "id", "kinds_by_code": {"1": "sad"}}}, "kinds_by_code"),
            ({"webhook_auth": {"scheme": "hmac", "header": "X", "secret": ""}}, "secret"),
            ({"surprise": 1}, "surprise"),
        ],
    )
    def test_mistakes_are_named(self, changes: dict[str, object], problem: str) -> None:
        with pytest.raises(ValidationError) as caught:
            config(**changes)

        assert problem in str(caught.value)

    def test_shows_no_secret(self) -> None:
        shown = repr(config(headers={"X-Api-Key": "hidden"}, body={"password": "hidden"}))

        assert "hidden" not in shown
        assert SECRET not in shown
