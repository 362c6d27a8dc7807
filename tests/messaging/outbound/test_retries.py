import math
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sms_foundation.messaging.outbound.retries import next_try

SPREAD = st.floats(0, 1)


class TestNextTry:
    def test_doubles_from_two_seconds(self) -> None:
        pauses = [next_try(failures, retry_after_s=None, spread=1) for failures in (1, 2, 3, 4, 5)]

        assert pauses == [timedelta(seconds=s) for s in (2, 4, 8, 16, 32)]

    def test_gives_up_after_five_retries(self) -> None:
        assert next_try(5, retry_after_s=None) is not None
        assert next_try(6, retry_after_s=None) is None
        assert next_try(6, retry_after_s=10) is None

    @given(st.integers(1, 5), SPREAD)
    def test_stays_between_half_the_base_and_the_cap(self, failures: int, spread: float) -> None:
        pause = next_try(failures, retry_after_s=None, spread=spread)

        assert pause is not None
        assert timedelta(seconds=1) <= pause <= timedelta(seconds=60)

    def test_is_spread(self) -> None:
        assert len({next_try(5, retry_after_s=None) for _ in range(100)}) > 90

    @given(st.integers(1, 5), st.floats(0, 900), SPREAD)
    def test_never_comes_back_before_the_provider_asked(self, failures: int, asked_s: float, spread: float) -> None:
        pause = next_try(failures, retry_after_s=asked_s, spread=spread)

        assert pause is not None
        assert pause >= timedelta(seconds=asked_s)

    def test_shorter_request_of_the_provider_changes_nothing(self) -> None:
        assert next_try(4, retry_after_s=0.5, spread=1) == timedelta(seconds=16)

    @pytest.mark.parametrize("asked_s", [901, 86_400, math.inf])
    def test_waits_a_quarter_of_an_hour_at_most(self, asked_s: float) -> None:
        assert next_try(1, retry_after_s=asked_s) == timedelta(minutes=15)

    @pytest.mark.parametrize("asked_s", [-5, -math.inf, math.nan, 0])
    def test_senseless_request_of_the_provider_changes_nothing(self, asked_s: float) -> None:
        assert next_try(1, retry_after_s=asked_s, spread=1) == timedelta(seconds=2)
