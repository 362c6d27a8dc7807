"""Which rules are in force, and whom they strike."""

import random
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Final

from sms_foundation.simulator.carrier.messages import Message, Stage
from sms_foundation.simulator.faults.rules import RECEIPT_KINDS, REQUEST_KINDS, FaultKind, FaultRule, Operation

_WINDOW_S: Final = 1.0

PlannedReceipt = tuple[float, Stage]
"""When, on the monotonic clock, and what."""


@dataclass(slots=True)
class ActiveRule:
    """A rule in force. `strikes` is how often it did what it says."""

    id: int
    rule: FaultRule
    begins_at: float
    """On the monotonic clock."""
    strikes: int = 0
    passed: deque[float] = field(default_factory=deque, repr=False)
    """Moments within the last second at which a `rate` rule let a message pass."""

    @property
    def is_spent(self) -> bool:
        return self.rule.count is not None and self.strikes >= self.rule.count

    def is_in_force(self, moment: float) -> bool:
        for_s = self.rule.for_s
        return self.begins_at <= moment and (for_s is None or moment < self.begins_at + for_s)


@dataclass(frozen=True, slots=True)
class RequestFate:
    """What befalls one request: a wait, then perhaps one misfortune."""

    wait_s: float = 0.0
    misfortune: FaultRule | None = None


_UNHARMED: Final = RequestFate()


class FaultBook:
    """The rules in force, oldest first; one seed and one order of requests always give the same strikes."""

    def __init__(self, monotonic: Callable[[], float], seed: int = 1) -> None:
        self._monotonic = monotonic
        self._chance = random.Random(seed)  # noqa: S311  # repeatable on purpose
        self._rules: list[ActiveRule] = []
        self._ids = 0

    def add(self, rule: FaultRule) -> ActiveRule:
        """Put `rule` in force, after all others."""
        self._ids += 1
        active = ActiveRule(self._ids, rule, self._monotonic() + rule.after_s)
        self._rules.append(active)
        return active

    def list_rules(self) -> list[ActiveRule]:
        return list(self._rules)

    def remove(self, rule_id: int) -> bool:
        """Tell whether there was such a rule."""
        kept = [active for active in self._rules if active.id != rule_id]
        is_known = len(kept) < len(self._rules)
        self._rules = kept
        return is_known

    def clear(self, seed: int | None = None) -> None:
        """End all rules; with a `seed`, what is drawn from now on is repeatable."""
        self._rules.clear()
        if seed is not None:
            self._chance.seed(seed)

    def judge_request(self, provider: str, number: str | None, operation: Operation) -> RequestFate:
        """Draw what befalls a request; `number` is the phone it is about, if it is about one.

        Waits add up. A rate is looked at before everything else, so that nothing passes it by; of the rest the oldest
        rule that strikes counts, and the others are not used up.
        """
        if not self._rules:
            return _UNHARMED
        wait_s, misfortune = 0.0, None
        matching = self._matching(REQUEST_KINDS, provider, number)
        for active in sorted(matching, key=lambda active: active.rule.kind is not FaultKind.RATE):
            rule = active.rule
            if not rule.applies_to(operation):
                continue
            if rule.kind is FaultKind.LATENCY:
                wait_s += rule.latency_ms / 1000 if self._strikes(active) else 0.0
            elif misfortune is None and self._strikes_request(active):
                misfortune = rule
        return RequestFate(wait_s, misfortune)

    def judge_journey(self, message: Message) -> int | None:
        """Draw the carrier error that keeps `message` from its phone; None: it arrives."""
        for active in self._matching((FaultKind.CARRIER_ERROR,), message.provider, message.recipient):
            if self._strikes(active):
                return active.rule.error_code
        return None

    def bend_receipts(self, message: Message, receipts: Sequence[PlannedReceipt]) -> Sequence[PlannedReceipt]:
        """Return what becomes of the receipts of `message`: fewer, later, more, or in another order."""
        for active in self._matching(RECEIPT_KINDS, message.provider, message.recipient):
            receipts = self._bend(active, receipts)
        return receipts

    def _bend(self, active: ActiveRule, receipts: Sequence[PlannedReceipt]) -> Sequence[PlannedReceipt]:
        rule, chance = active.rule, self._chance
        match rule.kind:
            case FaultKind.REORDERED_RECEIPTS:
                if not self._strikes(active):
                    return receipts
                stages = [stage for _, stage in receipts]
                chance.shuffle(stages)
                return [
                    (at + chance.uniform(0, rule.delay_s), stage)
                    for (at, _), stage in zip(receipts, stages, strict=True)
                ]
            case FaultKind.LOST_RECEIPTS:
                return [each for each in receipts if not self._strikes(active)]
            case FaultKind.LATE_RECEIPTS:
                return [(at + rule.delay_s if self._strikes(active) else at, stage) for at, stage in receipts]
            case _:
                return [each for each in receipts for _ in range(rule.copies if self._strikes(active) else 1)]

    def _matching(self, kinds: Collection[FaultKind], provider: str, number: str | None) -> list[ActiveRule]:
        if not self._rules:
            return []
        moment = self._monotonic()
        return [
            active
            for active in self._rules
            if active.rule.kind in kinds
            and active.is_in_force(moment)
            and active.rule.provider in (None, provider)
            and active.rule.number in (None, number)
        ]

    def _strikes_request(self, active: ActiveRule) -> bool:
        if active.rule.kind is not FaultKind.RATE:
            return self._strikes(active)
        moment = self._monotonic()
        while active.passed and moment - active.passed[0] >= _WINDOW_S:
            active.passed.popleft()
        if len(active.passed) < active.rule.per_second:
            active.passed.append(moment)
            return False
        return self._strikes(active)

    def _strikes(self, active: ActiveRule) -> bool:
        if active.is_spent or (active.rule.share < 1 and self._chance.random() >= active.rule.share):
            return False
        active.strikes += 1
        return True
