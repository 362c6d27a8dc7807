"""Storing texts from several processes at once, and what one bad text does to its neighbours."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta
from uuid import uuid4

import asyncpg
import pytest
from prometheus_client import REGISTRY

from sms_foundation.core.config import Settings
from sms_foundation.core.db import Database, DatabaseUrl
from sms_foundation.messaging.ingest import MessageStore, Stored
from sms_foundation.providers.base import InboundSms, Media

PHONE = "+14155550123"


def text(
    sid: str, *, phone: str = PHONE, body: str = "Hello", raw: str = "{}", media: tuple[Media, ...] = ()
) -> InboundSms:
    return InboundSms("twilio", sid, phone, "+15005550006", body, media, 1, raw)


def make_store(database: Database, *, room: int = 1000, timeout_s: float = 20.0) -> MessageStore:
    return MessageStore(
        database, lease_token=uuid4(), lease=timedelta(seconds=60), room=lambda: room, timeout_s=timeout_s
    )


def batches() -> float:
    """Return how many batches this process has committed."""
    return REGISTRY.get_sample_value("sms_commit_batch_size_count", {"kind": "inbound"}) or 0.0


async def put(store: MessageStore, sms: InboundSms) -> Stored:
    return await store.store(sms, phone=sms.sender)


@pytest.fixture
async def stores(database_url: DatabaseUrl, settings: Settings) -> AsyncIterator[list[MessageStore]]:
    """Three stores with connections of their own, as in three processes."""
    async with AsyncExitStack() as stack:
        made = []
        for _ in range(3):
            database = Database(database_url, settings)
            await database.open()
            stack.push_async_callback(database.close)
            store = make_store(database)
            stack.push_async_callback(store.close)
            made.append(store)
        yield made


async def until_somebody_waits_for_a_lock(database: Database) -> None:
    for _ in range(400):
        if await database.pool.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        ):
            return
        await asyncio.sleep(0.01)
    raise AssertionError("nobody waits")


async def assert_counts_are_exact(database: Database, expected: dict[str, int]) -> None:
    """Every conversation numbers its messages 1, 2, 3, ... and knows how many there are and when the last one came."""
    rows = await database.pool.fetch(
        """
        SELECT c.phone_number_canonical, c.message_count, array_agg(m.conversation_seq ORDER BY m.conversation_seq),
               c.last_message_at = max(m.created_at)
        FROM sms_conversations AS c LEFT JOIN sms_messages AS m ON m.conversation_id = c.id GROUP BY c.id
        """
    )
    assert {row[0]: row[1] for row in rows} == expected
    for phone, number, numbering, is_last_right in rows:
        assert numbering == list(range(1, number + 1)), phone
        assert is_last_right, phone


class TestStore:
    async def test_work_is_leased_to_this_process_as_far_as_it_has_room(self, database: Database) -> None:
        store = make_store(database, room=3)

        results = await asyncio.gather(*(put(store, text(f"SM{number}")) for number in range(8)))

        held = [each.work for each in results if each.work is not None]
        rows = await database.pool.fetch("SELECT id, ref_id, state, attempts, lease_token FROM work ORDER BY id")
        assert len(held) == 3
        assert {(each.id, each.ref_id, "leased", 1, each.lease_token) for each in held} == {
            tuple(row) for row in rows if row["state"] == "leased"
        }
        assert [tuple(row)[2:] for row in rows if row["state"] == "due"] == [("due", 0, None)] * 5
        assert {row["ref_id"] for row in rows} == {each.message_id for each in results}

    async def test_texts_of_one_batch_are_numbered_in_order_of_arrival(self, database: Database) -> None:
        store = make_store(database)
        sids = [f"SM{number}" for number in range(100)]

        await asyncio.gather(*(put(store, text(sid)) for sid in sids))

        rows = await database.pool.fetch("SELECT provider_message_id FROM sms_messages ORDER BY conversation_seq")
        assert [row[0] for row in rows] == sids
        await assert_counts_are_exact(database, {PHONE: 100})

    async def test_batch_is_committed_together(self, database: Database) -> None:
        store = make_store(database)
        before = batches()

        await asyncio.gather(*(put(store, text(f"SM{number}")) for number in range(32)))

        assert batches() == before + 1

    async def test_same_id_in_one_batch_is_one_message(self, database: Database) -> None:
        store = make_store(database)

        before = batches()

        results = await asyncio.gather(*(put(store, text("SM1", body=str(number))) for number in range(5)))

        assert [each.is_duplicate for each in results] == [False, True, True, True, True]
        assert batches() == before + 1  # nobody had to try again
        assert await database.pool.fetchval("SELECT message_content FROM sms_messages") == "0"
        await assert_counts_are_exact(database, {PHONE: 1})

    async def test_same_id_of_another_provider_is_another_message(self, database: Database) -> None:
        store = make_store(database)

        results = [await put(store, text("SM1")), await put(store, text("SM1")._replace(provider="other"))]

        assert [each.is_duplicate for each in results] == [False, False]

    async def test_attachments_are_kept_as_objects(self, database: Database) -> None:
        await put(make_store(database), text("SM1", media=(Media("https://m/0", "image/png"),)))

        assert (
            await database.pool.fetchval(
                "SELECT media->0->>'url' || ' ' || (media->0->>'content_type') FROM sms_messages"
            )
            == "https://m/0 image/png"
        )


class TestPoison:
    @pytest.mark.parametrize(
        "poison",
        [
            text("bad", body="a\0b"),
            text("bad", body="\udc80"),
            text("bad", raw="{"),
            text("bad", raw='"\\u0000"'),
            text("bad")._replace(num_segments=2**40),
            text("bad", phone="x" * 3_000_000),
        ],
        ids=["nul", "surrogate", "no json", "nul in json", "number too large", "key too large"],
    )
    async def test_fails_alone_while_its_neighbours_are_stored(self, database: Database, poison: InboundSms) -> None:
        store = make_store(database)
        neighbours = [text(f"SM{number}") for number in range(9)]

        results = await asyncio.gather(
            *(put(store, each) for each in [*neighbours[:4], poison, *neighbours[4:]]), return_exceptions=True
        )

        assert isinstance(results.pop(4), (asyncpg.PostgresError, asyncpg.DataError, ValueError))
        assert [isinstance(each, Stored) and not each.is_duplicate for each in results] == [True] * 9
        await assert_counts_are_exact(database, {PHONE: 9})
        assert await database.pool.fetchval("SELECT count(*) FROM work") == 9

    async def test_does_not_keep_later_texts_from_being_stored(self, database: Database) -> None:
        store = make_store(database)

        with pytest.raises(asyncpg.PostgresError):
            await put(store, text("bad", raw="{"))

        assert not (await put(store, text("SM1"))).is_duplicate


class TestSeveralProcesses:
    async def test_number_the_texts_of_one_conversation_without_gaps(
        self, database: Database, stores: list[MessageStore]
    ) -> None:
        results = await asyncio.gather(
            *(put(store, text(f"SM{index}-{number}")) for number in range(200) for index, store in enumerate(stores))
        )

        assert not any(each.is_duplicate for each in results)
        await assert_counts_are_exact(database, {PHONE: 600})

    async def test_store_each_of_the_same_texts_once_with_exact_counters(
        self, database: Database, stores: list[MessageStore]
    ) -> None:
        chance = random.Random(7)
        phones = [f"+1415555{number:04d}" for number in range(7)]
        texts = [text(f"SM{number}", phone=phones[number % 7]) for number in range(210)]
        arrivals = [(store, each) for store in stores for each in texts]
        chance.shuffle(arrivals)

        results = await asyncio.gather(*(put(store, each) for store, each in arrivals))

        assert sum(not each.is_duplicate for each in results) == 210
        await assert_counts_are_exact(database, dict.fromkeys(phones, 30))
        assert await database.pool.fetchval("SELECT count(DISTINCT ref_id) FROM work") == 210

    async def test_text_that_another_process_is_just_storing_is_a_duplicate_once_that_has_committed(
        self, database: Database, stores: list[MessageStore]
    ) -> None:
        await put(stores[0], text("SM0"))
        async with database.transaction() as other:
            await other.execute("UPDATE sms_conversations SET message_count = 2")
            await other.execute(
                "INSERT INTO sms_messages (id, conversation_id, conversation_seq, direction, provider, "
                "provider_message_id, from_number, to_number, message_content, delivery_status, created_at) "
                "SELECT gen_random_uuid(), id, 2, 'inbound', 'twilio', 'SM1', '', '', '', 'received', last_message_at "
                "FROM sms_conversations"
            )
            waiting = asyncio.ensure_future(put(stores[0], text("SM1")))
            await until_somebody_waits_for_a_lock(database)

        assert (await waiting).is_duplicate
        await assert_counts_are_exact(database, {PHONE: 2})

    async def test_take_conversations_in_one_order_and_so_never_deadlock(
        self, database: Database, stores: list[MessageStore]
    ) -> None:
        first, second = "+14155550001", "+14155550002"
        await put(stores[0], text("SM1", phone=first))
        await put(stores[0], text("SM2", phone=second))
        async with database.transaction() as other:
            await other.execute("SELECT FROM sms_conversations WHERE phone_number_canonical = $1 FOR UPDATE", first)
            waiting = [
                asyncio.ensure_future(put(stores[0], text(sid, phone=phone)))
                for sid, phone in (("SM3", second), ("SM4", first))
            ]
            await until_somebody_waits_for_a_lock(database)
            free = await other.fetch("SELECT phone_number_canonical FROM sms_conversations FOR UPDATE SKIP LOCKED")

        await asyncio.gather(*waiting)
        assert {row[0] for row in free} == {first, second}
        await assert_counts_are_exact(database, {first: 2, second: 2})


class TestOutage:
    async def test_fails_all_that_wait_and_stores_none(self, database: Database) -> None:
        store = make_store(database, timeout_s=0.3)
        async with database.transaction() as blocker:
            await blocker.execute("LOCK TABLE sms_conversations IN ACCESS EXCLUSIVE MODE")
            results = await asyncio.gather(
                *(put(store, text(f"SM{number}")) for number in range(100)), return_exceptions=True
            )

        assert {type(each) for each in results} == {TimeoutError}
        assert await database.pool.fetchval("SELECT count(*) FROM sms_messages") == 0
        assert not (await put(store, text("SM0"))).is_duplicate

    async def test_closing_waits_for_what_was_submitted(self, database: Database) -> None:
        store = make_store(database)
        waiting = [asyncio.ensure_future(put(store, text(f"SM{number}"))) for number in range(100)]
        await asyncio.sleep(0)

        await store.close()

        assert await database.pool.fetchval("SELECT count(*) FROM sms_messages") == 100
        await asyncio.gather(*waiting)
