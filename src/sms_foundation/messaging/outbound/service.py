"""The use case behind every way of asking for a message: check, accept, and on request wait for the provider's word."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg

from sms_foundation.core.clock import monotonic
from sms_foundation.core.db import Database
from sms_foundation.core.errors import SmsFoundationError, ValidationError
from sms_foundation.messaging.outbound import reading
from sms_foundation.messaging.outbound.accept import Accepted, IdempotencyConflict, MessageAcceptor
from sms_foundation.messaging.outbound.errors import ExternalFailedError, IdempotencyError, RefusedError
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


class SendingService:
    """Accepts messages for callers."""

    def __init__(
        self, database: Database, acceptor: MessageAcceptor, limits: SendingLimits, *, wake: Callable[[], None]
    ) -> None:
        """`wake` makes the dispatcher of this process, if it has one, look for what is due."""
        self.wake = wake
        self._database = database
        self._acceptor = acceptor
        self.limits = limits

    async def accept_message(self, body: SendBody, *, client_id: str, idempotency_key: str | None = None) -> Accepted:
        """Store a message to be sent, and return after the commit; repeating a key returns what it made at first.

        Raises ValidationError, IdempotencyError, and what `MessageAcceptor.accept` raises.
        """
        problems = [*_key_problems(body, idempotency_key), *(await self._conversation_problems([body])).values()]
        if problems:
            raise ValidationError.of_fields(problems)
        request = make_request(body, client_id=client_id, limits=self.limits, idempotency_key=idempotency_key)
        outcome = await self._acceptor.accept(request)
        if isinstance(outcome, IdempotencyConflict):
            raise _conflict()
        return outcome

    async def accept_batch(self, bodies: Sequence[SendBody], *, client_id: str) -> list[Accepted | SmsFoundationError]:
        """Store many in one transaction; each gets its own answer, in the same order."""
        wrong = await self._conversation_problems(bodies)
        good = [body for index, body in enumerate(bodies) if index not in wrong]
        outcomes = iter(
            await self._acceptor.accept_all(
                [make_request(body, client_id=client_id, limits=self.limits) for body in good]
            )
        )
        answers: list[Accepted | SmsFoundationError] = []
        for index in range(len(bodies)):
            if index in wrong:
                answers.append(ValidationError.of_field(*wrong[index]))
                continue
            outcome = next(outcomes)
            answers.append(_conflict() if isinstance(outcome, IdempotencyConflict) else outcome)
        return answers

    async def is_repetition(self, body: SendBody, *, client_id: str, idempotency_key: str | None = None) -> bool:
        """Tell whether the key of `body`, or else `idempotency_key`, has made a message before."""
        key = body.idempotency_key or idempotency_key
        return key is not None and await self._acceptor.is_known(client_id, key)

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
