"""JSON bodies read by hand, where a route takes its body as bytes: errors leave in the envelope like FastAPI's own."""

import json
from collections.abc import Callable
from typing import Any, TypeVar

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect

from sms_foundation.core.errors import MalformedRequestError, PayloadTooLargeError

Model = TypeVar("Model", bound=BaseModel)


async def read_body(request: Request, *, limit_bytes: int) -> bytes:
    """Return the body, which stays in `scope["state"]` for whoever asks again (`core.web.once`).

    Raises PayloadTooLargeError above the limit, without reading on; MalformedRequestError when it never ended.
    """
    body = b""
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > limit_bytes:
                raise PayloadTooLargeError(f"the body is larger than {limit_bytes} bytes")
    except ClientDisconnect:
        raise MalformedRequestError("the connection was closed before the body was complete") from None
    request.scope.setdefault("state", {})["body"] = body
    return body


def read_json(model: type[Model], body: bytes, *, context: object = None) -> Model:
    """Return `body` as a `model`. Raises RequestValidationError that names every wrong field."""
    try:
        return model.model_validate_json(body, context=context)
    except ValidationError as error:
        if error.errors()[0]["type"] != "json_invalid" or (value := _parse_with_lone_surrogates(body)) is None:
            raise _of_request(error, "body") from None
    return read_value(model, value, context=context)


def read_value(model: type[Model], value: object, *, context: object = None) -> Model:
    """Return a value out of a body as a `model`. Raises RequestValidationError that names every wrong field."""
    try:
        return model.model_validate(value, context=context)
    except ValidationError as error:
        raise _of_request(error, "body") from None


def read_headers(model: type[Model], request: Request) -> Model:
    """Return the headers that `model`'s fields have as aliases; of a repeated one the first counts.

    Raises RequestValidationError that names every wrong one.
    """
    names = [field.alias for field in model.model_fields.values() if field.alias is not None]
    try:
        return model.model_validate({name: request.headers[name] for name in names if name in request.headers})
    except ValidationError as error:
        raise _of_request(error, "header") from None


def joined_by(error: RequestValidationError, read: Callable[[], object]) -> RequestValidationError:
    """Return `error` together with what `read` finds wrong, so that one answer names everything."""
    try:
        read()
    except RequestValidationError as other:
        return RequestValidationError([*error.errors(), *other.errors()])
    return error


def describe_body(model: type[BaseModel]) -> dict[str, Any]:
    """Describe `model` as a JSON request body, for the OpenAPI entry of a route that reads it by hand."""
    schema = model.model_json_schema(by_alias=False, ref_template="#/components/schemas/{model}")
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def _of_request(error: ValidationError, place: str) -> RequestValidationError:
    return RequestValidationError([{**each, "loc": (place, *each["loc"])} for each in error.errors()])


def _parse_with_lone_surrogates(body: bytes) -> object | None:
    """Parse JSON that is valid but for half a surrogate pair, written as \\uD800: so the field that has it is named."""
    if b"\\ud" not in body.lower():
        return None
    try:
        value: object = json.loads(body.decode())
    except (ValueError, RecursionError):
        return None
    return value
