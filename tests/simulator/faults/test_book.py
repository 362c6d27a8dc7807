from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sms_foundation.simulator.carrier.messages import Message, Stage
from sms_foundation.simulator.faults.book import FaultBook
from sms_foundation.simulator.faults.rules import FaultKind, FaultRule

RECEIPTS = ((10.0, Stage.SENT), (11.0, Stage.DELIVERED))


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def message(number: str = "+15125550142") -> Message:
    return Message(provider="twilio", id="SM1", sender="+15005550006", recipient=number, body="Hola")


def book_of(*rules: FaultRule, seed: int = 1) -> FaultBook:
    book = FaultBook(Clock(), seed)
    for rule in rules:
        book.add(rule)
    return book


class TestJudgeRequest:
    def test_without_rules_nothing_happens(self) -> None:
        fate = book_of().judge_request("twilio", "+1", "send")
        assert (fate.wait_s, fate.misfortune) == (0, None)

    def test_waits_add_up_and_the_oldest_refusal_counts(self) -> None:
        html, limit = FaultRule(kind=FaultKind.HTML), FaultRule(kind=FaultKind.RATE_LIMIT)
        slow = FaultRule(kind=FaultKind.LATENCY, latency_ms=200)
        book = book_of(slow, html, slow, limit)
        fate = book.judge_request("twilio", None, "send")
        assert (fate.wait_s, fate.misfortune) == (0.4, html)
        assert [active.strikes for active in book.list_rules()] == [1, 1, 1, 0]

    @given(share=st.floats(0.05, 0.95), seed=st.integers(0, 1000))
    def test_a_share_is_kept_and_repeatable(self, share: float, seed: int) -> None:
        def strikes() -> list[bool]:
            book = book_of(FaultRule(kind=FaultKind.HTML, share=share), seed=seed)
            return [book.judge_request("twilio", None, "send").misfortune is not None for _ in range(1000)]

        struck = strikes()
        assert struck == strikes()
        assert abs(sum(struck) / 1000 - share) < 0.1

    def test_a_time_window_begins_and_ends(self) -> None:
        clock = Clock()
        book = FaultBook(clock)
        book.add(FaultRule(kind=FaultKind.HTML, after_s=60, for_s=30))
        seen = []
        for clock.now_s in (159.9, 160, 189.9, 190):
            seen.append(book.judge_request("twilio", None, "send").misfortune is not None)
        assert seen == [False, True, True, False]

    @given(st.lists(st.floats(0, 0.3), min_size=1, max_size=80), st.integers(1, 6))
    def test_a_rate_lets_no_more_pass_in_any_second_and_no_fewer_than_it_may(
        self, gaps: list[float], per_second: int
    ) -> None:
        clock = Clock()
        book = FaultBook(clock)
        book.add(FaultRule(kind=FaultKind.RATE, per_second=per_second))
        passed: list[float] = []
        for gap in gaps:
            clock.now_s += gap
            within = [moment for moment in passed if clock.now_s - moment < 1]
            has_passed = book.judge_request("twilio", None, "send").misfortune is None
            assert has_passed == (len(within) < per_second)
            if has_passed:
                passed.append(clock.now_s)

    def test_nothing_passes_a_rate_by(self) -> None:
        book = book_of(FaultRule(kind=FaultKind.DROP_AFTER), FaultRule(kind=FaultKind.RATE, per_second=1))
        kinds = [book.judge_request("twilio", None, "send").misfortune for _ in range(2)]
        assert [each and each.kind for each in kinds] == [FaultKind.DROP_AFTER, FaultKind.RATE]


class TestJudgeJourney:
    def test_only_messages_to_the_phone_it_names_fail(self) -> None:
        book = book_of(FaultRule(kind=FaultKind.CARRIER_ERROR, number="+15125550142", error_code=30005))
        assert book.judge_journey(message()) == 30005
        assert book.judge_journey(message("+15125550143")) is None


class TestBendReceipts:
    def bend(self, *rules: FaultRule, seed: int = 1) -> list[tuple[float, Stage]]:
        return list(book_of(*rules, seed=seed).bend_receipts(message(), RECEIPTS))

    def test_lost(self) -> None:
        assert self.bend(FaultRule(kind=FaultKind.LOST_RECEIPTS)) == []
        assert self.bend(FaultRule(kind=FaultKind.LOST_RECEIPTS, count=1)) == [RECEIPTS[1]]

    def test_late(self) -> None:
        assert self.bend(FaultRule(kind=FaultKind.LATE_RECEIPTS, delay_s=5)) == [
            (15, Stage.SENT),
            (16, Stage.DELIVERED),
        ]

    def test_doubled(self) -> None:
        bent = self.bend(FaultRule(kind=FaultKind.DOUBLED_RECEIPTS, copies=3))
        assert Counter(bent) == {RECEIPTS[0]: 3, RECEIPTS[1]: 3}

    def test_reordered_comes_in_either_order_and_loses_none(self) -> None:
        rule = FaultRule(kind=FaultKind.REORDERED_RECEIPTS, delay_s=2)
        orders = set()
        for seed in range(50):
            bent = sorted(self.bend(rule, seed=seed))
            assert all(at <= 13 for at, _ in bent)
            orders.add(tuple(stage for _, stage in bent))
        assert orders == {(Stage.SENT, Stage.DELIVERED), (Stage.DELIVERED, Stage.SENT)}


class TestRules:
    def test_ids_are_never_used_twice(self) -> None:
        book = book_of()
        first = book.add(FaultRule(kind=FaultKind.HTML))
        assert book.remove(first.id)
        assert not book.remove(first.id)
        assert book.add(FaultRule(kind=FaultKind.HTML)).id != first.id

    @pytest.mark.parametrize("seed", [1, 2])
    def test_clearing_with_a_seed_begins_the_same_draws_again(self, seed: int) -> None:
        book = book_of()

        def draws() -> list[bool]:
            book.clear(seed)
            book.add(FaultRule(kind=FaultKind.HTML, share=0.5))
            return [book.judge_request("twilio", None, "send").misfortune is not None for _ in range(100)]

        assert draws() == draws()
