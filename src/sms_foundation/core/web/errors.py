"""The public error envelope, and the handlers that turn every failure into it."""

from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

import orjson
import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import Response

from sms_foundation.core.clock import utc_now
from sms_foundation.core.db import explain_outage, is_outage
from sms_foundation.core.errors import (
    MalformedRequestError,
    MethodNotAllowedError,
    NotFoundError,
    SmsFoundationError,
    UnavailableError,
    ValidationError,
)

log = structlog.get_logger(__name__)


class ErrorBody(BaseModel):
    """What went wrong, for a program (`code`) and for a person (`message`)."""

    code: str = Field(examples=["sms.not_found"])
    message: str = Field(examples=["no conversation with this number"])
    details: dict[str, Any] | None = None
    timestamp: datetime
    request_id: str = Field(description="Also in the X-Request-ID response header and in every log line")


class ErrorEnvelope(BaseModel):
    """The body of every error."""

    error: ErrorBody


def error_response(error: SmsFoundationError, request_id: str) -> Response:
    """Write `error` as the public envelope."""
    body: dict[str, Any] = {"code": error.code, "message": error.message}
    if error.details is not None:
        body["details"] = error.details
    body["timestamp"] = utc_now().astimezone(UTC)
    body["request_id"] = request_id
    headers = {} if error.retry_after_s is None else {"Retry-After": str(error.retry_after_s)}
    if error.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, MethodNotAllowedError):
        headers["Allow"] = error.allowed
    return Response(
        orjson.dumps({"error": body}, option=orjson.OPT_UTC_Z, default=str),
        status_code=error.status,
        media_type="application/json",
        headers=headers,
    )


def as_public_error(error: Exception) -> SmsFoundationError:
    """Return what a caller may know of `error`; an outage of the database becomes 503, the rest a bare 500."""
    if isinstance(error, SmsFoundationError):
        return error
    if isinstance(error, RequestValidationError):
        return _from_validation(error)
    if is_outage(error):
        log.error("database.unavailable", error=explain_outage(error))
        return UnavailableError("the database is not available", retry_after_s=5)
    log.error("http.unexpected_error", exc_info=error)
    return SmsFoundationError("internal error")


def install_error_handlers(app: FastAPI) -> None:
    """Make `app` answer every failure in the envelope."""

    async def on_error(request: Request, error: Exception) -> Response:
        request.scope["state"]["answered_error"] = error  # the framework passes it on to `RequestContext` all the same
        return error_response(as_public_error(error), request.scope["state"]["request_id"])

    async def on_http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101  # registered for this type only
        response = error_response(_from_http(error), request.scope["state"]["request_id"])
        response.headers.update(error.headers or {})  # a 405 must name what is allowed
        return response

    async def on_invalid_request(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)  # noqa: S101
        return error_response(_from_validation(error), request.scope["state"]["request_id"])

    app.add_exception_handler(Exception, on_error)
    app.add_exception_handler(SmsFoundationError, on_error)
    app.add_exception_handler(HTTPException, on_http_error)
    app.add_exception_handler(RequestValidationError, on_invalid_request)


def _from_http(error: HTTPException) -> SmsFoundationError:
    if error.status_code == HTTPStatus.NOT_FOUND:
        return NotFoundError("no such route")
    if error.status_code == HTTPStatus.BAD_REQUEST:  # the framework's word for bytes that are no text
        return MalformedRequestError("the body cannot be read")
    phrase = HTTPStatus(error.status_code).phrase.lower()
    public = SmsFoundationError(phrase)
    public.status = error.status_code  # type: ignore[misc]  # a status that has no class of its own, such as 405
    public.code = f"sms.{phrase.replace(' ', '_')}"  # type: ignore[misc]
    return public


def _from_validation(error: RequestValidationError) -> SmsFoundationError:
    """Name every wrong field; 422 for a body that is not JSON at all. Values are not repeated: they may be content."""
    problems = [
        {
            "field": ".".join(str(part) for part in each["loc"][1:]) or str(each["loc"][0]),
            "message": _plain(each["msg"]),
        }
        for each in error.errors()
    ]
    if any(each["type"] == "json_invalid" for each in error.errors()):
        return MalformedRequestError("the body is not valid JSON")
    return ValidationError(
        "; ".join(f"{each['field']}: {each['message']}" for each in problems), details={"fields": problems}
    )


def _plain(message: str) -> str:
    return message.removeprefix("Value error, ")
