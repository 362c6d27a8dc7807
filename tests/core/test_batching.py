"""Group commit, without a database: `write` is whatever the test makes it."""

import asyncio
from collections.abc import Callable, Sequence
from contextvars import ContextVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sms_foundation.core.batching import Batcher, OverloadedError


class BadItemError(Exception):
    pass


class AwayError(Exception):
    pass


class Sink:
    """A `write` that answers each item with its square, may be held up, and remembers its batches."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.is_open = asyncio.Event()
        self.is_open.set()
        self.fails: Callable[[Sequence[int]], Exception | None] = lambda _: None
        self.running = self.most_running = 0

    async def write(self, items: Sequence[int]) -> list[int]:
        self.batches.append(list(items))
        self.running += 1
        self.most_running = max(self.running, self.most_running)
        try:
            await self.is_open.wait()
            if error := self.fails(items):
                raise error
            return [item * item for item in items]
        finally:
            self.running -= 1


@pytest.fixture
def sink() -> Sink:
    return Sink()


def batcher_of(sink: Sink, **options: object) -> Batcher[int, int]:
    return Batcher(sink.write, is_item_to_blame=lambda error: isinstance(error, BadItemError), **options)  # type: ignore[arg-type]


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it does not become true")


async def outcomes(*futures: asyncio.Future[int]) -> list[int | str]:
    results = await asyncio.gather(*futures, return_exceptions=True)
    return [result if isinstance(result, int) else type(result).__name__ for result in results]


class TestSubmit:
    async def test_one_item_travels_alone(self, sink: Sink) -> None:
        assert await batcher_of(sink).submit(3) == 9
        assert sink.batches == [[3]]

    async def test_what_arrives_in_one_round_of_the_loop_travels_together_in_order(self, sink: Sink) -> None:
        batcher = batcher_of(sink)

        assert await asyncio.gather(*(batcher.submit(n) for n in range(5))) == [0, 1, 4, 9, 16]
        assert sink.batches == [[0, 1, 2, 3, 4]]

    async def test_the_batch_grows_by_what_arrives_while_one_is_written(self, sink: Sink) -> None:
        batcher = batcher_of(sink)
        sink.is_open.clear()
        futures = [batcher.submit(0)]
        await until(lambda: bool(sink.batches))
        for n in range(1, 8):
            futures.append(batcher.submit(n))
            await asyncio.sleep(0)
        assert batcher.waiting == 7

        sink.is_open.set()
        await asyncio.gather(*futures)
        assert sink.batches == [[0], [1, 2, 3, 4, 5, 6, 7]]

    async def test_no_batch_is_larger_than_allowed(self, sink: Sink) -> None:
        batcher = batcher_of(sink, max_items=4)

        await asyncio.gather(*(batcher.submit(n) for n in range(10)))

        assert sink.batches == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]

    @pytest.mark.parametrize("limit", [1, 3])
    async def test_no_more_writes_run_at_once_than_allowed(self, sink: Sink, limit: int) -> None:
        batcher = batcher_of(sink, max_items=1, max_in_flight=limit)

        sink.is_open.clear()
        futures = [batcher.submit(n) for n in range(9)]
        await until(lambda: sink.running == limit)
        sink.is_open.set()
        await asyncio.gather(*futures)

        assert sink.most_running == limit
        assert sorted(sink.batches) == [[n] for n in range(9)]

    async def test_the_size_of_every_batch_that_succeeded_is_told(self, sink: Sink) -> None:
        told: list[int] = []
        batcher = batcher_of(sink, max_items=3, on_written=told.append)
        sink.fails = lambda items: AwayError() if 9 in items else None

        await asyncio.gather(*(batcher.submit(n) for n in range(5)))
        assert await outcomes(batcher.submit(9)) == ["AwayError"]

        assert told == [3, 2]

    @given(
        arrivals=st.lists(st.integers(0, 5), max_size=30),
        max_items=st.integers(1, 5),
        max_in_flight=st.integers(1, 3),
        poison=st.sets(st.integers(0, 40), max_size=5),
    )
    def test_everyone_gets_the_answer_to_their_own_item(
        self, arrivals: list[int], max_items: int, max_in_flight: int, poison: set[int]
    ) -> None:
        """However items and rounds of the loop alternate; each good item is written once, each bad one fails alone."""

        async def play() -> None:
            sink = Sink()
            written: list[int] = []

            async def write(items: Sequence[int]) -> list[int]:
                await asyncio.sleep(0)
                if poison.intersection(items):
                    raise BadItemError
                written.extend(items)
                return await sink.write(items)

            batcher: Batcher[int, int] = Batcher(
                write,
                is_item_to_blame=lambda error: isinstance(error, BadItemError),
                max_items=max_items,
                max_in_flight=max_in_flight,
            )
            futures = []
            for pause in arrivals:
                futures.append(batcher.submit(len(futures)))
                for _ in range(pause):
                    await asyncio.sleep(0)
            good = [n for n in range(len(futures)) if n not in poison]
            assert await outcomes(*futures) == ["BadItemError" if n in poison else n * n for n in range(len(futures))]
            assert sorted(written) == good
            if max_in_flight == 1:
                assert written == good
            await batcher.close()

        asyncio.run(play())


class TestContext:
    async def test_a_write_knows_nothing_of_whoever_began_it(self) -> None:
        """It goes on with what others have submitted: what was bound for one would stand in the others' log lines."""
        whose: ContextVar[str] = ContextVar("whose", default="nobody's")
        seen = []

        async def write(items: Sequence[int]) -> Sequence[int]:
            seen.append(whose.get())
            return items

        batcher: Batcher[int, int] = Batcher(write, is_item_to_blame=lambda _: True, max_items=1)
        whose.set("the first caller's")

        await asyncio.gather(batcher.submit(1), batcher.submit(2))

        assert seen == ["nobody's", "nobody's"]


class TestFailure:
    async def test_a_bad_item_fails_alone(self, sink: Sink) -> None:
        batcher = batcher_of(sink)
        sink.fails = lambda items: BadItemError() if 2 in items else None

        assert await outcomes(*(batcher.submit(n) for n in range(4))) == [0, 1, "BadItemError", 9]
        assert sink.batches == [[0, 1, 2, 3], [0], [1], [2], [3]]

    async def test_a_bad_item_is_no_matter_to_those_who_wait(self, sink: Sink) -> None:
        batcher = batcher_of(sink, max_items=1)
        sink.fails = lambda items: BadItemError() if 0 in items else None

        assert await outcomes(*(batcher.submit(n) for n in range(3))) == ["BadItemError", 1, 4]

    async def test_an_outage_fails_all_who_wait_after_a_single_try(self, sink: Sink) -> None:
        batcher = batcher_of(sink, max_items=2)
        sink.fails = lambda _: AwayError()

        assert await outcomes(*(batcher.submit(n) for n in range(6))) == ["AwayError"] * 6
        assert sink.batches == [[0, 1]]

    async def test_an_outage_while_a_bad_item_is_looked_for_fails_the_rest_after_a_single_try(self, sink: Sink) -> None:
        batcher = batcher_of(sink, max_items=4)
        sink.fails = lambda items: BadItemError() if len(items) > 1 else AwayError() if items[0] else None

        assert await outcomes(*(batcher.submit(n) for n in range(6))) == [0, *["AwayError"] * 5]
        assert sink.batches == [[0, 1, 2, 3], [0], [1]]

    async def test_after_an_outage_the_next_item_is_tried(self, sink: Sink) -> None:
        batcher = batcher_of(sink)
        sink.fails = lambda _: AwayError()
        await outcomes(batcher.submit(1))
        sink.fails = lambda _: None

        assert await batcher.submit(2) == 4

    async def test_a_write_that_takes_too_long_is_a_timeout_for_all_who_wait(self, sink: Sink) -> None:
        batcher = batcher_of(sink, max_items=2, timeout_s=0.02)
        sink.is_open.clear()

        assert await outcomes(*(batcher.submit(n) for n in range(5))) == ["TimeoutError"] * 5

        sink.is_open.set()
        assert await batcher.submit(4) == 16

    async def test_too_much_waiting_is_refused_at_once_with_a_time_to_come_back(self, sink: Sink) -> None:
        batcher = batcher_of(sink, max_waiting=3, max_items=1)
        sink.is_open.clear()
        futures = [batcher.submit(0)]
        await until(lambda: bool(sink.batches))
        futures += [batcher.submit(n) for n in (1, 2, 3)]

        with pytest.raises(OverloadedError) as caught:
            batcher.submit(4)

        assert (caught.value.status, caught.value.code) == (503, "sms.overloaded")
        assert caught.value.retry_after_s
        sink.is_open.set()
        assert await asyncio.gather(*futures) == [0, 1, 4, 9]
        assert await batcher.submit(5) == 25


class TestCancellation:
    async def test_a_caller_that_goes_away_takes_nobody_along_and_its_item_is_written(self, sink: Sink) -> None:
        batcher = batcher_of(sink)

        async def call(item: int) -> int:
            return await batcher.submit(item)

        sink.is_open.clear()
        calls = [asyncio.create_task(call(n)) for n in range(3)]
        await until(lambda: bool(sink.batches))
        calls[1].cancel()
        sink.is_open.set()

        assert (await calls[0], await calls[2]) == (0, 4)
        assert calls[1].cancelled()
        assert sink.batches == [[0, 1, 2]]

    async def test_a_caller_that_goes_away_before_a_failure_is_not_told(self, sink: Sink) -> None:
        batcher = batcher_of(sink)
        sink.is_open.clear()
        sink.fails = lambda _: AwayError()
        gone, stays = batcher.submit(0), batcher.submit(1)
        await until(lambda: bool(sink.batches))
        gone.cancel()
        sink.is_open.set()

        assert await outcomes(stays) == ["AwayError"]


class TestClose:
    async def test_waits_until_everything_submitted_has_its_answer(self, sink: Sink) -> None:
        batcher = batcher_of(sink, max_items=2)
        sink.is_open.clear()
        futures = [batcher.submit(n) for n in range(5)]
        closing = asyncio.create_task(batcher.close())
        await until(lambda: bool(sink.batches))
        assert not closing.done()

        sink.is_open.set()
        await closing
        assert [future.result() for future in futures] == [0, 1, 4, 9, 16]

    async def test_with_nothing_to_do_returns_at_once(self, sink: Sink) -> None:
        await batcher_of(sink).close()
