"""The use case behind every way of asking for a message: check, accept, and on request wait for the provider's word."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg

from sms_foundation.core.clock import monotonic
from sms_foundation.core.db import Connection, Database
from sms_foundation.core.errors import IdempotencyError, SmsFoundationError, ValidationError
from sms_foundation.messaging.outbound import reading
from sms_foundation.messaging.outbound.accept import MessageAcceptor
from sms_foundation.messaging.outbound.asked import Accepted, IdempotencyConflict, Outcome, SendRequest
from sms_foundation.messaging.outbound.errors import ExternalFailedError, NumberNotAllowedError, RefusedError
from sms_foundation.messaging.outbound.recipients import Recipients
from sms_foundation.messaging.outbound.requests import SendBody, SendingLimits, make_request
from sms_foundation.messaging.states import FINAL
from sms_foundation.providers.base import MessageStatus

LONGEST_WAIT_S = 30
Problem = tuple[str, str]
"""A field, and what is wrong about it."""
_FIRST_LOOK_S, _LONGEST_PAUSE_S = 0.05, 0.25


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a message is."""

    status: MessageStatus
    provider_message_id: str | None
    num_segments: int


@dataclass(frozen=True, slots=True)
class CheckedBatch:
    """`size` messages of one caller: `requests` can be stored, in their order; `refused` cannot, by position."""

    size: int
    refused: Mapping[int, SmsFoundationError]
    requests: tuple[SendRequest, ...]

    def answers(self, outcomes: Sequence[Outcome]) -> list[Accepted | SmsFoundationError]:
        """Return an answer to each message, in the order asked; `outcomes` are those of `requests`."""
        left = iter(outcomes)
        return [self.refused.get(index) or _answer(next(left)) for index in range(self.size)]


class SendingService:
    """Accepts messages for callers."""

    def __init__(
        self,
        database: Database,
        acceptor: MessageAcceptor,
        limits: SendingLimits,
        recipients: Recipients,
        *,
        wake: Callable[[], None],
    ) -> None:
        """`wake` makes the dispatcher of this process, if it has one, look for what is due."""
        self.wake = wake
        self._database = database
        self._acceptor = acceptor
        self.limits = limits
        self._recipients = recipients

    async def accept_message(
        self, body: SendBody, *, client_id: str, idempotency_key: str | None = None, is_test: bool = False
    ) -> Accepted:
        """Store a message to be sent, and return after the commit; repeating a key returns what it made at first.

        Raises ValidationError, NumberNotAllowedError, RateLimitedError, IdempotencyError, and what
        `MessageAcceptor.accept` raises.
        """
        problems = [*_key_problems(body, idempotency_key), *(await self._conversation_problems([body])).values()]
        if problems:
            raise ValidationError.of_fields(problems)
        (denial,) = await self._recipients.denials([body.to])
        if denial is not None and not await self.is_repetition(
            body, client_id=client_id, idempotency_key=idempotency_key
        ):
            raise denial
        request = make_request(
            body, client_id=client_id, limits=self.limits, idempotency_key=idempotency_key, is_test=is_test
        )
        outcome = await self._acceptor.accept(request)
        if isinstance(outcome, IdempotencyConflict):
            raise _conflict()
        return outcome

    async def check_batch(self, bodies: Sequence[SendBody], *, client_id: str, is_test: bool = False) -> CheckedBatch:
        """Return which of many messages can be stored and what is wrong with the others.

        Those that can be are counted against their numbers' limits. Not to be called within a transaction.
        """
        problems = await self._conversation_problems(bodies)
        refused: dict[int, SmsFoundationError] = {**await self._denials(bodies, client_id=client_id)}
        refused |= {index: ValidationError.of_field(*problem) for index, problem in problems.items()}
        requests = {
            index: make_request(body, client_id=client_id, limits=self.limits, is_test=is_test)
            for index, body in enumerate(bodies)
            if index not in refused
        }
        over_limit = await self._acceptor.admission.refusals(list(requests.values()))
        refused |= {index: error for index, error in zip(requests, over_limit, strict=True) if error is not None}
        return CheckedBatch(
            size=len(bodies),
            refused=refused,
            requests=tuple(request for index, request in requests.items() if index not in refused),
        )

    async def accept_batch(self, connection: Connection, batch: CheckedBatch) -> list[Outcome]:
        """Store those that can be stored in the caller's transaction, which is to call `committed` when it is over."""
        return await self._acceptor.accept_all(connection, batch.requests)

    def committed(self, batch: CheckedBatch, outcomes: Sequence[Outcome]) -> None:
        """Have what `accept_batch` stored sent."""
        self._acceptor.committed(batch.requests, outcomes)

    async def is_repetition(self, body: SendBody, *, client_id: str, idempotency_key: str | None = None) -> bool:
        """Tell whether the key of `body`, or else `idempotency_key`, has made a message before."""
        key = body.idempotency_key or idempotency_key
        return key is not None and bool(await self._acceptor.admission.find_known([(client_id, key)]))

    async def _denials(self, bodies: Sequence[SendBody], *, client_id: str) -> Mapping[int, NumberNotAllowedError]:
        """Return who may not be texted, by position; nothing for what only repeats a message there is."""
        found = enumerate(await self._recipients.denials([body.to for body in bodies]))
        denied = {index: denial for index, denial in found if denial is not None}
        keys = {index: (client_id, key) for index in denied if (key := bodies[index].idempotency_key) is not None}
        known = await self._acceptor.admission.find_known(list(keys.values()))
        return {index: denial for index, denial in denied.items() if keys.get(index) not in known}

    async def wait_for_provider(self, message_id: UUID, seconds: float) -> Progress:
        """Return when a provider has the message or refused it, or after `seconds`, with how far it is by then.

        Raises RefusedError when it will never be sent, ExternalFailedError when every try failed.
        """
        deadline = monotonic() + min(seconds, LONGEST_WAIT_S)
        pause_s = _FIRST_LOOK_S
        while True:
            async with self._database.connection() as connection:
                row = await reading.find_progress(connection, message_id)
            status = MessageStatus(row["delivery_status"])
            if row["provider_message_id"] is not None or status in FINAL or monotonic() >= deadline:
                break
            await asyncio.sleep(min(pause_s, max(deadline - monotonic(), 0.0)))
            pause_s = min(pause_s * 1.5, _LONGEST_PAUSE_S)
        if row["provider_message_id"] is None and status in (MessageStatus.FAILED, MessageStatus.EXPIRED):
            raise _failure(row)
        return Progress(status, row["provider_message_id"], row["num_segments"])

    async def _conversation_problems(self, bodies: Sequence[SendBody]) -> Mapping[int, Problem]:
        """Return what is wrong with conversation_id, by position; nothing for those that are right or have none."""
        named = [(index, body.conversation_id, body.to) for index, body in enumerate(bodies) if body.conversation_id]
        if not named:
            return {}
        async with self._database.connection() as connection:
            phones = await reading.find_conversation_phones(connection, [id_ for _, id_, _ in named])
        problems = {}
        for index, id_, recipient in named:
            if (phone := phones.get(id_)) != recipient:
                text = "is not known" if phone is None else "belongs to another number than `to`"
                problems[index] = ("conversation_id", text)
        return problems


def _key_problems(body: SendBody, idempotency_key: str | None) -> list[Problem]:
    if body.idempotency_key is None or idempotency_key in (None, body.idempotency_key):
        return []
    return [("idempotency_key", "differs from the Idempotency-Key header")]


def _answer(outcome: Outcome) -> Accepted | SmsFoundationError:
    return _conflict() if isinstance(outcome, IdempotencyConflict) else outcome


def _conflict() -> IdempotencyError:
    return IdempotencyError("the idempotency key was used for another request; take a new one for a new message")


def _failure(row: asyncpg.Record) -> SmsFoundationError:
    """Return the error a caller that waits gets for a message that failed."""
    details: dict[str, Any] = {
        "category": row["error_kind"] or row["error_code"],
        "status_code": row["http_status"],
        "provider_code": row["error_code"],
    }
    if row["outcome"] in ("failed", "unknown", "absent"):
        return ExternalFailedError("no provider took the message", details=details)
    return RefusedError("the message was refused and will not be sent", details=details)
