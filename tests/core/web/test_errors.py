"""Every failure leaves in the same envelope; on a small app of its own, and on the whole service."""

import logging
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Annotated, Any

import httpx
import orjson
import pytest
import structlog
from fastapi import BackgroundTasks, FastAPI, Query
from pydantic import BaseModel, ConfigDict, field_validator

from sms_foundation.core import errors
from sms_foundation.core.batching import OverloadedError
from sms_foundation.core.errors import SmsFoundationError
from sms_foundation.core.web.context import EdgeLoad, RequestContext
from sms_foundation.core.web.errors import ErrorEnvelope, install_error_handlers
from sms_foundation.core.web.security_headers import SecurityHeaders
from tests.support.service import TENANT_PHONE, Service

SECRET = "Hola, mi clave es 4711"

ALL: list[tuple[Callable[[str], SmsFoundationError], int, str]] = [
    (errors.SmsFoundationError, 500, "sms.internal_error"),
    (errors.ValidationError, 400, "sms.validation_error"),
    (errors.MalformedRequestError, 422, "sms.malformed_request"),
    (errors.UnauthorizedError, 401, "sms.unauthorized"),
    (errors.ForbiddenError, 403, "sms.forbidden"),
    (errors.NotFoundError, 404, "sms.not_found"),
    (partial(errors.MethodNotAllowedError, allowed="POST"), 405, "sms.method_not_allowed"),
    (errors.PayloadTooLargeError, 413, "sms.payload_too_large"),
    (errors.UnsupportedMediaError, 415, "sms.unsupported_media_type"),
    (errors.UnavailableError, 503, "sms.unavailable"),
    (errors.NotConfiguredError, 503, "sms.not_configured"),
    (OverloadedError, 503, "sms.overloaded"),
]


class Thing(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str
    size: int = 1

    @field_validator("name")
    @classmethod
    def _check(cls, value: str) -> str:
        if value == "bad":
            raise ValueError("is bad")
        return value


class App:
    """An app whose `/raise` raises what a test wants."""

    def __init__(self) -> None:
        self.error: BaseException = RuntimeError()
        app = FastAPI()
        install_error_handlers(app)

        @app.get("/raise")
        async def fail() -> None:
            raise self.error

        @app.get("/raise-later")
        async def fail_later(background: BackgroundTasks) -> str:
            background.add_task(fail)
            return "ok"

        @app.post("/things")
        async def make(thing: Thing, limit: Annotated[int, Query(ge=1, le=100)] = 20) -> str:
            return thing.name

        self.asgi = RequestContext(app, EdgeLoad(), SecurityHeaders())

    async def answer(self, error: BaseException) -> httpx.Response:
        self.error = error
        async with self.client() as client:
            return await client.get("/raise", headers={"X-Request-ID": "req-1"})

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.ASGITransport(self.asgi), base_url="http://test")


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture
async def client(app: App) -> AsyncIterator[httpx.AsyncClient]:
    async with app.client() as client:
        yield client


@pytest.fixture(autouse=True)
def logs() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as logs:
        yield logs


def error_of(response: httpx.Response) -> dict[str, Any]:
    """The error in a response, whose envelope is exactly the documented one."""
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert body.keys() == {"error"}
    assert body["error"].keys() - {"details"} == {"code", "message", "timestamp", "request_id"}
    envelope = ErrorEnvelope.model_validate(body)
    assert datetime.now(UTC) - envelope.error.timestamp < timedelta(minutes=5)
    assert envelope.error.request_id == response.headers["x-request-id"]
    return dict(body["error"])


class TestOurErrors:
    @pytest.mark.parametrize(("error", "status", "code"), ALL)
    async def test_leave_with_their_status_and_code(
        self, app: App, error: Callable[[str], SmsFoundationError], status: int, code: str
    ) -> None:
        response = await app.answer(error("what is wrong"))

        assert response.status_code == status
        public = error_of(response)
        assert (public["code"], public["message"], public["request_id"]) == (code, "what is wrong", "req-1")
        assert "details" not in public
        assert public["timestamp"].endswith("Z")

    def test_are_all_drawn_in_the_tree_of_their_module(self) -> None:
        drawn = errors.__doc__ or ""
        for make, status, code in ALL[:-1]:
            error = make("what is wrong")
            assert f"{type(error).__name__} " in drawn
            assert f"{status} {code}" in drawn
            assert error.log_level in {logging.INFO, logging.WARNING, logging.ERROR}

    async def test_may_hold_details_and_a_time_to_come_back(self, app: App) -> None:
        response = await app.answer(
            errors.UnavailableError("later", details={"since": datetime(2026, 1, 2, tzinfo=UTC)}, retry_after_s=7)
        )

        assert error_of(response)["details"] == {"since": "2026-01-02T00:00:00Z"}
        assert response.headers["retry-after"] == "7"

    async def test_of_a_wrong_method_name_the_right_one(self, app: App) -> None:
        assert (await app.answer(errors.MethodNotAllowedError("no", allowed="POST"))).headers["allow"] == "POST"

    async def test_of_missing_authorization_say_which_is_wanted(self, app: App) -> None:
        assert (await app.answer(errors.UnauthorizedError("who?"))).headers["www-authenticate"] == "Bearer"


class TestOtherErrors:
    @pytest.mark.parametrize(
        "error", [RuntimeError(SECRET), ValueError(SECRET), KeyError(SECRET), AssertionError(SECRET)]
    )
    async def test_become_a_500_without_details(self, app: App, logs: list[Any], error: Exception) -> None:
        response = await app.answer(error)

        assert response.status_code == 500
        public = error_of(response)
        assert (public["code"], public["message"]) == ("sms.internal_error", "internal error")
        assert SECRET not in response.text
        assert [line["event"] for line in logs].count("http.unexpected_error") == 1

    @pytest.mark.parametrize(
        "error", [ConnectionRefusedError("no"), TimeoutError(), OSError(SECRET)], ids=["refused", "timeout", "os"]
    )
    async def test_of_the_database_being_away_become_503_and_one_line(
        self, app: App, logs: list[Any], error: Exception
    ) -> None:
        response = await app.answer(error)

        assert (response.status_code, response.headers["retry-after"]) == (503, "5")
        assert error_of(response)["message"] == "the database is not available"
        assert SECRET not in response.text
        (line,) = (line for line in logs if line["event"] == "database.unavailable")
        assert "exc_info" not in line

    async def test_after_the_answer_are_logged_once(self, app: App, client: httpx.AsyncClient, logs: list[Any]) -> None:
        app.error = RuntimeError(SECRET)
        response = await client.get("/raise-later")

        assert response.status_code == 200
        assert [line["event"] for line in logs].count("http.unexpected_error") == 1


class TestWrongRequests:
    async def test_name_every_wrong_field_and_repeat_no_value(self, client: httpx.AsyncClient) -> None:
        response = await client.post("/things?limit=1000", json={"name": "bad", "size": SECRET, "colour": SECRET})

        assert response.status_code == 400
        public = error_of(response)
        assert public["code"] == "sms.validation_error"
        fields = {each["field"]: each["message"] for each in public["details"]["fields"]}
        assert fields.keys() == {"limit", "name", "size", "colour"}
        assert fields["name"] == "is bad"
        assert all(f"{name}: {message}" in public["message"] for name, message in fields.items())
        assert SECRET not in response.text

    @pytest.mark.parametrize("body", [b"{", b"", b"\xff", b'{"name": "x"'])
    async def test_that_are_no_json_are_422_or_name_the_body(self, client: httpx.AsyncClient, body: bytes) -> None:
        response = await client.post("/things", content=body, headers={"Content-Type": "application/json"})

        expected = (400, "sms.validation_error") if not body else (422, "sms.malformed_request")
        assert (response.status_code, error_of(response)["code"]) == expected

    @pytest.mark.parametrize(
        "body", ["null", "[]", "1", '"text"', "{}", '{"\\ud800": 1, "name": "x"}', '{"name": 1e999}']
    )
    async def test_of_any_other_json_are_400(self, client: httpx.AsyncClient, body: str) -> None:
        response = await client.post("/things", content=body, headers={"Content-Type": "application/json"})

        assert (response.status_code, error_of(response)["code"]) == (400, "sms.validation_error")

    async def test_for_no_route_are_404_and_with_a_wrong_method_405_with_the_right_ones(
        self, client: httpx.AsyncClient
    ) -> None:
        missing, wrong = await client.get("/nothing"), await client.delete("/things")

        assert (missing.status_code, error_of(missing)["code"]) == (404, "sms.not_found")
        assert (wrong.status_code, error_of(wrong)["code"]) == (405, "sms.method_not_allowed")
        assert wrong.headers["allow"] == "POST"


class TestWholeService:
    async def test_speaks_one_language(self, service: Service) -> None:
        client = service.client
        json = {"Content-Type": "application/json"}

        async def patch(body: bytes) -> httpx.Response:
            return await client.patch(f"/conversations/{TENANT_PHONE}", content=body, headers=json)

        for response, status, code in (
            (await client.get("/nothing"), 404, "sms.not_found"),
            (await client.get("/conversations/+19995550000"), 404, "sms.not_found"),
            (await client.get("/conversations/+19995550000?limit=0"), 400, "sms.validation_error"),
            (await client.get("/conversations?since=never"), 400, "sms.validation_error"),
            (await client.delete("/conversations"), 405, "sms.method_not_allowed"),
            (await client.get("/webhook/twilio/sms"), 405, "sms.method_not_allowed"),
            (await client.post("/webhook/twilio/sms", content=b"{}", headers=json), 415, "sms.unsupported_media_type"),
            (await patch(b"{"), 422, "sms.malformed_request"),
            (await patch(b"{}"), 400, "sms.validation_error"),
            (await patch(b'{"workflow_id": "\\ud800"}'), 400, "sms.validation_error"),
            (await patch(b'{"\\ud800": "x"}'), 400, "sms.validation_error"),
        ):
            assert (response.status_code, error_of(response)["code"]) == (status, code), response.request.url

    async def test_documents_the_envelope_and_nothing_of_the_framework(self, service: Service) -> None:
        document = (await service.client.get("/openapi.json")).json()

        assert "ErrorEnvelope" in document["components"]["schemas"]
        assert b"HTTPValidationError" not in orjson.dumps(document)
