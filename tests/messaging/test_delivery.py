"""Status reports that meet each other, in one process and in several."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta
from itertools import permutations
from uuid import UUID, uuid4

import asyncpg
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from sms_foundation.core.config import Settings
from sms_foundation.core.db import Database, DatabaseUrl
from sms_foundation.core.ids import new_id
from sms_foundation.core.work.queue import Work
from sms_foundation.core.work.runner import Done, Retry
from sms_foundation.messaging.delivery import ReceiptOutcome, ReceiptStore, match_receipt
from sms_foundation.messaging.ingest import MessageStore
from sms_foundation.messaging.jobs import RECEIPT_UNMATCHED
from sms_foundation.messaging.references import make_reference
from sms_foundation.messaging.states import next_status
from sms_foundation.messaging.tasks import ReceiptMatching
from sms_foundation.providers.base import InboundSms, MessageStatus, Price, StatusReport, parse_status
from sms_foundation.providers.messagebird.webhook import STATUSES as MESSAGEBIRD
from sms_foundation.providers.telnyx.webhook import STATUSES as TELNYX
from sms_foundation.providers.vonage.webhook import STATUSES as VONAGE
from tests.support.outbound import accept, message, request

PHONE = "+14155550123"


def report(sid: str, word: str, code: str | None = None, raw: str = "{}") -> StatusReport:
    return StatusReport("twilio", sid, word, parse_status(word), code, None if code is None else f"error {code}", raw)


async def arrive(database: Database, *sids: str, provider: str = "twilio") -> None:
    """Let messages be stored."""
    store = MessageStore(database, lease_token=uuid4(), lease=timedelta(seconds=60), room=lambda: 0, timeout_s=20.0)
    await asyncio.gather(
        *(store.store(InboundSms(provider, sid, PHONE, "", "", (), 1, "{}"), phone=PHONE) for sid in sids)
    )


async def state(database: Database, sid: str = "SM1") -> tuple[str, str | None, str | None]:
    row = await database.pool.fetchrow(
        "SELECT delivery_status, error_code, error_message FROM sms_messages WHERE provider_message_id = $1", sid
    )
    return tuple(row)


@pytest.fixture
def receipts(database: Database) -> ReceiptStore:
    return ReceiptStore(database, timeout_s=20.0)


@pytest.fixture
async def others(database_url: DatabaseUrl, settings: Settings) -> AsyncIterator[list[ReceiptStore]]:
    """Three stores with connections of their own, as in three processes."""
    async with AsyncExitStack() as stack:
        made = []
        for _ in range(3):
            database = Database(database_url, settings)
            await database.open()
            stack.push_async_callback(database.close)
            made.append(ReceiptStore(database, timeout_s=20.0))
        yield made


async def events(database: Database) -> list[UUID]:
    rows = await database.pool.fetch("SELECT id FROM sms_message_status_events ORDER BY created_at, id")
    return [row[0] for row in rows]


class TestApply:
    async def test_several_reports_of_one_message_in_one_batch_are_applied_in_order(
        self, database: Database, receipts: ReceiptStore
    ) -> None:
        await arrive(database, "SM1", "SM2")

        outcomes = await asyncio.gather(
            *(
                receipts.apply(each)
                for each in [
                    report("SM1", "queued"),
                    report("SM2", "sent"),
                    report("SM1", "sent"),
                    report("SM1", "sending"),
                    report("SM1", "sent"),
                    report("SM1", "undelivered", "30003"),
                    report("SM1", "undelivered", "30005"),
                    report("SM3", "sent"),
                    report("SM3", "sent"),
                ]
            )
        )

        assert [str(each) for each in outcomes] == [
            *["applied", "applied", "applied", "late", "duplicate", "applied", "late", "unmatched", "duplicate"]
        ]
        assert await state(database) == ("undelivered", "30003", "error 30003")
        assert await state(database, "SM2") == ("sent", None, None)

    async def test_concurrent_reports_in_several_processes_never_undo_each_other(
        self, database: Database, others: list[ReceiptStore]
    ) -> None:
        orders = list(permutations(["queued", "sending", "sent", "delivered"]))
        sids = [f"SM{number}" for number in range(len(orders))]
        await arrive(database, *sids)

        await asyncio.gather(
            *(
                others[(position + number) % 3].apply(report(sid, word))
                for number, (sid, order) in enumerate(zip(sids, orders, strict=True))
                for position, word in enumerate(order * 2)
            )
        )

        rows = await database.pool.fetch(
            "SELECT m.delivery_status, count(e.id) FROM sms_messages AS m "
            "LEFT JOIN sms_message_status_events AS e ON e.message_id = m.id GROUP BY m.id"
        )
        assert [tuple(row) for row in rows] == [("delivered", 4)] * 24

    async def test_messages_are_locked_in_one_order_and_so_never_deadlock(
        self, database: Database, receipts: ReceiptStore
    ) -> None:
        await arrive(database, "SM1", "SM2")
        pool = database.pool
        first, second = [row[0] for row in await pool.fetch("SELECT provider_message_id FROM sms_messages ORDER BY id")]
        async with database.transaction() as other:
            await other.execute("SELECT FROM sms_messages WHERE provider_message_id = $1 FOR UPDATE", first)
            waiting = [asyncio.ensure_future(receipts.apply(report(sid, "sent"))) for sid in (second, first)]
            for _ in range(400):
                if await pool.fetchval(
                    "SELECT count(*) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND wait_event_type = 'Lock'"
                ):
                    break
                await asyncio.sleep(0.01)
            free = await other.fetch("SELECT provider_message_id FROM sms_messages FOR UPDATE SKIP LOCKED")

        assert await asyncio.gather(*waiting) == [ReceiptOutcome.APPLIED] * 2
        assert {row[0] for row in free} == {first, second}

    async def test_one_of_several_concurrent_errors_wins_and_stays(
        self, database: Database, others: list[ReceiptStore]
    ) -> None:
        await arrive(database, "SM1")

        await asyncio.gather(*(store.apply(report("SM1", "failed", f"3000{n}")) for n in range(9) for store in others))
        first = await state(database)
        for n in range(9):
            await others[0].apply(report("SM1", "failed", f"3000{n}"))

        assert first[0] == "failed"
        assert first[1] is not None
        assert await state(database) == first

    async def test_report_postgresql_refuses_fails_alone(self, database: Database, receipts: ReceiptStore) -> None:
        await arrive(database, "SM1")

        results = await asyncio.gather(
            *(receipts.apply(report("SM1", word)) for word in ("queued", "sent")),
            receipts.apply(report("SM1", "delivered", raw="{")),
            receipts.apply(report("SM2", "sent")),
            return_exceptions=True,
        )

        assert isinstance(results.pop(2), asyncpg.PostgresError)
        assert results == [ReceiptOutcome.APPLIED, ReceiptOutcome.APPLIED, ReceiptOutcome.UNMATCHED]
        assert (await state(database))[0] == "sent"

    async def test_same_id_of_another_provider_is_another_message(
        self, database: Database, receipts: ReceiptStore
    ) -> None:
        await arrive(database, "SM1")

        outcome = await receipts.apply(report("SM1", "delivered")._replace(provider="other"))

        assert outcome is ReceiptOutcome.UNMATCHED
        assert (await state(database))[0] == "received"

    @given(
        st.lists(
            st.tuples(st.sampled_from([*MessageStatus, "teleported"]), st.sampled_from([None, "1", "2"])), max_size=8
        )
    )
    @hypothesis_settings(max_examples=40)
    async def test_one_by_one_follows_next_status_and_keeps_the_first_error(
        self, database: Database, receipts: ReceiptStore, reported: list[tuple[str, str | None]]
    ) -> None:
        sid = new_id().hex
        await arrive(database, sid)
        status, error = MessageStatus.RECEIVED, None
        for word, code in reported:
            await receipts.apply(report(sid, str(word), code))
            following = next_status(status, parse_status(str(word)))
            if error is None and (following is not status or str(word) == status):
                error = code
            status = following

        assert (await state(database, sid))[:2] == (status, error)


class TestReference:
    """Reports about messages whose provider id is not written down yet."""

    async def send(self, database: Database, *, provider: str | None = "twilio") -> UUID:
        """A message whose call is under way."""
        (id_,) = await accept(database, request())
        await database.pool.execute(
            "UPDATE sms_messages SET delivery_status = 'sending', provider = $2 WHERE id = $1", id_, provider
        )
        return id_

    async def test_finds_the_message_before_its_id_is_known_and_tells_it(
        self, database: Database, receipts: ReceiptStore
    ) -> None:
        id_ = await self.send(database)

        outcome = await receipts.apply(report("SM1", "delivered")._replace(reference=make_reference(id_, 1)))

        row = await message(database, id_)
        assert outcome is ReceiptOutcome.APPLIED
        assert (row["delivery_status"], row["provider_message_id"]) == ("delivered", "SM1")
        assert row["sent_at"] is not None
        assert row["ended_at"] is not None

    async def test_tells_the_id_also_where_the_status_leads_no_further(
        self, database: Database, receipts: ReceiptStore
    ) -> None:
        id_ = await self.send(database)

        await receipts.apply(report("SM1", "queued")._replace(reference=make_reference(id_, 1)))
        await receipts.apply(report("SM1", "sent"))  # no reference any more: the id is enough

        row = await message(database, id_)
        assert (row["delivery_status"], row["provider_message_id"]) == ("sent", "SM1")

    async def test_is_believed_only_of_the_provider_that_was_asked(
        self, database: Database, receipts: ReceiptStore
    ) -> None:
        id_ = await self.send(database, provider="telnyx")

        outcome = await receipts.apply(report("SM1", "delivered")._replace(reference=make_reference(id_, 1)))

        assert outcome is ReceiptOutcome.LATE
        assert (await message(database, id_))["provider_message_id"] is None
        assert await database.pool.fetchval("SELECT message_id FROM sms_message_status_events") == id_

    async def test_does_not_rename_a_message_that_has_another_id(
        self, database: Database, receipts: ReceiptStore
    ) -> None:
        id_ = await self.send(database)
        await receipts.apply(report("SM1", "sent")._replace(reference=make_reference(id_, 1)))

        outcome = await receipts.apply(report("SM2", "failed", "30003")._replace(reference=make_reference(id_, 2)))

        row = await message(database, id_)
        assert outcome is ReceiptOutcome.LATE
        assert (row["delivery_status"], row["provider_message_id"], row["error_code"]) == ("sent", "SM1", None)

    @pytest.mark.parametrize("reference", [f"{UUID(int=7).hex}.1", "not-ours", "", None])
    async def test_that_leads_nowhere_leaves_the_report_waiting(
        self, database: Database, receipts: ReceiptStore, reference: str | None
    ) -> None:
        outcome = await receipts.apply(report("SM1", "sent")._replace(reference=reference))

        assert outcome is ReceiptOutcome.UNMATCHED
        assert await database.pool.fetchval("SELECT kind FROM work") == RECEIPT_UNMATCHED

    async def test_reports_of_one_message_by_reference_in_one_batch_are_applied_in_order(
        self, database: Database, receipts: ReceiptStore
    ) -> None:
        id_ = await self.send(database)
        reference = make_reference(id_, 1)

        outcomes = await asyncio.gather(
            *(
                receipts.apply(report("SM1", word)._replace(reference=reference))
                for word in ("sent", "queued", "delivered", "delivered")
            )
        )

        assert [str(each) for each in outcomes] == ["applied", "late", "applied", "duplicate"]
        assert (await message(database, id_))["delivery_status"] == "delivered"


class TestPrice:
    async def test_is_kept_whenever_it_is_told(self, database: Database, receipts: ReceiptStore) -> None:
        (id_,) = await accept(database, request())
        await database.pool.execute("UPDATE sms_messages SET provider = 'twilio', provider_message_id = 'SM1'")
        await receipts.apply(report("SM1", "delivered"))
        await receipts.apply(report("SM1", "sent")._replace(price=Price(7_900, "USD")))

        row = await message(database, id_)
        assert (row["delivery_status"], row["price_micros"], row["price_currency"]) == ("delivered", 7_900, "USD")


class TestOnDelivered:
    async def test_is_told_once_how_long_the_message_took(self, database: Database) -> None:
        told: list[tuple[str, float]] = []
        receipts = ReceiptStore(
            database, timeout_s=20.0, on_delivered=lambda name, after_s: told.append((name, after_s))
        )
        await accept(database, request())
        await database.pool.execute(
            "UPDATE sms_messages SET provider = 'twilio', provider_message_id = 'SM1', delivery_status = 'sent', "
            "sent_at = now() - interval '90 seconds'"
        )
        for word in ("sent", "delivered", "delivered", "read"):
            await receipts.apply(report("SM1", word))

        ((name, after_s),) = told
        assert name == "twilio"
        assert 89 < after_s < 120


class TestMatchReceipt:
    @given(
        st.lists(
            st.tuples(st.sampled_from([*MessageStatus, "teleported"]), st.sampled_from([None, "1", "2"])),
            min_size=1,
            max_size=8,
        )
    )
    @hypothesis_settings(max_examples=40)
    async def test_events_that_waited_end_where_reports_in_time_would_have(
        self, database: Database, receipts: ReceiptStore, reported: list[tuple[str, str | None]]
    ) -> None:
        early, in_time = new_id().hex, new_id().hex
        await arrive(database, in_time)
        for word, code in reported:
            await receipts.apply(report(early, str(word), code))
            await receipts.apply(report(in_time, str(word), code))
        await arrive(database, early)

        async with database.transaction() as connection:
            event = await connection.fetchval(
                "SELECT min(id::text)::uuid FROM sms_message_status_events WHERE provider_message_id = $1", early
            )
            assert await match_receipt(connection, event)

        assert await state(database, early) == await state(database, in_time)

    async def test_again_changes_nothing(self, database: Database, receipts: ReceiptStore) -> None:
        await receipts.apply(report("SM1", "sent"))
        await arrive(database, "SM1")
        (event,) = await events(database)

        async def match() -> asyncpg.Record:
            async with database.transaction() as connection:
                assert await match_receipt(connection, event)
            return await database.pool.fetchrow("SELECT * FROM sms_messages")

        await match()
        await receipts.apply(report("SM1", "delivered"))
        before = await database.pool.fetchrow("SELECT * FROM sms_messages")

        assert await match() == before

    @pytest.mark.parametrize(
        ("provider", "word", "status"),
        [
            ("telnyx", "delivery_failed", MessageStatus.UNDELIVERED),
            ("messagebird", "delivery_failed", MessageStatus.UNDELIVERED),
            ("vonage", "failed", MessageStatus.UNDELIVERED),
            ("own", "angekommen", MessageStatus.DELIVERED),
            ("own", "delivered", None),  # not one of its words
            ("unknown", "delivered", MessageStatus.DELIVERED),
        ],
    )
    async def test_a_word_means_what_it_means_to_its_provider(
        self, database: Database, receipts: ReceiptStore, provider: str, word: str, status: MessageStatus | None
    ) -> None:
        words = {
            "telnyx": TELNYX,
            "messagebird": MESSAGEBIRD,
            "vonage": VONAGE,
            "own": {"angekommen": MessageStatus.DELIVERED},
        }
        await arrive(database, "in time", provider=provider)
        for sid in ("early", "in time"):
            await receipts.apply(StatusReport(provider, sid, word, status, None, None, "{}"))
        await arrive(database, "early", provider=provider)

        async with database.transaction() as connection:
            event = await connection.fetchval(
                "SELECT id FROM sms_message_status_events WHERE provider_message_id = 'early'"
            )
            assert await match_receipt(connection, event, words)

        assert await state(database, "early") == await state(database, "in time")

    async def test_event_that_does_not_exist_is_nothing_to_wait_for(self, database: Database) -> None:
        async with database.transaction() as connection:
            assert await match_receipt(connection, new_id())

    async def test_beside_reports_that_arrive_meanwhile_never_moves_back(
        self, database: Database, receipts: ReceiptStore, others: list[ReceiptStore]
    ) -> None:
        sids = [f"SM{number}" for number in range(20)]
        await asyncio.gather(*(receipts.apply(report(sid, "sent")) for sid in sids))
        matching = ReceiptMatching(database)
        waiting = await events(database)

        await asyncio.gather(arrive(database, *sids), *(others[0].apply(report(sid, "delivered")) for sid in sids))
        await asyncio.gather(
            *(matching.match(Work(0, RECEIPT_UNMATCHED, event, 1, uuid4())) for event in await events(database)),
            *(others[1].apply(report(sid, "sending")) for sid in sids),
            *(others[2].apply(report(sid, "read")) for sid in sids[:10]),
        )

        assert len(waiting) == 20
        for number, sid in enumerate(sids):
            assert (await state(database, sid))[0] == ("read" if number < 10 else "delivered")
        assert (
            await database.pool.fetchval("SELECT count(*) FROM sms_message_status_events WHERE message_id IS NULL") == 0
        )


class TestReceiptMatching:
    async def test_waits_for_a_message_and_gives_up_in_the_end(
        self, database: Database, receipts: ReceiptStore
    ) -> None:
        await receipts.apply(report("SM1", "sent"))
        (event,) = await events(database)
        matching = ReceiptMatching(database)

        assert isinstance(await matching.match(Work(1, RECEIPT_UNMATCHED, event, 9, uuid4())), Retry)
        assert isinstance(await matching.match(Work(1, RECEIPT_UNMATCHED, event, 10, uuid4())), Done)
        await arrive(database, "SM1")
        assert isinstance(await matching.match(Work(1, RECEIPT_UNMATCHED, event, 1, uuid4())), Done)
        assert (await state(database))[0] == "sent"
