"""What a request's headers say about where it comes from, and what is made of it."""

import re

import pytest

from sms_foundation.core.tracing.context import TraceContext
from sms_foundation.core.web.origin import read_origin

CALLER = TraceContext("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", is_sampled=True)
PARENT = (b"traceparent", CALLER.traceparent.encode())


class TestReadOrigin:
    def test_takes_both_from_the_caller(self) -> None:
        headers = [(b"host", b"x"), PARENT, (b"x-request-id", b"req-1"), (b"accept", b"*/*")]

        assert read_origin(headers) == ("req-1", CALLER)

    def test_spaces_around_it_are_none_of_it(self) -> None:
        assert read_origin([(b"traceparent", b" " + PARENT[1] + b"\t")])[1] == CALLER

    @pytest.mark.parametrize(
        "headers",
        [
            [],
            [PARENT, PARENT],
            [(b"traceparent", b"\xff\x00")],
            [(b"traceparent", b"")],
            [(b"traceparents", PARENT[1])],
        ],
    )
    def test_without_exactly_one_that_is_valid_there_is_no_caller_in_a_trace(
        self, headers: list[tuple[bytes, bytes]]
    ) -> None:
        assert read_origin(headers)[1] is None

    def test_of_several_ids_the_first_counts(self) -> None:
        assert read_origin([(b"x-request-id", b"one"), (b"x-request-id", b"two")])[0] == "one"

    @pytest.mark.parametrize(
        "request_id",
        [
            "019aa0b1-7c4d-7e5f-8a9b-123456789012",
            "web/12345678-1234-4123-8123-123456789012",
            "4BF92F35773412345678901234567890",
            "00f0671234567890",
            "01ARZ3NDEKTSV4RRFFQ69G5FAV",
            "2026-11-20T10:11:12.123",
            "order-123456789",
            "Zm9vYmFyYmF6cXV4+12=",
        ],
    )
    def test_an_id_without_a_number_is_kept(self, request_id: str) -> None:
        assert read_origin([(b"x-request-id", request_id.encode())])[0] == request_id

    @pytest.mark.parametrize(
        "request_id",
        [
            "call-+14155550123",
            "+14155550123",
            "14155550123",
            "call14155550123again",
            "sms:415-555-0123",
            "1.415.555.0123",
            "+4412345",
            "20261120014155550123",
            "019aa0b1-7c4d-7e5f-8a9b-123456789012/+14155550123",
            "00f0671234567890-4155550123",
        ],
    )
    def test_one_with_a_phone_number_is_not_taken(self, request_id: str) -> None:
        kept = read_origin([(b"x-request-id", request_id.encode())])[0]

        assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", kept)
        assert kept not in request_id
