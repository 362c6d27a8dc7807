"""Asking `core.rates` for many requests at once, and doing without them for a moment when they cannot be asked."""

from collections import Counter
from collections.abc import Sequence
from math import ceil

import structlog

from sms_foundation.auth.metrics import UNLIMITED
from sms_foundation.core.batching import Batcher, OverloadedError
from sms_foundation.core.clock import monotonic
from sms_foundation.core.rates.base import Outcome, Rates, RatesUnavailableError, Slot, Take
from sms_foundation.core.saturation import Use

log = structlog.get_logger(__name__)

_MAX_BATCH = 64
# A request waits no longer than this for whoever keeps the rates; then nobody asks them for a moment.
_TIMEOUT_S = 2.0
_UNAVAILABLE_S = 1.0
_OUTAGES = (RatesUnavailableError, OverloadedError, TimeoutError)


class Meter:
    """Takes what limits allow. While rates cannot be asked it returns None, counted and logged: nobody is stopped.

    A limit protects from too much; a Redis that is away must not be what stops every message. (When the database is
    away, nothing can be accepted anyway.)
    """

    def __init__(self, rates: Rates) -> None:
        self._rates = rates
        self._batcher: Batcher[Take, Outcome] = Batcher(
            self._take_batch,
            is_item_to_blame=lambda error: not isinstance(error, _OUTAGES),
            max_items=_MAX_BATCH,
            timeout_s=_TIMEOUT_S,
        )
        self._unavailable_until = 0.0

    async def take(self, limit: str, take: Take) -> Outcome | None:
        """Take for one request, together with those that ask meanwhile. `limit` is a label of metrics."""
        if monotonic() >= self._unavailable_until:
            try:
                return await self._batcher.submit(take)
            except _OUTAGES as error:
                self._note_outage(error)
        UNLIMITED.labels(limit).inc()
        return None

    async def take_all(self, limit: str, takes: Sequence[Take]) -> Sequence[Outcome | None]:
        """Take for each of `takes`, in a statement of their own."""
        if monotonic() >= self._unavailable_until:
            try:
                return await self._rates.take(takes)
            except _OUTAGES as error:
                self._note_outage(error)
        UNLIMITED.labels(limit).inc(len(takes))
        return [None] * len(takes)

    async def give_back(self, takes: Sequence[Take], *, taken_at: float) -> None:
        """Undo `takes`, which were asked for at `taken_at` (monotonic); what cannot be undone stays counted."""
        costs_us: Counter[str] = Counter()
        for each in takes:
            costs_us[each.key] += each.cost_us
        # So much of each key has come back by itself, had it not been taken then for the room there was.
        elapsed_us = ceil((monotonic() - taken_at) * 1_000_000)
        left = {key: cost_us - elapsed_us for key, cost_us in costs_us.items() if cost_us > elapsed_us}
        if not left or monotonic() < self._unavailable_until:
            return
        try:
            await self._rates.give_back(left)
        except _OUTAGES as error:
            self._note_outage(error)

    def use(self) -> Use:
        """Tell how many requests wait to be counted."""
        return self._batcher.use()

    async def close(self) -> None:
        """Wait until everybody who asked has an answer."""
        await self._batcher.close()

    async def _take_batch(self, takes: Sequence[Take]) -> list[Outcome]:
        """Take for all of `takes`, equal ones as one: a client has many under way, and each of them asks the same."""
        groups = _groups(takes)
        outcomes = await self._rates.take([_joint(takes[group[0]], len(group)) for group in groups])
        answers: dict[int, Outcome] = {}
        for group, outcome in zip(groups, outcomes, strict=True):
            if len(group) == 1:
                answers[group[0]] = outcome
            elif isinstance(outcome, Slot):
                cost_s = takes[group[0]].cost_us / 1_000_000
                answers.update((index, Slot(outcome.delay_s + nth * cost_s)) for nth, index in enumerate(group))
        left = [index for index in range(len(takes)) if index not in answers]
        if left:  # there is no room for all of a group: who gets in is for each of them to ask
            answers.update(zip(left, await self._rates.take([takes[index] for index in left]), strict=True))
        return [answers[index] for index in range(len(takes))]

    def _note_outage(self, error: Exception) -> None:
        now = monotonic()
        if now >= self._unavailable_until:
            log.warning("limits.not_asked", error=str(error) or type(error).__name__)
        self._unavailable_until = now + _UNAVAILABLE_S


def _groups(takes: Sequence[Take]) -> list[list[int]]:
    """Return the indexes of equal takes together, where one after the other could have what it asks for."""
    groups: list[list[int]] = []
    of_key: dict[str, list[int]] = {}
    for index, take in enumerate(takes):
        group = of_key.get(take.key)
        if group is not None and takes[group[0]] is take and take.horizon_us >= len(group) * take.cost_us:
            group.append(index)
        else:
            of_key[take.key] = group = [index]
            groups.append(group)
    return groups


def _joint(take: Take, count: int) -> Take:
    """Return what is granted exactly when `count` such takes, one after the other, all are."""
    if count == 1:
        return take
    return Take(take.key, count * take.cost_us, take.horizon_us - (count - 1) * take.cost_us)
