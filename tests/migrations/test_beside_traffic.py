"""Migrations of a table that is read and written meanwhile: nobody waits long, and what was stopped can be repeated."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from sms_foundation.core.db import DatabaseUrl
from sms_foundation.core.errors import StartupError
from sms_foundation.migrations import runner
from sms_foundation.migrations.state import head_revision
from tests.support import postgres

ADD_CONVERSATION = """
INSERT INTO sms_conversations (id, phone_number_canonical, phone_number_original)
VALUES (gen_random_uuid(), '+14155550123', '+14155550123')
"""
ADD_MESSAGES = """
INSERT INTO sms_messages (id, conversation_id, conversation_seq, direction, from_number, to_number, message_content,
                          delivery_status, provider, provider_message_id)
SELECT gen_random_uuid(), conversation.id, seq, 'inbound', '+14155550123', '+15005550006', 'hello', 'received',
       'twilio', 'SM' || seq
FROM generate_series($1::int, $2::int) AS seq CROSS JOIN sms_conversations AS conversation
"""
IS_INDEX_VALID = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('ix_sms_messages_is_test')"
IS_CONSTRAINT_VALID = "SELECT convalidated FROM pg_constraint WHERE conname = 'ck_sms_messages_is_test'"
# The index stands there, not valid yet, and whoever makes it waits for transactions that began before.
BUILDER_THAT_WAITS = """
SELECT pid FROM pg_stat_activity
WHERE datname = current_database() AND query LIKE 'CREATE INDEX CONCURRENTLY%'
  AND state = 'active' AND wait_event_type = 'Lock'
"""
ANYONE_AT_WORK = """
SELECT FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
  AND application_name = 'sms-foundation migrate'
"""
WAITS_FOR_THE_LOCK = "SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"


@pytest.fixture
async def url(postgres_server: str) -> AsyncIterator[DatabaseUrl]:
    """A database as it was before test messages, with texts in it."""
    url = await postgres.clone(postgres_server, "template1")
    await runner.migrate_to(url, revision="0002")
    connection = await asyncpg.connect(url.dsn)
    await connection.execute(ADD_CONVERSATION)
    await connection.execute(ADD_MESSAGES, 1, 1000)
    await connection.close()
    yield url
    await postgres.drop(postgres_server, url)


@pytest.fixture
async def connection(url: DatabaseUrl) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(url.dsn)
    yield connection
    await connection.close()


@asynccontextmanager
async def open_transaction(url: DatabaseUrl) -> AsyncIterator[None]:
    """Somebody who has written a text and does not commit yet."""
    connection = await asyncpg.connect(url.dsn)
    try:
        async with connection.transaction():
            await connection.execute("UPDATE sms_messages SET delivery_status = 'received' WHERE conversation_seq = 1")
            yield
    finally:
        await connection.close()


async def until(connection: asyncpg.Connection, question: str) -> list[asyncpg.Record]:
    """Ask until there are rows, and return them."""
    while True:
        if rows := await connection.fetch(question):
            return rows
        await asyncio.sleep(0.01)


async def assert_all_is_done(connection: asyncpg.Connection) -> None:
    assert await connection.fetchval("SELECT version_num FROM alembic_version") == head_revision()
    assert await connection.fetchval(IS_CONSTRAINT_VALID) is True
    assert await connection.fetchval(IS_INDEX_VALID) is True


class TestUpgrade:
    async def test_the_lock_that_stops_everybody_is_not_held_while_rows_are_read(
        self, url: DatabaseUrl, connection: asyncpg.Connection
    ) -> None:
        await runner.migrate_to(url, revision="0003")

        assert await connection.fetchval(IS_CONSTRAINT_VALID) is False
        assert await connection.fetchval(IS_INDEX_VALID) is None
        with pytest.raises(asyncpg.CheckViolationError):
            await connection.execute("UPDATE sms_messages SET is_test = true WHERE conversation_seq = 1")

    async def test_readers_and_writers_do_not_wait_for_the_index(
        self, url: DatabaseUrl, connection: asyncpg.Connection
    ) -> None:
        await runner.migrate_to(url, revision="0003")
        async with open_transaction(url):
            migration = asyncio.create_task(runner.upgrade(url))
            await until(connection, BUILDER_THAT_WAITS)

            async with connection.transaction():
                await connection.execute("SET LOCAL lock_timeout = 1")
                await connection.execute(ADD_MESSAGES, 1001, 1002)
                assert await connection.fetchval("SELECT count(*) FROM sms_messages") == 1002
            assert not migration.done()
        await migration

        await assert_all_is_done(connection)

    async def test_goes_through_beside_transactions_that_come_and_go(
        self, url: DatabaseUrl, connection: asyncpg.Connection
    ) -> None:
        over = asyncio.Event()

        async def keep_busy(first: int) -> int:
            own = await asyncpg.connect(url.dsn)
            rounds = 0
            while not over.is_set() or not rounds:
                async with own.transaction():
                    await own.execute(ADD_MESSAGES, first + rounds, first + rounds)
                    await own.fetch("SELECT id FROM sms_messages ORDER BY id LIMIT 10")
                    await asyncio.sleep(0.02)
                rounds += 1
            await own.close()
            return rounds

        busy = [asyncio.create_task(keep_busy(first)) for first in (10_000, 20_000, 30_000)]
        await until(connection, "SELECT FROM sms_messages WHERE conversation_seq >= 30000")
        try:
            await runner.upgrade(url)
        finally:
            over.set()
            rounds = await asyncio.gather(*busy)

        await assert_all_is_done(connection)
        assert await connection.fetchval("SELECT count(*) FROM sms_messages") == 1000 + sum(rounds)

    async def test_several_at_once_do_not_wait_for_each_other_for_ever(
        self, url: DatabaseUrl, connection: asyncpg.Connection
    ) -> None:
        """Those that wait for the lock must not keep a snapshot, which the index would wait for."""
        await runner.migrate_to(url, revision="0003")
        async with open_transaction(url):
            first = asyncio.create_task(runner.upgrade(url))
            await until(connection, BUILDER_THAT_WAITS)
            others = [asyncio.create_task(runner.upgrade(url)) for _ in range(4)]
            await until(connection, f"{ANYONE_AT_WORK} OFFSET 5")  # the first one's two, and one of each other
        while not all(each.done() for each in (first, *others)):
            assert await connection.fetch(WAITS_FOR_THE_LOCK) == []
            await asyncio.sleep(0.01)
        await asyncio.gather(first, *others)

        await assert_all_is_done(connection)

    async def test_keeps_what_came_before_the_one_that_fails(
        self, url: DatabaseUrl, connection: asyncpg.Connection
    ) -> None:
        await runner.migrate_to(url, revision="base")
        await connection.execute("CREATE TABLE auth_roles ()")  # in the way of the third

        with pytest.raises(StartupError, match="DuplicateTableError"):
            await runner.upgrade(url)

        assert await connection.fetchval("SELECT version_num FROM alembic_version") == "0002"
        assert await connection.fetchval("SELECT to_regclass('auth_clients')") is None
        await connection.execute("DROP TABLE auth_roles")
        await runner.upgrade(url)
        await assert_all_is_done(connection)

    async def test_gives_up_when_somebody_stays_for_long_and_succeeds_afterwards(
        self, url: DatabaseUrl, connection: asyncpg.Connection
    ) -> None:
        async with open_transaction(url):
            with pytest.raises(StartupError, match="LockNotAvailableError"):
                await runner.upgrade(url)
            assert await connection.fetchval("SELECT version_num FROM alembic_version") == "0002"

        await runner.upgrade(url)
        await assert_all_is_done(connection)


class TestKilled:
    @pytest.mark.parametrize("is_server_process_left", [True, False])
    async def test_in_the_middle_of_the_index_it_can_be_repeated(
        self, url: DatabaseUrl, connection: asyncpg.Connection, is_server_process_left: bool
    ) -> None:
        await runner.migrate_to(url, revision="0003")
        async with open_transaction(url):
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "sms_foundation", "migrate"), env={**os.environ, "DATABASE_URL": url.dsn}
            )
            builder = (await until(connection, BUILDER_THAT_WAITS))[0][0]
            process.kill()
            await process.wait()
            if not is_server_process_left:
                await connection.execute("SELECT pg_terminate_backend($1)", builder)
                await until(connection, f"SELECT WHERE NOT EXISTS ({ANYONE_AT_WORK})")
            assert await connection.fetchval("SELECT version_num FROM alembic_version") == "0003"
            assert await connection.fetchval(IS_INDEX_VALID) is False

            again = asyncio.create_task(runner.upgrade(url))
            await until(connection, f"{ANYONE_AT_WORK} AND query LIKE 'DROP INDEX CONCURRENTLY%'")
        await again

        await assert_all_is_done(connection)
        assert await runner.find_drift(url) is None

    async def test_after_the_index_it_can_be_repeated(self, url: DatabaseUrl, connection: asyncpg.Connection) -> None:
        await runner.upgrade(url)
        await connection.execute("UPDATE alembic_version SET version_num = '0003'")

        await runner.upgrade(url)

        await assert_all_is_done(connection)


class TestPlainAlembic:
    async def test_goes_up_and_down(self, url: DatabaseUrl, connection: asyncpg.Connection) -> None:
        for arguments, revision in (("upgrade", "head"), ("downgrade", "0002"), ("upgrade", "head")):
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-W", "error", "-m", "alembic", arguments, revision),
                env={**os.environ, "DATABASE_URL": url.dsn},
            )
            assert await process.wait() == 0

        await assert_all_is_done(connection)
