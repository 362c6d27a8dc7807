"""Asking `core.rates` for many requests at once, and doing without them for a moment when they cannot be asked."""

from collections.abc import Sequence

import structlog

from sms_foundation.auth.limits.limit import exact_wish
from sms_foundation.auth.metrics import UNLIMITED
from sms_foundation.core.batching import Batcher, OverloadedError
from sms_foundation.core.clock import monotonic
from sms_foundation.core.rates.base import Outcome, Rates, RatesUnavailableError, Slot, Wish

log = structlog.get_logger(__name__)

_MAX_BATCH = 64
# A request waits no longer than this for whoever keeps the rates; then nobody asks them for a moment.
_TIMEOUT_S = 2.0
_UNAVAILABLE_S = 1.0
_OUTAGES = (RatesUnavailableError, OverloadedError, TimeoutError)


class Meter:
    """Reserves what limits allow. While rates cannot be asked it returns None, counted and logged: nobody is stopped.

    A limit protects from too much; a Redis that is away must not be what stops every message. (When the database is
    away, nothing can be accepted anyway.)
    """

    def __init__(self, rates: Rates) -> None:
        self._rates = rates
        self._batcher: Batcher[Wish, Outcome] = Batcher(
            self._reserve_batch,
            is_item_to_blame=lambda error: not isinstance(error, _OUTAGES),
            max_items=_MAX_BATCH,
            timeout_s=_TIMEOUT_S,
        )
        self._unavailable_until = 0.0

    async def reserve(self, limit: str, wish: Wish) -> Outcome | None:
        """Reserve for one request, together with those that ask meanwhile. `limit` is a label of metrics."""
        if monotonic() >= self._unavailable_until:
            try:
                return await self._batcher.submit(wish)
            except _OUTAGES as error:
                self._note_outage(error)
        UNLIMITED.labels(limit).inc()
        return None

    async def reserve_all(self, limit: str, wishes: Sequence[Wish]) -> Sequence[Outcome | None]:
        """Reserve for each of `wishes`, in one statement of their own."""
        if monotonic() >= self._unavailable_until:
            try:
                return await self._rates.reserve(wishes)
            except _OUTAGES as error:
                self._note_outage(error)
        UNLIMITED.labels(limit).inc(len(wishes))
        return [None] * len(wishes)

    async def close(self) -> None:
        """Wait until everybody who asked has an answer."""
        await self._batcher.close()

    async def _reserve_batch(self, wishes: Sequence[Wish]) -> list[Outcome]:
        """Reserve for `wishes`, equal ones as one: a client has many under way, and each of them the same wish."""
        groups = _groups(wishes)
        outcomes = await self._rates.reserve([_joint(wishes[group[0]], len(group)) for group in groups])
        answers: dict[int, Outcome] = {}
        for group, outcome in zip(groups, outcomes, strict=True):
            if len(group) == 1:
                answers[group[0]] = outcome
            elif isinstance(outcome, Slot):
                cost_s = wishes[group[0]].cost_us / 1_000_000
                answers.update((index, Slot(outcome.delay_s + nth * cost_s)) for nth, index in enumerate(group))
        left = [index for index in range(len(wishes)) if index not in answers]
        if left:  # there is no room for all of a group: who gets in is for each of them to ask
            answers.update(zip(left, await self._rates.reserve([wishes[index] for index in left]), strict=True))
        return [answers[index] for index in range(len(wishes))]

    def _note_outage(self, error: Exception) -> None:
        now = monotonic()
        if now >= self._unavailable_until:
            log.warning("limits.not_asked", error=str(error) or type(error).__name__)
        self._unavailable_until = now + _UNAVAILABLE_S


def _groups(wishes: Sequence[Wish]) -> list[list[int]]:
    """Return the indexes of equal wishes together, where one after the other could have what it asks for."""
    groups: list[list[int]] = []
    of_key: dict[str, list[int]] = {}
    for index, wish in enumerate(wishes):
        group = of_key.get(wish.key)
        if group is not None and wishes[group[0]] is wish and wish.horizon_us >= len(group) * wish.cost_us:
            group.append(index)
        else:
            of_key[wish.key] = group = [index]
            groups.append(group)
    return groups


def _joint(wish: Wish, count: int) -> Wish:
    """Return what is granted exactly when `count` such wishes, one after the other, all are."""
    if count == 1:
        return wish
    return exact_wish(wish.key, count * wish.cost_us, wish.horizon_us - (count - 1) * wish.cost_us)
