"""The API document: our error envelope instead of the framework's, and the webhooks that are no FastAPI routes."""

from collections.abc import Callable, Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi


def document_api(app: FastAPI, extra_paths: Mapping[str, Any], *, description: str) -> Callable[[], dict[str, Any]]:
    """Return what `app.openapi` should be: built once, on first use."""

    def build() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(title=app.title, version=app.version, routes=app.routes, description=description)
            schema["paths"] = {**extra_paths, **schema["paths"]}
            _drop_framework_errors(schema)
            _declare_bearer_token(schema)
            app.openapi_schema = schema
        return app.openapi_schema

    return build


def _declare_bearer_token(schema: dict[str, Any]) -> None:
    """Show the padlock on every operation that answers 401."""
    description = "INTERNAL_API_TOKEN; not needed locally while it is unset"
    schemes = schema.setdefault("components", {}).setdefault("securitySchemes", {})
    schemes["bearer"] = {"type": "http", "scheme": "bearer", "description": description}
    for operations in schema["paths"].values():
        for operation in operations.values():
            if "401" in operation.get("responses", {}):
                operation["security"] = [{"bearer": []}]


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
