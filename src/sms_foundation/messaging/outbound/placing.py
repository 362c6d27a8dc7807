"""Who carries which message, and when: `routing` chooses, `pace` has the slot, `provider_states` the right to probe.

Nothing is written here. What cannot go now says how long it waits, or why it never can.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sms_foundation.core.clock import monotonic
from sms_foundation.core.phone import country_of, is_short_code
from sms_foundation.core.rates.base import RatesUnavailableError
from sms_foundation.core.work.queue import Priority, Work
from sms_foundation.core.work.runner import Later
from sms_foundation.messaging.metrics import MESSAGES_WAITING
from sms_foundation.messaging.outbound.health import is_available, is_healthy, may_probe
from sms_foundation.messaging.outbound.pace import Go, OverSenderRate, Pace, Place
from sms_foundation.messaging.outbound.provider_states import ProviderStates
from sms_foundation.messaging.outbound.routing import Candidate, Choice, NoChoice, Reason, Router, Wish
from sms_foundation.messaging.outbound.store import DueMessage, Ending
from sms_foundation.providers.base import MessageStatus
from sms_foundation.providers.config import ProviderConfig
from sms_foundation.providers.simulated.adapter import SIMULATED, SIMULATED_SENDER

# Nobody can take it now: a probe, or the end of somebody's rest, comes within that time.
_NOBODY_WAIT = timedelta(seconds=5)
# The more wait for it, the further apart they come back.
_NOBODY_SHARE_S = 0.02
_LONGEST_NOBODY_WAIT = timedelta(seconds=60)
_LOOK_AT_LEAST = 64


@dataclass(slots=True)
class Draft:
    """A message that is looking for its way; `at` is when its slot is, `until` when it expires (monotonic seconds).

    `needs_provider`: `at` is the sender's turn alone (`pace.Go`).
    """

    work: Work
    message: DueMessage
    until: float | None
    choice: Choice | None = None
    at: float = 0.0
    needs_provider: bool = False


class Placer:
    """Places messages; one per process, because whose turn it is is remembered here."""

    def __init__(self, configs: Sequence[ProviderConfig], states: ProviderStates, pace: Pace) -> None:
        self._configs = {config.name: config for config in configs}
        self._states = states
        self._pace = pace
        self._router = Router()

    def room(self, priority: Priority) -> int:
        """Return how many more messages of `priority` it makes sense to look at now."""
        now = self._states.now()
        usable = [
            name
            for name, state in self._states.known.items()
            if self._configs[name].weight and (is_available(state, now) or may_probe(state, now))
        ]
        room = self._pace.room(usable, priority)
        # Never none: somebody has to notice what has expired or can be sent by nobody at all. Where there is room for
        # one, look at many: those in front may have to wait for something else, such as a slow sender.
        return max(room, _LOOK_AT_LEAST) if room else 1

    async def place(self, drafts: Sequence[Draft]) -> dict[int, Later | Ending]:
        """Give every draft a provider and a slot. Those that get none keep no `choice`: returned is why, by work id."""
        left_out: dict[int, Later | Ending] = {}
        for draft in drafts:
            if draft.message.is_test:
                _give_to_simulated(draft)
        waiting = [draft for draft in drafts if not draft.message.is_test]
        probed: set[str] = set()  # one message of a batch is enough to ask for the right to probe
        while waiting:
            for draft in waiting:
                match self._choose(draft.message, probed):
                    case Choice() as choice:
                        draft.choice = choice
                        if choice.is_probe:
                            probed.add(choice.provider)
                    case NoChoice(is_impossible=True) as nobody:
                        left_out[draft.work.id] = _impossible(draft, nobody)
                    case NoChoice() as nobody:
                        left_out[draft.work.id] = self._wait_for(draft.message, nobody)
            chosen = [draft for draft in waiting if draft.choice is not None]
            waiting = await self._reserve(chosen, left_out) + await self._lost_probes(chosen)
        return left_out

    async def _reserve(self, drafts: list[Draft], left_out: dict[int, Later | Ending]) -> list[Draft]:
        """Reserve a slot for each; returns those whose provider had none, to choose again."""
        places = [place_of(draft) for draft in drafts]
        try:
            answers = await self._pace.ask(places)
        except RatesUnavailableError:
            answers = [OverSenderRate(1.0)] * len(drafts)
        again = []
        for draft, answer in zip(drafts, answers, strict=True):
            if isinstance(answer, Go):
                draft.at, draft.needs_provider = monotonic() + answer.delay_s, answer.needs_provider
                continue
            assert draft.choice is not None  # noqa: S101  # only chosen ones come here
            self._router.forget(draft.choice)
            draft.choice = None
            if isinstance(answer, OverSenderRate):
                left_out[draft.work.id] = _put_off(draft.message, "sender_rate", timedelta(seconds=answer.wait_s))
            else:
                again.append(draft)
        return again

    async def _lost_probes(self, drafts: list[Draft]) -> list[Draft]:
        """Take the right to probe where it is needed; returns those that did not get it, to choose again.

        After the slot: a probe that then had to wait would keep everybody else from probing for a minute.
        """
        again = []
        for draft in drafts:
            if draft.choice is None or not draft.choice.is_probe or await self._states.try_probe(draft.choice.provider):
                continue
            self._router.forget(draft.choice)
            draft.choice = None
            again.append(draft)
        return again

    def _choose(self, message: DueMessage, probed: Collection[str]) -> Choice | NoChoice:
        now = self._states.now()
        is_to_short_code = is_short_code(message.recipient)
        candidates = [
            self._candidate(config, message.priority, now, may_be_probed=config.name not in probed)
            for config in self._configs.values()
            if config.allows_short_codes or not is_to_short_code
        ]
        wish = Wish(
            country=country_of(message.recipient),
            sender=message.sender,
            has_media=bool(message.media_urls),
            provider=message.provider,
            failed=tuple(each.provider for each in message.failures),
        )
        return self._router.choose(candidates, wish)

    def _candidate(
        self, config: ProviderConfig, priority: Priority, now: datetime, *, may_be_probed: bool
    ) -> Candidate:
        state = self._states.known[config.name]
        return Candidate(
            name=config.name,
            weight=config.weight,
            senders=config.senders,
            countries=config.countries,
            has_media=config.has_media,
            is_healthy=is_healthy(state, now),
            circuit=state.circuit,
            weight_percent=state.weight_percent,
            wait_s=self._pace.wait_s(config.name, priority),
            is_probe_due=may_be_probed and may_probe(state, now),
        )

    def _wait_for(self, message: DueMessage, nobody: NoChoice) -> Later:
        if nobody.wait_s is None:
            behind = self._pace.place_in_line(f"down:{message.provider}", message.priority, _NOBODY_SHARE_S)
            return _put_off(message, "provider_unavailable", min(max(behind, _NOBODY_WAIT), _LONGEST_NOBODY_WAIT))
        # All are at their rate: one line for all of them, as long as their slots together.
        share_s = message.num_segments / max(self._total_rate(), 0.001)
        behind = self._pace.place_in_line("all", message.priority, share_s)
        return _put_off(message, "provider_rate", max(behind, timedelta(seconds=nobody.wait_s)))

    def _total_rate(self) -> float:
        return sum(config.rate_per_s or 0.0 for config in self._configs.values())


def place_of(draft: Draft) -> Place:
    """Return the provider and sender that were chosen for `draft`."""
    assert draft.choice is not None  # noqa: S101  # asked only for chosen ones
    return Place(draft.choice.provider, draft.choice.sender, max(draft.message.num_segments, 1), draft.message.priority)


def _give_to_simulated(draft: Draft) -> None:
    """Nothing to choose, whatever was asked for: `routing` does not know that provider, and tests know no other."""
    draft.choice = Choice(
        provider=SIMULATED,
        sender=draft.message.sender or SIMULATED_SENDER,
        reasons={SIMULATED: Reason.CHOSEN},
        weights={SIMULATED: 100},
        is_probe=False,
        credits={},
    )
    draft.at = monotonic()


def _put_off(message: DueMessage, reason: str, delay: timedelta) -> Later:
    MESSAGES_WAITING.labels(reason).inc()
    if message.left_s is not None:  # it expires on time, not when its turn would have come
        delay = min(delay, timedelta(seconds=max(message.left_s, 0.0)))
    return Later(delay, reason)


def _impossible(draft: Draft, nobody: NoChoice) -> Ending:
    why = ", ".join(f"{name}: {reason}" for name, reason in nobody.reasons.items()) or "none is configured"
    reason = f"no provider can carry it ({why})"
    # Put aside rather than ended: another process may be configured for it, or this one be tomorrow.
    return Ending(draft.message.id, draft.work, MessageStatus.FAILED, "no_provider", reason, is_replayable=True)
