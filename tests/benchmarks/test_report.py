"""What is printed, and who is said to have met a target."""

import io
import json

import pytest

from benchmarks.__main__ import SCENARIOS
from benchmarks.report import Report, Target, median, rounded_figure
from benchmarks.targets import TARGETS

FLOOR = Target("texts/s", "inbound", "per_s", 1000, "/s", is_floor=True)
CEILING = Target("p99", "inbound", "p99_ms", 10, "ms")


class TestJudge:
    @pytest.mark.parametrize(
        ("target", "value", "is_met"),
        [(FLOOR, 1000, True), (FLOOR, 999, False), (CEILING, 10, True), (CEILING, 10.1, False)],
    )
    def test_a_floor_is_met_from_above_and_a_ceiling_from_below(
        self, target: Target, value: float, is_met: bool
    ) -> None:
        report = Report(io.StringIO())
        report.add("inbound", **{target.value: value})
        report.judge([target])
        assert json.loads(report.output.getvalue().splitlines()[-1])["met"] is is_met  # type: ignore[attr-defined]

    def test_what_was_not_measured_is_not_judged(self) -> None:
        report = Report(io.StringIO())
        report.add("inbound", p99_ms=None)
        report.judge([FLOOR, CEILING])
        assert len(report.output.getvalue().splitlines()) == 1  # type: ignore[attr-defined]


class TestTable:
    def test_names_a_miss(self) -> None:
        report = Report(io.StringIO())
        report.add("inbound", per_s=1234.5678, p99_ms=12.0)
        assert report.table([FLOOR, CEILING]).splitlines()[2:] == [
            "| texts/s | ≥ 1000 /s | 1,235 | yes |",
            "| p99 | ≤ 10 ms | 12 | **no** |",
        ]


class TestRoundedFigure:
    def test_keeps_four_digits_of_a_float_and_all_of_a_count(self) -> None:
        assert [rounded_figure(value) for value in (0.123456, 123456.7, 123457, None)] == [0.1235, 123500, 123457, None]


class TestMedian:
    def test_is_the_middle_round(self) -> None:
        assert median([3.0, 1.0, 2.0], float) == 2.0

    def test_is_nothing_when_a_round_could_not_tell(self) -> None:
        assert median([1.0, None], lambda each: each) is None


class TestTargets:
    def test_are_about_scenarios_that_are_measured(self) -> None:
        assert {target.scenario for target in TARGETS} - {"inbound"} <= {*SCENARIOS}
