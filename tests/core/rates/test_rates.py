"""What every keeper of rates must do, on a real PostgreSQL and a real Redis.

Intervals are seconds or minutes, so that what a test takes does not change what it finds.
"""

import asyncio
import math
from collections.abc import Sequence
from itertools import pairwise
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sms_foundation.core.rates.base import Asked, Denied, Outcome, Rates, Slot, Take, Wish
from tests.core.rates.conftest import OpenRates

MINUTE = 60.0
MINUTE_US = 60_000_000


def wish(key: str = "a", *, interval_s: float = MINUTE, units: int = 1, horizon_s: float = 10_000.0) -> Wish:
    return Wish(key, interval_s, units, horizon_s)


def take(key: str = "a", *, cost_us: int = MINUTE_US, horizon_us: int = 10_000 * MINUTE_US) -> Take:
    return Take(key, cost_us, horizon_us)


def start_of(outcome: Outcome, asked: Asked) -> float:
    """Seconds from the answer to the place in the queue that `outcome` speaks of, granted or not."""
    return outcome.delay_s if isinstance(outcome, Slot) else asked.horizon_us / 1_000_000 + outcome.wait_s


def slots(outcomes: Sequence[Outcome]) -> list[float]:
    """Delays of the granted ones, in order."""
    return [outcome.delay_s for outcome in outcomes if isinstance(outcome, Slot)]


class TestReserve:
    async def test_the_first_of_a_key_goes_at_once(self, rates: Rates) -> None:
        assert await rates.reserve([wish(horizon_s=0)]) == [Slot(0)]

    async def test_slots_are_an_interval_apart(self, rates: Rates) -> None:
        assert await rates.reserve([wish(interval_s=0.25)] * 4) == [Slot(0), Slot(0.25), Slot(0.5), Slot(0.75)]

    async def test_one_of_several_units_starts_at_its_slot_and_keeps_the_next_away(self, rates: Rates) -> None:
        wishes = [wish(units=5), wish(units=2), wish()]

        assert await rates.reserve(wishes) == [Slot(0), Slot(5 * MINUTE), Slot(7 * MINUTE)]

    async def test_a_later_call_continues_where_an_earlier_one_ended(self, open_rates: OpenRates) -> None:
        one, other = await open_rates(), await open_rates()
        await one.reserve([wish(), wish(units=3)])

        (delay_s,) = slots(await other.reserve([wish()]))

        assert 3.5 * MINUTE < delay_s <= 4 * MINUTE

    async def test_time_that_nobody_used_is_not_saved_up(self, rates: Rates) -> None:
        await rates.reserve([wish(interval_s=0.001)] * 2)
        await asyncio.sleep(0.05)

        assert await rates.reserve([wish()] * 3) == [Slot(0), Slot(MINUTE), Slot(2 * MINUTE)]

    async def test_a_slot_at_the_horizon_is_granted_and_one_beyond_it_denied(self, rates: Rates) -> None:
        beyond = wish(horizon_s=2 * MINUTE - 0.5)

        outcomes = await rates.reserve([wish(), wish(), wish(horizon_s=2 * MINUTE), beyond])

        assert outcomes[2] == Slot(2 * MINUTE)
        assert outcomes[3] == Denied(MINUTE + 0.5)

    async def test_nothing_is_reserved_for_one_that_is_denied(self, rates: Rates) -> None:
        impatient = wish(units=7, horizon_s=1)

        outcomes = await rates.reserve([wish(), impatient, impatient, wish()])
        await rates.reserve([impatient])

        assert outcomes == [Slot(0), Denied(MINUTE - 1), Denied(MINUTE - 1), Slot(MINUTE)]
        assert MINUTE < (await rates.read(["a"]))["a"] <= 2 * MINUTE

    async def test_an_urgent_one_gets_a_slot_where_a_bulk_one_is_denied(self, rates: Rates) -> None:
        urgent, bulk = wish(horizon_s=4 * MINUTE), wish(horizon_s=MINUTE)
        await rates.reserve([wish(units=2)])

        first, second, third, fourth, fifth = await rates.reserve([bulk, urgent, bulk, urgent, urgent])

        assert [type(each) for each in (first, second, third, fourth, fifth)] == [Denied, Slot, Denied, Slot, Slot]
        starts = [start_of(second, urgent), start_of(fourth, urgent), start_of(fifth, urgent)]
        assert starts == pytest.approx([starts[0] + n * MINUTE for n in range(3)])
        assert start_of(first, bulk) == pytest.approx(starts[0])
        assert start_of(third, bulk) == pytest.approx(starts[1])

    async def test_keys_do_not_hinder_each_other_and_outcomes_keep_the_order_of_wishes(self, rates: Rates) -> None:
        wishes = [
            wish("b"),
            wish("a"),
            wish("b", horizon_s=1),
            wish("c", interval_s=1),
            wish("a"),
            wish("c"),
            wish("b"),
        ]

        outcomes = await rates.reserve(wishes)

        expected = [Slot(0), Slot(0), Denied(MINUTE - 1), Slot(0), Slot(MINUTE), Slot(1), Slot(MINUTE)]
        assert outcomes == expected

    async def test_known_and_new_keys_mix(self, rates: Rates) -> None:
        await rates.reserve([wish("known")])

        outcomes = await rates.reserve([wish("new"), wish("known"), wish("new")])

        assert [outcomes[0], outcomes[2]] == [Slot(0), Slot(MINUTE)]
        assert 0 < start_of(outcomes[1], wish()) <= MINUTE

    async def test_for_no_wishes_there_are_no_outcomes(self, rates: Rates) -> None:
        assert await rates.reserve([]) == []

    async def test_a_key_may_be_any_text(self, rates: Rates) -> None:
        keys = ["", "провайдер 'x\"", "{a}:b", "a" * 500]

        assert await rates.reserve([wish(key) for key in keys]) == [Slot(0)] * 4
        assert set(await rates.read(keys)) == set(keys)


class TestReserveLaw:
    @given(
        wishes=st.lists(
            st.builds(
                Wish,
                key=st.sampled_from("ab"),
                interval_s=st.sampled_from([1.0, 2.0, 7.0]),
                units=st.integers(1, 6),
                # Between whole seconds, where no slot starts: when exactly the call is made does not matter.
                horizon_s=st.integers(980, 1060).map(lambda whole: whole + 0.5),
            ),
            max_size=24,
        )
    )
    @settings(max_examples=60)
    async def test_whoever_fits_before_its_horizon_is_granted_and_moves_only_those_behind_it(
        self, rates: Rates, wishes: list[Wish]
    ) -> None:
        keys = {each: f"{each} {uuid4()}" for each in "ab"}
        wishes = [Wish(keys[each.key], each.interval_s, each.units, each.horizon_s) for each in wishes]
        await rates.reserve([Wish(key, 1.0, 1000, 0) for key in keys.values()])

        outcomes = await rates.reserve(wishes)

        for key in keys.values():
            queue = [(asked, got) for asked, got in zip(wishes, outcomes, strict=True) if asked.key == key]
            start_s = start_of(queue[0][1], queue[0][0]) if queue else 0.0
            for asked, got in queue:
                assert isinstance(got, Slot) == (start_s <= asked.horizon_s)
                assert start_of(got, asked) == pytest.approx(start_s, abs=1e-5)
                start_s += asked.interval_s * asked.units if isinstance(got, Slot) else 0.0


class TestReserveFromSeveralInstances:
    async def test_of_400_wishes_for_50_slots_each_slot_is_given_once(self, open_rates: OpenRates) -> None:
        instances = [await open_rates() for _ in range(4)]
        asked = wish(horizon_s=49.5 * MINUTE)

        answers = await asyncio.gather(*(instances[n % 4].reserve([asked]) for n in range(400)))

        # Counted from the first, a slot starts at a whole minute; counted from its answer, up to half a minute less.
        taken = [math.ceil(delay_s / MINUTE) for answer in answers for delay_s in slots(answer)]
        assert sorted(taken) == list(range(50))

    async def test_texts_of_several_units_never_overlap(self, open_rates: OpenRates) -> None:
        instances = [await open_rates() for _ in range(4)]
        batches = [[wish(units=1 + (n + m) % 5, horizon_s=1_000 * MINUTE) for m in range(n % 7)] for n in range(80)]

        answers = await asyncio.gather(*(instances[n % 4].reserve(batch) for n, batch in enumerate(batches)))

        taken = sorted(
            (math.ceil(got.delay_s / MINUTE), asked.units)
            for batch, answer in zip(batches, answers, strict=True)
            for asked, got in zip(batch, answer, strict=True)
            if isinstance(got, Slot)
        )
        assert len(taken) > 100
        for (start, units), (following, _) in pairwise(taken):
            assert following == start + units
        assert taken[0][0] == 0

    async def test_keys_in_opposite_order_let_everybody_through(self, open_rates: OpenRates) -> None:
        instances = [await open_rates() for _ in range(4)]
        keys = [f"key-{n}" for n in range(12)]

        async def ask(rates: Rates, order: Sequence[str]) -> int:
            return sum([len(slots(await rates.reserve([wish(key) for key in order]))) for _ in range(20)])

        async with asyncio.timeout(30):
            granted = await asyncio.gather(*(ask(each, keys[:: (-1) ** n]) for n, each in enumerate(instances)))

        room_in_s = await instances[0].read(keys)
        assert sum(granted) == 4 * 20 * 12
        assert {math.ceil(room_s / MINUTE) for room_s in room_in_s.values()} == {80}


class TestTake:
    async def test_says_how_much_was_used_before(self, open_rates: OpenRates) -> None:
        one, other = await open_rates(), await open_rates()

        first = await one.take([take(), take("b", cost_us=3 * MINUTE_US)])
        second = await other.take([take(), take("b"), take("c")])

        assert first == [Slot(0), Slot(0)]
        assert [math.ceil(delay_s / MINUTE) for delay_s in slots(second)] == [1, 3, 0]

    async def test_takes_all_that_there_is_room_for_and_not_one_more(self, rates: Rates) -> None:
        asked = take(horizon_us=4 * MINUTE_US)

        granted = [isinstance((await rates.take([asked]))[0], Slot) for _ in range(7)]

        assert granted == [True] * 5 + [False] * 2

    async def test_who_has_to_wait_learns_for_how_long_and_takes_nothing(self, rates: Rates) -> None:
        asked = take(horizon_us=MINUTE_US)
        outcomes = await rates.take([asked, asked, asked])
        later = await rates.take([asked, take("b")])

        assert isinstance(outcomes[2], Denied)
        assert outcomes[2].wait_s == pytest.approx(MINUTE, abs=5)
        assert isinstance(later[0], Denied)
        assert later[0].wait_s == pytest.approx(MINUTE, abs=5)
        assert later[1] == Slot(0)
        assert MINUTE < (await rates.read(["a"]))["a"] <= 2 * MINUTE

    async def test_what_was_used_comes_back(self, rates: Rates) -> None:
        await rates.take([take(cost_us=1000)] * 3)
        await asyncio.sleep(0.05)

        assert await rates.take([take()]) == [Slot(0)]

    async def test_of_nothing_there_are_no_outcomes(self, rates: Rates) -> None:
        assert await rates.take([]) == []

    async def test_of_400_at_once_at_several_instances_exactly_50_are_granted(self, open_rates: OpenRates) -> None:
        instances = [await open_rates() for _ in range(4)]
        asked = take(horizon_us=49 * MINUTE_US)

        answers = await asyncio.gather(*(instances[n % 4].take([asked]) for n in range(400)))

        assert sum(len(slots(answer)) for answer in answers) == 50

    async def test_keys_in_opposite_order_let_everybody_through(self, open_rates: OpenRates) -> None:
        instances = [await open_rates() for _ in range(4)]
        keys = [f"key-{n}" for n in range(12)]

        async def ask(rates: Rates, order: Sequence[str]) -> None:
            for n in range(20):
                costs = [MINUTE_US + (n % 2 and nth) for nth in range(len(order))]
                await rates.take([take(key, cost_us=cost_us) for key, cost_us in zip(order, costs, strict=True)])
                await rates.reserve([wish(key, interval_s=0.001) for key in order])
                await rates.give_back(dict.fromkeys(order, 1000))

        await asyncio.gather(*(ask(each, keys[:: (-1) ** n]) for n, each in enumerate(instances)))

        assert {math.ceil(room_s / MINUTE) for room_s in (await instances[0].read(keys)).values()} == {80}


class TestTakeLaw:
    @given(
        takes=st.lists(
            st.builds(
                Take,
                key=st.sampled_from("abcdef"),
                cost_us=st.sampled_from([1, 2, 7]).map(lambda seconds: seconds * 1_000_000),
                # Between whole seconds, where nothing starts: when exactly the call is made does not matter.
                horizon_us=st.integers(980, 1060).map(lambda whole: whole * 1_000_000 + 500_000),
            ),
            max_size=24,
        ),
        alike=st.booleans(),
        data=st.data(),
    )
    @settings(max_examples=60)
    async def test_whoever_fits_before_its_horizon_is_granted_and_the_rest_can_be_given_back(
        self, rates: Rates, takes: list[Take], alike: bool, data: st.DataObject
    ) -> None:
        keys = {each: f"{each} {uuid4()}" for each in "abcdef"}
        like = takes[0] if alike and takes else None
        takes = [Take(keys[each.key], *(like or each)[1:]) for each in takes]
        await rates.take([Take(key, 1_000_000_000, 0) for key in keys.values()])

        outcomes = await rates.take(takes)

        used_s = dict.fromkeys(keys.values(), 1000.0)
        for asked, got in zip(takes, outcomes, strict=True):
            assert isinstance(got, Slot) == (used_s[asked.key] <= asked.horizon_us / 1_000_000)
            assert start_of(got, asked) == pytest.approx(used_s[asked.key], abs=0.4)
            used_s[asked.key] += asked.cost_us / 1_000_000 if isinstance(got, Slot) else 0.0
        back = data.draw(st.dictionaries(st.sampled_from(list(keys.values())), st.integers(1, 2000)))
        await rates.give_back({key: seconds * 1_000_000 for key, seconds in back.items()})
        room_in_s = await rates.read(list(keys.values()))
        assert room_in_s == {
            key: pytest.approx(max(used - back.get(key, 0), 0), abs=0.4) for key, used in used_s.items()
        }


class TestGiveBack:
    async def test_makes_room_for_as_much(self, rates: Rates) -> None:
        asked = take(horizon_us=2 * MINUTE_US)
        await rates.take([asked] * 3)
        await rates.give_back({"a": 2 * MINUTE_US})

        assert [isinstance(each, Slot) for each in await rates.take([asked] * 3)] == [True, True, False]

    async def test_of_a_key_that_nobody_uses_changes_nothing(self, rates: Rates) -> None:
        await rates.give_back({"a": MINUTE_US})

        assert await rates.read(["a"]) == {"a": 0}
        granted, denied = await rates.take([take(horizon_us=0), take(horizon_us=0)])
        assert granted == Slot(0)
        assert isinstance(denied, Denied)
        assert denied.wait_s == pytest.approx(MINUTE, abs=5)

    async def test_of_nothing_does_nothing(self, rates: Rates) -> None:
        await rates.give_back({})


class TestRead:
    async def test_tells_when_each_key_has_room_and_takes_none(self, rates: Rates) -> None:
        await rates.reserve([wish("busy", units=3), wish("quiet", interval_s=0.001)])
        await asyncio.sleep(0.01)

        for _ in range(2):
            room_in_s = await rates.read(["busy", "quiet", "unknown"])
            assert 2.5 * MINUTE < room_in_s.pop("busy") <= 3 * MINUTE
            assert room_in_s == {"quiet": 0, "unknown": 0}

    async def test_of_no_keys_there_is_nothing_to_tell(self, rates: Rates) -> None:
        assert await rates.read([]) == {}
