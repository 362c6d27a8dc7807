"""Bodies and headers that routes read by hand, over a real connection."""

from collections.abc import AsyncIterator

import pytest
import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field

from sms_foundation.core.web.bodies import describe_body, joined_by, read_body, read_headers, read_json, read_value
from sms_foundation.core.web.context import EdgeLoad, RequestContext
from sms_foundation.core.web.errors import install_error_handlers
from sms_foundation.core.web.security_headers import SecurityHeaders
from tests.support.http_server import HttpServer, serving


class Pair(BaseModel):
    """Two fields."""

    number: int
    text: str = Field("", description="Any text", max_length=5)


class Names(BaseModel):
    """Two headers."""

    one: str | None = Field(None, alias="X-One", max_length=3)
    two: str | None = Field(None, alias="X-Two", max_length=3)


def wrong(error: RequestValidationError) -> list[tuple[object, ...]]:
    return [each["loc"] for each in error.errors()]


class TestReadJson:
    def test_names_every_wrong_field(self) -> None:
        with pytest.raises(RequestValidationError) as caught:
            read_json(Pair, b'{"number": "x", "text": "too long"}')
        assert wrong(caught.value) == [("body", "number"), ("body", "text")]

    def test_half_a_surrogate_pair_is_the_fields_mistake(self) -> None:
        with pytest.raises(RequestValidationError) as caught:
            read_json(Pair, b'{"number": "x", "text": "\\uD83D"}')
        assert wrong(caught.value) == [("body", "number"), ("body", "text")]
        assert read_json(Pair, b'{"number": 1, "text": "\\ud83d\\ude42"}').text == "🙂"

    @pytest.mark.parametrize(
        "body", [b"", b"{", b'{"\\ud83d', b"\xff\\ud83d", b'["\\ud83d",' + b"[" * 100_000, b'{"a": "\\ud8"}']
    )
    def test_what_is_no_json_is_said_to_be_none(self, body: bytes) -> None:
        with pytest.raises(RequestValidationError) as caught:
            read_json(Pair, body)
        assert [each["type"] for each in caught.value.errors()] == ["json_invalid"]

    def test_value_out_of_a_body_is_read_alike(self) -> None:
        assert read_value(Pair, {"number": 1}) == Pair(number=1)
        with pytest.raises(RequestValidationError) as caught:
            read_value(Pair, None)
        assert wrong(caught.value) == [("body",)]


class TestReadHeaders:
    @staticmethod
    def request(*headers: tuple[bytes, bytes]) -> Request:
        return Request({"type": "http", "headers": list(headers)})

    def test_first_of_each_counts_and_others_are_nobodys_business(self) -> None:
        names = read_headers(Names, self.request((b"x-one", b"a"), (b"x-one", b"b"), (b"x-three", b"long one")))
        assert (names.one, names.two) == ("a", None)

    def test_names_every_wrong_one(self) -> None:
        with pytest.raises(RequestValidationError) as caught:
            read_headers(Names, self.request((b"x-two", b"\xff\xff\xff\xff"), (b"x-one", b"long")))
        assert wrong(caught.value) == [("header", "X-One"), ("header", "X-Two")]


class TestJoinedBy:
    def test_one_error_names_all(self) -> None:
        error = RequestValidationError([{"loc": ("header", "X"), "type": "t", "msg": "m"}])
        assert wrong(joined_by(error, lambda: read_json(Pair, b"{}"))) == [("header", "X"), ("body", "number")]
        assert joined_by(error, lambda: read_json(Pair, b'{"number": 1}')) is error


class TestDescribeBody:
    def test_is_an_openapi_request_body(self) -> None:
        described = describe_body(Pair)["requestBody"]
        schema = described["content"]["application/json"]["schema"]
        assert described["required"]
        assert schema["properties"]["text"]["description"] == "Any text"


class TestReadBody:
    @pytest.fixture
    async def server(self) -> AsyncIterator[HttpServer]:
        """Answers with the length of a body, up to 1,000 bytes."""
        app = FastAPI()
        install_error_handlers(app)

        @app.post("/")
        async def measure(request: Request) -> Response:
            return JSONResponse(len(await read_body(request, limit_bytes=1000)))

        async with serving(RequestContext(app, EdgeLoad(), SecurityHeaders())) as server:
            yield server

    async def test_exactly_the_limit_fits(self, server: HttpServer) -> None:
        for size, status in ((0, 200), (1000, 200), (1001, 413)):
            head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size
            assert await server.send(head, b"x" * size) == status

    async def test_no_more_is_read_than_the_limit(self, server: HttpServer) -> None:
        """The rest of the body never comes, and the answer does."""
        head = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        assert await server.send(head, b"3e9\r\n" + b"x" * 1001 + b"\r\n") == 413

    async def test_caller_that_hangs_up_is_no_error_of_ours(self, server: HttpServer) -> None:
        head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n"
        with structlog.testing.capture_logs() as logs:
            await server.send(head, b"x", hang_up=True)
        assert "http.unexpected_error" not in {each["event"] for each in logs}
        assert [each["status"] for each in logs if each["event"] == "http.request"] in ([422], [499])
