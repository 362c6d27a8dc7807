from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sms_foundation.core.http import HttpResponse
from sms_foundation.providers.calls import (
    form_body,
    json_body,
    kind_of_status,
    kind_when_asking,
    read_object,
    refusal,
    retry_after_s,
)
from sms_foundation.providers.errors import FACTS, ErrorKind, ProviderError, Remedy

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


def now() -> datetime:
    return NOW


class TestRetryAfter:
    @pytest.mark.parametrize(
        ("value", "seconds"),
        [
            ("0", 0.0),
            (" 120 ", 120.0),
            ("9999", 3600.0),
            ("9" * 5000, 3600.0),
            ("Fri, 20 Nov 2026 12:00:30 GMT", 30.0),
            ("Fri, 20 Nov 2026 12:00:30 -0000", 30.0),
            ("Fri, 20 Nov 2026 11:00:00 GMT", 0.0),
            ("Fri, 20 Nov 2099 11:00:00 GMT", 3600.0),
            ("", None),
            ("-5", None),
            ("1.5", None),
            ("٣", None),
            ("soon", None),
            ("Fri, 99 Nov 2026 12:00:30 GMT", None),
            ("Mon, 01 Jan 0001 00:00:00 +2359", 0.0),
        ],
    )
    def test_is_seconds_or_a_date_within_an_hour(self, value: str, seconds: float | None) -> None:
        assert retry_after_s(value, now=now) == seconds

    @given(st.text() | st.text("0123456789:+-, FriNovGMT"))
    def test_is_never_more_than_a_number_in_bounds(self, value: str) -> None:
        seconds = retry_after_s(value, now=now)

        assert seconds is None or 0 <= seconds <= 3600


class TestKindOfStatus:
    @pytest.mark.parametrize(
        ("status", "kind"),
        [
            (400, ErrorKind.INVALID_REQUEST),
            (401, ErrorKind.ACCOUNT),
            (402, ErrorKind.ACCOUNT),
            (403, ErrorKind.ACCOUNT),
            (404, ErrorKind.INVALID_REQUEST),
            (408, ErrorKind.UNKNOWN_OUTCOME),
            (429, ErrorKind.RATE_LIMITED),
            (500, ErrorKind.UNKNOWN_OUTCOME),
            (307, ErrorKind.UNKNOWN_OUTCOME),
            (200, ErrorKind.UNKNOWN_OUTCOME),
        ],
    )
    def test_says_whether_anything_can_have_been_sent(self, status: int, kind: ErrorKind) -> None:
        assert kind_of_status(status) is kind

    @given(st.integers(100, 599))
    def test_only_a_4xx_is_a_certain_no(self, status: int) -> None:
        if not 400 <= status < 500:
            assert FACTS[kind_of_status(status)].remedy is Remedy.LOOK_UP


class TestKindWhenAsking:
    @pytest.mark.parametrize("kind", ErrorKind)
    def test_no_outcome_of_a_question_is_to_be_looked_up(self, kind: ErrorKind) -> None:
        expected = ErrorKind.UNAVAILABLE if kind is ErrorKind.UNKNOWN_OUTCOME else kind

        assert kind_when_asking(kind) is expected


class TestRefusal:
    def test_tells_everything_but_never_endlessly(self) -> None:
        response = HttpResponse(429, {"Retry-After": "3"}, b"")
        error = refusal(response, ErrorKind.RATE_LIMITED, code="9" * 100, text="x" * 10_000)

        assert (error.kind, error.status_code, error.retry_after_s) == (ErrorKind.RATE_LIMITED, 429, 3.0)
        assert error.provider_code == "9" * 32
        assert error.provider_text == "x" * 500

    def test_blank_code_and_text_are_none(self) -> None:
        error = refusal(HttpResponse(400, {}, b""), ErrorKind.INVALID_REQUEST, code="", text="")

        assert (error.provider_code, error.provider_text, error.retry_after_s) == (None, None, None)


class TestReadObject:
    @pytest.mark.parametrize("body", [b"", b"[]", b"null", b'"a"', b"<html>", b'{"a":', b"\xff", b'{"a":' * 5000])
    def test_what_is_no_object_reads_as_an_empty_one(self, body: bytes) -> None:
        assert read_object(HttpResponse(200, {}, body)).fields == {}

    @given(st.binary())
    def test_reads_any_bytes(self, body: bytes) -> None:
        read_object(HttpResponse(200, {}, body)).raw()


class TestBodies:
    def test_form_repeats_the_name_of_a_list_and_keeps_blanks(self) -> None:
        assert form_body([("Url", "a&b"), ("Url", "é+ "), ("Body", "")]) == b"Url=a%26b&Url=%C3%A9%2B+&Body="

    @pytest.mark.parametrize("encode", [lambda text: form_body([("a", text)]), lambda text: json_body({"a": text})])
    def test_half_a_surrogate_pair_is_a_bad_request(self, encode: object) -> None:
        with pytest.raises(ProviderError) as caught:
            encode("\ud83d")  # type: ignore[operator]

        assert caught.value.kind is ErrorKind.INVALID_REQUEST
