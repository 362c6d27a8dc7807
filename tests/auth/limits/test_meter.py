"""Many who ask at once are answered as if each had asked alone, one after the other, in whatever order."""

import asyncio
from uuid import uuid4

from hypothesis import given, settings
from hypothesis import strategies as st

from sms_foundation.auth.limits.limit import parse_limit
from sms_foundation.auth.limits.meter import Meter
from sms_foundation.core.rates.base import Denied, Slot
from tests.auth.limits.conftest import Store


class TestTake:
    @given(count=st.integers(1, 30), used=st.integers(0, 30), asking=st.integers(1, 100))
    @settings(max_examples=30)
    async def test_as_many_equal_takes_are_granted_as_there_is_room_for(
        self, store: Store, count: int, used: int, asking: int
    ) -> None:
        limit = parse_limit(f"{count}/1d")
        assert limit is not None
        meter, take = Meter(await store.open()), limit.take(str(uuid4()))
        before = await asyncio.gather(*(meter.take("client", take) for _ in range(used)))

        outcomes = await asyncio.gather(*(meter.take("client", take) for _ in range(asking)))

        granted = [each for each in outcomes if isinstance(each, Slot)]
        assert sum(isinstance(each, Slot) for each in before) == min(used, count)
        assert len(granted) == min(asking, count - min(used, count))
        assert all(isinstance(each, Slot | Denied) for each in outcomes)
        # Each says by its delay how much was used before it.
        places = sorted(round(each.delay_s * 1_000_000 / limit.interval_us) for each in granted)
        assert places == list(range(min(used, count), min(used, count) + len(granted)))

    async def test_equal_takes_of_several_kinds_mix(self, store: Store) -> None:
        limit = parse_limit("5/1d")
        assert limit is not None
        meter = Meter(await store.open())
        one, other, large = limit.take("one"), limit.take("other"), limit.take("one", 2)

        outcomes = await asyncio.gather(
            *(meter.take("client", take) for take in (one, other, one, large, one, one, other, one))
        )

        granted = [isinstance(each, Slot) for each in outcomes]
        assert [granted[1], granted[6]] == [True, True]
        units = [1, 0, 1, 2, 1, 1, 0, 1]
        assert sum(unit for unit, is_granted in zip(units, granted, strict=True) if is_granted) == 5
