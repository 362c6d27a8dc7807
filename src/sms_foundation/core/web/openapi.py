"""The API document: our error envelope instead of the framework's, what routes ask of their callers, the webhooks."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

_KEY = {
    "type": "http",
    "scheme": "bearer",
    "description": "An API key, `sf_live_...` or `sf_test_...` (`X-API-Key` does as well), or an access token (JWT) of "
    "ours or of an issuer that is configured",
}
_ENVELOPE = {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorEnvelope"}}}
_REFUSALS = {
    "401": "No credentials, or none that are valid; never says what is wrong with them",
    "403": "These credentials do not allow it",
    "429": "Too many requests; `Retry-After` says when to come back, the `RateLimit-*` headers how much is left",
}
_LIMIT_HEADERS = {
    "Retry-After": "Seconds until it passes, if nobody else comes meanwhile",
    "RateLimit-Limit": "What this client may do per window; this and the next three come with every answer",
    "RateLimit-Remaining": "What it may do now",
    "RateLimit-Reset": "Seconds until everything is back",
    "RateLimit-Policy": "The limit and its window in seconds, such as `6000;w=60`",
}

_IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "Your name for this request, not to be guessed: a UUID. Repeating it within IDEMPOTENCY_HOURS does "
    "nothing twice, and is answered as the first was, with `X-Idempotent-Replayed: true`",
    "schema": {"type": "string", "pattern": "^[A-Za-z0-9._:/+=-]{1,255}$"},
}
_REPETITIONS = {
    "409": "The same request is still running: come back after `Retry-After`",
    "422": "The Idempotency-Key was used for another request",
}
_TOO_LARGE = "The body is larger than anything that could be asked for"


@dataclass(frozen=True, slots=True)
class Demand:
    """What a route asks of its callers: `words` for people; `permission` by name, None: anybody who has credentials.

    `is_optional`: some callers need no credentials.
    """

    words: str
    permission: str | None = None
    is_optional: bool = False


Demands = Mapping[tuple[str, str], Demand]
"""By method and path template; routes that are not there ask for nothing."""


def document_api(
    app: FastAPI, extra_paths: Mapping[str, Any], demands: Demands, *, description: str
) -> Callable[[], dict[str, Any]]:
    """Return what `app.openapi` should be: built once, on first use."""

    def build() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(title=app.title, version=app.version, routes=app.routes, description=description)
            _drop_framework_errors(schema)
            _declare_access(schema, demands)
            _declare_repetitions(schema)
            _declare_body_limits(schema)
            schema["paths"] = {**extra_paths, **schema["paths"]}
            app.openapi_schema = schema
        return app.openapi_schema

    return build


def _declare_access(schema: dict[str, Any], demands: Demands) -> None:
    """Show the padlock, the permission and the refusals on every operation that asks for credentials."""
    schema.setdefault("components", {}).setdefault("securitySchemes", {})["credentials"] = _KEY
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            demand = demands.get((method.upper(), path))
            if demand is None:
                operation["security"] = []
                continue
            operation["security"] = [{}, {"credentials": []}] if demand.is_optional else [{"credentials": []}]
            if demand.permission is not None:
                operation["x-permission"] = demand.permission
            operation["description"] = f"{operation.get('description', '')}\n\n{demand.words}".strip()
            for status, text in _REFUSALS.items():
                operation["responses"].setdefault(status, {"description": text, "content": _ENVELOPE})
            operation["responses"]["429"].setdefault("headers", _describe_headers())


def _describe_headers() -> dict[str, Any]:
    return {
        name: {"description": text, "schema": {"type": "string" if name == "RateLimit-Policy" else "integer"}}
        for name, text in _LIMIT_HEADERS.items()
    }


def _declare_repetitions(schema: dict[str, Any]) -> None:
    """Show the Idempotency-Key on every operation that changes something, unless it says more about it itself."""
    for operations in schema["paths"].values():
        for method in operations.keys() & {"post", "patch"}:
            operation = operations[method]
            parameters = operation.setdefault("parameters", [])
            if any(each["name"] == _IDEMPOTENCY_KEY["name"] for each in parameters):
                continue
            parameters.append(_IDEMPOTENCY_KEY)
            for status, text in _REPETITIONS.items():
                operation["responses"].setdefault(status, {"description": text, "content": _ENVELOPE})


def _declare_body_limits(schema: dict[str, Any]) -> None:
    """Show on every operation with a body that it can be too large."""
    for operations in schema["paths"].values():
        for operation in operations.values():
            if "requestBody" in operation:
                operation["responses"].setdefault("413", {"description": _TOO_LARGE, "content": _ENVELOPE})


def _drop_framework_errors(schema: dict[str, Any]) -> None:
    """Invalid input is answered 400 in the envelope, never 422 in FastAPI's own shape."""
    for operations in schema["paths"].values():
        for operation in operations.values():
            content = operation.get("responses", {}).get("422", {}).get("content", {})
            reference = content.get("application/json", {}).get("schema", {}).get("$ref", "")
            if reference.endswith("/HTTPValidationError"):
                del operation["responses"]["422"]
    for name in ("HTTPValidationError", "ValidationError"):
        schema.get("components", {}).get("schemas", {}).pop(name, None)
