"""What is asked of a rate and what it answers, whoever keeps the cells.

A cell is one moment per key: when its next unit may go (the "theoretical arrival time" of GCRA). Whoever gets a slot
moves it on by what the slot takes up, so no two slots of a key ever overlap, whichever instances they were given to.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import NamedTuple, Protocol

from sms_foundation.core.errors import UnavailableError

_US = 1_000_000


class RatesUnavailableError(UnavailableError):
    """Whoever keeps the cells cannot be asked now. For all the caller knows a slot was reserved, and is wasted."""

    code = "sms.rates_unavailable"


@dataclass(frozen=True, slots=True)
class Wish:
    """To go as soon as `key` has room, at most `horizon_s` seconds from now (0: now or not at all).

    The rate gives one unit per `interval_s` seconds (> 0); this takes up `units` of them (>= 1). Raises ValueError for
    anything that would move a cell backwards or leave it where it is.
    """

    key: str
    interval_s: float
    units: int
    horizon_s: float

    def __post_init__(self) -> None:
        if not (self.interval_s > 0 and self.units >= 1 and self.horizon_s >= 0):
            raise ValueError("a wish takes up at least one unit of more than no time, not before now")

    @property
    def cost_us(self) -> int:
        """Microseconds that it keeps others away; rounded up, so that rounding never makes a rate faster."""
        return ceil(self.interval_s * self.units * _US)

    @property
    def horizon_us(self) -> int:
        """`horizon_s` in whole microseconds."""
        return int(self.horizon_s * _US)


class Take(NamedTuple):
    """To use up `cost_us` (> 0) of `key` now: granted while the key has room within `horizon_us` (>= 0) from now.

    Microseconds both. Where a `Wish` is for a moment that others keep clear of, this is only counted, as of when it was
    asked for; so it costs half as much.
    """

    key: str
    cost_us: int
    horizon_us: int


@dataclass(frozen=True, slots=True)
class Slot:
    """Granted: go ahead in `delay_s` seconds (>= 0, counted from the answer), not earlier and not much later."""

    delay_s: float


@dataclass(frozen=True, slots=True)
class Denied:
    """Nothing was reserved: the slot lies `wait_s` seconds (> 0) beyond the horizon; ask again in about that time."""

    wait_s: float


Asked = Wish | Take
Outcome = Slot | Denied


def outcome_at(asked: Asked, start_us: int) -> Outcome:
    """Return what becomes of `asked` when the next free slot of its key starts in `start_us` microseconds."""
    if start_us <= asked.horizon_us:
        return Slot(start_us / _US)
    return Denied((start_us - asked.horizon_us) / _US)


class Rates(Protocol):
    """Hands out slots, each to one caller, however many instances ask at the same time."""

    async def reserve(self, wishes: Sequence[Wish]) -> list[Outcome]:
        """Reserve a slot for each wish that can have one; outcomes are in the order of `wishes`.

        Wishes of one key are served in the order given: after one is denied, later ones get a slot only by a larger
        horizon. Slots of one key never overlap, and time that nobody used is not saved up. There is no way to give a
        slot back. Not idempotent: each call reserves anew. Raises RatesUnavailableError.
        """
        ...

    async def take(self, takes: Sequence[Take]) -> list[Outcome]:
        """Use up what can be used up; outcomes are in the order of `takes`, and say how much was used before each.

        Takes of one key are served in the order given. No stretch of time sees more granted than what fits before the
        horizon and what came back in it. Not idempotent. Raises RatesUnavailableError.
        """
        ...

    async def give_back(self, costs_us: Mapping[str, int]) -> None:
        """Make so many microseconds (> 0) of room under each key, which were taken in vain. Not idempotent.

        What came back by itself since it was taken must not be given back again. Raises RatesUnavailableError.
        """
        ...

    async def read(self, keys: Sequence[str]) -> dict[str, float]:
        """Return the seconds until each key has room for one unit, 0 for now. Raises RatesUnavailableError."""
        ...
