"""What `60/1h` means, without anybody who counts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sms_foundation.auth.limits.limit import Limit, parse_limit, whole_seconds
from sms_foundation.core.rates.base import Denied, Slot, outcome_at

# A window of centuries is longer than a double counts in microseconds.
windows = st.one_of(
    st.builds("{}{}".format, st.integers(1, 99_999), st.sampled_from("smh")), st.integers(1, 9_999).map("{}d".format)
)
texts = st.builds("{}/{}".format, st.integers(1, 10**9 - 1), windows)


def limit_of(text: str) -> Limit:
    limit = parse_limit(text)
    assert limit is not None
    return limit


class TestParseLimit:
    @pytest.mark.parametrize(
        ("text", "count", "window_s"),
        [("60/1h", 60, 3600), ("6000/1m", 6000, 60), ("30/5m", 30, 300), ("7/10s", 7, 10), ("1/2d", 1, 172_800)],
    )
    def test_says_so_many_per_so_long(self, text: str, count: int, window_s: int) -> None:
        assert (limit_of(text).count, limit_of(text).window_s) == (count, window_s)

    def test_off_is_none(self) -> None:
        assert parse_limit("off") is None

    @given(texts)
    def test_no_unit_comes_back_sooner_than_the_limit_says(self, text: str) -> None:
        limit = limit_of(text)
        assert limit.count * limit.interval_us >= limit.window_s * 1_000_000
        assert (limit.interval_us - 1) * limit.count < limit.window_s * 1_000_000


class TestWish:
    @given(texts, st.data())
    def test_exactly_as_many_units_pass_at_once_as_the_limit_says(self, text: str, data: st.DataObject) -> None:
        """However they are divided, and however the numbers round."""
        limit = limit_of(text)
        left, start_us = limit.count, 0
        for _ in range(20):
            units = data.draw(st.integers(1, left)) if left > 1 else left
            take = limit.take("key", units)
            assert outcome_at(take, start_us) == Slot(start_us / 1_000_000)
            assert take.cost_us == units * limit.interval_us
            start_us += take.cost_us
            left -= units
            if not left:
                break
        rest = limit.take("key", left or 1)
        assert isinstance(outcome_at(rest, start_us), Slot) == (left > 0)
        assert isinstance(outcome_at(limit.take("key", left + 1), start_us), Denied)

    @given(texts, st.integers(1, 1000))
    def test_one_larger_than_the_limit_passes_when_nothing_is_used(self, text: str, more: int) -> None:
        limit = limit_of(text)
        large = limit.take("key", limit.count + more)
        assert isinstance(outcome_at(large, 0), Slot)
        assert isinstance(outcome_at(large, 1), Denied)

    @given(texts, st.integers(2, 10_000))
    def test_what_was_counted_already_does_not_stand_in_its_own_way(self, text: str, units: int) -> None:
        limit = limit_of(text)
        rest = limit.take("key", units - 1, already=1)
        assert isinstance(outcome_at(rest, limit.interval_us), Slot)
        assert isinstance(outcome_at(rest, max(limit.count - units + 1, 1) * limit.interval_us + 1), Denied)

    def test_another_limit_of_the_same_client_begins_anew(self) -> None:
        assert limit_of("60/1h").take("client:a").key != limit_of("61/1h").take("client:a").key


class TestHeaders:
    def headers(self, limit: Limit, used_us: int) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in limit.headers(used_us)}

    def test_say_limit_policy_what_is_left_and_when_all_of_it_is_back(self) -> None:
        limit = limit_of("50/10s")
        used_us = limit.used_us(Slot(0), 3)
        assert self.headers(limit, used_us) == {
            "ratelimit-limit": "50",
            "ratelimit-policy": "50;w=10",
            "ratelimit-remaining": "47",
            "ratelimit-reset": "1",
        }

    def test_of_one_refused_say_that_nothing_is_left(self) -> None:
        limit = limit_of("50/10s")
        used_us = limit.used_us(Denied(0.2))
        assert self.headers(limit, used_us) | {"ratelimit-remaining": "0", "ratelimit-reset": "10"} == self.headers(
            limit, used_us
        )

    @given(texts, st.integers(0, 10**12))
    def test_as_many_pass_as_they_say_are_left(self, text: str, used_us: int) -> None:
        limit = limit_of(text)
        remaining = int(self.headers(limit, used_us)["ratelimit-remaining"])
        assert 0 <= remaining <= limit.count
        if remaining:
            assert isinstance(outcome_at(limit.take("key", remaining), used_us), Slot)
        if used_us > 0 and remaining < limit.count:
            assert isinstance(outcome_at(limit.take("key", remaining + 1), used_us), Denied)


class TestWholeSeconds:
    @pytest.mark.parametrize(("wait_s", "said"), [(0.0, 1), (0.2, 1), (1.0, 1), (1.000001, 2), (59.5, 60)])
    def test_is_never_too_early_and_never_now(self, wait_s: float, said: int) -> None:
        assert whole_seconds(wait_s) == said
