import asyncio
import gzip
import socket
from collections.abc import AsyncIterator, Callable

import pytest

from sms_foundation import __version__
from sms_foundation.core.http import (
    HttpCallError,
    HttpFailure,
    NoResponseError,
    RequestNotSentError,
    create_http_client,
)
from sms_foundation.core.tracing.context import TraceContext, trace
from sms_foundation.core.tracing.opening import open_tracer
from sms_foundation.core.tracing.tracer import Tracer
from sms_foundation.providers.registry import open_connections, parse_provider_configs
from tests.loopback import LoopbackServer, Received, reply
from tests.support.collector import Collector, running_collector
from tests.support.service import make_settings


def always(answer: bytes | None) -> LoopbackServer:
    async def respond(request: Received) -> bytes | None:
        return answer

    return LoopbackServer(respond)


def never() -> LoopbackServer:
    async def stay_silent(request: Received) -> bytes | None:
        await asyncio.Event().wait()
        return None

    return LoopbackServer(stay_silent)


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class TestRequest:
    async def test_url_headers_and_body_arrive_byte_for_byte(self) -> None:
        async with always(reply(200)) as server, create_http_client() as client:
            await client.request(
                "PUT", f"{server.base_url}/a%2Fb%20c?phone=%2B1415&x=%27", headers={"X-One": "1"}, body=b"\x00{}"
            )

        request = server.received[0]
        assert (request.method, request.target) == ("PUT", "/a%2Fb%20c?phone=%2B1415&x=%27")
        assert request.headers["x-one"] == "1"
        assert request.body == b"\x00{}"

    async def test_says_honestly_who_asks(self) -> None:
        async with always(reply(200)) as server, create_http_client() as client:
            await client.request("GET", server.base_url)

        assert server.received[0].headers["user-agent"] == f"sms-foundation/{__version__}"

    @pytest.mark.parametrize("status", [200, 204, 301, 404, 429, 500])
    async def test_every_status_is_a_response(self, status: int) -> None:
        answer = reply(status, b"" if status == 204 else b"body", retry_after="7")
        async with always(answer) as server, create_http_client() as client:
            response = await client.request("GET", server.base_url)

        assert response.status == status
        assert response.headers["Retry-After"] == "7"

    async def test_redirect_is_not_followed(self) -> None:
        async with always(reply(302, location="/elsewhere")) as server, create_http_client() as client:
            response = await client.request("GET", f"{server.base_url}/here")

        assert response.status == 302
        assert server.targets == ["/here"]

    async def test_compressed_response_is_unpacked(self) -> None:
        answer = reply(200, gzip.compress(b"hola"), content_encoding="gzip")
        async with always(answer) as server, create_http_client() as client:
            response = await client.request("GET", server.base_url)

        assert response.body == b"hola"

    async def test_connection_is_kept_for_the_next_call(self) -> None:
        async with always(reply(200, b"x")) as server, create_http_client() as client:
            for _ in range(5):
                await client.request("GET", server.base_url)

        assert server.connections == 1

    async def test_never_more_connections_than_the_limit(self) -> None:
        async with always(reply(200, b"x")) as server, create_http_client(max_connections=2) as client:
            await asyncio.gather(*(client.request("GET", server.base_url) for _ in range(20)))

        assert len(server.received) == 20
        assert server.connections <= 2

    async def test_cookies_are_not_carried_over(self) -> None:
        async with always(reply(200, set_cookie="a=b")) as server, create_http_client() as client:
            await client.request("GET", server.base_url)
            await client.request("GET", server.base_url)

        assert "cookie" not in server.received[1].headers

    async def test_proxy_from_the_environment_is_not_used(
        self, closed_port: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{closed_port}")
        async with always(reply(200)) as server, create_http_client() as client:
            response = await client.request("GET", server.base_url)

        assert response.status == 200


class TestRequestFailures:
    async def test_refused_connection_means_not_sent(self, closed_port: int) -> None:
        async with create_http_client() as client:
            with pytest.raises(RequestNotSentError) as caught:
                await client.request("POST", f"http://127.0.0.1:{closed_port}/")

        assert caught.value.reason is HttpFailure.CONNECT_FAILED

    async def test_no_free_connection_in_time_means_not_sent(self) -> None:
        client = create_http_client(max_connections=1, connect_timeout_s=0.15, pool_timeout_s=0.15)
        async with never() as server, client:
            holder = asyncio.create_task(client.request("GET", server.base_url))
            await server.has_received.wait()
            with pytest.raises(RequestNotSentError) as caught:
                await client.request("GET", server.base_url)
            holder.cancel()
            with pytest.raises(asyncio.CancelledError):
                await holder

        assert caught.value.reason is HttpFailure.CONNECT_TIMEOUT

    @pytest.mark.parametrize("url", ["ftp://127.0.0.1/", "127.0.0.1", "http://", ""])
    async def test_unusable_url_means_not_sent(self, url: str) -> None:
        async with create_http_client() as client:
            with pytest.raises(RequestNotSentError) as caught:
                await client.request("GET", url)

        assert caught.value.reason is HttpFailure.INVALID_URL

    async def test_closing_the_client_ends_calls_under_way(self) -> None:
        async with never() as server, create_http_client() as client:
            call = asyncio.create_task(client.request("POST", server.base_url))
            await server.has_received.wait()
            await client.aclose()
            await client.aclose()
            with pytest.raises(NoResponseError) as caught:
                await call

        assert caught.value.reason is HttpFailure.DISCONNECTED

    async def test_silence_means_outcome_unknown(self) -> None:
        async with never() as server, create_http_client(read_timeout_s=0.02) as client:
            with pytest.raises(NoResponseError) as caught:
                await client.request("POST", server.base_url)

        assert caught.value.reason is HttpFailure.TIMEOUT

    async def test_body_that_stops_half_way_times_out(self) -> None:
        answer = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf"
        async with always(answer) as server, create_http_client(read_timeout_s=0.02) as client:
            with pytest.raises(NoResponseError) as caught:
                await client.request("GET", server.base_url)

        assert caught.value.reason is HttpFailure.TIMEOUT

    @pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "POST"])
    async def test_hang_up_means_outcome_unknown(self, method: str) -> None:
        async with always(None) as server, create_http_client() as client:
            with pytest.raises(NoResponseError) as caught:
                await client.request(method, server.base_url)

        assert caught.value.reason is HttpFailure.DISCONNECTED
        assert len(server.received) == 1, "nothing is repeated behind the caller's back"

    @pytest.mark.parametrize(
        "answer",
        [
            b"hello\r\n\r\n",
            b"HTTP/1.1 OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
            reply(200, b"not gzip", content_encoding="gzip"),
        ],
    )
    async def test_broken_response_is_malformed(self, answer: bytes) -> None:
        async with always(answer) as server, create_http_client() as client:
            with pytest.raises(NoResponseError) as caught:
                await client.request("GET", server.base_url)

        assert caught.value.reason is HttpFailure.MALFORMED

    @pytest.mark.parametrize(
        "answer", [reply(200, b"x" * 101), reply(200, gzip.compress(b"x" * 100_000), content_encoding="gzip")]
    )
    async def test_response_over_the_limit_is_dropped(self, answer: bytes) -> None:
        async with always(answer) as server, create_http_client(max_response_bytes=100) as client:
            with pytest.raises(NoResponseError) as caught:
                await client.request("GET", server.base_url)

        assert caught.value.reason is HttpFailure.TOO_LARGE

    @pytest.mark.parametrize("make_server", [never, lambda: always(None), lambda: always(b"hello\r\n\r\n")])
    async def test_error_tells_neither_url_nor_headers(self, make_server: Callable[[], LoopbackServer]) -> None:
        async with make_server() as server, create_http_client(read_timeout_s=0.02) as client:
            with pytest.raises(HttpCallError) as caught:
                await client.request(
                    "GET", f"{server.base_url}/?phone=%2B14155550123", headers={"Authorization": "Bearer s3cret"}
                )

        assert repr(caught.value) == f"NoResponseError('{caught.value.reason}')"
        assert caught.value.__suppress_context__


class TestHttpResponse:
    async def test_repr_tells_neither_headers_nor_body(self) -> None:
        async with always(reply(200, b"s3cret", x_key="s3cret")) as server, create_http_client() as client:
            response = await client.request("GET", server.base_url, headers={"Authorization": "Bearer s3cret"})

        assert repr(response) == "HttpResponse(status=200)"
        assert "s3cret" not in repr(client)


CALLER = TraceContext("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", is_sampled=True, state="one=1")
TWILIO = '[{"kind": "twilio", "name": "twilio", "account_sid": "AC1", "auth_token": "x", "senders": ["+15005550006"]}]'


@pytest.fixture
async def collector(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Collector]:
    async with running_collector() as collector:
        collector.apply_to(monkeypatch)
        yield collector


@pytest.fixture
async def tracer(collector: Collector) -> AsyncIterator[Tracer]:
    tracer = open_tracer(make_settings(tracing=True))
    assert tracer is not None
    yield tracer
    await tracer.close(5)


class TestTrace:
    async def test_is_told_to_those_whose_logs_are_ours_to_read(self) -> None:
        trace.set(CALLER)
        async with always(reply(200)) as server, create_http_client(tells_trace=True) as client:
            await client.request("GET", server.base_url, headers={"X-One": "1"})

        headers = server.received[0].headers
        assert (headers["traceparent"], headers["tracestate"]) == (CALLER.traceparent, "one=1")
        assert headers["x-one"] == "1"

    async def test_outside_of_one_nothing_is_told(self) -> None:
        trace.set(None)
        async with always(reply(200)) as server, create_http_client(tells_trace=True) as client:
            await client.request("GET", server.base_url)

        assert "traceparent" not in server.received[0].headers

    async def test_providers_are_told_only_where_spans_are_recorded(self, tracer: Tracer) -> None:
        trace.set(CALLER)
        (config,) = parse_provider_configs(TWILIO, variables={})
        async with always(reply(200)) as server:
            async with open_connections(config) as client:
                await client.request("GET", server.base_url)
            async with open_connections(config, tracer=tracer) as client:
                await client.request("GET", server.base_url)

        without, within = (request.headers.get("traceparent", "") for request in server.received)
        assert without == ""
        assert within.split("-")[1] == CALLER.trace_id

    async def test_a_call_is_a_span_that_the_remote_is_below_and_that_holds_of_its_url_only_the_host(
        self, tracer: Tracer, collector: Collector
    ) -> None:
        trace.set(CALLER)
        async with always(reply(200)) as server, create_http_client(tracer=tracer) as client:
            await client.request("GET", f"{server.base_url}/tenants/+14155550123?phone=%2B14155550123")

        arrived = await collector.one("GET")
        assert (arrived.kind, arrived.trace_id, arrived.parent_id) == ("client", CALLER.trace_id, CALLER.span_id)
        assert server.received[0].headers["traceparent"] == f"00-{arrived.trace_id}-{arrived.span_id}-01"
        assert arrived.attributes == {
            "http.request.method": "GET",
            "server.address": "127.0.0.1",
            "http.response.status_code": 200,
        }

    @pytest.mark.parametrize(("answer", "reason"), [(reply(429), "429"), (None, "disconnected")])
    async def test_that_was_refused_or_broke_off_has_failed(
        self, tracer: Tracer, collector: Collector, answer: bytes | None, reason: str
    ) -> None:
        trace.set(CALLER)
        async with always(answer) as server, create_http_client(tracer=tracer) as client:
            if answer is None:
                with pytest.raises(NoResponseError):
                    await client.request("POST", server.base_url)
            else:
                await client.request("POST", server.base_url)

        arrived = await collector.one("POST")
        assert (arrived.has_failed, arrived.attributes["error.type"]) == (True, reason)

    async def test_an_address_that_is_none_is_refused_as_it_was(self, tracer: Tracer) -> None:
        async with create_http_client(tracer=tracer) as client:
            with pytest.raises(RequestNotSentError) as caught:
                await client.request("GET", "/nowhere")

        assert caught.value.reason is HttpFailure.INVALID_URL
