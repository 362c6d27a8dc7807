"""The hot paths behind a pooler in transaction mode, where consecutive transactions run on different backends.

`tests/support/test_transaction_pooler.py` shows what such a pooler breaks: named statements, session locks, settings.
"""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from urllib.parse import parse_qs, urlsplit
from uuid import UUID, uuid4

import asyncpg
import pytest

from sms_foundation.core.db import Database, DatabaseUrl, parse_database_url
from sms_foundation.core.work import queue
from sms_foundation.core.work.queue import NewWork, Work
from sms_foundation.core.work.runner import Done, Outcome, WorkRunner
from sms_foundation.messaging import history
from sms_foundation.messaging.delivery import ReceiptOutcome, ReceiptStore
from sms_foundation.messaging.ingest import MessageStore
from sms_foundation.migrations import runner as migrations
from sms_foundation.migrations.child import migrate_in_child
from sms_foundation.migrations.state import schema_problem
from sms_foundation.providers.base import InboundSms, MessageStatus, StatusReport
from tests.support import postgres
from tests.support.service import make_settings, running_service
from tests.support.transaction_pooler import TransactionPooler

PHONE = "+14155550123"


def pooler_for(url: DatabaseUrl, *, backends: int = 2) -> TransactionPooler:
    parts = urlsplit(url.dsn)
    query = parse_qs(parts.query)
    if parts.password:
        pytest.skip("the pooler of the tests knows no passwords; the embedded server trusts its user")
    return TransactionPooler(
        host=query.get("host", [parts.hostname or ""])[0],
        port=parts.port or int(query.get("port", ["5432"])[0]),
        user=parts.username or query.get("user", ["postgres"])[0],
        database=parts.path[1:],
        backends=backends,
    )


def through(pooler: TransactionPooler, url: DatabaseUrl) -> DatabaseUrl:
    name = urlsplit(url.dsn).path[1:]
    return parse_database_url(f"postgresql://postgres@127.0.0.1:{pooler.port}/{name}?pgbouncer=true&sslmode=disable")


@pytest.fixture
async def pooled_url(database_url: DatabaseUrl) -> AsyncIterator[DatabaseUrl]:
    async with pooler_for(database_url) as pooler:
        yield through(pooler, database_url)


@pytest.fixture
async def pooled(pooled_url: DatabaseUrl) -> AsyncIterator[Database]:
    database = Database(pooled_url, make_settings())
    await database.open()
    yield database
    await database.close()


def message_store(database: Database, *, token: UUID) -> MessageStore:
    return MessageStore(database, lease_token=token, lease=timedelta(seconds=60), room=lambda: 3, timeout_s=10)


def text(sid: str) -> InboundSms:
    return InboundSms(
        provider="twilio",
        provider_message_id=sid,
        sender=PHONE,
        recipient="+15005550006",
        body="Hola",
        media=(),
        num_segments=1,
        raw="{}",
    )


def report(sid: str, status: MessageStatus) -> StatusReport:
    return StatusReport(
        provider="twilio",
        provider_message_id=sid,
        event_status=status.value,
        status=status,
        error_code=None,
        error_message=None,
        raw="{}",
    )


class TestHotPaths:
    async def test_messages_receipts_and_history(self, pooled: Database) -> None:
        messages, receipts = message_store(pooled, token=uuid4()), ReceiptStore(pooled, timeout_s=10)
        for round_ in range(3):  # more transactions than backends, each time
            stored = await asyncio.gather(*(messages.store(text(f"SM{round_}-{n}"), phone=PHONE) for n in range(5)))
            assert not any(each.is_duplicate for each in stored)
            assert (await messages.store(text(f"SM{round_}-0"), phone=PHONE)).is_duplicate
            outcomes = await asyncio.gather(
                *(
                    receipts.apply(report(f"SM{round_}-0", status))
                    for status in (MessageStatus.READ, MessageStatus.SENT)
                ),
                receipts.apply(report("SM-unknown", MessageStatus.SENT)),
            )
            assert outcomes[2] is (ReceiptOutcome.DUPLICATE if round_ else ReceiptOutcome.UNMATCHED)

        seen: list[str] = []
        before_seq = None
        while before_seq is None or before_seq > 1:
            async with pooled.connection() as connection:
                page = await history.find_page(connection, phone=PHONE, before_seq=before_seq, offset=0, limit=4)
            seen += [row["provider_message_id"] for row in page if row["message_id"]]
            before_seq = page[-1]["conversation_seq"]
        assert seen == [f"SM{round_}-{n}" for round_ in (2, 1, 0) for n in (4, 3, 2, 1, 0)]
        await messages.close()
        await receipts.close()

    async def test_work_is_enqueued_claimed_run_and_finished(self, pooled: Database) -> None:
        ran: list[UUID] = []

        async def handle(work: Work) -> Outcome:
            ran.append(work.ref_id)
            return Done()

        refs = [uuid4() for _ in range(40)]
        async with pooled.transaction() as connection:
            await queue.enqueue(
                connection, [NewWork("test", ref, order_key=f"key-{n % 7}") for n, ref in enumerate(refs)]
            )
        runner = WorkRunner(pooled, {"test": handle}, concurrency=4, poll_s=0.02, lease_s=60, max_attempts=3)
        runner.start()
        for _ in range(500):
            async with pooled.connection() as connection:
                if not await queue.backlog(connection):
                    break
            await asyncio.sleep(0.01)
        await runner.stop(5)

        assert sorted(ran) == sorted(refs)

    async def test_the_whole_service(self, pooled_url: DatabaseUrl, database: Database) -> None:
        async with running_service(make_settings(), pooled_url, database) as service:
            assert (await service.client.get("/health/ready")).json() == {"ok": True}
            await asyncio.gather(*(service.text(f"SM{n}", "Hola, no hay agua") for n in range(20)))
            await service.finish_work()

            conversation = await service.conversation(limit=5)
            assert (conversation["total"], conversation["language_detected"]) == (20, "es")
            assert (await service.client.get("/health")).json()["ok"]


@pytest.fixture
async def empty_url(postgres_server: str) -> AsyncIterator[DatabaseUrl]:
    url = await postgres.clone(postgres_server, "template1")
    yield url
    await postgres.drop(postgres_server, url)


class TestMigrations:
    async def test_run_up_and_down_and_at_once(self, empty_url: DatabaseUrl) -> None:
        async with pooler_for(empty_url) as pooler:
            url = through(pooler, empty_url)
            await asyncio.gather(*(migrations.upgrade(url) for _ in range(3)))
            await migrations.migrate_to(url, revision="base")
            await migrations.upgrade(url)
            assert await migrations.find_drift(url) is None

            database = Database(url, make_settings())
            await database.open()
            async with database.connection() as connection:
                assert await schema_problem(connection) is None
            await database.close()

    async def test_leave_no_statement_behind_for_another_process_to_run_into(self, empty_url: DatabaseUrl) -> None:
        """A second process gives its statements the same names; on a single backend they would be taken."""
        async with pooler_for(empty_url, backends=1) as pooler:
            url = through(pooler, empty_url)
            for _ in range(2):
                await migrate_in_child(url)
            connection = await asyncpg.connect(url.dsn, statement_cache_size=0)
            assert await connection.fetch("SELECT name FROM pg_prepared_statements WHERE name <> ''") == []
            await connection.close()
