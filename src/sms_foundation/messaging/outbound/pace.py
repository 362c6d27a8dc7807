"""Keeping to the rates of providers and senders, for all instances together, and keeping what is over them in line.

A message takes a slot of its provider's rate and one of its sender's (`core.rates`). How far ahead it may reserve one
depends on its priority: bulk hardly at all, so that what is urgent never queues up behind it at the provider.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from sms_foundation.core.clock import monotonic
from sms_foundation.core.phone import SenderType, sender_type
from sms_foundation.core.rates.base import Rates, RatesUnavailableError, Slot, Wish
from sms_foundation.core.rates.margin import interval_for
from sms_foundation.core.work.queue import Priority
from sms_foundation.providers.config import ProviderConfig

# How late a slot may be used; the rates leave room for that (`interval_for`).
LATE_S = 0.1
HORIZON_S = {Priority.URGENT: 2.0, Priority.NORMAL: 0.4, Priority.BULK: 0.2}
# A place in line is asked about again after so long at the latest: the line may have become shorter.
_LONGEST_WAIT_S = 300.0
# Whoever keeps the rates is asked again after so long.
_UNAVAILABLE_S = 1.0
_MANY = 1_000_000

# Segments per second that North American carriers grant by default; contracts differ, hence `sender_rates`.
_SENDER_RATES: Mapping[SenderType, float | None] = {
    SenderType.LONG_CODE: 1.0,
    SenderType.TOLL_FREE: 3.0,
    SenderType.SHORT_CODE: 100.0,
    SenderType.ALPHANUMERIC: None,
}


@dataclass(frozen=True, slots=True)
class Place:
    """A message that was given to provider `provider` and sender `sender`, `units` segments long."""

    provider: str
    sender: str
    units: int
    priority: Priority


@dataclass(frozen=True, slots=True)
class Go:
    """Send `delay_s` seconds from now, at most LATE_S later.

    `needs_provider`: that is the sender's turn; the provider's slot has to be asked for then (`ask_provider`), because
    one reserved now would be over.
    """

    delay_s: float
    needs_provider: bool = False


@dataclass(frozen=True, slots=True)
class OverProviderRate:
    """The provider has no room; another one may."""


@dataclass(frozen=True, slots=True)
class OverSenderRate:
    """The sender's turn comes in about `wait_s`, whoever would carry the message."""

    wait_s: float


Answer = Go | OverProviderRate | OverSenderRate


_WishOf = Callable[[Place], Wish | None]
_RefusalOf = Callable[["Pace", Wish, Priority], Answer]


class Pace:
    """Asks for slots, and remembers what the answers said about how full each rate is."""

    def __init__(self, rates: Rates, configs: Sequence[ProviderConfig]) -> None:
        self._rates = rates
        self._intervals = {
            config.name: None if config.rate_per_s is None else interval_for(config.rate_per_s, LATE_S)
            for config in configs
        }
        self._configs = {config.name: config for config in configs}
        self._free_at: dict[str, float] = {}  # when a rate has its next slot, as far as this process knows
        self._unavailable_until = 0.0
        self._line_end: dict[tuple[str, Priority], float] = {}  # where the line of those that wait for a rate ends

    def wait_s(self, provider: str, priority: Priority) -> float:
        """Return how long until `provider` may have a slot for `priority`; 0: now."""
        return max(self._free_at.get(provider, 0.0) - monotonic() - HORIZON_S[priority], 0.0)

    def room(self, providers: Sequence[str], priority: Priority) -> int:
        """Return how many segments these providers together have slots for, within the horizon of `priority`."""
        now, room = monotonic(), 0.0
        if now < self._unavailable_until:
            return 0
        for name in providers:
            interval_s = self._intervals[name]
            if interval_s is None:
                return _MANY
            ahead_s = max(self._free_at.get(name, 0.0) - now, 0.0)
            room += max(HORIZON_S[priority] - ahead_s, 0.0) / interval_s
        return int(room)

    async def ask(self, places: Sequence[Place]) -> list[Answer]:
        """Reserve a slot of sender and provider for each; of one rate in the order given. Raises RatesUnavailableError.

        The sender's comes first: its rate is the slower one, and the provider's has to be used when it is due.
        """
        answers: list[Answer] = [Go(0.0)] * len(places)
        await self._reserve(places, answers, self._sender_wish, _over_sender_rate)
        for index, answer in enumerate(answers):
            if isinstance(answer, Go) and answer.delay_s > LATE_S / 2:
                answers[index] = Go(answer.delay_s, needs_provider=True)
        await self._reserve(places, answers, self._provider_wish, _over_provider_rate)
        return answers

    async def ask_provider(self, place: Place) -> Answer:
        """Reserve a slot of the provider alone. Raises RatesUnavailableError."""
        answers: list[Answer] = [Go(0.0)]
        await self._reserve([place], answers, self._provider_wish, _over_provider_rate)
        return answers[0]

    def place_in_line(self, key: str, priority: Priority, cost_s: float) -> timedelta:
        """Return when to come back, behind everybody of that priority who was sent away from the same rate before."""
        now = monotonic()
        place = max(self._line_end.get((key, priority), 0.0), self._free_at.get(key, 0.0), now)
        self._line_end[key, priority] = min(place, now + _LONGEST_WAIT_S) + cost_s
        # Back as soon as the place lies within reach: then the longer reach of what is more urgent counts.
        return timedelta(seconds=min(max(place - now - HORIZON_S[priority], 0.05), _LONGEST_WAIT_S))

    async def _reserve(
        self, places: Sequence[Place], answers: list[Answer], wish_of: _WishOf, refusal_of: _RefusalOf
    ) -> None:
        """Ask for one kind of slot for every place that may still go; writes what comes of it into `answers`."""
        asking = [
            (index, wish)
            for index, (place, answer) in enumerate(zip(places, answers, strict=True))
            if isinstance(answer, Go) and not answer.needs_provider and (wish := wish_of(place)) is not None
        ]
        if not asking:
            return
        try:
            outcomes = await self._rates.reserve([wish for _, wish in asking])
        except RatesUnavailableError:
            self._unavailable_until = monotonic() + _UNAVAILABLE_S
            raise
        for (index, wish), outcome in zip(asking, outcomes, strict=True):
            now, cost_s = monotonic(), wish.interval_s * wish.units
            if isinstance(outcome, Slot):
                self._free_at[wish.key] = now + outcome.delay_s + cost_s
                so_far = answers[index]
                answers[index] = Go(max(outcome.delay_s, so_far.delay_s if isinstance(so_far, Go) else 0.0))
            else:
                self._free_at[wish.key] = now + outcome.wait_s + wish.horizon_s
                answers[index] = refusal_of(self, wish, places[index].priority)

    def _provider_wish(self, place: Place) -> Wish | None:
        interval_s = self._intervals[place.provider]
        if interval_s is None:
            return None
        horizon_s = HORIZON_S[place.priority]
        if self._sender_rate(place.provider, place.sender) is not None:
            horizon_s = LATE_S / 2  # the sender's slot is now: one of the provider's later on would make it late
        return Wish(place.provider, interval_s, place.units, horizon_s)

    def _sender_wish(self, place: Place) -> Wish | None:
        rate = self._sender_rate(place.provider, place.sender)
        if rate is None:
            return None
        return Wish(f"sender:{place.sender}", interval_for(rate, LATE_S), place.units, HORIZON_S[place.priority])

    def _sender_rate(self, provider: str, sender: str) -> float | None:
        rates = self._configs[provider].sender_rates
        if sender in rates:
            return rates[sender]
        kind = sender_type(sender)
        return rates.get(kind.value, rates.get("*", _SENDER_RATES[kind]))


def _over_provider_rate(_pace: Pace, _wish: Wish, _priority: Priority) -> Answer:
    return OverProviderRate()


def _over_sender_rate(pace: Pace, wish: Wish, priority: Priority) -> Answer:
    return OverSenderRate(pace.place_in_line(wish.key, priority, wish.interval_s * wish.units).total_seconds())
