"""Wishes that make no sense, and what rounding does to those that do."""

import math

import pytest

from sms_foundation.core.rates.base import Wish


class TestWish:
    @pytest.mark.parametrize(
        ("interval_s", "units", "horizon_s"),
        [(0, 1, 1), (-1, 1, 1), (1, 0, 1), (1, -2, 1), (1, 1, -0.1), (math.nan, 1, 1)],
    )
    def test_one_that_would_not_move_its_cell_on_is_refused(
        self, interval_s: float, units: int, horizon_s: float
    ) -> None:
        with pytest.raises(ValueError, match="at least one unit"):
            Wish("a", interval_s, units, horizon_s)

    def test_rounding_never_makes_a_rate_faster(self) -> None:
        assert Wish("a", 1 / 3, 1, 0).cost_us == 333_334
        assert Wish("a", 1e-9, 1, 0).cost_us == 1
        assert Wish("a", 0.02, 5, 0).cost_us == 100_000
