"""What answers of the API are held against: the error envelope, and the OpenAPI document."""

from datetime import datetime
from typing import Any
from uuid import UUID

import httpx

from sms_foundation.core.web.errors import ErrorEnvelope

Json = dict[str, Any]


def refused(response: httpx.Response, status: int, code: str, *fields: str) -> Json:
    """Return the error of a response in the envelope, which names exactly these wrong fields."""
    assert response.status_code == status, response.text
    ErrorEnvelope.model_validate_json(response.content, extra="forbid")
    error: Json = response.json()["error"]
    assert error["code"] == code
    assert error["request_id"] == response.headers["x-request-id"]
    if fields:
        assert [each["field"] for each in error["details"]["fields"]] == list(fields)
    return error


class Document:
    """An OpenAPI document, and whether JSON values are as it says."""

    def __init__(self, document: Json) -> None:
        self.paths: Json = document["paths"]
        self.schemas: Json = document["components"]["schemas"]
        self.security_schemes: Json = document["components"]["securitySchemes"]

    def resolve(self, schema: Json) -> Json:
        return self.schemas[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema

    def response(self, method: str, path: str, status: int) -> Json:
        content = self.paths[path][method]["responses"][str(status)]["content"]
        return dict(content["application/json"]["schema"])

    def check(self, value: object, schema: Json, at: str = "") -> None:
        """Fail unless `value` is as `schema` says, without any field that it does not name."""
        schema = self.resolve(schema)
        if "anyOf" in schema:
            problems = [problem for each in schema["anyOf"] if (problem := self._problem(value, each, at)) is not None]
            assert len(problems) < len(schema["anyOf"]), problems
            return
        assert "enum" not in schema or value in schema["enum"], (at, value)
        match schema.get("type"):
            case "object":
                assert isinstance(value, dict), at
                assert set(schema.get("required", ())) <= set(value), (at, value)
                for name, each in value.items():
                    rest = schema.get("additionalProperties")
                    inner = schema.get("properties", {}).get(name, rest)
                    assert inner is not None, f"{at}.{name} is not documented"
                    self.check(each, {} if inner is True else inner, f"{at}.{name}")
            case "array":
                assert isinstance(value, list), at
                for each in value:
                    self.check(each, schema["items"], f"{at}[]")
            case "string":
                assert isinstance(value, str), at
                if schema.get("format") == "date-time":
                    assert datetime.fromisoformat(value).tzinfo is not None, at
                if schema.get("format") == "uuid":
                    UUID(value)
            case "integer":
                assert type(value) is int, at
            case "number":
                assert type(value) in (int, float), at
            case "null":
                assert value is None, at

    def _problem(self, value: object, schema: Json, at: str) -> AssertionError | None:
        try:
            self.check(value, schema, at)
        except AssertionError as problem:
            return problem
        return None
