"""What a call to a provider came to, as the record that `store.finish` writes: pure but for the counters."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import structlog

from sms_foundation.core.clock import monotonic
from sms_foundation.core.work.queue import Work
from sms_foundation.messaging.jobs import SEND_TEST_MESSAGE
from sms_foundation.messaging.metrics import MESSAGES_ENDED, MESSAGES_WAITING
from sms_foundation.messaging.outbound import store
from sms_foundation.messaging.outbound.pace import Place
from sms_foundation.messaging.outbound.policy import SendingPolicy
from sms_foundation.messaging.outbound.retries import next_try
from sms_foundation.messaging.outbound.store import AttemptOutcome, DueMessage, Finished
from sms_foundation.messaging.states import FINAL
from sms_foundation.providers.base import MessageStatus, SendReceipt
from sms_foundation.providers.errors import ProviderError, Remedy

log = structlog.get_logger(__name__)

_SLOT_MISSED_WAIT = timedelta(seconds=1)
TIME_IS_OVER = "its time was over before it could be sent"


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


def sent(
    work: Work,
    message: DueMessage,
    number: int,
    receipt: SendReceipt,
    policy: SendingPolicy,
    *,
    latency_ms: int | None = None,
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
        error_code=receipt.error_code,
        error_message=receipt.error_message,
        latency_ms=latency_ms,
        response=receipt.raw,
        num_segments=receipt.num_segments,
        price=receipt.price,
        poll_after=None if receipt.status in FINAL else policy.poll_after,
    )


def count_ended(work: Work, reason: str) -> None:
    """Count a message that will not be sent, unless it is a test: of those nobody need be told."""
    if work.kind != SEND_TEST_MESSAGE:
        MESSAGES_ENDED.labels(reason).inc()


def not_called(work: Work, call: Call) -> Finished:
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


def too_late(work: Work, call: Call) -> Finished:
    """Return the record of a message whose time was over just before its call."""
    count_ended(work, "expired")
    return Finished(
        message_id=call.message.id,
        number=call.number,
        work=work,
        outcome=AttemptOutcome.FAILED,
        status=MessageStatus.EXPIRED,
        event_status="expired",
        error_code="expired",
        error_message=TIME_IS_OVER,
    )


def failed(work: Work, call: Call, error: ProviderError, latency_s: float, policy: SendingPolicy) -> Finished:
    """Return the record of a call that ended in `error`: given up, tried again later, or to be looked up."""
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
        count_ended(work, error.kind.value)
        return Finished(outcome=AttemptOutcome.REFUSED, status=MessageStatus.FAILED, event_status="failed", **common)
    is_skipped = policy.is_skipped(call.message.client_id, len(call.message.failures) + 1)
    if remedy is Remedy.LOOK_UP:
        return Finished(
            outcome=AttemptOutcome.UNKNOWN,
            status=MessageStatus.UNKNOWN,
            event_status="unknown",
            next="due",
            delay=policy.settle_after,
            is_skipped=is_skipped,
            **common,
        )
    delay = next_try(len(call.message.failures) + 1, retry_after_s=error.retry_after_s)
    if delay is not None and call.until is not None:  # it expires on time, not when it would have been tried again
        delay = min(delay, timedelta(seconds=max(call.until - monotonic(), 0.0)))
    if delay is None:
        count_ended(work, "exhausted")
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
