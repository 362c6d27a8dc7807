"""Sending what is due: choose a provider, record the attempt, call, record what came of it.

    work row due ─▶ _begin (many per commit): load, choose, reserve a slot, write the attempt ─▶ the call, with nothing
    held ─▶ _finish (many per commit): attempt, message, event and work row together

Whatever happens between the two commits leaves an attempt without an outcome; such a message is never sent again before
`resolve` has found out about it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import orjson
import structlog

from sms_foundation.core.batching import Batcher
from sms_foundation.core.clock import monotonic
from sms_foundation.core.db import Database, is_outage, retry_races
from sms_foundation.core.phone import country_of, is_short_code
from sms_foundation.core.rates.base import RatesUnavailableError
from sms_foundation.core.work.queue import Priority, Work
from sms_foundation.core.work.runner import Done, Later, Outcome, Settled
from sms_foundation.messaging.jobs import SEND_MESSAGE
from sms_foundation.messaging.metrics import (
    ACCEPTED_TO_SENT_SECONDS,
    MESSAGES_ENDED,
    MESSAGES_SENT,
    MESSAGES_WAITING,
    SEND_SECONDS,
)
from sms_foundation.messaging.opt_outs import record_opt_outs_of
from sms_foundation.messaging.outbound import store
from sms_foundation.messaging.outbound.health import is_available, is_healthy, may_probe
from sms_foundation.messaging.outbound.pace import LATE_S, Answer, Go, OverSenderRate, Pace, Place
from sms_foundation.messaging.outbound.policy import SendingPolicy
from sms_foundation.messaging.outbound.provider_states import ProviderStates
from sms_foundation.messaging.outbound.retries import next_try
from sms_foundation.messaging.outbound.routing import Candidate, Choice, NoChoice, Router, Wish
from sms_foundation.messaging.outbound.store import AttemptOutcome, DueMessage, Ending, Finished, NewAttempt
from sms_foundation.messaging.references import make_reference
from sms_foundation.messaging.states import FINAL
from sms_foundation.providers.base import MessageStatus, OutboundSms, Provider, SendReceipt
from sms_foundation.providers.config import ProviderConfig
from sms_foundation.providers.errors import ErrorKind, ProviderError, Remedy

log = structlog.get_logger(__name__)

_MAX_BATCH = 64
# A call that could not be begun so long after its attempt was written down is not made: by then somebody else might.
_LATEST_START_S = 10.0
_SLOTS_AT_MOST = 8
# Nobody can take it now: a probe, or the end of somebody's rest, comes within that time.
_NOBODY_WAIT = timedelta(seconds=5)
_OPEN = frozenset({MessageStatus.ACCEPTED, MessageStatus.QUEUED})
_SLOT_MISSED_WAIT = timedelta(seconds=1)
_TIME_IS_OVER = "its time was over before it could be sent"


@dataclass(frozen=True, slots=True)
class Call:
    """An attempt that is written down and now to be made; `at`, `until` and `begun_at` are monotonic seconds.

    `needs_provider`: `at` is the sender's turn alone (`pace.Go`). `until`: when the message expires, None: never.
    """

    message: DueMessage
    number: int
    place: Place
    is_probe: bool
    at: float
    needs_provider: bool
    begun_at: float
    until: float | None


@dataclass(frozen=True, slots=True)
class Unresolved:
    """The last attempt's outcome has to be found out first."""

    message: DueMessage


Step = Call | Unresolved | Done | Later | Settled
Resolve = Callable[[Work, DueMessage], Awaitable[Outcome]]


@dataclass(slots=True)
class _Draft:
    """A message on its way through `_begin`; `at` is when its slot is, `until` when it expires (monotonic seconds)."""

    work: Work
    message: DueMessage
    until: float | None
    choice: Choice | None = None
    at: float = 0.0
    needs_provider: bool = False


class Dispatcher:
    """Handler of SEND_MESSAGE and RELEASE_MESSAGE. One per process; several processes share the work by its leases."""

    def __init__(
        self,
        database: Database,
        providers: Mapping[str, Provider],
        configs: Sequence[ProviderConfig],
        states: ProviderStates,
        pace: Pace,
        policy: SendingPolicy,
    ) -> None:
        self._database = database
        self._providers = providers
        self._configs = {config.name: config for config in configs}
        self._states = states
        self._pace = pace
        self._policy = policy
        self._router = Router()
        # An urgent one does not queue up behind the bulk that is being looked at.
        self._begin_urgent: Batcher[Work, Step] = self._batcher(self._begin)
        self._begin_other: Batcher[Work, Step] = self._batcher(self._begin)
        self._finisher: Batcher[Finished, None] = self._batcher(self._finish)

    async def send(self, work: Work, resolve: Resolve) -> Outcome:
        """Send the message of `work`, or do what is due instead; `resolve` is asked about a call of unknown outcome."""
        beginner = self._begin_urgent if work.priority is Priority.URGENT else self._begin_other
        step = await beginner.submit(work)
        match step:
            case Call():
                finished = await self._make(work, step)
                await self.record(finished)
                return Settled()
            case Unresolved(message):
                return await resolve(work, message)
            case outcome:
                return outcome

    async def release(self, work: Work) -> Outcome:
        """Put a scheduled message in line, now that its time has come."""
        async with self._database.connection() as connection:
            await store.release(connection, work)
        return Settled(has_made_due=True)

    async def record(self, finished: Finished) -> None:
        """Write down what a call came to; returns after the commit."""
        await self._finisher.submit(finished)

    async def close(self) -> None:
        """Wait until everything under way is written down."""
        await self._begin_urgent.close()
        await self._begin_other.close()
        await self._finisher.close()

    def room(self, kind: str, priority: Priority) -> int:
        """Return how many more messages of `priority` it makes sense to look at now."""
        if kind != SEND_MESSAGE:
            return _MAX_BATCH
        now = self._states.now()
        usable = [
            name
            for name, state in self._states.known.items()
            if self._configs[name].weight and (is_available(state, now) or may_probe(state, now))
        ]
        # Never none: somebody has to notice what has expired or can be sent by nobody at all.
        return max(self._pace.room(usable, priority), 1)

    # -- before the call ---------------------------------------------------------------------------------------------

    async def _begin(self, batch: Sequence[Work]) -> list[Step]:
        await self._states.read()
        looked_at = monotonic()
        async with self._database.connection() as connection:
            messages = await store.load(connection, [work.ref_id for work in batch])
        steps: dict[int, Step] = {}
        drafts: list[_Draft] = []
        endings: list[Ending] = []
        for work in batch:
            match await self._judge(work, messages.get(work.ref_id)):
                case DueMessage() as message:
                    until = None if message.left_s is None else looked_at + message.left_s
                    drafts.append(_Draft(work, message, until))
                case Ending() as ending:
                    endings.append(ending)
                    steps[work.id] = Settled()
                case step:
                    steps[work.id] = step
        endings += await self._place(drafts, steps)
        await self._write(drafts, endings, steps)
        return [steps[work.id] for work in batch]

    async def _judge(self, work: Work, message: DueMessage | None) -> DueMessage | Ending | Done | Unresolved:
        """Return the message if it is to be sent, else what is to be done instead."""
        if message is None:
            return Done()
        if message.open_attempt is not None:
            return Unresolved(message)
        if message.status is MessageStatus.FAILED:  # its dead row was replayed
            async with self._database.connection() as connection:
                await store.requeue(connection, message.id, from_statuses=[MessageStatus.FAILED], reason="replayed")
                message = (await store.load(connection, [message.id]))[message.id]
        if message.status not in _OPEN or message.provider_message_id is not None:
            return Done()
        if message.left_s is not None and message.left_s <= 0:
            return _expired(work, message)
        if message.is_opted_out:
            reason = "the recipient has asked for no more messages"
            return Ending(message.id, work, MessageStatus.FAILED, "opted_out", reason)
        return message

    async def _place(self, drafts: list[_Draft], steps: dict[int, Step]) -> list[Ending]:
        """Give every draft a provider and a slot; those that get none leave with a step, or an ending."""
        endings: list[Ending] = []
        waiting = list(drafts)
        probed: set[str] = set()  # one message of a batch is enough to ask for the right to probe
        while waiting:
            for draft in waiting:
                match self._choose(draft.message, probed):
                    case Choice() as choice:
                        draft.choice = choice
                        if choice.is_probe:
                            probed.add(choice.provider)
                    case NoChoice(is_impossible=True) as nobody:
                        endings.append(_impossible(draft, nobody))
                        steps[draft.work.id] = Settled()
                    case NoChoice() as nobody:
                        steps[draft.work.id] = self._wait_for(draft.message, nobody)
            chosen = [draft for draft in waiting if draft.choice is not None]
            waiting = await self._reserve(chosen, steps) + await self._lost_probes(chosen)
        drafts[:] = [draft for draft in drafts if draft.choice is not None]
        return endings

    async def _reserve(self, drafts: list[_Draft], steps: dict[int, Step]) -> list[_Draft]:
        """Reserve a slot for each; returns those whose provider had none, to choose again."""
        places = [_place_of(draft) for draft in drafts]
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
                steps[draft.work.id] = self._put_off(draft.message, "sender_rate", timedelta(seconds=answer.wait_s))
            else:
                again.append(draft)
        return again

    async def _lost_probes(self, drafts: list[_Draft]) -> list[_Draft]:
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
            return self._put_off(message, "provider_unavailable", _NOBODY_WAIT)
        # All are at their rate: one line for all of them, as long as their slots together.
        share_s = message.num_segments / max(self._total_rate(), 0.001)
        behind = self._pace.place_in_line("all", message.priority, share_s)
        return self._put_off(message, "provider_rate", max(behind, timedelta(seconds=nobody.wait_s)))

    def _total_rate(self) -> float:
        return sum(config.rate_per_s or 0.0 for config in self._configs.values())

    def _put_off(self, message: DueMessage, reason: str, delay: timedelta) -> Later:
        MESSAGES_WAITING.labels(reason).inc()
        if message.left_s is not None:  # it expires on time, not when its turn would have come
            delay = min(delay, timedelta(seconds=max(message.left_s, 0.0)))
        return Later(delay, reason)

    async def _write(self, drafts: list[_Draft], endings: list[Ending], steps: dict[int, Step]) -> None:
        attempts = [_attempt(draft) for draft in drafts]
        begun = set()
        async with self._database.connection() as connection:
            if attempts:
                begun = await store.begin(connection, attempts)
            await store.end(connection, endings)
        for ending in endings:
            MESSAGES_ENDED.labels(ending.code).inc()
        begun_at = monotonic()
        for draft, attempt in zip(drafts, attempts, strict=True):
            if draft.message.id not in begun or draft.choice is None:
                steps[draft.work.id] = Later(timedelta(0), "changed meanwhile")  # canceled, or somebody else's by now
                continue
            steps[draft.work.id] = Call(
                message=draft.message,
                number=attempt.number,
                place=_place_of(draft),
                is_probe=draft.choice.is_probe,
                at=draft.at,
                needs_provider=draft.needs_provider,
                begun_at=begun_at,
                until=draft.until,
            )

    # -- the call ----------------------------------------------------------------------------------------------------

    async def _make(self, work: Work, call: Call) -> Finished:
        provider = self._providers[call.place.provider]
        if not await self._wait_for_slot(call):
            return self._not_called(work, call)
        started = monotonic()
        if call.until is not None and started >= call.until:
            return self._too_late(work, call)
        try:
            receipt = await provider.send(_sms(call, started))
        except ProviderError as error:
            latency_s = monotonic() - started
            await self._note(call, error)
            return self._failed(work, call, error, latency_s)
        latency_s = monotonic() - started
        await self._note(call, None)
        SEND_SECONDS.labels(provider.name).observe(latency_s)
        return self._sent(work, call, receipt, latency_s)

    async def _wait_for_slot(self, call: Call) -> bool:
        """Return within LATE_S of a slot of ours; False: there is none in reasonable time."""
        at, needs_provider = call.at, call.needs_provider
        for _ in range(_SLOTS_AT_MOST):
            if (pause_s := at - monotonic()) > 0:
                await asyncio.sleep(pause_s)
            now = monotonic()
            if now - call.begun_at > _LATEST_START_S:
                return False
            is_in_time = now - at <= LATE_S
            if is_in_time and not needs_provider:
                return True
            # Too late for that slot, and going now could be one too many: take another.
            try:
                answer = await self._pace.ask_provider(call.place) if is_in_time else await self._ask_again(call.place)
            except RatesUnavailableError:
                return False
            if not isinstance(answer, Go):
                return False
            at, needs_provider = monotonic() + answer.delay_s, answer.needs_provider
        return False

    async def _ask_again(self, place: Place) -> Answer:
        (answer,) = await self._pace.ask([place])
        return answer

    async def _note(self, call: Call, error: ProviderError | None) -> None:
        outcome = "sent" if error is None else error.kind.value
        MESSAGES_SENT.labels(call.place.provider, outcome).inc()
        facts = None if error is None else error.facts
        try:
            await self._states.note_attempt(
                call.place.provider,
                is_failure=facts is not None and facts.blames_provider,
                opens_circuit=facts is not None and facts.opens_circuit,
                is_probe=call.is_probe,
            )
        except Exception as failure:  # noqa: BLE001  # the outcome of the call matters more than the statistics
            log.warning("provider.not_noted", provider=call.place.provider, error=type(failure).__name__)

    # -- after the call ----------------------------------------------------------------------------------------------

    def _sent(self, work: Work, call: Call, receipt: SendReceipt, latency_s: float) -> Finished:
        waited_s = (self._states.now() - call.message.wanted_at).total_seconds()
        ACCEPTED_TO_SENT_SECONDS.labels(call.message.priority.name.lower()).observe(max(waited_s, 0.0))
        return self.sent(work, call.message, call.number, receipt, latency_ms=round(latency_s * 1000))

    def sent(
        self, work: Work, message: DueMessage, number: int, receipt: SendReceipt, *, latency_ms: int | None = None
    ) -> Finished:
        """Return the record of a message that the provider has."""
        return Finished(
            message_id=message.id,
            number=number,
            work=work,
            outcome=AttemptOutcome.SENT,
            status=receipt.status,
            event_status=receipt.event_status,
            provider_message_id=receipt.provider_message_id,
            latency_ms=latency_ms,
            response=receipt.raw,
            num_segments=receipt.num_segments,
            price=receipt.price,
            poll_after=None if receipt.status in FINAL else self._policy.poll_after,
            redact_after=_redact_after(message.content_retention),
        )

    def _not_called(self, work: Work, call: Call) -> Finished:
        """Return the record of a call whose turn passed: no failure of anybody, the message waits for another."""
        MESSAGES_WAITING.labels("slot_missed").inc()
        return Finished(
            message_id=call.message.id,
            number=call.number,
            work=work,
            outcome=AttemptOutcome.FAILED,
            status=MessageStatus.QUEUED,
            event_status="queued",
            next="due",
            delay=_SLOT_MISSED_WAIT,
            error_code=store.NOT_CALLED,
            error_message="its turn passed before the call could be made",
        )

    def _too_late(self, work: Work, call: Call) -> Finished:
        MESSAGES_ENDED.labels("expired").inc()
        return Finished(
            message_id=call.message.id,
            number=call.number,
            work=work,
            outcome=AttemptOutcome.FAILED,
            status=MessageStatus.EXPIRED,
            event_status="expired",
            error_code="expired",
            error_message=_TIME_IS_OVER,
        )

    def _failed(self, work: Work, call: Call, error: ProviderError, latency_s: float) -> Finished:
        remedy = error.facts.remedy
        common: dict[str, Any] = {
            "message_id": call.message.id,
            "number": call.number,
            "work": work,
            "error_kind": error.kind.value,
            "error_code": error.provider_code,
            "error_message": error.provider_text or error.facts.explanation,
            "http_status": error.status_code,
            "latency_ms": round(latency_s * 1000),
        }
        if error.facts.opens_circuit:
            log.error("provider.account_refused", provider=call.place.provider, code=error.provider_code)
        if remedy is Remedy.GIVE_UP:
            MESSAGES_ENDED.labels(error.kind.value).inc()
            return Finished(
                outcome=AttemptOutcome.REFUSED, status=MessageStatus.FAILED, event_status="failed", **common
            )
        is_skipped = self._policy.is_skipped(call.message.client_id, len(call.message.failures) + 1)
        if remedy is Remedy.LOOK_UP:
            return Finished(
                outcome=AttemptOutcome.UNKNOWN,
                status=MessageStatus.UNKNOWN,
                event_status="unknown",
                next="due",
                delay=self._policy.settle_after,
                is_skipped=is_skipped,
                **common,
            )
        delay = next_try(len(call.message.failures) + 1, retry_after_s=error.retry_after_s)
        if delay is not None and call.until is not None:  # it expires on time, not when it would have been tried again
            delay = min(delay, timedelta(seconds=max(call.until - monotonic(), 0.0)))
        if delay is None:
            MESSAGES_ENDED.labels("exhausted").inc()
            return Finished(
                outcome=AttemptOutcome.FAILED,
                status=MessageStatus.FAILED,
                event_status="failed",
                next="dead",
                **common,
            )
        return Finished(
            outcome=AttemptOutcome.FAILED,
            status=MessageStatus.QUEUED,
            event_status="queued",
            next="due",
            delay=delay,
            is_skipped=is_skipped,
            **common,
        )

    async def _finish(self, batch: Sequence[Finished]) -> list[None]:
        opted_out = [each.message_id for each in batch if each.error_kind == ErrorKind.OPTED_OUT]

        async def attempt() -> None:
            async with self._database.transaction() if opted_out else self._database.connection() as connection:
                await store.finish(connection, batch)
                await record_opt_outs_of(connection, opted_out)

        await retry_races(attempt)
        return [None] * len(batch)

    def _batcher(self, write: Callable[[Sequence[Any]], Awaitable[Sequence[Any]]]) -> Batcher[Any, Any]:
        return Batcher(write, is_item_to_blame=lambda error: not is_outage(error), max_items=_MAX_BATCH)


def _place_of(draft: _Draft) -> Place:
    assert draft.choice is not None  # noqa: S101  # asked only for chosen ones
    return Place(draft.choice.provider, draft.choice.sender, max(draft.message.num_segments, 1), draft.message.priority)


def _sms(call: Call, now: float) -> OutboundSms:
    message = call.message
    return OutboundSms(
        reference=make_reference(message.id, call.number),
        recipient=message.recipient,
        sender=call.place.sender,
        body=message.content,
        media_urls=message.media_urls,
        validity_s=None if call.until is None else max(int(call.until - now), 1),
    )


def _attempt(draft: _Draft) -> NewAttempt:
    assert draft.choice is not None  # noqa: S101
    return NewAttempt(
        message_id=draft.message.id,
        number=draft.message.attempts[-1].number + 1 if draft.message.attempts else 1,
        provider=draft.choice.provider,
        sender=draft.choice.sender,
        reasons=orjson.dumps({"reasons": draft.choice.reasons, "weights": draft.choice.weights}).decode(),
    )


def _expired(work: Work, message: DueMessage) -> Ending:
    return Ending(message.id, work, MessageStatus.EXPIRED, "expired", _TIME_IS_OVER)


def _impossible(draft: _Draft, nobody: NoChoice) -> Ending:
    why = ", ".join(f"{name}: {reason}" for name, reason in nobody.reasons.items()) or "none is configured"
    reason = f"no provider can carry it ({why})"
    return Ending(draft.message.id, draft.work, MessageStatus.FAILED, "no_provider", reason)


def _redact_after(content_retention: str) -> timedelta | None:
    match content_retention:
        case "full":
            return None
        case "hash":
            return timedelta(0)
        case days:
            return timedelta(days=int(days))
