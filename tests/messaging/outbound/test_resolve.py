"""Sent once: whatever happens between the two commits of a send, the message is neither lost nor sent twice.

A process that dies is one whose tasks are cancelled and whose connections are cut in the middle of whatever they do.
"""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from datetime import timedelta
from uuid import UUID

import pytest
import structlog

from sms_foundation.core.db import Database, DatabaseUrl, parse_database_url
from sms_foundation.core.rates.base import Outcome, Wish
from sms_foundation.core.rates.postgres import PostgresRates
from sms_foundation.core.work import queue
from sms_foundation.core.work.queue import Work
from sms_foundation.core.work.runner import Done, Later, Settled
from sms_foundation.messaging.delivery import ReceiptOutcome, ReceiptStore
from sms_foundation.messaging.outbound import store
from sms_foundation.messaging.outbound.policy import SendingPolicy
from sms_foundation.messaging.outbound.store import AttemptOutcome, Finished
from sms_foundation.messaging.references import make_reference
from sms_foundation.providers.base import MessageStatus, StatusReport, parse_status
from tests.support.outbound import (
    HttpProvider,
    Taken,
    accept,
    age_attempts,
    attempts,
    drop,
    events,
    expire_leases,
    forgive,
    http_providers,
    make_due,
    message,
    outcomes,
    phones,
    refusing,
    request,
    sending,
    status,
    take,
    take_in_silence,
    until_status,
    until_taken,
    work_rows,
)
from tests.support.processes import eventually
from tests.support.tcp_gate import TcpGate

SETTLED = timedelta(minutes=1)  # longer than the settle time, shorter than giving up
HASTY = SendingPolicy(settle_after=timedelta(seconds=0.2))


async def hold(provider: HttpProvider, taken: Taken) -> None:
    """Take the message and never answer."""
    provider.taken.append(taken)
    await asyncio.Event().wait()


def receipt(taken: Taken, provider: str, word: str = "delivered", **changes: object) -> StatusReport:
    """A callback about `taken` that carries our reference."""
    report = StatusReport(provider, taken.id, word, parse_status(word), None, None, "{}", taken.reference)
    return report._replace(**changes)  # type: ignore[arg-type]


@pytest.fixture
async def receipts(database: Database) -> AsyncIterator[ReceiptStore]:
    store = ReceiptStore(database, timeout_s=20.0)
    yield store
    await store.close()


class TestDeath:
    async def test_after_the_attempt_is_written_and_before_the_call_is_found_out_and_sent_once(
        self, database: Database, database_url: DatabaseUrl
    ) -> None:
        (id_,) = await accept(database, request())
        async with http_providers(a := HttpProvider("a")):
            async with sending(database_url, [a], is_running=False) as dead:
                (work,) = await dead.claim()
                await dead.begin(work)
            assert (await status(database, id_), await outcomes(database, id_)) == ("sending", [("a", None)])
            await expire_leases(database)
            async with sending(database_url, [a], policy=HASTY):
                await until_status(database, id_, "unknown")
                await until_taken(database, id_)

        assert [each.reference for each in a.handed] == [make_reference(id_, 2)]
        assert a.asked == [make_reference(id_, 1)]
        assert await outcomes(database, id_) == [("a", "absent"), ("a", "sent")]
        assert await events(database, id_) == ["unknown", "absent", "accepted"]
        assert await work_rows(database) == []

    async def test_after_the_provider_took_it_is_found_there_and_not_sent_again(
        self, database: Database, database_url: DatabaseUrl
    ) -> None:
        (id_,) = await accept(database, request())
        async with http_providers(a := HttpProvider("a", answer=hold)):
            async with sending(database_url, [a], is_running=False) as dead:
                running = asyncio.create_task(dead.run(await dead.claim()))
                await eventually(lambda: _is_true(a.taken), "the provider has it")
                running.cancel()
                with suppress(asyncio.CancelledError):
                    await running
            await expire_leases(database)
            a.answer = take
            async with sending(database_url, [a], policy=HASTY):
                await until_taken(database, id_)

        assert len(a.handed) == 1
        assert (await message(database, id_))["provider_message_id"] == "a-1"
        (attempt,) = await attempts(database, id_)
        assert (attempt["outcome"], attempt["provider_message_id"]) == ("sent", "a-1")
        assert await work_rows(database) == []

    async def test_between_the_answer_and_its_commit_is_found_there_and_not_sent_again(
        self, database: Database, database_url: DatabaseUrl
    ) -> None:
        """The answer cannot be written down: somebody holds the message, and then the process dies."""
        (id_,) = await accept(database, request())
        async with http_providers(a := HttpProvider("a")):
            async with database.transaction() as lock, sending(database_url, [a], is_running=False) as dead:
                (work,) = await dead.claim()

                async def take_and_lock(provider: HttpProvider, taken: Taken) -> bytes:
                    await lock.execute("SELECT FROM sms_messages FOR UPDATE")
                    return await take(provider, taken)

                a.answer = take_and_lock
                running = asyncio.create_task(dead.run([work]))
                await eventually(lambda: _is_locked(database), "the outcome is being written")
                dead.database.pool.terminate()
                running.cancel()
                await database.pool.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND wait_event_type = 'Lock'"
                )
                with suppress(Exception, asyncio.CancelledError):
                    await running
            assert await outcomes(database, id_) == [("a", None)]
            await expire_leases(database)
            a.answer = take
            async with sending(database_url, [a], policy=HASTY):
                await until_taken(database, id_)

        assert (len(a.handed), await outcomes(database, id_)) == (1, [("a", "sent")])

    async def test_does_not_hold_up_those_behind_it_where_their_client_does_not_wait(
        self, database: Database, database_url: DatabaseUrl
    ) -> None:
        _, second = await accept(database, request(content="first"), request(content="second"))
        hasty = SendingPolicy(skip_after_default=1)
        async with http_providers(a := HttpProvider("a")):
            async with sending(database_url, [a], is_running=False) as dead:
                (work,) = await dead.claim()
                await dead.begin(work)
            await expire_leases(database)
            async with sending(database_url, [a], policy=hasty):
                await until_taken(database, second)

        assert [each.body for each in a.taken] == ["second"]

    @pytest.mark.parametrize("seed", range(3))
    async def test_at_any_moment_of_many_sends_loses_and_doubles_nothing(
        self, database: Database, database_url: DatabaseUrl, seed: int
    ) -> None:
        chance = random.Random(seed)

        async def answer(provider: HttpProvider, taken: Taken) -> bytes | None:
            await asyncio.sleep(chance.uniform(0, 0.01))
            return await chance.choice([take, take, take, take, take_in_silence, drop])(provider, taken)

        ids = await accept(database, *(request(phone, f"{n} for {phone}") for n in range(3) for phone in phones(15)))
        async with http_providers(a := HttpProvider("a", answer=answer), b := HttpProvider("b", answer=answer)):
            for _ in range(3):
                async with sending(database_url, [a, b], policy=HASTY, lease_s=3) as process:
                    await asyncio.sleep(chance.uniform(0.02, 0.2))
                    process.database.pool.terminate()
                    for task in [*process.runner._running]:
                        task.cancel()
                await expire_leases(database)
            async with sending(database_url, [a, b], policy=HASTY, lease_s=3):

                async def is_all_done() -> bool:
                    await forgive(database)
                    await make_due(database)
                    return not await work_rows(database)

                await eventually(is_all_done, "all work is done")

        taken = sorted([*a.taken, *b.taken], key=lambda each: each.at)
        assert Counter(each.message_id for each in taken) == Counter(ids)
        by_phone = {phone: [each.body for each in taken if each.recipient == phone] for phone in phones(15)}
        assert by_phone == {phone: [f"{n} for {phone}" for n in range(3)] for phone in phones(15)}


async def _is_true(value: object) -> bool:
    return bool(value)


async def _is_locked(database: Database) -> bool:
    return bool(
        await database.pool.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
    )


class TestOutage:
    async def test_of_the_database_between_call_and_commit_ends_as_unknown_and_is_found(
        self, database: Database, database_url: DatabaseUrl
    ) -> None:
        (id_,) = await accept(database, request())
        async with TcpGate(database_url) as gate, http_providers(a := HttpProvider("a")):
            await gate.open()

            async def take_and_cut(provider: HttpProvider, taken: Taken) -> bytes:
                await gate.close()
                return await take(provider, taken)

            a.answer = take_and_cut
            async with sending(parse_database_url(gate.url), [a], policy=HASTY, lease_s=4):
                await eventually(lambda: _is_true(a.taken), "the provider has it")
                await asyncio.sleep(0.1)
                assert await outcomes(database, id_) == [("a", None)]
                await gate.open()
                await until_taken(database, id_)

        assert (len(a.handed), await outcomes(database, id_)) == (1, [("a", "sent")])
        assert await work_rows(database) == []


class TestLostAnswer:
    async def test_makes_the_message_unknown_and_it_is_not_asked_about_before_the_provider_must_be_done(
        self, database: Database, database_url: DatabaseUrl
    ) -> None:
        (id_,) = await accept(database, request())
        async with (
            http_providers(a := HttpProvider("a", answer=take_in_silence)),
            sending(database_url, [a], is_running=False) as process,
        ):
            await process.run(await process.claim())

        assert (await status(database, id_), await outcomes(database, id_)) == ("unknown", [("a", "unknown")])
        (row,) = await work_rows(database)
        assert (row["state"], a.asked) == ("due", [])
        assert timedelta(seconds=25) < row["pause"] <= timedelta(seconds=30)

    async def test_is_resent_only_when_the_provider_does_not_have_it_after_that_time(
        self, database: Database, database_url: DatabaseUrl
    ) -> None:
        (id_,) = await accept(database, request())
        async with (
            http_providers(a := HttpProvider("a", answer=drop), b := HttpProvider("b")),
            sending(database_url, [a, b], is_running=False) as process,
        ):
            await process.run(await process.claim())
            await make_due(database)
            (work,) = await process.claim()
            (too_early,) = await process.run([work])
            assert isinstance(too_early, Later)  # it may still be on its way there
            assert timedelta(seconds=25) < too_early.delay <= timedelta(seconds=30)

            await age_attempts(database, SETTLED)
            assert await process.run([work]) == [Settled()]
            assert await outcomes(database, id_) == [("a", "absent")]
            await make_due(database)
            await process.run(await process.claim())

        assert await outcomes(database, id_) == [("a", "absent"), ("b", "sent")]  # the one that failed is left out
        assert (len(a.handed), len(b.handed)) == (1, 1)

    async def test_one_found_late_by_its_provider_is_not_resent(
        self, database: Database, database_url: DatabaseUrl
    ) -> None:
        (id_,) = await accept(database, request(content_retention="hash"))
        async with (
            http_providers(a := HttpProvider("a", answer=take_in_silence), b := HttpProvider("b")),
            sending(database_url, [a, b], is_running=False) as process,
        ):
            await process.run(await process.claim())
            await make_due(database)
            await process.run(await process.claim())

        row = await message(database, id_)
        assert (row["delivery_status"], row["provider_message_id"]) == ("queued", "a-1")
        assert row["redact_at"] is not None
        assert row["poll_at"] is not None
        assert (b.handed, await work_rows(database)) == ([], [])

    async def test_that_happens_every_time_uses_up_the_retries(
        self, database: Database, database_url: DatabaseUrl
    ) -> None:
        (id_,) = await accept(database, request())
        async with (
            http_providers(a := HttpProvider("a", answer=drop)),
            sending(database_url, [a], is_running=False) as process,
        ):
            for _ in range(30):
                (work,) = await process.claim()
                # A crash now would not make it dead: it gets on, however often it is looked at.
                assert work.attempts == 1
                await process.run([work])
                await forgive(database)
                process.states._cache.read_at = 0
                await age_attempts(database, SETTLED)
                if await status(database, id_) == "failed":
                    break
                await make_due(database)

        assert await outcomes(database, id_) == [("a", "absent")] * 6
        (row,) = await work_rows(database)
        assert (row["state"], len(a.handed)) == ("dead", 6)

    async def test_of_one_that_expires_meanwhile_is_not_sent_again(
        self, database: Database, database_url: DatabaseUrl
    ) -> None:
        (id_,) = await accept(database, request())
        async with (
            http_providers(a := HttpProvider("a", answer=drop)),
            sending(database_url, [a], is_running=False) as process,
        ):
            await process.run(await process.claim())
            await database.pool.execute("UPDATE sms_messages SET expires_at = now() - interval '1 second'")
            for _ in range(2):
                await age_attempts(database, SETTLED)
                await make_due(database)
                await process.run(await process.claim())

        assert (await status(database, id_), len(a.handed)) == ("expired", 1)


class TestGivingUp:
    async def test_what_cannot_be_confirmed_in_time_is_left_to_a_person_and_not_guessed(
        self, database: Database, database_url: DatabaseUrl
    ) -> None:
        (id_,) = await accept(database, request())
        async with (
            http_providers(a := HttpProvider("a", answer=take_in_silence, cannot_be_asked=True)),
            sending(database_url, [a], is_running=False) as process,
        ):
            await process.run(await process.claim())
            await make_due(database)
            (work,) = await process.claim()
            for age_s in (30, 60, 120, 600, 3300):
                await database.pool.execute(
                    "UPDATE sms_send_attempts SET started_at = now() - $1::interval", timedelta(seconds=age_s)
                )
                (outcome,) = await process.run([work])
                assert isinstance(outcome, Later)
                assert timedelta(0) < outcome.delay <= timedelta(minutes=5)
            await age_attempts(database, timedelta(hours=1))
            with structlog.testing.capture_logs() as logs:
                assert await process.run([work]) == [Settled()]

            (row,) = await work_rows(database)
            assert (row["state"], await status(database, id_)) == ("dead", "unknown")
            assert row["last_error"] == "it may or may not have been sent: asking failed: unavailable"
            (line,) = [line for line in logs if line["event"] == "send.needs_a_person"]
            assert (line["log_level"], line["message_id"], line["provider"]) == ("error", str(id_), "a")

            # A replay asks again, and never sends without an answer.
            a.cannot_be_asked = False
            await queue.replay_dead(database.pool)  # type: ignore[arg-type]
            await process.run(await process.claim())

        assert (len(a.handed), await outcomes(database, id_)) == (1, [("a", "sent")])

    async def test_a_provider_that_cannot_be_asked_at_all_leaves_it_to_callbacks(
        self, database: Database, database_url: DatabaseUrl, receipts: ReceiptStore
    ) -> None:
        (id_,) = await accept(database, request())
        a = HttpProvider("a", {"look_up": None}, answer=take_in_silence)
        async with http_providers(a), sending(database_url, [a], is_running=False) as process:
            await process.run(await process.claim())
            await age_attempts(database, SETTLED)
            await make_due(database)
            (work,) = await process.claim()
            (outcome,) = await process.run([work])
            assert isinstance(outcome, Later)
            assert outcome.reason == "this provider cannot be asked"
            await receipts.apply(receipt(a.taken[0], "a"))
            assert await process.run([work]) == [Settled()]

        assert (await status(database, id_), len(a.handed), a.asked) == ("delivered", 1, [])


class TestCallbackWithOurReference:
    async def test_that_overtakes_the_answer_stands(
        self, database: Database, database_url: DatabaseUrl, receipts: ReceiptStore
    ) -> None:
        async def tell_first(provider: HttpProvider, taken: Taken) -> bytes:
            assert await receipts.apply(receipt(taken, provider.name)) is ReceiptOutcome.APPLIED
            return await take(provider, taken)

        (id_,) = await accept(database, request())
        async with (
            http_providers(a := HttpProvider("a", answer=tell_first)),
            sending(database_url, [a], is_running=False) as process,
        ):
            await process.run(await process.claim())

        row = await message(database, id_)
        assert (row["delivery_status"], row["provider_message_id"], row["poll_at"]) == ("delivered", "a-1", None)
        assert row["ended_at"] is not None
        assert await outcomes(database, id_) == [("a", "sent")]
        assert await work_rows(database) == []

    @pytest.mark.parametrize("answer", [drop, refusing("busy", 503), refusing("bad-number")])
    async def test_that_overtakes_a_failure_stands_too(
        self, database: Database, database_url: DatabaseUrl, receipts: ReceiptStore, answer: object
    ) -> None:
        """It was sent, whatever the answer says."""

        async def tell_first(provider: HttpProvider, taken: Taken) -> bytes | None:
            await receipts.apply(receipt(taken, provider.name, "sent"))
            return await answer(provider, taken)  # type: ignore[operator, no-any-return]

        (id_,) = await accept(database, request())
        async with (
            http_providers(a := HttpProvider("a", answer=tell_first)),
            sending(database_url, [a], is_running=False) as process,
        ):
            await process.run(await process.claim())
            row = await message(database, id_)
            assert (row["delivery_status"], row["error_code"], row["ended_at"]) == ("sent", None, None)
            await make_due(database)
            for outcome in await process.run(await process.claim()):
                assert outcome in (Done(), Settled())

        assert (await status(database, id_), len(a.handed), a.asked) == ("sent", 1, [])

    async def test_settles_what_was_unknown_without_asking(
        self, database: Database, database_url: DatabaseUrl, receipts: ReceiptStore
    ) -> None:
        (id_,) = await accept(database, request(content_retention="hash"))
        async with (
            http_providers(a := HttpProvider("a", answer=take_in_silence)),
            sending(database_url, [a], is_running=False) as process,
        ):
            await process.run(await process.claim())
            assert await receipts.apply(receipt(a.taken[0], "a", "sent")) is ReceiptOutcome.APPLIED
            assert await status(database, id_) == "sent"
            await make_due(database)
            await process.run(await process.claim())

        row = await message(database, id_)
        assert (row["delivery_status"], row["provider_message_id"]) == ("sent", "a-1")
        # As after an answer: it is asked about when no end comes, and forgotten when that was wanted.
        assert row["poll_at"] is not None
        assert row["redact_at"] is not None
        assert (len(a.handed), a.asked, await outcomes(database, id_)) == (1, [], [("a", "sent")])
        assert await work_rows(database) == []

    async def test_after_the_process_died_settles_it_without_asking(
        self, database: Database, database_url: DatabaseUrl, receipts: ReceiptStore
    ) -> None:
        (id_,) = await accept(database, request())
        async with http_providers(a := HttpProvider("a")):
            async with sending(database_url, [a], is_running=False) as dead:
                (work,) = await dead.claim()
                await dead.begin(work)
            taken = Taken(0, "a-9", make_reference(id_, 1), "", "", "")
            await receipts.apply(receipt(taken, "a", "sent"))
            await expire_leases(database)
            async with sending(database_url, [a], is_running=False) as process:
                await process.run(await process.claim())

        assert (a.handed, a.asked, await outcomes(database, id_)) == ([], [], [("a", "sent")])
        assert await work_rows(database) == []

    async def test_about_an_attempt_that_was_given_up_keeps_the_message_from_being_sent_again(
        self, database: Database, database_url: DatabaseUrl, receipts: ReceiptStore
    ) -> None:
        (id_,) = await accept(database, request())
        async with (
            http_providers(a := HttpProvider("a", answer=take_in_silence)),
            sending(database_url, [a], is_running=False) as process,
        ):
            await process.run(await process.claim())
            taken = a.taken.pop()  # it does not even know of it when asked
            await age_attempts(database, SETTLED)
            await make_due(database)
            await process.run(await process.claim())
            assert await outcomes(database, id_) == [("a", "absent")]
            await receipts.apply(receipt(taken, "a", "sent"))
            await make_due(database)
            assert await process.run(await process.claim()) == [Done()]

        assert (await status(database, id_), len(a.handed)) == ("sent", 1)

    async def test_about_a_message_sent_again_elsewhere_is_kept_and_changes_nothing(
        self, database: Database, database_url: DatabaseUrl, receipts: ReceiptStore
    ) -> None:
        (id_,) = await accept(database, request())
        async with (
            http_providers(a := HttpProvider("a", answer=refusing("busy", 503)), b := HttpProvider("b")),
            sending(database_url, [a, b], is_running=False) as process,
        ):
            await process.run(await process.claim())
            await make_due(database)
            await process.run(await process.claim())
            late = Taken(0, "a-late", make_reference(id_, 1), "", "", "")
            assert await receipts.apply(receipt(late, "a", "failed")) is ReceiptOutcome.LATE

        row = await message(database, id_)
        assert (row["delivery_status"], row["provider_message_id"]) == ("sending", "b-1")
        assert "failed" in await events(database, id_)


class WaitingRates(PostgresRates):
    """Rates that answer only when told to: between looking at a message and writing down its attempt."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.is_asked = asyncio.Event()
        self.may_answer = asyncio.Event()

    async def reserve(self, wishes: Sequence[Wish]) -> list[Outcome]:
        self.is_asked.set()
        await self.may_answer.wait()
        return await super().reserve(wishes)


class TestTwoProcessesHoldingTheSameWork:
    async def test_one_of_them_sends(self, database: Database, database_url: DatabaseUrl) -> None:
        ids = await accept(database, *(request(phone) for phone in phones(20)))
        async with (
            http_providers(a := HttpProvider("a")),
            sending(database_url, [a], is_running=False) as one,
            sending(database_url, [a], is_running=False) as other,
        ):
            mine = await one.claim(lease=timedelta(0))
            await expire_leases(database)
            theirs = await other.claim()
            assert {work.ref_id for work in mine} == {work.ref_id for work in theirs} == set(ids)
            await asyncio.gather(one.run(mine), other.run(theirs))
            await age_attempts(database, SETTLED)
            for _ in range(3):
                await make_due(database)
                await expire_leases(database)
                await other.run(await other.claim())

        assert Counter(each.message_id for each in a.handed) == Counter(ids)
        assert {tuple(await outcomes(database, id_)) for id_ in ids} == {(("a", "sent"),)}

    async def test_one_that_looked_before_the_other_failed_neither_sends_nor_loses_it(
        self, database: Database, database_url: DatabaseUrl
    ) -> None:
        (id_,) = await accept(database, request())
        rates = WaitingRates(database)
        a = HttpProvider("a", {"rate_per_s": 1000}, answer=refusing("busy", 503))
        async with (
            http_providers(a),
            sending(database_url, [a], is_running=False) as quick,
            sending(database_url, [a], rates=rates, is_running=False) as slow,
        ):
            (mine,) = await quick.claim(lease=timedelta(0))
            await expire_leases(database)
            (theirs,) = await slow.claim()
            running = asyncio.create_task(slow.run([theirs]))
            await rates.is_asked.wait()
            await quick.run([mine])  # tries, fails, and puts the message back in line
            rates.may_answer.set()
            (outcome,) = await running
            assert isinstance(outcome, Later)
            assert (await status(database, id_), await outcomes(database, id_)) == ("queued", [("a", "failed")])

            a.answer = take
            await slow.run([theirs])

        assert (len(a.taken), await outcomes(database, id_)) == (1, [("a", "failed"), ("a", "sent")])

    async def test_a_late_answer_of_the_first_does_not_undo_what_the_second_found_out(
        self, database: Database, database_url: DatabaseUrl
    ) -> None:
        may_answer = asyncio.Event()

        async def answer_late(provider: HttpProvider, taken: Taken) -> bytes | None:
            await may_answer.wait()
            return await take(provider, taken)

        (id_,) = await accept(database, request())
        a = HttpProvider("a", answer=answer_late)
        async with (
            http_providers(a),
            sending(database_url, [a], is_running=False) as slow,
            sending(database_url, [a], is_running=False) as other,
        ):
            running = asyncio.create_task(slow.run(await slow.claim(lease=timedelta(0))))
            await eventually(lambda: _is_true(a.handed), "the call is made")
            await expire_leases(database)
            await other.run(await other.claim())
            assert await status(database, id_) == "unknown"
            may_answer.set()
            await running
            assert await outcomes(database, id_) == [("a", "sent")]
            await make_due(database)
            assert await other.run(await other.claim()) == [Done()]

        assert (len(a.handed), (await message(database, id_))["provider_message_id"]) == (1, "a-1")


class TestLateRecord:
    """What a process writes that believes to hold the work, but does not any more."""

    async def test_that_nobody_knows_is_no_news_where_somebody_does(
        self, database: Database, database_url: DatabaseUrl
    ) -> None:
        """The one that lost the work saw a call under way, and writes that down after the call was answered."""
        (id_,) = await accept(database, request())
        async with (
            http_providers(a := HttpProvider("a")),
            sending(database_url, [a], is_running=False) as process,
            sending(database_url, [a], is_running=False) as late,
        ):
            (old,) = await late.claim(lease=timedelta(0))
            await expire_leases(database)
            (work,) = await process.claim()
            await process.begin(work)
            async with database.connection() as connection:
                seen = (await store.load(connection, [id_]))[id_]
            await process.dispatcher.record(_finished(work, id_, 1, AttemptOutcome.SENT, "a-1"))
            await late.resolver.resolve(old, seen)

        assert await outcomes(database, id_) == [("a", "sent")]
        assert "unknown" not in await events(database, id_)

    async def test_of_a_failure_does_not_touch_a_message_that_is_tried_again(
        self, database: Database, database_url: DatabaseUrl
    ) -> None:
        (id_,) = await accept(database, request())
        async with (
            http_providers(a := HttpProvider("a")),
            sending(database_url, [a], is_running=False) as process,
        ):
            (work,) = await process.claim()
            await process.begin(work)
            await process.dispatcher.record(_finished(work, id_, 1, AttemptOutcome.ABSENT))
            (again,) = await process.claim()
            await process.begin(again)
            await process.dispatcher.record(_finished(work, id_, 1, AttemptOutcome.FAILED))

        assert await status(database, id_) == "sending"
        (row,) = await work_rows(database)
        assert (row["state"], row["lease_token"]) == ("leased", again.lease_token)


def _finished(
    work: Work, message_id: UUID, number: int, outcome: AttemptOutcome, provider_message_id: str | None = None
) -> Finished:
    is_sent = outcome is AttemptOutcome.SENT
    return Finished(
        message_id=message_id,
        number=number,
        work=work,
        outcome=outcome,
        status=MessageStatus.SENT if is_sent else MessageStatus.QUEUED,
        event_status=outcome,
        next="done" if is_sent else "due",
        provider_message_id=provider_message_id,
    )


class TestTwoAlike:
    async def test_are_told_apart_where_the_provider_knows_no_reference(
        self, database: Database, database_url: DatabaseUrl
    ) -> None:
        """What it has with that recipient and text may be another message of ours, which we know."""
        _, lost = await accept(database, request(), request())
        a = HttpProvider("a")
        async with http_providers(a), sending(database_url, [a], is_running=False) as process:
            await process.run(await process.claim())
            a.answer = drop
            await process.run(await process.claim())

            # As such a provider would: it lists the first one when asked about the second.
            a.taken.append(Taken(0, a.taken[0].id, make_reference(lost, 1), "", "", ""))
            await age_attempts(database, SETTLED)
            await make_due(database)
            await process.run(await process.claim())

        assert await outcomes(database, lost) == [("a", "absent")]
