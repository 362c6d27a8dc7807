"""Asking somebody who may never answer."""

import asyncio

import pytest

from sms_foundation.core.limited import Limited


class Oracle:
    """Answers when it may, with how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.may_answer = asyncio.Event()

    async def ask(self) -> int:
        self.asked += 1
        await self.may_answer.wait()
        return self.asked


class TestLimited:
    async def test_returns_the_answer_and_asks_anew_each_time(self) -> None:
        oracle = Oracle()
        oracle.may_answer.set()
        limited = Limited(oracle.ask, limit_s=30)

        assert [await limited(), await limited()] == [1, 2]

    async def test_leaves_whoever_does_not_answer(self) -> None:
        with pytest.raises(TimeoutError):
            await Limited(Oracle().ask, limit_s=0.01)()

    async def test_does_not_ask_again_before_the_last_question_is_answered(self) -> None:
        oracle = Oracle()
        limited = Limited(oracle.ask, limit_s=0.01)
        for _ in range(3):
            with pytest.raises(TimeoutError):
                await limited()
        assert oracle.asked == 1

        oracle.may_answer.set()

        assert await limited() == 1
        assert await limited() == 2

    async def test_those_who_ask_together_share_one_question(self) -> None:
        oracle = Oracle()
        limited = Limited(oracle.ask, limit_s=30)
        together = asyncio.gather(limited(), limited())
        await asyncio.sleep(0)
        oracle.may_answer.set()

        assert await together == [1, 1]

    async def test_passes_on_what_went_wrong(self) -> None:
        async def fail() -> None:
            raise ValueError("no")

        with pytest.raises(ValueError, match="no"):
            await Limited(fail, limit_s=30)()
