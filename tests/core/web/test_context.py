"""What every request gets, whatever it asks for: on a small app of its own, and on the whole service."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import UUID

import httpx
import pytest
import structlog
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sms_foundation.core import logging
from sms_foundation.core.errors import ForbiddenError
from sms_foundation.core.web.context import EdgeLoad, RequestContext
from sms_foundation.core.web.errors import install_error_handlers
from sms_foundation.core.web.security_headers import SecurityHeaders
from tests.support.service import TENANT_PHONE, Service

SECRET = "Hola, mi clave es 4711"


def small_app() -> FastAPI:
    app = FastAPI()
    install_error_handlers(app)

    @app.get("/things/{name}")
    async def show(name: str) -> str:
        return name

    @app.get("/defect")
    async def fail() -> None:
        raise RuntimeError(SECRET)

    @app.get("/forbidden")
    async def refuse() -> None:
        raise ForbiddenError("not yours")

    @app.get("/health/live")
    async def live() -> str:
        return "ok"

    return app


@pytest.fixture
def load() -> EdgeLoad:
    return EdgeLoad()


@pytest.fixture
async def client(load: EdgeLoad) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(RequestContext(small_app(), load, SecurityHeaders()))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


def _add_request_id(_logger: object, _method: str, event: dict[str, Any]) -> dict[str, Any]:
    return {**event, "current_id": logging.request_id.get()}


@pytest.fixture
def logs() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs(processors=[_add_request_id]) as logs:
        yield logs


def request_lines(logs: list[Any]) -> list[dict[str, Any]]:
    return [line for line in logs if line["event"] == "http.request"]


async def call(
    app: ASGIApp, *, headers: list[tuple[bytes, bytes]], path: str = "/things/x", method: str = "GET"
) -> Any:
    """Call an application as a server would, with any bytes; returns status, headers and body."""
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": headers,
    }
    await app(scope, receive, send)
    body = b"".join(message["body"] for message in sent[1:])
    return sent[0]["status"], [value for name, value in sent[0]["headers"] if name == b"x-request-id"], body


class TestRequestId:
    async def test_a_new_one_is_made_and_returned(self, client: httpx.AsyncClient) -> None:
        ids = [(await client.get("/things/x")).headers["x-request-id"] for _ in range(3)]

        assert len({UUID(each) for each in ids}) == 3

    @pytest.mark.parametrize("given_id", ["abc", "550e8400-e29b-41d4-a716-446655440000", "a/b:c=d+e.f_g", "x" * 128])
    async def test_the_callers_own_is_kept(self, client: httpx.AsyncClient, logs: list[Any], given_id: str) -> None:
        response = await client.get("/forbidden", headers={"X-Request-ID": given_id})

        assert response.headers["x-request-id"] == given_id
        assert response.json()["error"]["request_id"] == given_id
        assert [line["current_id"] for line in request_lines(logs)] == [given_id]

    @pytest.mark.parametrize(
        "hostile",
        [
            b"",
            b" ",
            b"two words",
            b"x" * 129,
            b"a\r\nSet-Cookie: stolen=1",
            b"a\n",
            b"a\0",
            b'"},{"level":"error',
            b"<script>",
            "ünïcode".encode(),
            b"\xff\xfe",
            b"$(reboot)",
        ],
    )
    async def test_a_hostile_one_is_replaced(self, load: EdgeLoad, logs: list[Any], hostile: bytes) -> None:
        app = RequestContext(small_app(), load, SecurityHeaders())

        status, (returned,), _ = await call(app, headers=[(b"x-request-id", hostile)])

        assert status == 200
        assert UUID(returned.decode())
        assert [line["current_id"] for line in request_lines(logs)] == [returned.decode()]

    @given(st.binary(max_size=140))
    def test_whatever_is_sent_what_is_returned_is_harmless(self, sent: bytes) -> None:
        with structlog.testing.capture_logs():
            _, (returned,), _ = asyncio.run(
                call(RequestContext(small_app(), EdgeLoad(), SecurityHeaders()), headers=[(b"x-request-id", sent)])
            )

        assert re.fullmatch(rb"[A-Za-z0-9._:/+=-]{1,128}", returned)

    async def test_of_two_the_first_counts(self, load: EdgeLoad) -> None:
        app = RequestContext(small_app(), load, SecurityHeaders())

        _, returned, _ = await call(app, headers=[(b"x-request-id", b"one"), (b"x-request-id", b"two")])

        assert returned == [b"one"]


class TestLogLine:
    async def test_is_one_with_the_template_instead_of_the_path(
        self, client: httpx.AsyncClient, logs: list[Any]
    ) -> None:
        await client.get("/things/+14155550123", params={"secret": "s3cr3t"})

        (line,) = request_lines(logs)
        assert (line["route"], line["method"], line["status"]) == ("/things/{name}", "GET", 200)
        assert line["elapsed_ms"] >= 0
        assert "4155550123" not in str(line)
        assert "s3cr3t" not in str(line)

    async def test_is_written_for_what_no_route_matches_too(self, client: httpx.AsyncClient, logs: list[Any]) -> None:
        await client.get("/+14155550123")
        await client.delete("/things/x")

        assert [(line["route"], line["status"]) for line in request_lines(logs)] == [
            ("unmatched", 404),
            ("/things/{name}", 405),
        ]

    async def test_is_a_matter_for_debugging_when_a_machine_asks_every_few_seconds(
        self, client: httpx.AsyncClient, logs: list[Any]
    ) -> None:
        await client.get("/health/live")
        await client.get("/things/x")

        assert [(line["route"], line["log_level"]) for line in request_lines(logs)] == [
            ("/health/live", "debug"),
            ("/things/{name}", "info"),
        ]

    async def test_of_a_webhook_says_what_became_of_it(self, service: Service) -> None:
        with structlog.testing.capture_logs() as logs:
            await service.text("SM1", SECRET)
            await service.text("SM1", SECRET)
            await service.status("SM1", "delivered")

        lines = request_lines(logs)
        assert [(line["route"], line["twilio_sid"], line["outcome"]) for line in lines] == [
            ("/webhook/twilio/sms", "SM1", "stored"),
            ("/webhook/twilio/sms", "SM1", "duplicate"),
            ("/webhook/twilio/status", "SM1", "applied"),
        ]
        assert lines[0]["phone"].endswith(TENANT_PHONE[-4:])
        assert TENANT_PHONE[1:] not in str(lines)
        assert SECRET not in str(logs)


def label_sets() -> set[tuple[tuple[str, str], ...]]:
    return {
        tuple(sorted(sample.labels.items()))
        for metric in REGISTRY.collect()
        if metric.name.startswith("sms_http_")
        for sample in metric.samples
    }


def count(route: str, method: str, status: int) -> float:
    labels = {"route": route, "method": method, "status": str(status)}
    return REGISTRY.get_sample_value("sms_http_requests_total", labels) or 0.0


class TestMetrics:
    async def test_count_requests_by_route_method_and_status(self, client: httpx.AsyncClient) -> None:
        before = count("/things/{name}", "GET", 200), count("/defect", "GET", 500)

        await client.get("/things/a")
        await client.get("/things/b")
        await client.get("/defect")

        after = count("/things/{name}", "GET", 200), count("/defect", "GET", 500)
        assert after == (before[0] + 2, before[1] + 1)

    async def test_unknown_paths_and_methods_make_no_new_labels(self, service: Service) -> None:
        async def ask(path: str, method: str) -> None:
            await service.client.request(method, path)

        for path in ("/unknown", "/webhook/twilio/sms", "/conversations/+14155550000", "/conversations"):
            await ask(path, "GET")
            await ask(path, "BREW")
        known = label_sets()

        for n in range(20):
            await ask(f"/unknown/{n}", "GET")
            await ask(f"/conversations/+1415555{n:04d}", "GET")
            await ask(f"/conversations/+1415555{n:04d}", f"BREW{n}")
            await ask("/webhook/twilio/sms", f"BREW{n}")
            await ask(f"/conversations?cursor={n}", f"BREW{n}")

        assert label_sets() == known

    async def test_requests_in_flight_are_those_being_answered(self, load: EdgeLoad) -> None:
        is_open = asyncio.Event()

        async def slow(_scope: Scope, _receive: Receive, send: Send) -> None:
            await is_open.wait()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b""})

        app = RequestContext(slow, load, SecurityHeaders())
        calls = [asyncio.create_task(call(app, headers=[])) for _ in range(EdgeLoad.BUSY)]
        await asyncio.sleep(0)
        assert load.is_busy()
        assert REGISTRY.get_sample_value("sms_http_requests_in_flight") == EdgeLoad.BUSY

        calls[0].cancel()
        await asyncio.wait([calls[0]])
        assert (load.in_flight, load.is_busy()) == (EdgeLoad.BUSY - 1, False)

        is_open.set()
        await asyncio.gather(*calls[1:])
        assert load.in_flight == 0

    async def test_work_after_the_answer_is_not_in_flight(self, load: EdgeLoad, logs: list[Any]) -> None:
        seen: list[int] = []

        async def answer_and_go_on(_scope: Scope, _receive: Receive, send: Send) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"a", "more_body": True})
            seen.append(load.in_flight)
            await send({"type": "http.response.body", "body": b"b"})
            seen.append(load.in_flight)
            assert len(request_lines(logs)) == 1

        await call(RequestContext(answer_and_go_on, load, SecurityHeaders()), headers=[])

        assert seen == [1, 0]
        assert len(request_lines(logs)) == 1


class TestDefects:
    async def test_become_a_500_that_tells_nothing(self, client: httpx.AsyncClient, logs: list[Any]) -> None:
        response = await client.get("/defect", headers={"X-Request-ID": "req-1"})

        assert response.status_code == 500
        error = response.json()["error"]
        assert error.pop("timestamp").endswith("Z")
        assert error == {"code": "sms.internal_error", "message": "internal error", "request_id": "req-1"}
        assert response.headers["x-request-id"] == "req-1"
        (defect,) = (line for line in logs if line["event"] == "http.unexpected_error")
        assert isinstance(defect["exc_info"], RuntimeError)  # which the log writes without its text
        assert [line["status"] for line in request_lines(logs)] == [500]

    async def test_below_any_framework_are_caught_too(self, load: EdgeLoad, logs: list[Any]) -> None:
        async def fail(_scope: Scope, _receive: Receive, _send: Send) -> None:
            raise RuntimeError(SECRET)

        status, ids, body = await call(RequestContext(fail, load, SecurityHeaders()), headers=[])

        assert (status, len(ids)) == (500, 1)
        assert SECRET not in body.decode()
        assert load.in_flight == 0

    async def test_after_the_answer_has_begun_change_nothing_in_it(self, load: EdgeLoad, logs: list[Any]) -> None:
        async def fail_late(_scope: Scope, _receive: Receive, send: Send) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"all of it"})
            raise RuntimeError(SECRET)

        status, _, body = await call(RequestContext(fail_late, load, SecurityHeaders()), headers=[])

        assert (status, body) == (200, b"all of it")
        assert load.in_flight == 0
        assert any(line["event"] == "http.unexpected_error" for line in logs)

    async def test_what_a_client_does_not_wait_for_is_499_in_the_log(self, load: EdgeLoad, logs: list[Any]) -> None:
        async def never(_scope: Scope, _receive: Receive, _send: Send) -> None:
            await asyncio.Event().wait()

        gone = asyncio.create_task(call(RequestContext(never, load, SecurityHeaders()), headers=[]))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.wait([gone])

        assert [line["status"] for line in request_lines(logs)] == [499]
