from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sms_foundation.messaging.outbound.health import (
    Change,
    CircuitState,
    HealthRules,
    Outcomes,
    ProviderState,
    ReceiptWindow,
    Window,
    after_outcomes,
    after_probe,
    after_receipts,
    after_rest,
    begin_probe,
    is_available,
    may_probe,
)

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
FINE, NOTHING = ProviderState(), Window(0, 0)
OPEN = ProviderState(CircuitState.OPEN, 5, NOW + timedelta(seconds=30))
PROBING = ProviderState(CircuitState.PROBING, 5, NOW + timedelta(seconds=60))


def s(seconds: float) -> timedelta:
    return timedelta(seconds=seconds)


def after_failures(state: ProviderState, count: int, now: datetime = NOW) -> tuple[ProviderState, list[Change]]:
    return after_outcomes(state, Outcomes(had_success=False, trailing_failures=count), NOTHING, now)


def steps(changes: list[Change]) -> list[tuple[str, str, str]]:
    return [(change.what, change.old, change.new) for change in changes]


class TestCircuitAfterOutcomes:
    @pytest.mark.parametrize("batches", [[5], [4, 1], [1, 1, 1, 1, 1], [2, 9]])
    def test_opens_after_five_failures_in_a_row(self, batches: list[int]) -> None:
        state, changes = FINE, []
        for count in batches:
            assert state.circuit is CircuitState.CLOSED
            state, changes = after_failures(state, count)

        assert (state.circuit, state.circuit_until) == (CircuitState.OPEN, NOW + s(30))
        assert steps(changes) == [("circuit", "closed", "open")]
        assert f"{sum(batches)} failures" in changes[0].reason

    def test_four_are_borne(self) -> None:
        assert after_failures(FINE, 4) == (ProviderState(consecutive_failures=4), [])

    def test_success_starts_the_count_anew(self) -> None:
        state, _ = after_failures(FINE, 4)
        state, changes = after_outcomes(state, Outcomes(had_success=True, trailing_failures=3), NOTHING, NOW)

        assert (state.consecutive_failures, changes) == (3, [])
        assert after_failures(state, 2)[0].circuit is CircuitState.OPEN

    def test_nothing_new_changes_nothing(self) -> None:
        state, _ = after_failures(FINE, 4)

        assert after_failures(state, 0) == (state, [])

    def test_account_that_cannot_send_opens_it_at_once(self) -> None:
        state, changes = after_outcomes(FINE, Outcomes(True, 0, opens_at_once=True), NOTHING, NOW)

        assert (state.circuit, state.circuit_until) == (CircuitState.OPEN, NOW + s(30))
        assert "account" in changes[0].reason

    @pytest.mark.parametrize("state", [OPEN, PROBING], ids=["open", "probing"])
    @pytest.mark.parametrize(
        "outcomes", [Outcomes(True, 0), Outcomes(False, 7), Outcomes(False, 1, opens_at_once=True)]
    )
    def test_attempts_from_before_the_opening_change_nothing(self, state: ProviderState, outcomes: Outcomes) -> None:
        assert after_outcomes(state, outcomes, NOTHING, NOW + s(29)) == (state, [])


class TestMayProbe:
    @pytest.mark.parametrize(
        ("state", "is_due_after_s"),
        [(FINE, None), (OPEN, 30), (PROBING, 60), (replace(OPEN, unhealthy_until=NOW + s(100)), 100)],
        ids=["closed: never", "open", "probing: once its lease is over", "open and unhealthy"],
    )
    def test_is_due(self, state: ProviderState, is_due_after_s: float | None) -> None:
        due = [after_s for after_s in (0, 29.9, 30, 59.9, 60, 99.9, 100) if may_probe(state, NOW + s(after_s))]

        assert (due[0] if due else None) == is_due_after_s

    def test_is_not_due_while_one_is_under_way(self) -> None:
        probing, changes = begin_probe(OPEN, NOW + s(31))

        assert steps(changes) == [("circuit", "open", "probing")]
        assert not may_probe(probing, NOW + s(31 + 59.9))
        assert may_probe(probing, NOW + s(31 + 60))


class TestAfterProbe:
    def test_success_closes(self) -> None:
        state, changes = after_probe(PROBING, True, NOW)

        assert state == FINE
        assert steps(changes) == [("circuit", "probing", "closed")]

    def test_failure_opens_for_another_thirty_seconds(self) -> None:
        state, changes = after_probe(PROBING, False, NOW + s(10))

        assert (state.circuit, state.circuit_until) == (CircuitState.OPEN, NOW + s(40))
        assert steps(changes) == [("circuit", "probing", "open")]

    @pytest.mark.parametrize("state", [FINE, OPEN], ids=["closed", "open"])
    @pytest.mark.parametrize("is_success", [True, False])
    def test_one_that_comes_too_late_changes_nothing(self, state: ProviderState, is_success: bool) -> None:
        assert after_probe(state, is_success, NOW) == (state, [])

    def test_keeps_what_is_known_of_health_and_weight(self) -> None:
        state = replace(PROBING, unhealthy_until=NOW + s(9), weight_percent=70, weight_changed_at=NOW)

        assert after_probe(state, True, NOW)[0] == replace(
            state, circuit=CircuitState.CLOSED, consecutive_failures=0, circuit_until=None
        )


class Circuit(RuleBasedStateMachine):
    """Batches of results, probes and time in any order, next to a naive count of what happened."""

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.state = FINE
        self.results = ""  # since the circuit last closed: F and S
        self.opened_at: datetime | None = None
        self.probe_began_at: datetime | None = None

    @rule(results=st.text("FS", min_size=1, max_size=7))
    def attempts_end(self, results: str) -> None:
        outcomes = Outcomes("S" in results, len(results) - len(results.rstrip("F")))
        was_closed = self.state.circuit is CircuitState.CLOSED
        self.state, changes = after_outcomes(self.state, outcomes, NOTHING, self.now)
        self.results += results if was_closed else ""
        if was_closed and self.results.endswith("FFFFF"):
            self.opened_at = self.now
            assert steps(changes) == [("circuit", "closed", "open")]
        else:
            assert changes == []

    @rule(seconds=st.sampled_from([0.1, 1, 15, 29.9, 30, 60]))
    def time_passes(self, seconds: float) -> None:
        self.now += s(seconds)

    @precondition(lambda self: may_probe(self.state, self.now))
    @rule()
    def probe_begins(self) -> None:
        assert self.opened_at is not None
        assert self.now - self.opened_at >= s(30)
        assert self.probe_began_at is None or self.now - self.probe_began_at >= s(60)
        self.state, _ = begin_probe(self.state, self.now)
        self.probe_began_at = self.now

    @precondition(lambda self: self.probe_began_at is not None)
    @rule(is_success=st.booleans())
    def probe_ends(self, is_success: bool) -> None:
        self.state, changes = after_probe(self.state, is_success, self.now)
        assert len(changes) == 1
        self.opened_at = None if is_success else self.now
        self.results = "" if is_success else self.results
        self.probe_began_at = None

    @invariant()
    def is_open_exactly_between_five_failures_and_a_good_probe(self) -> None:
        assert is_available(self.state, self.now) == (self.opened_at is None)

    @invariant()
    def a_probe_is_due_in_time(self) -> None:
        assert self.opened_at is None or may_probe(self.state, self.now + s(60))


TestCircuit = Circuit.TestCase


class TestHealthAfterOutcomes:
    @pytest.mark.parametrize(
        ("attempts", "failures", "is_ill"),
        [(10, 8, True), (10, 7, False), (9, 9, False), (10, 10, True), (1000, 700, False), (1000, 701, True)],
    )
    def test_more_than_seventy_percent_of_ten_or_more(self, attempts: int, failures: int, is_ill: bool) -> None:
        state, changes = after_outcomes(FINE, Outcomes(True, 0), Window(attempts, failures), NOW)

        assert is_available(state, NOW) == (not is_ill)
        assert steps(changes) == ([("health", "healthy", "unhealthy")] if is_ill else [])

    def test_lasts_five_minutes(self) -> None:
        state, changes = after_outcomes(FINE, Outcomes(True, 0), Window(10, 8), NOW)

        assert not is_available(state, NOW + s(299.9))
        assert is_available(state, NOW + s(300))
        assert changes[0].reason == "8 of 10 attempts failed within 300 s"

    def test_is_not_prolonged_by_what_was_under_way(self) -> None:
        state, _ = after_outcomes(FINE, Outcomes(True, 0), Window(10, 8), NOW)

        assert after_outcomes(state, Outcomes(True, 0), Window(20, 20), NOW + s(9)) == (state, [])

    def test_recovery_is_told_with_the_next_outcome(self) -> None:
        state = ProviderState(unhealthy_until=NOW)

        assert after_outcomes(state, Outcomes(True, 0), Window(1, 0), NOW) == (
            FINE,
            [Change("health", "unhealthy", "healthy", "its rest is over")],
        )

    def test_can_fall_ill_again_at_once(self) -> None:
        state = ProviderState(unhealthy_until=NOW)
        state, changes = after_outcomes(state, Outcomes(True, 0), Window(10, 10), NOW)

        assert state.unhealthy_until == NOW + s(300)
        assert steps(changes) == [("health", "unhealthy", "healthy"), ("health", "healthy", "unhealthy")]

    def test_is_judged_apart_from_the_circuit(self) -> None:
        state, changes = after_outcomes(FINE, Outcomes(False, 10), Window(10, 10), NOW)

        assert state == ProviderState(CircuitState.OPEN, 10, NOW + s(30), NOW + s(300))
        assert [change.what for change in changes] == ["circuit", "health"]


class TestAfterRest:
    def test_ends_a_rest_that_is_over(self) -> None:
        state = ProviderState(unhealthy_until=NOW)

        assert after_rest(state, NOW - s(0.1)) == (state, [])
        assert after_rest(state, NOW)[0] == FINE
        assert after_rest(FINE, NOW) == (FINE, [])


SLOW, QUICK, TOO_FEW = ReceiptWindow(100, 31), ReceiptWindow(100, 30), ReceiptWindow(19, 19)


class TestAfterReceipts:
    @pytest.mark.parametrize(
        ("receipts", "percent"),
        [(SLOW, 90), (QUICK, 100), (TOO_FEW, 100), (ReceiptWindow(20, 7), 90), (ReceiptWindow(20, 6), 100)],
    )
    def test_more_than_thirty_percent_late_of_twenty_or_more(self, receipts: ReceiptWindow, percent: int) -> None:
        verdicts = after_receipts({"a": FINE, "b": FINE}, {"a": receipts, "b": QUICK}, NOW)

        assert {name: state.weight_percent for name, (state, _) in verdicts.items()} == {"a": percent, "b": 100}

    def test_tells_the_step(self) -> None:
        verdicts = after_receipts({"a": FINE, "b": FINE}, {"a": SLOW, "b": QUICK}, NOW)

        assert verdicts["a"][1] == [Change("weight", "100 %", "90 %", "31 of 100 receipts took more than 60 s")]
        assert verdicts["b"][1] == []

    def test_steps_down_every_two_minutes_and_never_below_ten(self) -> None:
        state, course = FINE, []
        for minute in range(25):
            state, _ = after_receipts({"a": state, "b": FINE}, {"a": SLOW, "b": QUICK}, NOW + s(60 * minute))["a"]
            course.append(state.weight_percent)

        assert course == [90, 90, 80, 80, 70, 70, 60, 60, 50, 50, 40, 40, 30, 30, 20, 20, *[10] * 9]

    @pytest.mark.parametrize("receipts", [{}, {"a": QUICK}, {"a": TOO_FEW}], ids=["none", "quick", "too few"])
    def test_drifts_back_every_five_minutes(self, receipts: dict[str, ReceiptWindow]) -> None:
        state, course = ProviderState(weight_percent=75, weight_changed_at=NOW), []
        for minute in range(1, 18):
            state, _ = after_receipts({"a": state}, receipts, NOW + s(60 * minute))["a"]
            course.append(state.weight_percent)

        assert course == [*[75] * 4, *[85] * 5, *[95] * 5, *[100] * 3]

    @pytest.mark.parametrize(
        "receipts",
        [{"a": SLOW, "b": SLOW}, {"a": SLOW, "b": TOO_FEW}, {"a": SLOW}],
        ids=["all are slow", "the other cannot be judged", "the other is silent"],
    )
    def test_holds_when_all_that_can_be_judged_are_slow(self, receipts: dict[str, ReceiptWindow]) -> None:
        demoted = ProviderState(weight_percent=50, weight_changed_at=NOW - s(3600))

        verdicts = after_receipts({"a": demoted, "b": FINE}, receipts, NOW)

        assert verdicts == {"a": (demoted, []), "b": (FINE, [])}

    def test_single_provider_is_never_demoted(self) -> None:
        assert after_receipts({"a": FINE}, {"a": SLOW}, NOW) == {"a": (FINE, [])}

    def test_one_that_is_no_longer_configured_is_no_measure(self) -> None:
        assert after_receipts({"a": FINE}, {"a": SLOW, "gone": QUICK}, NOW) == {"a": (FINE, [])}

    def test_rules_can_be_set(self) -> None:
        rules = HealthRules(late_percent=50, least_receipts=200)
        receipts = {"a": ReceiptWindow(200, 101), "b": ReceiptWindow(200, 100)}

        verdicts = after_receipts({"a": FINE, "b": FINE}, receipts, NOW, rules)

        assert {name: state.weight_percent for name, (state, _) in verdicts.items()} == {"a": 90, "b": 100}

    @given(
        st.lists(st.tuples(st.sampled_from([SLOW, QUICK, TOO_FEW]), st.integers(0, 400)), max_size=40),
        st.integers(1, 10),
    )
    def test_weight_stays_within_bounds_and_moves_slowly(self, looks, tens: int) -> None:
        state, now = ProviderState(weight_percent=tens * 10), NOW
        last_step: datetime | None = None
        for receipts, pause_s in looks:
            now += s(pause_s)
            before = state.weight_percent
            state, changes = after_receipts({"a": state, "b": FINE}, {"a": receipts, "b": QUICK}, now)["a"]

            assert 10 <= state.weight_percent <= 100
            assert abs(state.weight_percent - before) == (10 if changes else 0)
            if changes:
                assert last_step is None or now - last_step >= s(120 if state.weight_percent < before else 300)
                last_step = now
