import asyncio
import socket
from collections.abc import Callable

import pytest
from starlette.responses import PlainTextResponse, Response

from sms_foundation.simulator.answers import Answer, DebuggerCode, Verdict, judge_inbound
from sms_foundation.simulator.delivery import Event, WebhookCourier
from sms_foundation.simulator.forms import Pairs, inbound_form
from sms_foundation.simulator.journal import Delivery, EventKind
from sms_foundation.simulator.timing import Timing
from tests.loopback import LoopbackServer, Received
from tests.simulator.servers import AUTH_TOKEN, TWIML, FakeTime, ReceivedWebhook, Receiver, closed_port_url

SID = "SM" + "0a" * 16
BAD_GATEWAY = Response(status_code=502)


def event(
    url: str,
    *,
    fallback_url: str | None = None,
    pairs: Pairs | None = None,
    judge: Callable[[Answer], Verdict] = judge_inbound,
) -> Event:
    form = inbound_form(
        message_sid=SID, account_sid="AC1", sender="+15125550142", recipient="+15005550006", body="¿Sí? 🙏 a&b=c"
    )
    return Event(EventKind.TEXT, SID, "+15125550142", "+15005550006", pairs or form, url, judge, fallback_url)


async def deliver(
    event: Event,
    *,
    public_base_url: str = "http://unused.example",
    deliver_base_url: str = "http://unused.example",
    timing: Timing | None = None,
) -> Delivery:
    courier = WebhookCourier(
        auth_token=AUTH_TOKEN,
        public_base_url=public_base_url,
        deliver_base_url=deliver_base_url,
        timing=timing or Timing(),
    )
    async with courier:
        return await courier.deliver(event)


async def say_nothing(_: Received) -> bytes | None:
    await asyncio.Event().wait()
    return None


async def hang_up(_: Received) -> bytes | None:
    return None


async def talk_nonsense(_: Received) -> bytes | None:
    return b"SSH-2.0-OpenSSH\r\n\r\n"


class TestSigning:
    async def test_twilios_sdk_accepts_it_with_blanks_accents_and_a_query(self, receiver: Receiver) -> None:
        delivery = await deliver(event(f"{receiver.base_url}/sms?id=a%20b&empty="))
        assert delivery.is_delivered
        assert receiver.unsigned == 0
        assert receiver.received[0].form["Body"] == "¿Sí? 🙏 a&b=c"
        assert receiver.received[0].form["FromZip"] == ""

    async def test_headers_are_twilios(self, receiver: Receiver) -> None:
        await deliver(event(f"{receiver.base_url}/sms"))
        headers = receiver.received[0].headers
        assert headers["user-agent"] == "TwilioProxy/1.1"
        assert headers["accept"] == "*/*"
        assert headers["content-type"] == "application/x-www-form-urlencoded; charset=UTF-8"
        assert headers["i-twilio-idempotency-token"]

    async def test_fragment_is_neither_signed_nor_sent(self, receiver: Receiver) -> None:
        delivery = await deliver(event(f"{receiver.base_url}/sms?x=1#rc=2&rp=all"))
        assert delivery.is_delivered
        assert receiver.received[0].path == "/sms?x=1"
        assert delivery.attempts[0].url == f"{receiver.base_url}/sms?x=1"

    async def test_public_url_is_signed_while_the_request_goes_to_the_other(self, receiver: Receiver) -> None:
        receiver.signed_base_url = "https://sms.example.org"
        delivery = await deliver(
            event("https://sms.example.org/sms?x=1"),
            public_base_url="https://sms.example.org/",
            deliver_base_url=receiver.base_url,
        )
        assert delivery.is_delivered
        assert receiver.received[0].headers["host"] == "sms.example.org"

    async def test_a_host_that_only_begins_like_the_public_one_is_not_rerouted(self, receiver: Receiver) -> None:
        delivery = await deliver(
            event("https://sms.example.org.invalid/sms#rc=0"),
            public_base_url="https://sms.example.org",
            deliver_base_url=receiver.base_url,
        )
        assert not delivery.is_delivered
        assert receiver.received == []

    async def test_bytes_that_are_no_utf8_go_out_as_they_came(self) -> None:
        async def accept(_: Received) -> bytes | None:
            return b"HTTP/1.1 204 No Content\r\n\r\n"

        async with LoopbackServer(accept) as server:
            delivery = await deliver(event(f"{server.base_url}/", pairs=(("Body", "caf\udce9"),)))
            assert delivery.is_delivered
            assert server.received[0].body == b"Body=caf%E9"

    async def test_credentials_are_dropped_from_the_signed_url_and_sent_only_when_asked(
        self, receiver: Receiver
    ) -> None:
        receiver.answers.append(Response(status_code=401, headers={"WWW-Authenticate": 'Basic realm="sms"'}))
        delivery = await deliver(event(receiver.base_url.replace("://", "://user:pa%40ss@") + "/sms"))
        assert delivery.is_delivered
        assert len(delivery.attempts) == 1
        first, second = receiver.received
        assert "authorization" not in first.headers
        assert second.headers["authorization"] == "Basic dXNlcjpwYUBzcw=="
        assert "user" not in delivery.attempts[0].url


class TestRetries:
    @pytest.mark.parametrize("status", [403, 500, 503])
    async def test_by_default_an_answer_is_never_asked_for_twice(self, receiver: Receiver, status: int) -> None:
        receiver.answers.append(Response(status_code=status))
        delivery = await deliver(event(f"{receiver.base_url}/sms"))
        assert [attempt.status_code for attempt in delivery.attempts] == [status]
        assert delivery.error_code is DebuggerCode.HTTP_RETRIEVAL_FAILURE

    async def test_by_default_a_refused_connection_is_tried_once_more(self) -> None:
        delivery = await deliver(event(f"{closed_port_url()}/sms"))
        assert [attempt.error_code for attempt in delivery.attempts] == [DebuggerCode.CONNECTION_FAILURE] * 2
        assert delivery.status_code is None

    async def test_policy_and_count_decide_and_the_token_stays(self, receiver: Receiver) -> None:
        receiver.answers.extend([BAD_GATEWAY, BAD_GATEWAY])
        delivery = await deliver(event(f"{receiver.base_url}/sms#rc=3&rp=5xx"))
        assert [attempt.status_code for attempt in delivery.attempts] == [502, 502, 200]
        assert delivery.is_delivered
        assert {each.headers["i-twilio-idempotency-token"] for each in receiver.received} == {
            delivery.idempotency_token
        }
        assert len({each.raw for each in receiver.received}) == 1

    async def test_count_ends_the_retries(self, receiver: Receiver) -> None:
        receiver.answers.extend([BAD_GATEWAY] * 3)
        delivery = await deliver(event(f"{receiver.base_url}/sms#rc=2&rp=all"))
        assert len(delivery.attempts) == 3
        assert not delivery.is_delivered

    async def test_a_failure_the_policy_does_not_name_is_final(self, receiver: Receiver) -> None:
        receiver.answers.append(Response(status_code=404))
        delivery = await deliver(event(f"{receiver.base_url}/sms#rc=5&rp=5xx,ct,rt"))
        assert len(delivery.attempts) == 1

    async def test_bad_twiml_is_never_tried_again(self, receiver: Receiver) -> None:
        receiver.answers.append(PlainTextResponse("{}", media_type="application/json"))
        delivery = await deliver(event(f"{receiver.base_url}/sms#rc=5&rp=all"))
        assert [attempt.error_code for attempt in delivery.attempts] == [DebuggerCode.INVALID_CONTENT_TYPE]

    async def test_total_time_bounds_all_tries_together(self, receiver: Receiver, fake_time: FakeTime) -> None:
        def answer_after_6_s(_: ReceivedWebhook) -> Response:
            fake_time.now_s += 6
            return BAD_GATEWAY

        receiver.answers.extend([answer_after_6_s] * 6)
        delivery = await deliver(event(f"{receiver.base_url}/sms#rc=5&rp=5xx"), timing=fake_time.timing)
        assert [attempt.latency_ms for attempt in delivery.attempts] == [6000, 6000, 6000]

    async def test_silence_is_a_read_timeout(self) -> None:
        async with LoopbackServer(say_nothing) as server:
            delivery = await deliver(event(f"{server.base_url}/sms#rt=100&rc=1&rp=rt"))
        assert [attempt.error_code for attempt in delivery.attempts] == [DebuggerCode.HTTP_RETRIEVAL_FAILURE] * 2

    async def test_total_time_also_cuts_a_single_try_short(self) -> None:
        async with LoopbackServer(say_nothing) as server:
            delivery = await deliver(event(f"{server.base_url}/sms#tt=100"))
        assert [attempt.reason for attempt in delivery.attempts] == ["no complete answer in time"]


class TestFailures:
    @pytest.mark.parametrize("answer", [hang_up, talk_nonsense])
    async def test_a_broken_answer_is_a_protocol_violation(
        self, answer: Callable[[Received], "asyncio.Future[bytes | None]"]
    ) -> None:
        async with LoopbackServer(answer) as server:
            delivery = await deliver(event(f"{server.base_url}/sms"))
        assert delivery.error_code is DebuggerCode.PROTOCOL_VIOLATION

    async def test_tls_that_cannot_be_agreed_on_has_its_code(self) -> None:
        async def speak_no_tls(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"SSH-2.0-OpenSSH\r\n")
            await writer.drain()
            writer.close()

        async with await asyncio.start_server(speak_no_tls, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            delivery = await deliver(event(f"https://127.0.0.1:{port}/sms#rc=1"))
        assert [attempt.error_code for attempt in delivery.attempts] == [DebuggerCode.TLS_FAILURE] * 2

    async def test_an_unknown_host_has_its_code(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*_: object, **__: object) -> None:
            raise socket.gaierror(socket.EAI_NONAME, "unknown")

        monkeypatch.setattr(socket, "getaddrinfo", fail)
        delivery = await deliver(event("http://nobody.invalid/sms#rc=0"))
        assert delivery.error_code is DebuggerCode.HOST_NOT_FOUND

    @pytest.mark.parametrize(
        "url", ["ftp://service.example/", "http://service.example:port/", "no url", "http://[::1/"]
    )
    async def test_what_is_no_url_has_its_code(self, url: str) -> None:
        assert (await deliver(event(url))).error_code is DebuggerCode.INVALID_URL

    async def test_an_endless_answer_is_cut(self, receiver: Receiver) -> None:
        receiver.answers.append(Response(b"<Response>" + b" " * 200_000, media_type="text/xml"))
        delivery = await deliver(event(f"{receiver.base_url}/sms"))
        assert delivery.error_code is DebuggerCode.BODY_TOO_LARGE

    async def test_replies_in_the_answer_are_kept(self, receiver: Receiver) -> None:
        receiver.answers.append(Response("<Response><Message>Ya vamos</Message></Response>", media_type="text/xml"))
        assert (await deliver(event(f"{receiver.base_url}/sms"))).replies == ("Ya vamos",)


class TestFallback:
    async def test_it_is_tried_after_the_last_failure_with_the_same_token(self, receiver: Receiver) -> None:
        receiver.answers.extend([BAD_GATEWAY, BAD_GATEWAY, TWIML])
        delivery = await deliver(
            event(f"{receiver.base_url}/sms#rc=1&rp=5xx", fallback_url=f"{receiver.base_url}/fallback")
        )
        assert [each.path for each in receiver.received] == ["/sms", "/sms", "/fallback"]
        assert [attempt.is_fallback for attempt in delivery.attempts] == [False, False, True]
        assert delivery.is_delivered
        assert len({each.headers["i-twilio-idempotency-token"] for each in receiver.received}) == 1

    async def test_it_is_left_alone_after_a_success(self, receiver: Receiver) -> None:
        await deliver(event(f"{receiver.base_url}/sms", fallback_url=f"{receiver.base_url}/fallback"))
        assert [each.path for each in receiver.received] == ["/sms"]

    async def test_it_has_overrides_of_its_own(self, receiver: Receiver) -> None:
        receiver.answers.extend([BAD_GATEWAY] * 9)
        delivery = await deliver(
            event(f"{receiver.base_url}/sms", fallback_url=f"{receiver.base_url}/fallback#rc=2&rp=5xx")
        )
        assert [attempt.is_fallback for attempt in delivery.attempts] == [False, True, True, True]

    async def test_bad_twiml_is_reason_enough(self, receiver: Receiver) -> None:
        receiver.answers.append(Response("<oops", media_type="text/xml"))
        delivery = await deliver(event(f"{receiver.base_url}/sms", fallback_url=f"{receiver.base_url}/fallback"))
        assert delivery.is_delivered
