"""What a request's headers say about where it comes from, and what is made of it."""

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
