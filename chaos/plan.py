"""What breaks, when and for how long: a pure function of the seed and the length of the run."""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

SHORTEST_S: Final = 30.0
"""Below that there is no room for every kind of fault and for the calm between them."""
CALM_BEFORE_S: Final = 3.0
CALM_AFTER_S: Final = 5.0
"""Nothing is broken in the first and the last seconds of the load."""
_ROUND_S: Final = 82.0
"""Longest time in which everything breaks once: a run of 90 s has seen it all."""
_CALM_SHARE: Final = 0.2
"""Part of a slot in which its target is left alone, so that it can recover before it breaks again."""

SERVICES: Final = ("service-a", "service-b")
WORKER: Final = "worker"
PROVIDERS: Final = ("twilio", "messagebird")
POSTGRES: Final = "postgres"
RECEIPTS: Final = "receipts"
MONITOR: Final = "monitor"


class Kind(StrEnum):
    """A way to break something. What has a length lasts `for_s`; of a process that is how long it stays down."""

    KILL = "kill -9"
    TERM = "SIGTERM"
    STOP = "stopped immediately"
    RESTART = "restarted"
    FREEZE = "frozen"
    CUT = "connections cut"
    FAIL = "fails"
    HANG = "hangs"
    LATE = "answers after the time-out"
    DROP = "accepts and drops the connection"
    RECEIPTS_LATE = "late"
    RECEIPTS_DOUBLED = "doubled"
    RECEIPTS_REORDERED = "reordered"
    RECEIPTS_LOST = "lost"
    MONITOR_DOWN = "down"
    MONITOR_SLOW = "slow"
    MONITOR_NONSENSE = "answers nonsense"


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """`target` breaks `at_s` seconds after the load began, for `for_s` seconds (0: a moment)."""

    at_s: float
    target: str
    kind: Kind
    for_s: float

    @property
    def ends_s(self) -> float:
        return self.at_s + self.for_s

    def __str__(self) -> str:
        length = f" for {self.for_s:.1f} s" if self.for_s else ""
        return f"{self.at_s:6.1f} s  {self.target}: {self.kind}{length}"


LENGTHS_S: Final[Mapping[Kind, tuple[float, float]]] = {
    Kind.KILL: (0.2, 4.0),
    Kind.TERM: (0.2, 4.0),
    Kind.STOP: (0.5, 4.0),
    Kind.RESTART: (0.0, 0.0),
    Kind.FREEZE: (3.0, 10.0),
    Kind.CUT: (0.0, 0.0),
    Kind.FAIL: (4.0, 10.0),
    Kind.HANG: (3.0, 8.0),
    Kind.LATE: (3.0, 8.0),
    Kind.DROP: (4.0, 10.0),
    Kind.RECEIPTS_LATE: (8.0, 15.0),
    Kind.RECEIPTS_DOUBLED: (8.0, 15.0),
    Kind.RECEIPTS_REORDERED: (8.0, 15.0),
    Kind.RECEIPTS_LOST: (5.0, 10.0),
    Kind.MONITOR_DOWN: (4.0, 10.0),
    Kind.MONITOR_SLOW: (4.0, 10.0),
    Kind.MONITOR_NONSENSE: (4.0, 10.0),
}
"""Shortest and longest length of each kind."""

# Processes die twice as often as anything else breaks: whatever they are at in that moment is the hard part.
_PROCESS: Final = (Kind.KILL, Kind.KILL, Kind.TERM, Kind.TERM)
_PROVIDER: Final = (Kind.FAIL, Kind.HANG, Kind.LATE, Kind.DROP)
LANES: Final[Mapping[str, Sequence[Kind]]] = {
    **dict.fromkeys((*SERVICES, WORKER), _PROCESS),
    POSTGRES: (Kind.STOP, Kind.RESTART, Kind.FREEZE, Kind.CUT),
    **dict.fromkeys(PROVIDERS, _PROVIDER),
    RECEIPTS: (Kind.RECEIPTS_LATE, Kind.RECEIPTS_DOUBLED, Kind.RECEIPTS_REORDERED, Kind.RECEIPTS_LOST),
    MONITOR: (Kind.MONITOR_DOWN, Kind.MONITOR_SLOW, Kind.MONITOR_NONSENSE),
}
"""Every target and what happens to it in each round. Targets break independently: the faults of several may overlap."""


def make_plan(seed: int, seconds: float) -> list[Fault]:
    """Return the faults of a load of `seconds`, in the order in which they begin; the same for the same arguments.

    Time is cut into rounds, a round of a target into one slot per fault, in drawn order: every target suffers all
    of its kinds in each round, never two at once, and is left alone for a fifth of each slot.
    Raises ValueError below SHORTEST_S.
    """
    if seconds < SHORTEST_S:
        raise ValueError(f"a run takes {SHORTEST_S:.0f} s at least")
    span_s = seconds - CALM_BEFORE_S - CALM_AFTER_S
    rounds = math.ceil(span_s / _ROUND_S)
    round_s = span_s / rounds
    starts = [CALM_BEFORE_S + number * round_s for number in range(rounds)]
    return sorted(
        fault
        for target, kinds in LANES.items()
        for fault in _break(target, kinds, starts, round_s, random.Random(f"{seed}/{target}"))
    )


def _break(
    target: str, kinds: Sequence[Kind], starts: Sequence[float], round_s: float, chance: random.Random
) -> list[Fault]:
    slot_s = round_s / len(kinds)
    usable_s = slot_s * (1 - _CALM_SHARE)
    faults = []
    for start in starts:
        for place, kind in enumerate(chance.sample(kinds, len(kinds))):
            for_s = round(min(chance.uniform(*LENGTHS_S[kind]), usable_s * 0.8), 1)
            at_s = round(start + place * slot_s + chance.uniform(0, usable_s - for_s), 1)
            faults.append(Fault(at_s, target, kind, for_s))
    return faults
