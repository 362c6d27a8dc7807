"""The W3C trace context: what counts as one, and what is done with what does not."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sms_foundation.core.tracing.context import (
    NOWHERE,
    Origin,
    TraceContext,
    new_context,
    origin,
    parse_traceparent,
    request_id,
    resume,
    trace,
    within,
)

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"


def hexadecimal(length: int) -> st.SearchStrategy[str]:
    return st.text("0123456789abcdef", min_size=length, max_size=length).filter(lambda text: set(text) != {"0"})


contexts = st.builds(TraceContext, hexadecimal(32), hexadecimal(16), st.booleans(), st.just(""))


class TestParseTraceparent:
    """Source: https://www.w3.org/TR/trace-context/#traceparent-header and its examples."""

    @pytest.mark.parametrize(
        ("flags", "is_sampled"), [("00", False), ("01", True), ("02", False), ("03", True), ("ff", True), ("fe", False)]
    )
    def test_of_the_flags_only_sampled_counts(self, flags: str, is_sampled: bool) -> None:
        assert parse_traceparent(f"00-{TRACE}-{SPAN}-{flags}") == TraceContext(TRACE, SPAN, is_sampled)

    @pytest.mark.parametrize("more", ["", "-", "-what-the-future-will-be-like"])
    def test_versions_to_come_are_read_as_far_as_this_one_goes(self, more: str) -> None:
        assert parse_traceparent(f"cc-{TRACE}-{SPAN}-01{more}") == TraceContext(TRACE, SPAN, is_sampled=True)

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "no",
            f"ff-{TRACE}-{SPAN}-01",  # a version that cannot be
            f"00-{TRACE}-{SPAN}-01-more",  # 00 has no more
            f"00-{TRACE}-{SPAN}-01-",
            f"cc-{TRACE}-{SPAN}-01.more",
            f"cc-{TRACE}-{SPAN}-011",
            f"00-{'0' * 32}-{SPAN}-01",
            f"00-{TRACE}-{'0' * 16}-01",
            f"00-{TRACE.upper()}-{SPAN}-01",
            f"00-{TRACE}-{SPAN.upper()}-01",
            f"00-{TRACE}-{SPAN}-0A",
            f"0A-{TRACE}-{SPAN}-01",
            f"00-{TRACE[1:]}-{SPAN}-01",
            f"00-{TRACE}0-{SPAN}-01",
            f"00-{TRACE}-{SPAN[1:]}-01",
            f"00-{TRACE}-{SPAN}0-01",
            f"00-{TRACE}-{SPAN}-1",
            f"00-{TRACE}-{SPAN}-001",
            f"0-{TRACE}-{SPAN}-01",
            f"00-{TRACE[:-1]}g-{SPAN}-01",
            f"00-{TRACE[:-1]}٣-{SPAN}-01",  # a digit, yet not one of these
            f"00_{TRACE}_{SPAN}_01",
            f"00-{TRACE}-{SPAN}",
            f"00-{TRACE}-{SPAN}-01\n",
            f" 00-{TRACE}-{SPAN}-01",
        ],
    )
    def test_anything_else_is_none(self, text: str) -> None:
        assert parse_traceparent(text) is None

    @given(contexts)
    def test_reads_what_was_written(self, context: TraceContext) -> None:
        assert parse_traceparent(context.traceparent) == context

    @given(st.text())
    def test_nothing_makes_it_fail(self, text: str) -> None:
        read = parse_traceparent(text)

        assert read is None or read.trace_id in text


class TestNewContext:
    def test_is_valid_always_another_and_recorded_by_nobody(self) -> None:
        made = [new_context() for _ in range(1000)]

        assert all(parse_traceparent(each.traceparent) == each for each in made)
        assert len({each.trace_id for each in made}) == len({each.span_id for each in made}) == 1000
        assert not any(each.is_sampled for each in made)


class TestOrigin:
    async def test_is_what_a_row_keeps_and_what_resumes_from_it(self) -> None:
        before = Origin(f"00-{TRACE}-{SPAN}-01", "req-1")

        assert resume(before) == TraceContext(TRACE, SPAN, is_sampled=True)
        assert origin() == before
        assert (trace.get(), request_id.get()) == (TraceContext(TRACE, SPAN, is_sampled=True), "req-1")

    @pytest.mark.parametrize("kept", [None, "broken"])
    async def test_without_a_trace_a_new_one_begins(self, kept: str | None) -> None:
        resume(Origin(f"00-{TRACE}-{SPAN}-01", "req-1"))

        assert resume(Origin(kept)) is None
        current = trace.get()
        assert current is not None
        assert current.trace_id != TRACE
        assert request_id.get() == ""

    async def test_outside_of_everything_there_is_none(self) -> None:
        async def look() -> Origin:
            trace.set(None)
            request_id.set("")
            return origin()

        assert await asyncio.create_task(look()) == NOWHERE

    async def test_a_block_puts_back_what_was_current(self) -> None:
        before = Origin(f"00-{TRACE}-{SPAN}-00", "req-1")
        resume(before)

        def fail_within(cause: Origin) -> None:
            with within(cause):
                assert origin() == cause
                raise ValueError("in the middle")

        with pytest.raises(ValueError, match="in the middle"):
            fail_within(Origin(f"00-{'a' * 32}-{SPAN}-00", "req-2"))
        assert origin() == before
