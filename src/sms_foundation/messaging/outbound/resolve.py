"""Finding out what became of a call that got no answer, before anything is sent again.

Three can tell: a callback that carries our reference, the provider when asked, and time, after which a provider that
does not have the message never will. What none of them tells is left to a person: guessing would send twice or never.
"""

from collections.abc import Mapping
from datetime import timedelta

import structlog

from sms_foundation.core.db import Database
from sms_foundation.core.work import queue
from sms_foundation.core.work.queue import Work
from sms_foundation.core.work.retry import backoff
from sms_foundation.core.work.runner import Done, Later, Outcome, Settled
from sms_foundation.messaging.outbound import store
from sms_foundation.messaging.outbound.dispatch import Dispatcher
from sms_foundation.messaging.outbound.policy import SendingPolicy
from sms_foundation.messaging.outbound.results import count_ended, sent
from sms_foundation.messaging.outbound.retries import next_try
from sms_foundation.messaging.outbound.store import AttemptOutcome, DueMessage, Finished, PastAttempt
from sms_foundation.messaging.references import make_reference
from sms_foundation.providers.base import MessageStatus, Provider, SendReceipt, SentQuery
from sms_foundation.providers.errors import ErrorKind, ProviderError

log = structlog.get_logger(__name__)

_LONGEST_PAUSE = timedelta(minutes=5)
_DIED = "the process that made the call died before an answer came"


class Resolver:
    """Looks into attempts whose outcome is not known."""

    def __init__(
        self, database: Database, providers: Mapping[str, Provider], dispatcher: Dispatcher, policy: SendingPolicy
    ) -> None:
        self._database = database
        self._providers = providers
        self._dispatcher = dispatcher
        self._policy = policy

    async def send(self, work: Work) -> Outcome:
        """Handle a row of SEND_MESSAGE or SEND_TEST_MESSAGE: send, or look into what was sent."""
        return await self._dispatcher.send(work, self.resolve)

    async def resolve(self, work: Work, message: DueMessage) -> Outcome:
        """Settle the open attempt of `message`, or come back to it later."""
        attempt = message.open_attempt
        if attempt is None:
            return Done()
        if message.provider_message_id is not None:  # a callback has told
            told = SendReceipt(
                provider_message_id=message.provider_message_id, event_status=message.status, status=message.status
            )
            await self._dispatcher.record(sent(work, message, attempt.number, told, self._policy))
            return Settled()
        age = timedelta(seconds=attempt.age_s)
        if attempt.outcome is None:
            await self._dispatcher.record(self._still_unknown(work, message, attempt, age))
            return Settled()
        provider = self._providers.get(attempt.provider)
        if provider is None or not provider.can_look_up:
            return await self._wait_or_give_up(work, attempt, age, "this provider cannot be asked")
        try:
            found = await self._find(provider, message, attempt)
        except ProviderError as error:
            return await self._wait_or_give_up(work, attempt, age, f"asking failed: {error.kind}")
        if found is not None:
            await self._dispatcher.record(sent(work, message, attempt.number, found, self._policy))
            log.info("send.found", message_id=str(message.id), provider=provider.name)
            return Settled()
        if age < self._policy.settle_after:
            return Later(self._policy.settle_after - age, "not there yet")
        return await self._send_again(work, message, attempt)

    async def _find(self, provider: Provider, message: DueMessage, attempt: PastAttempt) -> SendReceipt | None:
        query = SentQuery(
            reference=make_reference(message.id, attempt.number),
            recipient=message.recipient,
            sender=attempt.sender,
            body=message.content,
            attempted_at=attempt.started_at,
        )
        found = await provider.find_sent(query)
        if not found:
            return None
        async with self._database.connection() as connection:
            ids = [each.provider_message_id for each in found]
            taken = await store.taken_ids(connection, provider.name, ids, message_id=message.id)
        return next((each for each in found if each.provider_message_id not in taken), None)

    def _still_unknown(self, work: Work, message: DueMessage, attempt: PastAttempt, age: timedelta) -> Finished:
        return Finished(
            message_id=message.id,
            number=attempt.number,
            work=work,
            outcome=AttemptOutcome.UNKNOWN,
            status=MessageStatus.UNKNOWN,
            event_status="unknown",
            next="due",
            delay=max(self._policy.settle_after - age, timedelta(0)),
            is_skipped=self._policy.is_skipped(message.client_id, len(message.failures) + 1),
            error_kind=ErrorKind.UNKNOWN_OUTCOME.value,
            error_message=_DIED,
        )

    async def _send_again(self, work: Work, message: DueMessage, attempt: PastAttempt) -> Outcome:
        """The provider does not have it: one more failed attempt, and the next may follow."""
        failures = len(message.failures) + 1
        delay = next_try(failures, retry_after_s=None)
        log.info("send.absent", message_id=str(message.id), provider=attempt.provider)
        if delay is None:
            count_ended(work, "exhausted")
        await self._dispatcher.record(
            Finished(
                message_id=message.id,
                number=attempt.number,
                work=work,
                outcome=AttemptOutcome.ABSENT,
                status=MessageStatus.QUEUED if delay is not None else MessageStatus.FAILED,
                event_status="absent" if delay is not None else "failed",
                next="due" if delay is not None else "dead",
                delay=delay or timedelta(0),
                error_kind=ErrorKind.UNKNOWN_OUTCOME.value,
                error_message="the provider does not have it",
            )
        )
        return Settled()

    async def _wait_or_give_up(self, work: Work, attempt: PastAttempt, age: timedelta, why: str) -> Outcome:
        if age < self._policy.give_up_after:
            pause = backoff(max(round(age / self._policy.settle_after), 1), base=self._policy.settle_after)
            return Later(min(pause, _LONGEST_PAUSE, self._policy.give_up_after - age), why)
        log.error("send.needs_a_person", message_id=str(work.ref_id), provider=attempt.provider, reason=why)
        count_ended(work, "needs_a_person")
        async with self._database.connection() as connection:
            await queue.put_aside(connection, work, error=f"it may or may not have been sent: {why}")
        return Settled()
