"""Sending what is due: choose a provider, record the attempt, call, record what came of it.

    work row due ─▶ _begin (many per commit): load, choose, reserve a slot, write the attempt ─▶ the call, with nothing
    held ─▶ _finish (many per commit): attempt, message, event and work row together

Whatever happens between the two commits leaves an attempt without an outcome; such a message is never sent again before
`resolve` has found out about it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import orjson
import structlog

from sms_foundation.core.batching import Batcher
from sms_foundation.core.clock import monotonic
from sms_foundation.core.db import Database, is_outage, retry_races
from sms_foundation.core.rates.base import RatesUnavailableError
from sms_foundation.core.saturation import Read
from sms_foundation.core.tracing.context import trace
from sms_foundation.core.tracing.tracer import SpanKind, span
from sms_foundation.core.work.queue import Priority, Work
from sms_foundation.core.work.runner import Done, Later, Outcome, Settled
from sms_foundation.messaging.jobs import SEND_MESSAGE
from sms_foundation.messaging.metrics import (
    ACCEPTED_TO_SENT_SECONDS,
    MESSAGES_SENT,
    SEND_SECONDS,
)
from sms_foundation.messaging.opt_outs import record_opt_outs_of
from sms_foundation.messaging.outbound import results, store
from sms_foundation.messaging.outbound.pace import LATE_S, Answer, Go, Pace, Place
from sms_foundation.messaging.outbound.placing import Draft, Placer, place_of
from sms_foundation.messaging.outbound.policy import SendingPolicy
from sms_foundation.messaging.outbound.provider_states import ProviderStates
from sms_foundation.messaging.outbound.results import TIME_IS_OVER, Call, count_ended
from sms_foundation.messaging.outbound.store import DueMessage, Ending, Finished, NewAttempt
from sms_foundation.messaging.references import make_reference
from sms_foundation.providers.base import MessageStatus, OutboundSms, Provider, SendReceipt
from sms_foundation.providers.config import ProviderConfig
from sms_foundation.providers.errors import ErrorKind, ProviderError

log = structlog.get_logger(__name__)

_MAX_BATCH = 64
_RELEASED_AT_ONCE = 10 * _MAX_BATCH
# A call that could not be begun so long after its attempt was written down is not made: by then somebody else might.
_LATEST_START_S = 10.0
_SLOTS_AT_MOST = 8
_ONE_AT_A_TIME = timedelta(seconds=5)
_LONGEST_RECORD_PAUSE_S = 7.0
_OPEN = frozenset({MessageStatus.ACCEPTED, MessageStatus.QUEUED})


@dataclass(frozen=True, slots=True)
class Unresolved:
    """The last attempt's outcome has to be found out first."""

    message: DueMessage


Step = Call | Unresolved | Done | Later | Settled
Resolve = Callable[[Work, DueMessage], Awaitable[Outcome]]


class Dispatcher:
    """Handler of SEND_MESSAGE, SEND_TEST_MESSAGE and RELEASE_MESSAGE; one per process, and leases share out the work.

    `configs` are those of the real providers; `providers` holds the simulated one besides them.
    """

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
        self._states = states
        self._pace = pace
        self._policy = policy
        self._placer = Placer(configs, states, pace)
        # Well before anybody could take its absence at the provider for granted (`resolve`).
        self._latest_start_s = min(_LATEST_START_S, policy.settle_after.total_seconds() / 3)
        # An urgent one does not queue up behind the bulk that is being looked at.
        self._begin_urgent: Batcher[Work, Step] = self._batcher("send_begin", self._begin)
        self._begin_other: Batcher[Work, Step] = self._batcher("send_begin", self._begin)
        self._finisher: Batcher[Finished, None] = self._batcher("send_finish", self._finish)
        self._releaser: Batcher[Work, None] = self._batcher("send_release", self._release)

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
        await self._releaser.submit(work)
        return Settled(has_made_due=True)

    async def record(self, finished: Finished) -> None:
        """Write down what a call came to; returns after the commit."""
        pause_s = 0.2
        while True:
            try:
                await self._finisher.submit(finished)
            except Exception as error:
                # What a provider said is known only here: it is worth the wait for a database that comes back.
                if not is_outage(error) or pause_s > _LONGEST_RECORD_PAUSE_S:
                    raise
                await asyncio.sleep(pause_s)
                pause_s *= 2
            else:
                return

    @property
    def queues(self) -> Mapping[str, Read]:
        """What it collects to do together, by what that is."""
        return {
            "send_begin_urgent": self._begin_urgent.use,
            "send_begin": self._begin_other.use,
            "send_finish": self._finisher.use,
            "send_release": self._releaser.use,
        }

    async def close(self) -> None:
        """Wait until everything under way is written down."""
        await self._begin_urgent.close()
        await self._begin_other.close()
        await self._finisher.close()
        await self._releaser.close()

    def room(self, kind: str, priority: Priority) -> int:
        """Return how many more messages of `priority` it makes sense to look at now."""
        return self._placer.room(priority) if kind == SEND_MESSAGE else _RELEASED_AT_ONCE

    # -- before the call ---------------------------------------------------------------------------------------------

    async def _begin(self, batch: Sequence[Work]) -> list[Step]:
        await self._states.read()
        looked_at = monotonic()
        async with self._database.connection() as connection:
            messages = await store.load(connection, [work.ref_id for work in batch])
        steps: dict[int, Step] = {}
        drafts: list[Draft] = []
        endings: list[Ending] = []
        seen: set[UUID] = set()
        for work in batch:
            if work.ref_id in seen:  # two rows for one message, from a replay and a retry: one at a time
                steps[work.id] = Later(_ONE_AT_A_TIME, "another row of this message is running")
                continue
            seen.add(work.ref_id)
            match await self._judge(work, messages.get(work.ref_id)):
                case DueMessage() as message:
                    until = None if message.left_s is None else looked_at + message.left_s
                    drafts.append(Draft(work, message, until))
                case Ending() as ending:
                    endings.append(ending)
                    steps[work.id] = Settled()
                case step:
                    steps[work.id] = step
        for work_id, why in (await self._placer.place(drafts)).items():
            if isinstance(why, Ending):
                endings.append(why)
            steps[work_id] = Settled() if isinstance(why, Ending) else why
        await self._write([draft for draft in drafts if draft.choice is not None], endings, steps)
        return [steps[work.id] for work in batch]

    async def _judge(self, work: Work, message: DueMessage | None) -> DueMessage | Ending | Done | Unresolved:
        """Return the message if it is to be sent, else what is to be done instead."""
        if message is None:
            return Done()
        if message.open_attempt is not None:
            return Unresolved(message)
        if message.is_redacted:  # there is nothing left that could be sent
            return Done()
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

    async def _write(self, drafts: list[Draft], endings: list[Ending], steps: dict[int, Step]) -> None:
        attempts = [_attempt_of(draft) for draft in drafts]
        begun = set()
        async with self._database.connection() as connection:
            # Last, so that nothing can fail between the attempts' commit and their calls.
            await store.end(connection, endings)
            if attempts:
                begun = await store.begin(connection, attempts)
        for ending in endings:
            count_ended(ending.work, ending.code)
        begun_at = monotonic()
        for draft, attempt in zip(drafts, attempts, strict=True):
            if draft.message.id not in begun or draft.choice is None:
                steps[draft.work.id] = Later(timedelta(0), "changed meanwhile")  # canceled, or somebody else's by now
                continue
            steps[draft.work.id] = Call(
                message=draft.message,
                number=attempt.number,
                place=place_of(draft),
                is_probe=draft.choice.is_probe,
                at=draft.at,
                needs_provider=draft.needs_provider,
                begun_at=begun_at,
                until=draft.until,
            )

    # -- the call ----------------------------------------------------------------------------------------------------

    async def _make(self, work: Work, call: Call) -> Finished:
        provider = self._providers[call.place.provider]
        try:
            has_slot = call.message.is_test or await self._wait_for_slot(call)
        except asyncio.CancelledError:  # the process ends: the call was not made, and somebody should know
            await asyncio.shield(self._finisher.submit(results.not_called(work, call)))
            raise
        if not has_slot:
            await self._release_probe(call)
            return results.not_called(work, call)
        started = monotonic()
        if call.until is not None and started >= call.until:
            await self._release_probe(call)
            return results.too_late(work, call)
        try:
            receipt = await self._call(provider, _sms(call, started))
        except ProviderError as error:
            latency_s = monotonic() - started
            await self._note(call, error)
            return results.failed(work, call, error, latency_s, self._policy)
        latency_s = monotonic() - started
        await self._note(call, None)
        SEND_SECONDS.labels(provider.name).observe(latency_s)
        if not call.message.is_test:
            waited_s = (self._states.now() - call.message.wanted_at).total_seconds()
            ACCEPTED_TO_SENT_SECONDS.labels(call.message.priority.name.lower()).observe(max(waited_s, 0.0))
        latency_ms = round(latency_s * 1000)
        return results.sent(work, call.message, call.number, receipt, self._policy, latency_ms=latency_ms)

    async def _call(self, provider: Provider, sms: OutboundSms) -> SendReceipt:
        """Hand the message to its provider, as a span where spans are made."""
        if self._database.tracer is None:
            return await provider.send(sms)
        attributes = {"sms.provider": provider.name}
        name = f"send {provider.name}"
        with span(self._database.tracer, name, SpanKind.CLIENT, attributes, parent=trace.get()) as current:
            try:
                receipt = await provider.send(sms)
            except ProviderError as error:
                current.set({"sms.outcome": error.kind.value})
                current.fail(error.kind.value)
                raise
            current.set({"sms.outcome": "sent"})
            return receipt

    async def _wait_for_slot(self, call: Call) -> bool:
        """Return within LATE_S of a slot of ours; False: there is none in reasonable time."""
        at, needs_provider = call.at, call.needs_provider
        for _ in range(_SLOTS_AT_MOST):
            if (pause_s := at - monotonic()) > 0:
                await asyncio.sleep(pause_s)
            now = monotonic()
            if now - call.begun_at > self._latest_start_s:
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

    async def _release_probe(self, call: Call) -> None:
        if call.is_probe:
            await self._states.release_probe(call.place.provider)

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

    async def _release(self, batch: Sequence[Work]) -> list[None]:
        async with self._database.connection() as connection:
            await store.release(connection, batch)
        return [None] * len(batch)

    async def _finish(self, batch: Sequence[Finished]) -> list[None]:
        opted_out = [each.message_id for each in batch if each.error_kind == ErrorKind.OPTED_OUT]

        async def attempt() -> None:
            async with self._database.transaction() if opted_out else self._database.connection() as connection:
                await store.finish(connection, batch)
                await record_opt_outs_of(connection, opted_out)

        await retry_races(attempt)
        return [None] * len(batch)

    def _batcher(self, name: str, write: Callable[[Sequence[Any]], Awaitable[Sequence[Any]]]) -> Batcher[Any, Any]:
        return Batcher(
            write,
            is_item_to_blame=lambda error: not is_outage(error),
            max_items=_MAX_BATCH,
            tracer=self._database.tracer,
            name=name,
        )


def _attempt_of(draft: Draft) -> NewAttempt:
    assert draft.choice is not None  # noqa: S101  # only those that were placed come here
    return NewAttempt(
        message_id=draft.message.id,
        number=draft.message.attempts[-1].number + 1 if draft.message.attempts else 1,
        provider=draft.choice.provider,
        sender=draft.choice.sender,
        reasons=orjson.dumps({"reasons": draft.choice.reasons, "weights": draft.choice.weights}).decode(),
    )


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


def _expired(work: Work, message: DueMessage) -> Ending:
    return Ending(message.id, work, MessageStatus.EXPIRED, "expired", TIME_IS_OVER)
