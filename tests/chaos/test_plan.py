"""The plan of a chaos run: the same for a seed, complete within 90 s, and never more than can be recovered from."""

from collections import defaultdict
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos.plan import CALM_AFTER_S, CALM_BEFORE_S, LANES, POSTGRES, Fault, Kind, make_plan

seeds = st.integers(0, 2**64)
lengths = st.floats(30, 1200)


def by_target(plan: list[Fault]) -> dict[str, list[Fault]]:
    lanes: dict[str, list[Fault]] = defaultdict(list)
    for fault in plan:
        lanes[fault.target].append(fault)
    return lanes


class TestMakePlan:
    @given(seeds, lengths)
    def test_is_the_same_for_the_same_seed_and_length(self, seed: int, seconds: float) -> None:
        assert make_plan(seed, seconds) == make_plan(seed, seconds)

    def test_is_another_one_for_another_seed(self) -> None:
        assert len({tuple(make_plan(seed, 90)) for seed in range(50)}) == 50

    def test_of_a_seed_stays_what_it_was_so_that_failures_can_be_replayed(self) -> None:
        assert [str(fault) for fault in make_plan(7, 90)[:3]] == [
            "   3.1 s  receipts: doubled for 11.9 s",
            "   5.7 s  worker: kill -9 for 3.0 s",
            "   6.8 s  service-a: kill -9 for 1.2 s",
        ]

    @given(seeds, st.floats(90, 1200))
    def test_lets_every_target_suffer_each_of_its_kinds_within_90_s(self, seed: int, seconds: float) -> None:
        soon = [fault for fault in make_plan(seed, seconds) if fault.at_s < 90]
        assert {(fault.target, fault.kind) for fault in soon} == {
            (target, kind) for target, kinds in LANES.items() for kind in kinds
        }
        assert {fault.kind for fault in soon} == {*Kind}

    @given(seeds, lengths)
    def test_breaks_nothing_that_is_broken_already_and_leaves_time_to_recover(self, seed: int, seconds: float) -> None:
        for faults in by_target(make_plan(seed, seconds)).values():
            for fault, following in pairwise(faults):
                assert following.at_s > fault.ends_s

    @given(seeds, lengths)
    def test_leaves_the_database_up_for_most_of_the_time(self, seed: int, seconds: float) -> None:
        away_s = sum(fault.for_s for fault in make_plan(seed, seconds) if fault.target == POSTGRES)
        assert away_s < seconds / 3

    @given(seeds, lengths)
    def test_begins_after_a_calm_and_is_over_before_the_load_is(self, seed: int, seconds: float) -> None:
        for fault in make_plan(seed, seconds):
            assert fault.at_s >= CALM_BEFORE_S
            assert fault.ends_s <= seconds - CALM_AFTER_S

    @given(seeds)
    def test_freezes_the_database_for_ten_seconds_at_most(self, seed: int) -> None:
        assert all(fault.for_s <= 10 for fault in make_plan(seed, 300) if fault.kind is Kind.FREEZE)

    def test_lets_faults_of_different_targets_overlap(self) -> None:
        plan = make_plan(1, 90)
        assert any(one.ends_s > other.at_s for one, other in pairwise(plan))

    @pytest.mark.parametrize("seconds", [0, 29.9])
    def test_refuses_a_run_in_which_not_everything_has_room(self, seconds: float) -> None:
        with pytest.raises(ValueError, match="30 s at least"):
            make_plan(1, seconds)
