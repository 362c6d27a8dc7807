from collections import Counter
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sms_foundation.messaging.outbound.health import CircuitState
from sms_foundation.messaging.outbound.routing import Candidate, Choice, NoChoice, Router, Wish

LONG_CODE, OTHER_LONG_CODE, NAME = "+12025550101", "+12025550102", "ACME"
ANY = Wish(country="US")


def candidate(name: str, weight: int = 100, **changes) -> Candidate:
    facts = {"senders": (f"sender of {name}",), "countries": None, "has_media": False} | changes
    return Candidate(name=name, weight=weight, **facts)


def chosen(result: Choice | NoChoice) -> Choice:
    assert isinstance(result, Choice), result
    return result


def denied(result: Choice | NoChoice) -> NoChoice:
    assert isinstance(result, NoChoice), result
    return result


def sends(router: Router, candidates: list[Candidate], count: int, wish: Wish = ANY) -> list[str]:
    return [chosen(router.choose(candidates, wish)).provider for _ in range(count)]


def worst_deviation(counted: Counter[str], candidates: list[Candidate]) -> float:
    """The largest difference between a share held and a share due, as a part of all sends."""
    due = {each.name: each.weight * each.weight_percent for each in candidates}
    return max(abs(counted[name] / counted.total() - weight / sum(due.values())) for name, weight in due.items())


NAMES = ("a", "b", "c", "d")
CANDIDATES = st.tuples(
    *(
        st.builds(
            Candidate,
            name=st.just(name),
            weight=st.sampled_from([0, 1, 50, 10_000]),
            senders=st.sampled_from([(), (LONG_CODE,), (NAME, LONG_CODE), (OTHER_LONG_CODE,)]),
            countries=st.sampled_from([None, frozenset({"US"}), frozenset({"DE", "FR"})]),
            has_media=st.booleans(),
            is_healthy=st.booleans(),
            circuit=st.sampled_from(CircuitState),
            weight_percent=st.sampled_from([10, 50, 100]),
            wait_s=st.sampled_from([0.0, 0.0, 0.02, 1.5]),
            is_probe_due=st.booleans(),
        )
        for name in NAMES
    )
)
WISHES = st.builds(
    Wish,
    country=st.sampled_from([None, "US", "FR"]),
    sender=st.sampled_from([None, None, LONG_CODE, NAME]),
    has_media=st.booleans(),
    provider=st.sampled_from([None, None, None, "a", "unheard of"]),
    failed=st.lists(st.sampled_from(NAMES), max_size=5).map(tuple),
)
WEIGHTS = st.lists(st.integers(1, 10_000), min_size=1, max_size=6)


def can_carry(each: Candidate, wish: Wish) -> bool:
    return (
        wish.provider in (None, each.name)
        and each.weight > 0
        and (None in (each.countries, wish.country) or wish.country in each.countries)
        and (wish.sender in each.senders if wish.sender else bool(each.senders))
        and (each.has_media or not wish.has_media)
    )


def works(each: Candidate) -> bool:
    return each.is_healthy and (each.circuit is CircuitState.CLOSED or each.is_probe_due)


class TestShares:
    def test_three_providers_by_weight(self) -> None:
        candidates = [candidate("a", 50), candidate("b", 30), candidate("c", 20)]

        assert Counter(sends(Router(), candidates, 1000)) == {"a": 500, "b": 300, "c": 200}

    def test_turns_are_smooth(self) -> None:
        """The example of the algorithm's authors."""
        candidates = [candidate("a", 5), candidate("b", 1), candidate("c", 1)]

        assert "".join(sends(Router(), candidates, 14)) == "aabacaa" * 2

    def test_equals_take_turns_in_order(self) -> None:
        assert "".join(sends(Router(), [candidate(name) for name in "abc"], 7)) == "abcabca"

    @given(WEIGHTS)
    def test_hold_within_one_percent_for_any_weights(self, weights: list[int]) -> None:
        candidates = [candidate(str(number), weight) for number, weight in enumerate(weights)]

        assert worst_deviation(Counter(sends(Router(), candidates, 1000)), candidates) <= 0.01

    @given(WEIGHTS, st.lists(st.integers(1, 500), min_size=1, max_size=3))
    def test_of_several_processes_add_up(self, weights: list[int], parts: list[int]) -> None:
        """A thousand sends, spread unevenly over up to four processes that know nothing of each other."""
        candidates = [candidate(str(number), weight) for number, weight in enumerate(weights)]
        cuts = [0, *sorted(min(part, 1000) for part in parts), 1000]
        together = Counter[str]()
        for start, end in pairwise(cuts):
            together.update(sends(Router(), candidates, end - start))

        assert together.total() == 1000
        assert worst_deviation(together, candidates) <= 0.01

    @given(st.lists(st.sampled_from([10, 30, 50, 100]), min_size=2, max_size=4))
    def test_follow_what_slow_delivery_leaves_of_the_weight(self, percents: list[int]) -> None:
        candidates = [candidate(str(number), 1, weight_percent=percent) for number, percent in enumerate(percents)]

        assert worst_deviation(Counter(sends(Router(), candidates, 1000)), candidates) <= 0.01

    def test_of_the_others_hold_while_one_is_away(self) -> None:
        router, candidates = Router(), [candidate("a", 50), candidate("b", 30), candidate("c", 20)]
        sends(router, candidates, 7)
        remaining = [replace(candidates[0], is_healthy=False), *candidates[1:]]

        assert Counter(sends(router, remaining, 1000)) == pytest.approx({"b": 600, "c": 400}, abs=10)

    def test_one_that_comes_back_gets_its_share_and_no_more(self) -> None:
        router, candidates = Router(), [candidate("a"), candidate("b")]
        sends(router, [replace(candidates[0], is_healthy=False), candidates[1]], 500)

        assert Counter(sends(router, candidates, 20)) == pytest.approx({"a": 10, "b": 10}, abs=1)

    def test_company_of_heavy_ones_is_paid_back_within_a_few_turns(self) -> None:
        router, light, other, heavy = Router(), candidate("light", 1), candidate("other", 1), candidate("heavy", 10_000)
        while "light" not in sends(router, [light, heavy], 1):
            pass

        assert Counter(sends(router, [light, other], 20)) == pytest.approx({"light": 10, "other": 10}, abs=1)

    def test_are_told(self) -> None:
        candidates = [candidate("a", 50), candidate("b", 30, weight_percent=10), candidate("c", 20, is_healthy=False)]

        assert chosen(Router().choose(candidates, ANY)).weights == {"a": 50, "b": 3}


class TestChoose:
    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"weight": 0}, "weight_0"),
            ({"countries": frozenset({"DE"})}, "no_country"),
            ({"senders": (OTHER_LONG_CODE,)}, "no_sender"),
            ({"senders": ()}, "no_sender"),
            ({"has_media": False}, "no_media"),
            ({"is_healthy": False}, "unhealthy"),
            ({"circuit": CircuitState.OPEN}, "circuit_open"),
            ({"circuit": CircuitState.PROBING}, "circuit_open"),
            ({"wait_s": 0.02}, "over_rate"),
            ({"name": "failed"}, "failed_before"),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_passes_over_one_that_will_not_do_and_says_why(self, changes, reason) -> None:
        good = candidate("good", senders=(LONG_CODE,), countries=frozenset({"US"}), has_media=True)
        bad = replace(good, **{"name": "bad", "weight": 10_000} | changes)
        wish = Wish(country="US", sender=LONG_CODE, has_media=True, failed=("failed",))

        choice = chosen(Router().choose([bad, good], wish))

        assert choice.provider == "good"
        assert choice.reasons == {bad.name: reason, "good": "chosen"}

    def test_uses_the_providers_first_sender_unless_asked_for_another(self) -> None:
        provider = candidate("a", senders=(LONG_CODE, NAME))

        assert chosen(Router().choose([provider], ANY)).sender == LONG_CODE
        assert chosen(Router().choose([provider], replace(ANY, sender=NAME))).sender == NAME

    def test_takes_the_provider_asked_for(self) -> None:
        choice = chosen(Router().choose([candidate("a"), candidate("b")], replace(ANY, provider="b")))

        assert choice.reasons == {"a": "not_asked_for", "b": "chosen"}

    def test_unknown_country_rules_nobody_out(self) -> None:
        """Short codes have none, nor have numbers of a range that is newer than our tables."""
        candidates = [candidate("only US", countries=frozenset({"US"})), candidate("anywhere")]

        assert set(sends(Router(), candidates, 5, Wish(country=None))) == {"only US", "anywhere"}

    def test_whose_turn_it_was_not_is_told_too(self) -> None:
        assert chosen(Router().choose([candidate("a"), candidate("b")], ANY)).reasons == {
            "a": "chosen",
            "b": "other_turn",
        }

    @pytest.mark.parametrize(
        ("failed", "expected"),
        [(("a",), "b"), (("b", "a"), "b"), (("a", "b"), "a"), (("a", "b", "a"), "b"), (("gone", "b", "a"), "b")],
    )
    def test_failed_ones_come_last_and_the_earliest_failure_first(self, failed, expected) -> None:
        wish = replace(ANY, failed=failed)

        assert chosen(Router().choose([candidate("a", 10_000), candidate("b", 1)], wish)).provider == expected

    def test_waits_for_anothers_rate_rather_than_go_where_it_failed(self) -> None:
        candidates = [candidate("failed"), candidate("busy", wait_s=3)]

        result = Router().choose(candidates, replace(ANY, failed=("failed",)))

        assert isinstance(result, NoChoice)
        assert (result.wait_s, result.is_impossible) == (3, False)

    def test_turn_out_of_order_costs_nothing(self) -> None:
        router, candidates = Router(), [candidate("a"), candidate("b")]
        for _ in range(5):
            router.choose(candidates, replace(ANY, failed=("a", "b")))

        assert "".join(sends(router, candidates, 4)) == "abab"

    @pytest.mark.parametrize("circuit", [CircuitState.OPEN, CircuitState.PROBING])
    def test_due_probe_takes_part_and_is_marked(self, circuit: CircuitState) -> None:
        candidates = [candidate("back?", circuit=circuit, is_probe_due=True), candidate("fine")]
        router = Router()

        probe, other = chosen(router.choose(candidates, ANY)), chosen(router.choose(candidates, ANY))

        assert (probe.provider, probe.is_probe) == ("back?", True)
        assert (other.provider, other.is_probe) == ("fine", False)

    @given(st.lists(st.tuples(CANDIDATES, WISHES), max_size=8))
    def test_same_calls_give_the_same_results(self, calls) -> None:
        one, other = Router(), Router()

        assert [one.choose(*call) for call in calls] == [other.choose(*call) for call in calls]

    @given(st.lists(st.tuples(CANDIDATES, WISHES), min_size=1, max_size=8))
    def test_never_takes_one_that_cannot(self, calls) -> None:
        router = Router()
        for candidates, wish in calls:
            working = [c for c in candidates if can_carry(c, wish) and works(c)]
            fresh = [c for c in working if c.name not in wish.failed]
            ready = {c.name: c for c in fresh or working if not c.wait_s}
            result = router.choose(candidates, wish)

            assert isinstance(result, Choice) == bool(ready)
            assert result.reasons.keys() == {c.name for c in candidates}
            if isinstance(result, Choice):
                assert result.provider in ready
                assert result.sender in ready[result.provider].senders
                assert wish.sender in (None, result.sender)
                assert result.weights.keys() == ready.keys()
                assert [n for n, reason in result.reasons.items() if reason == "chosen"] == [result.provider]


class TestNoChoice:
    @pytest.mark.parametrize(
        "wish",
        [
            Wish(country="US", provider="unheard of"),
            Wish(country="US", sender=NAME),
            Wish(country="JP"),
            Wish(country="US", has_media=True),
        ],
    )
    def test_what_nobody_could_ever_carry_is_impossible(self, wish: Wish) -> None:
        result = denied(Router().choose([candidate("a", countries=frozenset({"US"}), wait_s=1)], wish))

        assert result.is_impossible
        assert result.wait_s is None

    def test_no_provider_at_all_is_impossible(self) -> None:
        assert Router().choose([], ANY) == NoChoice(reasons={}, wait_s=None, is_impossible=True)

    def test_waits_for_the_first_rate_with_room(self) -> None:
        candidates = [candidate("a", wait_s=0.5), candidate("b", wait_s=0.02), candidate("c", is_healthy=False)]

        assert denied(Router().choose(candidates, ANY)) == NoChoice(
            reasons={"a": "over_rate", "b": "over_rate", "c": "unhealthy"}, wait_s=0.02, is_impossible=False
        )

    def test_cannot_tell_how_long_all_will_be_down(self) -> None:
        candidates = [candidate("a", is_healthy=False, wait_s=0.5), candidate("b", circuit=CircuitState.OPEN)]
        result = denied(Router().choose(candidates, ANY))

        assert result.wait_s is None
        assert not result.is_impossible

    def test_leaves_no_trace(self) -> None:
        router, candidates = Router(), [candidate("a", 50), candidate("b", 30)]
        sends(router, candidates, 3)
        before = sends(router, candidates, 8)
        for _ in range(5):
            denied(router.choose([replace(each, wait_s=1) for each in candidates], ANY))

        assert sends(router, candidates, 8) == before, "eight turns are a whole round, so the next one is the same"

    @given(CANDIDATES, WISHES)
    def test_is_impossible_only_if_better_days_would_not_help(self, candidates, wish) -> None:
        result = Router().choose(candidates, wish)
        is_carried_on_a_good_day = any(can_carry(each, wish) for each in candidates)

        assert (isinstance(result, NoChoice) and result.is_impossible) == (not is_carried_on_a_good_day)


class TestForget:
    @given(st.lists(st.tuples(CANDIDATES, WISHES), max_size=5), CANDIDATES, WISHES, WEIGHTS)
    def test_undoes_a_choice(self, calls, candidates, wish, weights) -> None:
        one, other = Router(), Router()
        for call in calls:
            one.choose(*call)
            other.choose(*call)
        later = [candidate(name, weight) for name, weight in zip(NAMES, weights, strict=False)]

        for _ in range(3):
            taken_back = one.choose(candidates, wish)
            if isinstance(taken_back, Choice):
                one.forget(taken_back)

        assert sends(one, later, 30) == sends(other, later, 30)

    def test_keeps_what_was_chosen_since(self) -> None:
        """Of three equals a and b were chosen; a did not come to pass, so it is next, and b is not."""
        router, candidates = Router(), [candidate(name) for name in "abc"]
        first = chosen(router.choose(candidates, ANY))
        router.choose(candidates, ANY)

        router.forget(first)

        assert "".join(sends(router, candidates, 2)) == "ac"

    def test_shares_hold_when_every_third_choice_comes_to_nothing(self) -> None:
        router, candidates = Router(), [candidate("a", 50), candidate("b", 30), candidate("c", 20)]
        counted = Counter[str]()
        for number in range(1500):
            choice = chosen(router.choose(candidates, ANY))
            if number % 3 == 2:
                router.forget(choice)
            else:
                counted[choice.provider] += 1

        assert worst_deviation(counted, candidates) <= 0.01
