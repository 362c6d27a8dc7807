"""Waiting for a provider's word, whichever process gets it."""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from sms_foundation.auth.limits.limiter import Limiter
from sms_foundation.auth.limits.meter import Meter
from sms_foundation.auth.numbers.current import CurrentRules
from sms_foundation.core.config import LOCAL_PHONE_NUMBER, Settings
from sms_foundation.core.db import Database
from sms_foundation.core.errors import IdempotencyError, SmsFoundationError, ValidationError
from sms_foundation.core.ids import new_id
from sms_foundation.core.rates.postgres import PostgresRates
from sms_foundation.messaging.outbound.accept import MessageAcceptor
from sms_foundation.messaging.outbound.asked import Accepted
from sms_foundation.messaging.outbound.errors import ExternalFailedError, RefusedError
from sms_foundation.messaging.outbound.recipients import Recipients
from sms_foundation.messaging.outbound.requests import SendBody, SendingLimits
from sms_foundation.messaging.outbound.service import Progress, SendingService
from sms_foundation.providers.base import MessageStatus
from tests.support.service import TENANT_PHONE, make_settings

LIMITS = SendingLimits("US", {"twilio"}, allows_short_codes=False, encodes_smartly=False, validity=timedelta(days=1))


@pytest.fixture
def settings() -> Settings:
    return make_settings(work_in_process=False)


@pytest.fixture
async def sending(database: Database) -> AsyncIterator[SendingService]:
    acceptor = MessageAcceptor(database, timeout_s=10, on_accepted=lambda: None)
    rules, meter = CurrentRules(database), Meter(PostgresRates(database))
    recipients = Recipients(rules, Limiter(meter, client_limit="off", number_limit="off"))
    yield SendingService(database, acceptor, LIMITS, recipients, wake=lambda: None)
    await acceptor.close()
    await rules.close()


def body(message: str = "Hello", **changes: object) -> SendBody:
    return SendBody.model_validate({"to": TENANT_PHONE, "message": message, **changes}, context=LIMITS)


async def accept(sending: SendingService) -> UUID:
    return (await sending.accept_message(body(), client_id="client")).message_id


async def write(
    database: Database, message_id: UUID, status: str, *, code: str | None = None, **attempt: object
) -> None:
    """Write down what another process found out about a message; `attempt` is its last call, if there was one."""
    if attempt:
        await database.pool.execute(
            "INSERT INTO sms_send_attempts (message_id, number, provider, sender, reasons, outcome, error_kind, "
            "http_status) VALUES ($1, 1, 'twilio', $2, '{}', $3, $4, $5)",
            message_id,
            LOCAL_PHONE_NUMBER,
            attempt["outcome"],
            attempt.get("error_kind"),
            attempt.get("http_status"),
        )
    await database.pool.execute(
        "UPDATE sms_messages SET delivery_status = $2, error_code = $3 WHERE id = $1", message_id, status, code
    )


async def within_seconds(waiting: Coroutine[Any, Any, Progress]) -> Progress:
    """Return what `waiting` returns; fail if that takes anything like the time it may take."""
    async with asyncio.timeout(10):
        return await waiting


async def accept_batch(
    sending: SendingService, database: Database, bodies: Sequence[SendBody]
) -> list[Accepted | SmsFoundationError]:
    """Accept many in a transaction, as the route does."""
    checked = await sending.check_batch(bodies, client_id="client")
    async with database.transaction() as connection:
        return checked.answers(await sending.accept_batch(connection, checked))


class TestAcceptMessage:
    async def test_key_that_means_something_else_is_an_error(self, sending: SendingService) -> None:
        await sending.accept_message(body(), client_id="client", idempotency_key="k")
        with pytest.raises(IdempotencyError):
            await sending.accept_message(body("Other"), client_id="client", idempotency_key="k")

    async def test_everything_that_does_not_fit_is_named(self, sending: SendingService) -> None:
        with pytest.raises(ValidationError) as caught:
            await sending.accept_message(
                body(conversation_id=str(new_id()), idempotency_key="k"), client_id="client", idempotency_key="j"
            )
        assert caught.value.details == {
            "fields": [
                {"field": "idempotency_key", "message": "differs from the Idempotency-Key header"},
                {"field": "conversation_id", "message": "is not known"},
            ]
        }

    async def test_repetition_is_known_by_client_and_key(self, sending: SendingService) -> None:
        await sending.accept_message(body(idempotency_key="k"), client_id="client")
        assert await sending.is_repetition(body(idempotency_key="k"), client_id="client")
        assert await sending.is_repetition(body(), client_id="client", idempotency_key="k")
        assert not await sending.is_repetition(body(), client_id="client")
        assert not await sending.is_repetition(body(idempotency_key="k"), client_id="other")
        assert not await sending.is_repetition(body(idempotency_key="j"), client_id="client")


class TestAcceptBatch:
    async def test_answers_are_in_the_order_asked(self, sending: SendingService, database: Database) -> None:
        first, second = await accept_batch(sending, database, [body("1"), body("2", to="+14155550199")])
        assert isinstance(first, Accepted)
        assert isinstance(second, Accepted)
        mine = str(first.conversation_id)
        answers = await accept_batch(
            sending,
            database,
            [body("3", conversation_id=mine), body("4", to="+14155550199", conversation_id=mine), body("5")] * 2,
        )
        assert [type(each) for each in answers] == [Accepted, ValidationError, Accepted] * 2
        ids = [each.message_id for each in answers if isinstance(each, Accepted)]
        contents = [
            await database.pool.fetchval("SELECT message_content FROM sms_messages WHERE id = $1", id_) for id_ in ids
        ]
        assert contents == ["3", "5", "3", "5"]


class TestWaitForProvider:
    async def test_returns_as_soon_as_a_provider_has_it(self, sending: SendingService, database: Database) -> None:
        message = await accept(sending)
        waiting = asyncio.create_task(within_seconds(sending.wait_for_provider(message, 30)))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        await database.pool.execute(
            "UPDATE sms_messages SET provider_message_id = 'SM1', provider = 'twilio', delivery_status = 'sending', "
            "num_segments = 3"
        )
        progress = await waiting
        assert (progress.status, progress.provider_message_id, progress.num_segments) == (
            MessageStatus.SENDING,
            "SM1",
            3,
        )

    async def test_tells_how_far_it_is_when_the_time_is_over(self, sending: SendingService, database: Database) -> None:
        message = await accept(sending)
        assert (await sending.wait_for_provider(message, 0.05)).status is MessageStatus.ACCEPTED
        await write(database, message, "unknown", outcome="unknown", error_kind="unknown_outcome")
        assert (await sending.wait_for_provider(message, 0.05)).status is MessageStatus.UNKNOWN

    async def test_canceled_message_is_no_error(self, sending: SendingService, database: Database) -> None:
        message = await accept(sending)
        await write(database, message, "canceled")
        assert (await within_seconds(sending.wait_for_provider(message, 30))).status is MessageStatus.CANCELED

    async def test_message_that_failed_at_the_provider_later_was_taken(
        self, sending: SendingService, database: Database
    ) -> None:
        message = await accept(sending)
        await write(database, message, "failed", code="30007", outcome="sent")
        await database.pool.execute("UPDATE sms_messages SET provider_message_id = 'SM1', provider = 'twilio'")
        assert (await within_seconds(sending.wait_for_provider(message, 30))).status is MessageStatus.FAILED

    async def test_refusal_says_why(self, sending: SendingService, database: Database) -> None:
        refused = {"outcome": "refused", "error_kind": "invalid_recipient", "http_status": 400}
        cases: list[tuple[str, str, dict[str, object], str]] = [
            ("failed", "21211", dict(refused), "invalid_recipient"),
            ("failed", "opted_out", {}, "opted_out"),
            ("failed", "no_provider", {}, "no_provider"),
            ("expired", "expired", {}, "expired"),
        ]
        for status, code, attempt, category in cases:
            message = await accept(sending)
            await write(database, message, status, code=code, **attempt)
            with pytest.raises(RefusedError) as caught:
                await within_seconds(sending.wait_for_provider(message, 30))
            assert caught.value.status == 400
            assert caught.value.details == {
                "category": category,
                "status_code": attempt.get("http_status"),
                "provider_code": code,
            }

    async def test_what_no_provider_took_is_their_failure(self, sending: SendingService, database: Database) -> None:
        attempt = {"error_kind": "rate_limited", "http_status": 429}
        for status in ("failed", "expired"):
            for outcome in ("failed", "absent"):
                message = await accept(sending)
                await write(database, message, status, code="20429", outcome=outcome, **attempt)
                with pytest.raises(ExternalFailedError) as caught:
                    await within_seconds(sending.wait_for_provider(message, 30))
                assert caught.value.status == 502
                assert caught.value.details == {
                    "category": "rate_limited",
                    "status_code": 429,
                    "provider_code": "20429",
                }
