"""Which provider carries a message, and why: pure, so that every choice can be explained and repeated.

What a provider cannot do at all comes first, then what it cannot do now, then what is better left to another; whose
turn it is among the rest, by weight, comes last.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from sms_foundation.messaging.outbound.health import CircuitState

# Credit is counted in whole numbers, so that nothing drifts; this many are one turn.
_TURN: Final = 10**12


class Reason(StrEnum):
    """Why a provider was chosen, or was not; stored with every attempt."""

    CHOSEN = "chosen"
    NOT_ASKED_FOR = "not_asked_for"
    WEIGHT_0 = "weight_0"
    NO_COUNTRY = "no_country"
    NO_SENDER = "no_sender"
    NO_MEDIA = "no_media"
    UNHEALTHY = "unhealthy"
    CIRCUIT_OPEN = "circuit_open"
    OVER_RATE = "over_rate"
    FAILED_BEFORE = "failed_before"
    OTHER_TURN = "other_turn"


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A provider as it stands now, for the message at hand.

    `weight`: its share relative to others, 0: it only receives. `countries`: two letters each, None: all.
    `weight_percent`: the part of the weight it keeps, 10 to 100. `wait_s`: until its rate and the sender's have room,
    0: now. `is_probe_due`: its circuit is not closed, but a message may try it, if the caller then wins that right.
    """

    name: str
    weight: int
    senders: tuple[str, ...]
    countries: frozenset[str] | None
    has_media: bool
    is_healthy: bool = True
    circuit: CircuitState = CircuitState.CLOSED
    weight_percent: int = 100
    wait_s: float = 0.0
    is_probe_due: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a message needs.

    `country`: the recipient's; None, as for short codes and number ranges nobody has heard of: rules no provider out,
    it will say for itself. `sender`, `provider`: asked for by name, None: any. `failed`: the providers of earlier
    attempts, oldest first, repeats included.
    """

    country: str | None
    sender: str | None = None
    has_media: bool = False
    provider: str | None = None
    failed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The provider and sender to use. `reasons` has one word for every candidate.

    `weights` are those of the candidates that were left to choose from, rounded. `is_probe`: the circuit is not closed,
    this message would be the one that tries. `credits` is for `Router.forget`.
    """

    provider: str
    sender: str
    reasons: dict[str, str]
    weights: dict[str, int]
    is_probe: bool
    credits: Mapping[str, int] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class NoChoice:
    """Nobody can take the message now.

    `wait_s`: the shortest wait until a rate has room, None: nobody would be ready even then. `is_impossible`: it is not
    a matter of time, no configured provider could ever carry this message.
    """

    reasons: dict[str, str]
    wait_s: float | None
    is_impossible: bool


class Router:
    """Chooses providers in turns by weight: smooth weighted round robin, one object per process.

    Every candidate earns its share of each turn; the one with most credit is chosen and pays for the turn. So shares
    hold over any stretch, without bursts, and those of several processes add up. Credit counts in turns, not in weights
    as in the original: what a provider owes from a time when heavier ones stood beside it would otherwise keep it
    waiting for thousands of messages.
    Source: https://github.com/nginx/nginx/blob/master/src/http/ngx_http_upstream_round_robin.c (November 2026).
    """

    def __init__(self) -> None:
        self._credits: dict[str, int] = {}

    def choose(self, candidates: Sequence[Candidate], wish: Wish) -> Choice | NoChoice:
        """Return who carries the message, or why nobody does now.

        `candidates`: every configured provider, once. Those that failed for this message are left out as long as there
        is another, even one that has to wait for its rate; if there is none, the one that failed longest ago is taken,
        out of turn. The same calls in the same order give the same results; a NoChoice leaves no trace.
        """
        reasons: dict[str, str] = {}
        able = _without(candidates, lambda candidate: _inability(candidate, wish), reasons)
        working = _without(able, _trouble, reasons)
        fresh = [candidate for candidate in working if candidate.name not in wish.failed]
        for candidate in working:
            reasons[candidate.name] = Reason.OTHER_TURN if candidate in fresh else Reason.FAILED_BEFORE
        ready = _without(fresh or working, _lack_of_rate, reasons)
        if not ready:
            wait_s = min((candidate.wait_s for candidate in fresh or working), default=None)
            return NoChoice(reasons=reasons, wait_s=wait_s, is_impossible=not able)
        chosen, credits = self._next_in_turn(ready) if fresh else (_failed_longest_ago(ready, wish), {})
        reasons[chosen.name] = Reason.CHOSEN
        return Choice(
            provider=chosen.name,
            sender=wish.sender or chosen.senders[0],
            reasons=reasons,
            weights={candidate.name: _rounded_weight(candidate) for candidate in ready},
            is_probe=chosen.circuit is not CircuitState.CLOSED,
            credits=credits,
        )

    def forget(self, choice: Choice) -> None:
        """Take back a choice that came to nothing, such as when the rate was used up meanwhile; at most once each.

        Whatever was chosen since stays counted.
        """
        self._add({name: -credit for name, credit in choice.credits.items()})

    def _next_in_turn(self, candidates: Sequence[Candidate]) -> tuple[Candidate, dict[str, int]]:
        """Return whose turn it is, the first of several, and what everybody's credit has changed by."""
        total = sum(_weight(candidate) for candidate in candidates)
        credits = {candidate.name: _TURN * _weight(candidate) // total for candidate in candidates}
        self._add(credits)
        chosen = max(candidates, key=lambda candidate: self._credits[candidate.name])
        price = sum(credits.values())
        self._add({chosen.name: -price})
        credits[chosen.name] -= price
        return chosen, credits

    def _add(self, credits: Mapping[str, int]) -> None:
        for name, credit in credits.items():
            self._credits[name] = self._credits.get(name, 0) + credit


def _without(
    candidates: Sequence[Candidate], objection: Callable[[Candidate], Reason | None], reasons: dict[str, str]
) -> list[Candidate]:
    """Return the candidates nothing is to be said against; note in `reasons` what is said against the others."""
    remaining = []
    for candidate in candidates:
        reason = objection(candidate)
        if reason is None:
            remaining.append(candidate)
        else:
            reasons[candidate.name] = reason
    return remaining


def _inability(candidate: Candidate, wish: Wish) -> Reason | None:
    if wish.provider is not None and candidate.name != wish.provider:
        return Reason.NOT_ASKED_FOR
    if candidate.weight == 0:
        return Reason.WEIGHT_0
    if wish.country is not None and candidate.countries is not None and wish.country not in candidate.countries:
        return Reason.NO_COUNTRY
    if not candidate.senders or (wish.sender is not None and wish.sender not in candidate.senders):
        return Reason.NO_SENDER
    if wish.has_media and not candidate.has_media:
        return Reason.NO_MEDIA
    return None


def _trouble(candidate: Candidate) -> Reason | None:
    if not candidate.is_healthy:
        return Reason.UNHEALTHY
    if candidate.circuit is not CircuitState.CLOSED and not candidate.is_probe_due:
        return Reason.CIRCUIT_OPEN
    return None


def _lack_of_rate(candidate: Candidate) -> Reason | None:
    return Reason.OVER_RATE if candidate.wait_s > 0 else None


def _failed_longest_ago(candidates: Sequence[Candidate], wish: Wish) -> Candidate:
    """Return the candidate whose latest failure is the oldest."""
    latest = {name: position for position, name in enumerate(wish.failed)}
    return min(candidates, key=lambda candidate: latest[candidate.name])


def _weight(candidate: Candidate) -> int:
    return candidate.weight * candidate.weight_percent


def _rounded_weight(candidate: Candidate) -> int:
    return max(1, round(_weight(candidate) / 100))
