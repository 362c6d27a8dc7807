"""JSON bodies read by hand, where a route takes its body as bytes: errors leave in the envelope like FastAPI's own."""

from collections.abc import Callable
from typing import Any, TypeVar

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError

Body = TypeVar("Body", bound=BaseModel)


def read_model(read: Callable[[], Body]) -> Body:
    """Return what `read`, a call of pydantic's, returns.

    Raises RequestValidationError that names every wrong field.
    """
    try:
        return read()
    except ValidationError as error:
        raise RequestValidationError([{**each, "loc": ("body", *each["loc"])} for each in error.errors()]) from None


def describe_body(model: type[BaseModel]) -> dict[str, Any]:
    """Describe `model` as a JSON request body, for the OpenAPI entry of a route that reads it by hand."""
    schema = model.model_json_schema(by_alias=False, ref_template="#/components/schemas/{model}")
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}
