"""Keeping to the rates of providers and senders, for all instances together, and keeping what is over them in line.

A message takes a slot of its provider's rate and one of its sender's (`core.rates`). How far ahead it may reserve one
depends on its priority: bulk hardly at all, so that what is urgent never queues up behind it at the provider.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from sms_foundation.core.clock import monotonic
from sms_foundation.core.phone import SenderType, sender_type
from sms_foundation.core.rates.base import Denied, Rates, Slot, Wish
from sms_foundation.core.rates.margin import interval_for
from sms_foundation.core.work.queue import Priority
from sms_foundation.providers.config import ProviderConfig

# How late a slot may be used; the rates leave room for that (`interval_for`).
LATE_S = 0.1
HORIZON_S = {Priority.URGENT: 2.0, Priority.NORMAL: 0.4, Priority.BULK: 0.2}
# A place in line is asked about again after so long at the latest: the line may have become shorter.
_LONGEST_WAIT_S = 300.0
_MANY = 1_000_000

# Segments per second that carriers grant by default.
# Source: https://help.twilio.com/articles/115002943027 (long code 1, toll-free 3, short code 100; November 2026)
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
    """Send `delay_s` seconds from now, at most LATE_S later."""

    delay_s: float


@dataclass(frozen=True, slots=True)
class OverProviderRate:
    """The provider has no room; another one may."""


@dataclass(frozen=True, slots=True)
class OverSenderRate:
    """The sender's turn comes in about `wait_s`, whoever would carry the message."""

    wait_s: float


Answer = Go | OverProviderRate | OverSenderRate


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
        self._line_end: dict[str, float] = {}  # where the line of those that wait for a rate ends

    def wait_s(self, provider: str, priority: Priority) -> float:
        """Return how long until `provider` may have a slot for `priority`; 0: now."""
        return max(self._free_at.get(provider, 0.0) - monotonic() - HORIZON_S[priority], 0.0)

    def room(self, providers: Sequence[str], priority: Priority) -> int:
        """Return how many segments these providers together have slots for, within the horizon of `priority`."""
        now, room = monotonic(), 0.0
        for name in providers:
            interval_s = self._intervals[name]
            if interval_s is None:
                return _MANY
            ahead_s = max(self._free_at.get(name, 0.0) - now, 0.0)
            room += max(HORIZON_S[priority] - ahead_s, 0.0) / interval_s
        return int(room)

    async def ask(self, places: Sequence[Place]) -> list[Answer]:
        """Reserve a slot for each; of one rate in the order given. Raises RatesUnavailableError."""
        answers: list[Answer] = [Go(0.0)] * len(places)
        open_places = list(range(len(places)))
        # The sender's slot comes second: one that is refused wastes a provider's, which are more plentiful.
        for is_sender in (False, True):
            wishes = [(i, w) for i in open_places if (w := self._wish(places[i], is_sender=is_sender)) is not None]
            if not wishes:
                continue
            for (index, wish), answer in zip(
                wishes, await self._rates.reserve([wish for _, wish in wishes]), strict=True
            ):
                answers[index] = self._note(wish, answer, so_far=answers[index], is_sender=is_sender)
            open_places = [i for i in open_places if isinstance(answers[i], Go)]
        return answers

    def place_in_line(self, key: str, cost_s: float) -> timedelta:
        """Return when to come back, behind everybody who was sent away from the same rate before."""
        now = monotonic()
        place = max(self._line_end.get(key, 0.0), self._free_at.get(key, 0.0), now)
        self._line_end[key] = min(place, now + _LONGEST_WAIT_S) + cost_s
        return timedelta(seconds=min(place - now, _LONGEST_WAIT_S))

    def _wish(self, place: Place, *, is_sender: bool) -> Wish | None:
        horizon_s = HORIZON_S[place.priority]
        if not is_sender:
            interval_s = self._intervals[place.provider]
            return None if interval_s is None else Wish(place.provider, interval_s, place.units, horizon_s)
        rate = self._sender_rate(place.provider, place.sender)
        if rate is None:
            return None
        return Wish(_sender_key(place.sender), interval_for(rate, LATE_S), place.units, horizon_s)

    def _sender_rate(self, provider: str, sender: str) -> float | None:
        rates = self._configs[provider].sender_rates
        if sender in rates:
            return rates[sender]
        kind = sender_type(sender)
        return rates.get(kind.value, rates.get("*", _SENDER_RATES[kind]))

    def _note(self, wish: Wish, answer: Slot | Denied, *, so_far: Answer, is_sender: bool) -> Answer:
        now, cost_s = monotonic(), wish.interval_s * wish.units
        if isinstance(answer, Slot):
            self._free_at[wish.key] = now + answer.delay_s + cost_s
            return Go(max(answer.delay_s, so_far.delay_s if isinstance(so_far, Go) else 0.0))
        self._free_at[wish.key] = now + answer.wait_s + wish.horizon_s
        if not is_sender:
            return OverProviderRate()
        return OverSenderRate(self.place_in_line(wish.key, cost_s).total_seconds())


def _sender_key(sender: str) -> str:
    return f"sender:{sender}"
