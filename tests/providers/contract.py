"""The contract that every adapter passes: `class TestContract(ProviderContract): dialect = Dialect(...)`.

An adapter's test module says how its provider speaks; the claims below are the same for all of them. The provider is a
real HTTP server on loopback whose every byte is decided here.
"""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sms_foundation.core.http import HttpClient, create_http_client
from sms_foundation.providers.base import InboundSms, OutboundSms, Provider, SentQuery, StatusReport, WebhookRequest
from sms_foundation.providers.errors import (
    FACTS,
    ErrorKind,
    NotAuthenticError,
    ProviderError,
    Remedy,
    WebhookParseError,
)
from tests.loopback import LoopbackServer, Received, reply

SMS = OutboundSms(
    reference="0190a1b2c3d4.1", recipient="+14155550123", sender="+15005550006", body="Hola, ¿hay agua? 😀 & más=sí"
)
QUERY = SentQuery(
    reference=SMS.reference,
    recipient=SMS.recipient,
    sender=SMS.sender,
    body=SMS.body,
    attempted_at=datetime(2026, 11, 20, 12, 0, tzinfo=UTC),
)
MESSAGE_ID = "0123456789abcdef"
JSON = "application/json"

# Answers in which no provider says anything: as a 2xx they leave a send's outcome unknown.
GIBBERISH: Mapping[str, bytes] = {
    "nothing": b"",
    "empty object": b"{}",
    "html": b"<!doctype html><html><body>Welcome</body></html>",
    "half of an object": b'{"sid": "SM0123456789", "id": "0123456789", "messages": [{"mess',
    "list": b"[1, 2]",
    "null": b"null",
    "not utf-8": b'{"sid": "\xff\xfe"}',
    "nested without end": b'{"a":' * 2000 + b"1" + b"}" * 2000,
}

# Any JSON whose names are those that the providers use, so that wrong types stand in the right places.
_NAMES = "sid id status code message message-id messages errors items data recipients error_code body to 0".split()
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_NAMES), inner, max_size=5),
    max_leaves=8,
).map(lambda value: json.dumps(value).encode())


@dataclass(frozen=True)
class Refusal:
    """An answer to a send, and what it must come to."""

    answer: bytes = field(repr=False)
    kind: ErrorKind
    code: str | None = None


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """How one provider speaks.

    `open(base_url, http)`: the provider with its API at `base_url`. `accepted`: the whole response (`loopback.reply`)
    to a send, holding the id `accepted_id`. `refusals`: at least one per kind that the provider can express, by name.
    `rate_limited`: the body of a 429. `inbound`, `status`: genuine signed webhooks as of now (or of the clock that
    `open` passes on). `signature_headers`: lower-case names of the headers without which a webhook is not authentic;
    empty when the signature travels in the query or the body. `wrong_types`: the body of a 2xx to a send in which the
    right names hold values of wrong types, several of them.
    """

    open: Callable[[str, HttpClient], Provider]
    kind: str
    accepted: bytes = field(repr=False)
    accepted_id: str
    refusals: Mapping[str, Refusal]
    wrong_types: Sequence[object]
    inbound: Callable[[], WebhookRequest]
    status: Callable[[], WebhookRequest]
    signature_headers: Sequence[bytes]
    rate_limited: bytes = b"{}"
    accepted_status: int = 200


def always(answer: bytes | None) -> LoopbackServer:
    async def respond(request: Received) -> bytes | None:
        return answer

    return LoopbackServer(respond)


def never() -> LoopbackServer:
    async def stay_silent(request: Received) -> bytes | None:
        await asyncio.Event().wait()
        return None

    return LoopbackServer(stay_silent)


def closed_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@asynccontextmanager
async def opened(
    dialect: Dialect, base_url: str, *, read_timeout_s: float = 5.0, connect_timeout_s: float = 5.0
) -> AsyncIterator[Provider]:
    http = create_http_client(
        read_timeout_s=read_timeout_s,
        connect_timeout_s=connect_timeout_s,
        pool_timeout_s=connect_timeout_s,
        max_connections=1,
    )
    provider = dialect.open(base_url, http)
    try:
        yield provider
    finally:
        await provider.aclose()
        await http.aclose()


@asynccontextmanager
async def answered(
    dialect: Dialect, server: LoopbackServer, *, read_timeout_s: float = 5.0
) -> AsyncIterator[tuple[Provider, LoopbackServer]]:
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(server)
        provider = await stack.enter_async_context(opened(dialect, server.base_url, read_timeout_s=read_timeout_s))
        yield provider, server


async def error_of(call: Awaitable[object]) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        await call
    return caught.value


async def outcome_of(call: Awaitable[object]) -> tuple[object, ...]:
    """Return what a call came to, comparable; whatever is no ProviderError escapes and fails the test."""
    try:
        result = await call
    except ProviderError as error:
        return error.kind, error.provider_code, error.status_code, error.retry_after_s
    return (result,)


def asking_calls(provider: Provider) -> Mapping[str, Callable[[], Awaitable[object]]]:
    async def list_inbound() -> list[InboundSms]:
        until = QUERY.attempted_at
        return [sms async for sms in provider.list_inbound(until - timedelta(hours=1), until)]

    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "fetch_status": lambda: provider.fetch_status(MESSAGE_ID),
        "redact": lambda: provider.redact(MESSAGE_ID),
        "list_inbound": list_inbound,
    }
    if provider.can_look_up:
        calls["find_sent"] = lambda: provider.find_sent(QUERY)
    return calls


class ProviderContract:
    """Inherit as `TestContract` and set `dialect`."""

    dialect: ClassVar[Dialect]

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "refusal" in metafunc.fixturenames:
            refusals = self.dialect.refusals
            metafunc.parametrize("refusal", refusals.values(), ids=[name.replace(" ", "-") for name in refusals])
        if "wrong_types" in metafunc.fixturenames:
            metafunc.parametrize("wrong_types", self.dialect.wrong_types)
        if "webhook_kind" in metafunc.fixturenames:
            metafunc.parametrize("webhook_kind", ["inbound", "status"])

    # --- what it is

    async def test_tells_its_kind_and_name(self) -> None:
        async with opened(self.dialect, "http://127.0.0.1:1") as provider:
            assert provider.kind == self.dialect.kind
            assert provider.name
            assert provider.webhook_shape.methods <= {"GET", "POST"}

    async def test_closing_twice_is_the_same_as_once(self) -> None:
        async with opened(self.dialect, "http://127.0.0.1:1") as provider:
            await provider.aclose()
            await provider.aclose()

    # --- send: taken

    async def test_accepted_send_is_one_request_and_brings_the_message_id(self) -> None:
        async with answered(self.dialect, always(self.dialect.accepted)) as (provider, server):
            receipt = await provider.send(SMS)

        assert receipt.provider_message_id == self.dialect.accepted_id
        assert isinstance(json.loads(receipt.raw), dict)
        assert len(server.received) == 1

    async def test_text_that_is_no_unicode_is_refused_and_nothing_leaves(self) -> None:
        async with answered(self.dialect, always(self.dialect.accepted)) as (provider, server):
            error = await error_of(provider.send(replace(SMS, body="half a pair \ud83d")))

        assert error.kind is ErrorKind.INVALID_REQUEST
        assert server.received == []

    async def test_errors_and_values_show_neither_body_nor_secrets(self) -> None:
        async with answered(self.dialect, always(reply(500, SMS.body.encode()))) as (provider, _server):
            error = await error_of(provider.send(SMS))

        assert SMS.body not in repr(error) + str(error) + repr(SMS) + repr(provider)

    # --- send: refused

    async def test_refusal_has_its_kind_and_code(self, refusal: Refusal) -> None:
        async with answered(self.dialect, always(refusal.answer)) as (provider, server):
            error = await error_of(provider.send(SMS))

        assert (error.kind, error.provider_code) == (refusal.kind, refusal.code)
        assert len(server.received) == 1

    def test_refusals_of_every_remedy_are_given(self) -> None:
        remedies = {FACTS[refusal.kind].remedy for refusal in self.dialect.refusals.values()}

        assert {Remedy.GIVE_UP, Remedy.SEND_AGAIN} <= remedies

    @pytest.mark.parametrize(("header", "seconds"), [("7", 7.0), ("999999", 3600.0), ("soon", None), (None, None)])
    async def test_429_means_slow_down_for_as_long_as_it_says(self, header: str | None, seconds: float | None) -> None:
        headers = {} if header is None else {"retry_after": header}
        answer = reply(429, self.dialect.rate_limited, content_type=JSON, **headers)
        async with answered(self.dialect, always(answer)) as (provider, server):
            error = await error_of(provider.send(SMS))

        assert (error.kind, error.retry_after_s, error.status_code) == (ErrorKind.RATE_LIMITED, seconds, 429)
        assert len(server.received) == 1

    # --- send: nobody knows

    @pytest.mark.parametrize("status", [500, 502, 503, 504, 599])
    @pytest.mark.parametrize("body", [b"", b"{}", GIBBERISH["html"]])
    async def test_5xx_without_a_code_leaves_the_outcome_unknown(self, status: int, body: bytes) -> None:
        async with answered(self.dialect, always(reply(status, body))) as (provider, server):
            error = await error_of(provider.send(SMS))

        assert (error.kind, error.status_code) == (ErrorKind.UNKNOWN_OUTCOME, status)
        assert len(server.received) == 1

    @pytest.mark.parametrize("name", GIBBERISH)
    async def test_2xx_that_tells_nothing_leaves_the_outcome_unknown(self, name: str) -> None:
        answer = reply(self.dialect.accepted_status, GIBBERISH[name], content_type=JSON)
        async with answered(self.dialect, always(answer)) as (provider, server):
            error = await error_of(provider.send(SMS))

        assert error.kind is ErrorKind.UNKNOWN_OUTCOME
        assert len(server.received) == 1

    async def test_2xx_of_wrong_types_leaves_the_outcome_unknown(self, wrong_types: object) -> None:
        answer = reply(self.dialect.accepted_status, json.dumps(wrong_types).encode(), content_type=JSON)
        async with answered(self.dialect, always(answer)) as (provider, _server):
            error = await error_of(provider.send(SMS))

        assert error.kind is ErrorKind.UNKNOWN_OUTCOME

    async def test_answer_larger_than_any_is_unknown_and_not_read_to_its_end(self) -> None:
        answer = reply(self.dialect.accepted_status, b" " * 8_000_000, content_type=JSON)
        async with answered(self.dialect, always(answer)) as (provider, _server):
            error = await error_of(provider.send(SMS))

        assert error.kind is ErrorKind.UNKNOWN_OUTCOME

    @pytest.mark.parametrize(
        "answer", [None, b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\n{", b"SSH-2.0-OpenSSH_9.9\r\n\r\n"]
    )
    async def test_connection_lost_after_the_request_leaves_the_outcome_unknown(self, answer: bytes | None) -> None:
        async with answered(self.dialect, always(answer), read_timeout_s=0.05) as (provider, server):
            error = await error_of(provider.send(SMS))

        assert error.kind is ErrorKind.UNKNOWN_OUTCOME
        assert len(server.received) == 1, "nothing is sent again behind the caller's back"

    async def test_silence_after_the_request_leaves_the_outcome_unknown(self) -> None:
        async with answered(self.dialect, never(), read_timeout_s=0.05) as (provider, server):
            error = await error_of(provider.send(SMS))

        assert error.kind is ErrorKind.UNKNOWN_OUTCOME
        assert len(server.received) == 1

    # --- send: certainly not sent

    async def test_refused_connection_means_certainly_not_sent(self) -> None:
        async with opened(self.dialect, f"http://127.0.0.1:{closed_port()}") as provider:
            error = await error_of(provider.send(SMS))

        assert error.kind is ErrorKind.UNAVAILABLE

    async def test_no_connection_in_time_means_certainly_not_sent(self) -> None:
        """The pool holds one connection, which another send occupies."""
        async with never() as server, opened(self.dialect, server.base_url, connect_timeout_s=0.05) as provider:
            holder = asyncio.create_task(provider.send(SMS))
            await server.has_received.wait()
            error = await error_of(provider.send(SMS))
            holder.cancel()
            with pytest.raises(asyncio.CancelledError):
                await holder

        assert error.kind is ErrorKind.UNAVAILABLE
        assert len(server.received) == 1

    # --- asking: look-ups, statuses, lists, redaction

    @pytest.mark.parametrize("answer", [None, reply(500), reply(503, b"{}"), reply(502, GIBBERISH["html"])])
    async def test_asking_in_vain_is_unavailable(self, answer: bytes | None) -> None:
        async with answered(self.dialect, always(answer)) as (provider, server):
            for name, call in asking_calls(provider).items():
                before = len(server.received)
                outcome = await outcome_of(call())
                if len(server.received) > before:  # else the provider cannot be asked at all
                    assert outcome[0] is ErrorKind.UNAVAILABLE, name

    @pytest.mark.parametrize("name", GIBBERISH)
    async def test_look_up_that_was_not_understood_does_not_mean_absent(self, name: str) -> None:
        async with answered(self.dialect, always(reply(200, GIBBERISH[name], content_type=JSON))) as (provider, _):
            if provider.can_look_up:
                error = await error_of(provider.find_sent(QUERY))
                assert error.kind is ErrorKind.UNAVAILABLE

    async def test_refused_connection_is_unavailable_whatever_was_asked(self) -> None:
        async with opened(self.dialect, f"http://127.0.0.1:{closed_port()}") as provider:
            for name, call in asking_calls(provider).items():
                outcome = await outcome_of(call())
                assert outcome[0] in (None, False, [], ErrorKind.UNAVAILABLE), name

    # --- whatever comes

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.differing_executors])
    @given(
        status=st.integers(200, 599),
        body=st.sampled_from(list(GIBBERISH.values())) | st.binary(max_size=40) | ANY_JSON,
    )
    async def test_any_answer_comes_to_the_same_twice_and_nothing_else_escapes(self, status: int, body: bytes) -> None:
        answer = reply(status, b"" if status in (204, 304) else body, content_type=JSON)
        async with answered(self.dialect, always(answer)) as (provider, server):
            assert await outcome_of(provider.send(SMS)) == await outcome_of(provider.send(SMS))
            assert len(server.received) == 2
            for call in asking_calls(provider).values():
                assert await outcome_of(call()) == await outcome_of(call())

    # --- webhooks

    async def test_genuine_webhooks_are_read(self) -> None:
        async with opened(self.dialect, "http://127.0.0.1:1") as provider:
            sms = provider.read_inbound(self.dialect.inbound())
            report = provider.read_status(self.dialect.status())

        assert sms.provider == report.provider == provider.name
        assert sms.sender
        assert sms.provider_message_id
        assert report.provider_message_id
        assert isinstance(json.loads(sms.raw), dict)
        assert isinstance(json.loads(report.raw), dict)

    async def test_status_webhook_brings_the_reference_back(self) -> None:
        """`dialect.status` is about SMS."""
        async with opened(self.dialect, "http://127.0.0.1:1") as provider:
            assert provider.read_status(self.dialect.status()).reference == SMS.reference

    async def test_webhook_without_its_signature_is_refused(self, webhook_kind: str) -> None:
        request = self._webhook(webhook_kind)
        async with opened(self.dialect, "http://127.0.0.1:1") as provider:
            for name in self.dialect.signature_headers:
                headers = {key: value for key, value in request.headers.items() if key != name}
                with pytest.raises(NotAuthenticError):
                    self._read(provider, webhook_kind, replace(request, headers=headers))

    async def test_webhook_with_another_signature_is_refused(self, webhook_kind: str) -> None:
        request = self._webhook(webhook_kind)
        async with opened(self.dialect, "http://127.0.0.1:1") as provider:
            for name in self.dialect.signature_headers:
                for value in (b"", b"AAAA", b"\xff", request.headers[name][:-4] + b"AAAA", b"=" * 10_000):
                    with pytest.raises(NotAuthenticError):
                        self._read(provider, webhook_kind, replace(request, headers={**request.headers, name: value}))

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.differing_executors])
    @given(data=st.data())
    async def test_changed_webhook_is_refused(self, data: st.DataObject) -> None:
        webhook_kind = data.draw(st.sampled_from(["inbound", "status"]))
        request = self._webhook(webhook_kind)
        signed = request.body or request.path_and_query.encode()
        at = data.draw(st.integers(0, len(signed) - 1))
        changed = signed[:at] + bytes([signed[at] ^ data.draw(st.integers(1, 127))]) + signed[at + 1 :]
        forged = (
            replace(request, body=changed)
            if request.body
            else replace(request, path_and_query=changed.decode("utf-8", "surrogateescape"))
        )
        async with opened(self.dialect, "http://127.0.0.1:1") as provider:
            try:
                read = self._read(provider, webhook_kind, forged)
            except (NotAuthenticError, WebhookParseError):
                return
            # Another spelling of the same form (`+` for `%20`, hex digits in capitals) says and means the same.
            assert read == self._read(provider, webhook_kind, request)

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.differing_executors])
    @given(
        webhook_kind=st.sampled_from(["inbound", "status"]),
        method=st.sampled_from(["GET", "POST"]),
        query=st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=60),
        value=st.binary(max_size=60),
        body=st.binary(max_size=200),
    )
    async def test_garbage_is_refused(
        self, webhook_kind: str, method: str, query: str, value: bytes, body: bytes
    ) -> None:
        genuine = self._webhook(webhook_kind)
        headers = {**genuine.headers, **dict.fromkeys(self.dialect.signature_headers, value)}
        request = WebhookRequest(method, f"/webhook/{self.dialect.kind}/sms?{query}", headers, body)
        async with opened(self.dialect, "http://127.0.0.1:1") as provider:
            with pytest.raises((NotAuthenticError, WebhookParseError)):
                self._read(provider, webhook_kind, request)

    def _webhook(self, webhook_kind: str) -> WebhookRequest:
        return self.dialect.inbound() if webhook_kind == "inbound" else self.dialect.status()

    def _read(self, provider: Provider, webhook_kind: str, request: WebhookRequest) -> InboundSms | StatusReport:
        return provider.read_inbound(request) if webhook_kind == "inbound" else provider.read_status(request)
