"""Cursors: what goes in comes out, and nothing else does."""

import base64
from datetime import UTC, datetime
from uuid import UUID

import httpx
import orjson
import pytest
from fastapi.exceptions import RequestValidationError
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field
from starlette.requests import Request

from sms_foundation.core.errors import ValidationError
from sms_foundation.core.web.pagination import decode_cursor, document_query, encode_cursor, read_query
from tests.support.service import Service

TEXTS = st.text(alphabet=st.characters(exclude_categories=["Cs"]))
PARTS = st.lists(st.integers(-(2**63), 2**63 - 1) | TEXTS, max_size=4)


def pack(value: object) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(value)).decode().rstrip("=")


HOSTILE = {
    "empty": "",
    "no base64": "%%%",
    "a wrong length": "a",
    "not ascii": "ñandú",
    "no json": base64.urlsafe_b64encode(b"[1").decode(),
    "no utf-8": base64.urlsafe_b64encode(b'["\xff"]').decode(),
    "no list": pack({"a": 1}),
    "another type": pack(["1"]),
    "a fraction": pack([1.0]),
    "a truth value": pack([True]),
    "null": pack([None]),
    "too few": pack([]),
    "too many": pack([1, 2]),
    "more than 64 bits": base64.urlsafe_b64encode(b"[%d]" % 10**30).decode(),
    "deep": base64.urlsafe_b64encode(b"[" * 180).decode(),
}


class TestCursor:
    @given(PARTS)
    def test_comes_back_as_it_went(self, parts: list[int | str]) -> None:
        assert decode_cursor(encode_cursor(*parts), *(type(part) for part in parts)) == parts

    @given(PARTS)
    def test_needs_no_quoting_in_a_url(self, parts: list[int | str]) -> None:
        cursor = encode_cursor(*parts)

        assert str(httpx.QueryParams({"cursor": cursor})) == f"cursor={cursor}"

    @pytest.mark.parametrize("cursor", HOSTILE.values(), ids=HOSTILE.keys())
    def test_of_somebody_elses_making_is_refused(self, cursor: str) -> None:
        with pytest.raises(ValidationError) as caught:
            decode_cursor(cursor, int)

        assert (caught.value.status, caught.value.details) == (
            400,
            {"fields": [{"field": "cursor", "message": "is not one of ours"}]},
        )

    @given(st.text(max_size=256) | st.binary(max_size=150).map(lambda raw: base64.urlsafe_b64encode(raw).decode()))
    def test_of_any_text_is_refused_or_holds_what_was_asked_for(self, cursor: str) -> None:
        try:
            (number,) = decode_cursor(cursor, int)
        except ValidationError:
            return
        assert type(number) is int

    async def test_of_somebody_elses_making_is_400_in_both_lists(self, service: Service) -> None:
        await service.text("SM1")
        far_past, id_ = "0001-01-01T00:00:00+23:59", str(UUID(int=1))
        for path, cursors in (
            ("/conversations/+14155550123", [*HOSTILE.values(), "x" * 257]),
            (
                "/conversations",
                [*HOSTILE.values(), pack(["yesterday", id_]), pack([far_past, "no uuid"]), pack([1, id_]), "x" * 257],
            ),
        ):
            for cursor in cursors:
                response = await service.client.get(path, params={"cursor": cursor})
                assert response.status_code == 400, (path, cursor, response.text)
                assert "cursor" in response.text

    async def test_of_any_value_is_never_a_500(self, service: Service) -> None:
        id_ = str(UUID(int=1))
        for path, parts in (
            ("/conversations/+14155550123", [[2**64 - 1], [2**63], [2**63 - 1], [-(2**63)], [0], [-1]]),
            (
                "/conversations",
                [
                    [moment, id_]
                    for moment in (
                        "0001-01-01T00:00:00+23:59",
                        "9999-12-31T23:59:59-23:59",
                        "0001-01-01T00:00:00",
                        datetime(2026, 1, 1, tzinfo=UTC).isoformat(),
                        "2026-01-01",
                    )
                ],
            ),
        ):
            await service.text("SM1")
            for values in parts:
                response = await service.client.get(path, params={"cursor": pack(values)})
                assert response.status_code in {200, 400}, (values, response.text)


class Page(BaseModel):
    limit: int = Field(20, ge=1, le=100, description="Items per page")
    after: str | None = Field(None, max_length=5, description="Where to begin")


def request(query: str) -> Request:
    return Request({"type": "http", "query_string": query.encode(), "headers": [], "method": "GET", "path": "/"})


class TestReadQuery:
    def test_reads_the_model(self) -> None:
        assert read_query(Page, request("limit=7&after=abc&unknown=1")) == Page(limit=7, after="abc")
        assert read_query(Page, request("")) == Page()

    def test_says_what_is_wrong_as_the_framework_does(self) -> None:
        with pytest.raises(RequestValidationError) as caught:
            read_query(Page, request("limit=many&after=abcdef"))

        assert [each["loc"] for each in caught.value.errors()] == [("query", "limit"), ("query", "after")]

    def test_is_documented_field_by_field(self) -> None:
        limit, after = document_query(Page)

        assert (limit["name"], limit["in"], limit["required"], limit["description"]) == (
            "limit",
            "query",
            False,
            "Items per page",
        )
        assert limit["schema"] == {"default": 20, "maximum": 100, "minimum": 1, "type": "integer"}
        assert after["name"] == "after"
