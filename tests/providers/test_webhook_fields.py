import json
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sms_foundation.providers.base import WebhookRequest
from sms_foundation.providers.errors import WebhookParseError
from sms_foundation.providers.json_object import JsonObject
from sms_foundation.providers.webhook_fields import (
    all_fields,
    body_fields,
    flat_pairs,
    message_id,
    pairs_as_object,
    recipient_address,
    sender_address,
    with_plus,
)

FORM = "application/x-www-form-urlencoded"
JSON = "application/json; charset=utf-8"


def request(body: bytes = b"", *, query: str = "", content_type: str = FORM, method: str = "POST") -> WebhookRequest:
    return WebhookRequest(method, f"/webhook/x/sms{query}", {b"content-type": content_type.encode()}, body)


class TestFields:
    def test_body_counts_before_the_query(self) -> None:
        found = all_fields(request(b"a=body&b=1", query="?a=query&c=2"))

        assert found.fields == {"a": "body", "b": "1", "c": "2"}

    def test_content_type_decides_how_the_body_is_read(self) -> None:
        assert body_fields(request(b'{"a": 1}', content_type=JSON)).fields == {"a": 1}
        assert body_fields(request(b'{"a": 1}')).fields == {'{"a": 1}': ""}

    @pytest.mark.parametrize("body", [b"[1]", b"1", b"{", b"\xff", b'{"a": "\\ud800"}'])
    def test_json_that_is_no_object_is_refused(self, body: bytes) -> None:
        with pytest.raises(WebhookParseError, match="JSON"):
            body_fields(request(body, content_type=JSON))

    def test_repeated_name_is_nobodys_text_but_stays_in_raw(self) -> None:
        found = all_fields(request(b"a=1&a=2"))

        assert found.text("a") == ""
        assert json.loads(found.raw()) == {"a": ["1", "2"]}

    @given(st.lists(st.tuples(st.binary(), st.binary())))
    def test_any_bytes_become_what_postgresql_can_store(self, pairs: list[tuple[bytes, bytes]]) -> None:
        raw = pairs_as_object(flat_pairs(request(urlencode(pairs).encode()))).raw()

        json.loads(raw.encode("utf-8"))
        assert "\\u0000" not in raw.replace("\\\\", "")


class TestFlatPairs:
    def test_get_has_its_query_and_a_post_its_body(self) -> None:
        assert flat_pairs(request(b"a=1", query="?b=2", method="GET")) == [("b", "2")]
        assert flat_pairs(request(b"a=1", query="?b=2")) == [("a", "1")]

    def test_json_values_are_spelled_as_they_are_signed(self) -> None:
        body = b'{"a": "x", "b": 12, "c": null, "d": true, "e": {"f": 1}, "g": 1.5}'

        assert flat_pairs(request(body, content_type=JSON)) == [("a", "x"), ("b", "12")]

    @pytest.mark.parametrize("body", [b"", b"[]", b"{"])
    def test_what_is_no_object_has_none(self, body: bytes) -> None:
        assert flat_pairs(request(body, content_type=JSON)) == []


class TestIdsAndAddresses:
    def test_absurdly_long_ones_are_refused(self) -> None:
        fields = JsonObject({"id": "x" * 129, "from": "1" * 321})

        with pytest.raises(WebhookParseError, match="longer than 128"):
            message_id(fields, "id")
        with pytest.raises(WebhookParseError, match="longer than 320"):
            sender_address(fields, "from")
        with pytest.raises(WebhookParseError, match="longer than 320"):
            recipient_address(fields, "from")

    def test_missing_recipient_is_no_problem(self) -> None:
        assert recipient_address(JsonObject({}), "to") == ""

    @pytest.mark.parametrize(
        ("given_address", "address"),
        [
            ("14155550123", "+14155550123"),
            ("+14155550123", "+14155550123"),
            ("123456", "123456"),
            ("٣٣٣٣٣٣٣٣", "٣٣٣٣٣٣٣٣"),
        ],
    )
    def test_only_full_numbers_get_their_plus(self, given_address: str, address: str) -> None:
        assert with_plus(given_address) == address
