import pytest
from hypothesis import given
from hypothesis import strategies as st

from sms_foundation.simulator.monitor.faults import FaultPlan, FaultSwitch


def failures(plan: FaultPlan, requests: int) -> list[bool]:
    switch = FaultSwitch()
    switch.set_plan(plan)
    return [switch.next_fails() for _ in range(requests)]


class TestFaultSwitch:
    def test_without_a_plan_nothing_fails(self) -> None:
        assert not FaultSwitch().next_fails()

    @pytest.mark.parametrize(
        ("share", "pattern"), [(0.0, [False] * 4), (1.0, [True] * 4), (0.5, [True, False, True, False])]
    )
    def test_failures_are_spread_evenly_starting_with_the_first(self, share: float, pattern: list[bool]) -> None:
        assert failures(FaultPlan(share=share), 4) == pattern

    @given(st.integers(1, 100))
    def test_the_share_holds(self, percent: int) -> None:
        assert abs(sum(failures(FaultPlan(share=percent / 100), 100)) - percent) <= 1

    def test_it_ends_after_so_many_failures(self) -> None:
        assert failures(FaultPlan(share=1, remaining=2), 5) == [True, True, False, False, False]

    def test_a_new_plan_starts_afresh(self) -> None:
        switch = FaultSwitch()
        switch.set_plan(FaultPlan(share=1))
        switch.next_fails()
        switch.set_plan(FaultPlan())
        assert not switch.next_fails()
        assert (switch.requests, switch.failures) == (1, 0)
