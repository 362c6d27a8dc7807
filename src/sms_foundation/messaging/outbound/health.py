"""What sends and receipts say about a provider: its circuit, its health, its share of the traffic.

Pure rules over values; whoever calls them reads the clock, keeps the states and makes sure that one process at a time
changes one. Three judgements that do not know of each other:

circuit   a provider that fails every call is left alone at once, and asked again with a single message
health    one that fails most calls within some minutes gets a rest, however many succeed in between
weight    one whose messages arrive late gets less to do, in small steps
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, Literal

HEALTHY: Final = "healthy"
UNHEALTHY: Final = "unhealthy"


class CircuitState(StrEnum):
    """Whether messages go to a provider at all."""

    CLOSED = "closed"
    OPEN = "open"  # none do
    PROBING = "probing"  # exactly one does, to see whether it works again


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthRules:
    """The numbers of the rules; percentages are whole and mean "more than"."""

    failures_to_open: int = 5  # in a row, transient ones
    open_for: timedelta = timedelta(seconds=30)
    probe_lease: timedelta = timedelta(seconds=60)  # longer than any send may take

    window: timedelta = timedelta(minutes=5)
    least_attempts: int = 10
    failed_percent: int = 70
    unhealthy_for: timedelta = timedelta(minutes=5)

    late_after: timedelta = timedelta(seconds=60)  # from the provider's acceptance to its receipt
    least_receipts: int = 20
    late_percent: int = 30
    weight_step: int = 10  # percent points
    least_weight_percent: int = 10
    pause_before_less: timedelta = timedelta(minutes=2)
    pause_before_more: timedelta = timedelta(minutes=5)


RULES: Final = HealthRules()


@dataclass(frozen=True, slots=True)
class ProviderState:
    """What is known about a provider, shared by all processes.

    `circuit_until`: an open circuit may be probed then; the lease of a running probe ends then. `weight_percent`: the
    part of its configured weight that a provider keeps, 10 to 100.
    """

    circuit: CircuitState = CircuitState.CLOSED
    consecutive_failures: int = 0
    circuit_until: datetime | None = None
    unhealthy_until: datetime | None = None
    weight_percent: int = 100
    weight_changed_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Outcomes:
    """How some attempts at one provider ended, in the order in which they did.

    `trailing_failures`: transient failures since the last success, all of them if there was none. `opens_at_once`: one
    of them says that every further call would fail as well (`KindFacts.opens_circuit`).
    """

    had_success: bool
    trailing_failures: int
    opens_at_once: bool = False


@dataclass(frozen=True, slots=True)
class Window:
    """Attempts at one provider that ended within `HealthRules.window`, and how many of them count against it."""

    attempts: int
    failures: int


@dataclass(frozen=True, slots=True)
class ReceiptWindow:
    """Receipts of one provider within `HealthRules.window`, and how many came later than `HealthRules.late_after`."""

    receipts: int
    late: int


@dataclass(frozen=True, slots=True)
class Change:
    """A step worth keeping and telling; `reason` is for people and names no message, number or secret."""

    what: Literal["circuit", "health", "weight"]
    old: str
    new: str
    reason: str


def is_healthy(state: ProviderState, now: datetime) -> bool:
    """Tell whether the provider is not having a rest."""
    return state.unhealthy_until is None or state.unhealthy_until <= now


def is_available(state: ProviderState, now: datetime) -> bool:
    """Tell whether any message may go there; where it may not, a probe still may."""
    return state.circuit is CircuitState.CLOSED and is_healthy(state, now)


def may_probe(state: ProviderState, now: datetime) -> bool:
    """Tell whether one message should try a provider whose circuit is not closed.

    A probe that never reported, because its process died, is due again once its lease is over. An unhealthy provider
    is not probed before its rest is over.
    """
    if state.circuit is CircuitState.CLOSED or not is_healthy(state, now):
        return False
    return state.circuit_until is None or state.circuit_until <= now


def begin_probe(state: ProviderState, now: datetime, rules: HealthRules = RULES) -> tuple[ProviderState, list[Change]]:
    """Return the state in which one message probes; only where `may_probe` says yes."""
    probing = replace(state, circuit=CircuitState.PROBING, circuit_until=now + rules.probe_lease)
    return probing, [_circuit_change(state, probing, "time to try again with one message")]


def after_outcomes(
    state: ProviderState, outcomes: Outcomes, window: Window, now: datetime, rules: HealthRules = RULES
) -> tuple[ProviderState, list[Change]]:
    """Return the state after some attempts ended, and what changed; `window` includes them.

    A circuit that is not closed stays as it is: those attempts began before it opened, and only a probe closes it.
    """
    state, recovered = after_rest(state, now)
    state, opened = _after_failures(state, outcomes, now, rules)
    state, fell_ill = _after_window(state, window, now, rules)
    return state, recovered + opened + fell_ill


def after_probe(
    state: ProviderState, is_success: bool, now: datetime, rules: HealthRules = RULES
) -> tuple[ProviderState, list[Change]]:
    """Return the state after the probe ended: closed, or open again for as long as the first time.

    A probe that reports after its lease, when somebody else has already decided, changes nothing.
    """
    if state.circuit is not CircuitState.PROBING:
        return state, []
    if is_success:
        closed = replace(state, circuit=CircuitState.CLOSED, consecutive_failures=0, circuit_until=None)
        return closed, [_circuit_change(state, closed, "the probe went through")]
    reopened = replace(state, circuit=CircuitState.OPEN, circuit_until=now + rules.open_for)
    return reopened, [_circuit_change(state, reopened, "the probe failed")]


def after_rest(state: ProviderState, now: datetime) -> tuple[ProviderState, list[Change]]:
    """Return the state without a rest that is over. Idempotent.

    `after_outcomes` does so too; this is for telling people at once, where no traffic comes.
    """
    if state.unhealthy_until is None or not is_healthy(state, now):
        return state, []
    return replace(state, unhealthy_until=None), [Change("health", UNHEALTHY, HEALTHY, "its rest is over")]


def after_receipts(
    states: Mapping[str, ProviderState],
    receipts: Mapping[str, ReceiptWindow],
    now: datetime,
    rules: HealthRules = RULES,
) -> dict[str, tuple[ProviderState, list[Change]]]:
    """Return for every provider in `states` its state after a look at how late receipts come, and what changed.

    To be asked periodically, as often as one likes: the pauses between steps are part of the rules. When all that can
    be judged are slow, the cause is elsewhere and they stay as they are; so a single provider never loses weight. One
    with too few receipts counts as fine, or it could never earn any again. Receipts of a provider that is not in
    `states` say nothing about the others.
    """
    judged = {
        name: found for name, found in receipts.items() if name in states and found.receipts >= rules.least_receipts
    }
    slow = {name for name, found in judged.items() if found.late * 100 > found.receipts * rules.late_percent}
    is_everyone_slow = slow == judged.keys()
    verdicts = {}
    for name, state in states.items():
        if name not in slow:
            verdicts[name] = _with_more_weight(state, now, rules)
        elif is_everyone_slow:
            verdicts[name] = (state, [])
        else:
            verdicts[name] = _with_less_weight(state, judged[name], now, rules)
    return verdicts


def _after_failures(
    state: ProviderState, outcomes: Outcomes, now: datetime, rules: HealthRules
) -> tuple[ProviderState, list[Change]]:
    if state.circuit is not CircuitState.CLOSED:
        return state, []
    failures = outcomes.trailing_failures + (0 if outcomes.had_success else state.consecutive_failures)
    counted = replace(state, consecutive_failures=failures)
    if not outcomes.opens_at_once and failures < rules.failures_to_open:
        return counted, []
    opened = replace(counted, circuit=CircuitState.OPEN, circuit_until=now + rules.open_for)
    reason = "no call can succeed with this account" if outcomes.opens_at_once else f"{failures} failures in a row"
    return opened, [_circuit_change(state, opened, reason)]


def _after_window(
    state: ProviderState, window: Window, now: datetime, rules: HealthRules
) -> tuple[ProviderState, list[Change]]:
    """A rest that has begun is not prolonged by what ends meanwhile."""
    if not is_healthy(state, now) or window.attempts < rules.least_attempts:
        return state, []
    if window.failures * 100 <= window.attempts * rules.failed_percent:
        return state, []
    reason = f"{window.failures} of {window.attempts} attempts failed within {rules.window.total_seconds():g} s"
    return replace(state, unhealthy_until=now + rules.unhealthy_for), [Change("health", HEALTHY, UNHEALTHY, reason)]


def _with_less_weight(
    state: ProviderState, found: ReceiptWindow, now: datetime, rules: HealthRules
) -> tuple[ProviderState, list[Change]]:
    lower = max(state.weight_percent - rules.weight_step, rules.least_weight_percent)
    reason = f"{found.late} of {found.receipts} receipts took more than {rules.late_after.total_seconds():g} s"
    return _with_weight(state, lower, rules.pause_before_less, now, reason)


def _with_more_weight(state: ProviderState, now: datetime, rules: HealthRules) -> tuple[ProviderState, list[Change]]:
    higher = min(state.weight_percent + rules.weight_step, 100)
    return _with_weight(state, higher, rules.pause_before_more, now, "receipts come in time")


def _with_weight(
    state: ProviderState, percent: int, pause: timedelta, now: datetime, reason: str
) -> tuple[ProviderState, list[Change]]:
    is_too_soon = state.weight_changed_at is not None and now - state.weight_changed_at < pause
    if percent == state.weight_percent or is_too_soon:
        return state, []
    changed = replace(state, weight_percent=percent, weight_changed_at=now)
    return changed, [Change("weight", f"{state.weight_percent} %", f"{percent} %", reason)]


def _circuit_change(old: ProviderState, new: ProviderState, reason: str) -> Change:
    return Change("circuit", old.circuit.value, new.circuit.value, reason)
