"""Slots that are used up to a little late: what is the most that comes within a second?"""

from itertools import accumulate

from hypothesis import given
from hypothesis import strategies as st

from sms_foundation.core.rates.base import Wish
from sms_foundation.core.rates.margin import interval_for

_US = 1_000_000


def busiest(moments: list[int], window_us: int) -> int:
    """The most of `moments` that any window holds; the end of a window is not in it."""
    return max(sum(each <= other < each + window_us for other in moments) for each in moments)


def sent(limit_per_s: float, late_us: int, pauses: list[int], lateness: list[float]) -> list[int]:
    """Moments (us) at which slots were used: a slot every interval or later, each used up to `late_us` late."""
    cost_us = Wish("a", interval_for(limit_per_s, late_us / _US), 1, 0).cost_us
    slots = accumulate(cost_us + pause for pause in pauses)
    return [slot + round(share * late_us) for slot, share in zip(slots, lateness, strict=False)]


# Most slots follow one another as closely as they may, and most are used at the edges of what is allowed.
PAUSES = st.lists(st.just(0) | st.integers(0, _US), min_size=120, max_size=120)
LATENESS = st.lists(st.sampled_from([0.0, 1.0]) | st.floats(0, 1), min_size=120, max_size=120)
LATE_US = st.integers(0, _US // 2)


class TestIntervalFor:
    @given(limit=st.integers(1, 100), late_us=LATE_US, pauses=PAUSES, lateness=LATENESS)
    def test_no_sliding_second_sees_more_than_the_limit(
        self, limit: int, late_us: int, pauses: list[int], lateness: list[float]
    ) -> None:
        assert busiest(sent(limit, late_us, pauses, lateness), _US) <= limit

    @given(seconds=st.integers(1, 60), late_us=LATE_US, pauses=PAUSES, lateness=LATENESS)
    def test_below_one_a_second_it_is_one_in_as_many_seconds(
        self, seconds: int, late_us: int, pauses: list[int], lateness: list[float]
    ) -> None:
        assert busiest(sent(1 / seconds, late_us, pauses, lateness), seconds * _US) <= 1

    @given(tenths=st.integers(1, 400), late_us=LATE_US, pauses=PAUSES, lateness=LATENESS)
    def test_a_limit_between_whole_numbers_is_kept_over_longer_times(
        self, tenths: int, late_us: int, pauses: list[int], lateness: list[float]
    ) -> None:
        moments = sent(tenths / 10, late_us, pauses, lateness)

        assert busiest(moments, 10 * _US) <= tenths
        assert busiest(moments, _US) <= -(-tenths // 10)

    def test_not_a_microsecond_is_given_away(self) -> None:
        """The first of 51 slots is used as late as may be, the last at once: just a second apart."""
        cost_us = Wish("a", interval_for(50, late_s=0.1), 1, 0).cost_us

        assert 50 * (cost_us - 1) - 100_000 <= _US <= 50 * cost_us - 100_000
