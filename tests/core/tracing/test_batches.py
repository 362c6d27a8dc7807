"""Commits of many as spans, and whose context they run in."""

import asyncio
from collections.abc import Callable, Sequence

from sms_foundation.core.batching import Batcher
from sms_foundation.core.tracing.context import NOWHERE, Origin, TraceContext, origin, resume, trace
from sms_foundation.core.tracing.tracer import SpanKind, Tracer
from tests.support.collector import Collector


class Writer:
    """A `write` that may be held up and remembers what was current in each call."""

    def __init__(self) -> None:
        self.origins: list[Origin] = []
        self.fails_with_many = False
        self.may_go_on = asyncio.Event()
        self.may_go_on.set()

    async def write(self, items: Sequence[int]) -> Sequence[int]:
        self.origins.append(origin())
        await self.may_go_on.wait()
        if self.fails_with_many and len(items) > 1:
            raise ValueError
        return items


def batcher_of(writer: Writer, tracer: Tracer | None = None) -> Batcher[int, int]:
    return Batcher(writer.write, is_item_to_blame=lambda _: True, tracer=tracer, name="things")


def cause(number: int, *, is_sampled: bool = True) -> Origin:
    return Origin(TraceContext(f"{number:032x}", f"{number:016x}", is_sampled).traceparent, f"req-{number}")


async def submit(batcher: Batcher[int, int], number: int, *, is_sampled: bool = True) -> int:
    """Submit as the request with this number does, in a task of its own."""

    async def in_request() -> int:
        resume(cause(number, is_sampled=is_sampled))
        return await batcher.submit(number)

    return await asyncio.create_task(in_request())


async def until(is_true: Callable[[], bool]) -> None:
    for _ in range(1000):
        if is_true():
            return
        await asyncio.sleep(0)
    raise AssertionError("it does not become true")


async def submit_together(batcher: Batcher[int, int], writer: Writer, *numbers: int, is_sampled: bool = True) -> None:
    """Submit one, and while it is being written all others, which so share the next write."""
    writer.may_go_on.clear()
    first = asyncio.create_task(submit(batcher, numbers[0], is_sampled=is_sampled))
    await until(lambda: bool(writer.origins))
    others = [asyncio.create_task(submit(batcher, each, is_sampled=is_sampled)) for each in numbers[1:]]
    await until(lambda: batcher.waiting == len(others))
    writer.may_go_on.set()
    await asyncio.gather(first, *others)


class TestOrigin:
    async def test_of_a_single_item_is_its_own_whoever_began_the_writing(self) -> None:
        writer = Writer()
        batcher = batcher_of(writer)

        await submit_together(batcher, writer, 1, 2)

        assert writer.origins == [cause(1), cause(2)]

    async def test_of_many_is_nobodys(self) -> None:
        writer = Writer()

        await submit_together(batcher_of(writer), writer, 1, 2, 3)

        assert writer.origins == [cause(1), NOWHERE]

    async def test_tried_one_by_one_each_has_its_own(self) -> None:
        writer = Writer()
        writer.fails_with_many = True

        await submit_together(batcher_of(writer), writer, 1, 2, 3)

        assert writer.origins == [cause(1), NOWHERE, cause(2), cause(3)]


class TestSpans:
    async def test_of_a_commit_link_all_whose_items_it_holds(self, tracer: Tracer, collector: Collector) -> None:
        writer = Writer()

        await submit_together(batcher_of(writer, tracer), writer, 1, 2, 3)

        await collector.until(lambda: len(collector.spans) == 2, "both commits arrive")
        alone, together = sorted(collector.spans, key=lambda each: each.trace_id)
        assert (alone.name, alone.trace_id, alone.links) == ("commit things", f"{1:032x}", [(f"{1:032x}", f"{1:016x}")])
        assert (together.name, together.parent_id) == ("commit things", f"{2:016x}")
        assert together.links == [(f"{number:032x}", f"{number:016x}") for number in (2, 3)]
        assert together.attributes == {"sms.batch.size": 2}
        assert writer.origins[1] == Origin(TraceContext(together.trace_id, together.span_id, True).traceparent)

    async def test_of_a_commit_belong_to_the_first_whose_trace_is_recorded(
        self, tracer: Tracer, collector: Collector
    ) -> None:
        """Below one that nobody records it would not be recorded either, and the others would miss it."""
        writer = Writer()
        batcher = batcher_of(writer, tracer)

        await asyncio.gather(*(submit(batcher, number, is_sampled=number != 1) for number in (1, 2, 3)))

        await collector.until(lambda: bool(collector.spans), "the commit arrives")
        assert len(writer.origins) == 1
        (together,) = collector.spans
        assert (together.trace_id, together.parent_id) == (f"{2:032x}", f"{2:016x}")
        assert together.links == [(f"{number:032x}", f"{number:016x}") for number in (1, 2, 3)]

    async def test_there_is_none_for_what_nobody_records(self, tracer: Tracer, collector: Collector) -> None:
        writer = Writer()
        batcher = batcher_of(writer, tracer)
        await submit_together(batcher, writer, 1, 2, 3, is_sampled=False)
        trace.set(None)
        await batcher.submit(4)
        tracer.start("the last one", SpanKind.INTERNAL, {}, parent=None).end()

        await collector.one("the last one")
        assert [each.name for each in collector.spans] == ["the last one"]
