"""What the pooler breaks, and what it leaves whole; the other tests rely on both."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest

from sms_foundation.core.local_postgres import LocalPostgres
from tests.support.transaction_pooler import TransactionPooler


@pytest.fixture(scope="module")
def socket_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with LocalPostgres(tmp_path_factory.mktemp("pooled"), fast=True) as postgres:
        yield parse_qs(urlsplit(postgres.url).query)["host"][0]


@pytest.fixture
async def pooler(socket_dir: str) -> AsyncIterator[TransactionPooler]:
    async with TransactionPooler(host=socket_dir, user="postgres", database="postgres") as pooler:
        yield pooler


async def connect(pooler: TransactionPooler, **options: Any) -> asyncpg.Connection:
    return await asyncpg.connect(
        host="127.0.0.1", port=pooler.port, user="postgres", database="postgres", **{"ssl": False} | options
    )


class TestTransactions:
    async def test_a_transaction_without_named_statements_works(self, pooler: TransactionPooler) -> None:
        connection = await connect(pooler, statement_cache_size=0)
        for number in range(6):
            async with connection.transaction():
                first = await connection.fetchval("SELECT pg_backend_pid() + 0 * $1::int", number)
                await connection.execute("CREATE TEMP TABLE seen ON COMMIT DROP AS SELECT 1 AS value")
                assert await connection.fetchval("SELECT value FROM seen WHERE $1", True) == 1
                assert await connection.fetchval("SELECT pg_backend_pid()") == first
        await connection.close()

    async def test_an_unnamed_statement_needs_none_around_it(self, pooler: TransactionPooler) -> None:
        """asyncpg prepares it with a Flush and not a Sync, which keeps the backend, and parses it again to run it."""
        connection = await connect(pooler, statement_cache_size=0)
        for number in range(6):
            assert await connection.fetchval("SELECT $1::int", number) == number
        await connection.close()

    async def test_consecutive_ones_run_on_different_backends(self, pooler: TransactionPooler) -> None:
        connection = await connect(pooler, statement_cache_size=0)
        backends = []
        for _ in range(4):
            async with connection.transaction():
                backends.append(await connection.fetchval("SELECT pg_backend_pid()"))
        await connection.close()
        assert len(set(backends)) == 2
        assert backends[:2] == backends[2:]

    async def test_a_failed_one_keeps_its_backend_until_the_rollback(self, pooler: TransactionPooler) -> None:
        connection = await connect(pooler, statement_cache_size=0)
        with pytest.raises(asyncpg.DivisionByZeroError):
            async with connection.transaction():
                await connection.fetchval("SELECT 1 / 0")
        async with connection.transaction():
            assert await connection.fetchval("SELECT 1") == 1
        await connection.close()

    async def test_more_clients_than_backends_wait_for_each_other(self, pooler: TransactionPooler) -> None:
        async def one(number: int) -> int:
            connection = await connect(pooler, statement_cache_size=0)
            async with connection.transaction():
                answer: int = await connection.fetchval("SELECT $1::int FROM pg_sleep(0.01)", number)
            await connection.close()
            return answer

        assert await asyncio.gather(*(one(number) for number in range(10))) == list(range(10))

    async def test_a_client_that_leaves_in_the_middle_is_rolled_back(self, pooler: TransactionPooler) -> None:
        leaving = await connect(pooler, statement_cache_size=0)
        await leaving.execute("BEGIN; SELECT pg_advisory_xact_lock(4711)")
        leaving.terminate()
        staying = await connect(pooler, statement_cache_size=0)
        async with staying.transaction():
            await staying.execute("SELECT pg_advisory_xact_lock(4711)")
        await staying.close()

    async def test_a_statement_can_be_cancelled(self, pooler: TransactionPooler) -> None:
        connection = await connect(pooler, statement_cache_size=0)
        await connection.execute("BEGIN")
        with pytest.raises(TimeoutError):
            await connection.execute("SELECT pg_sleep(60)", timeout=0.1)
        await connection.execute("ROLLBACK")
        async with connection.transaction():
            assert await connection.fetchval("SELECT 1") == 1
        await connection.close()

    async def test_a_restarted_server_is_found_again(self, tmp_path: Path) -> None:
        postgres = LocalPostgres(tmp_path / "data", fast=True).start()
        host = parse_qs(urlsplit(postgres.url).query)["host"][0]
        async with TransactionPooler(host=host, user="postgres", database="postgres") as pooler:
            before = await connect(pooler)  # takes a backend, and gives it back
            await before.execute("SELECT 1")
            postgres.stop()
            postgres.start()
            with pytest.raises(asyncpg.ConnectionDoesNotExistError):
                await before.execute("SELECT 1")
            after = await connect(pooler)
            assert await after.fetchval("SELECT 1") == 1
            await after.close()
        postgres.stop()


class TestWhatBreaks:
    async def test_named_prepared_statements_outside_transactions(self, pooler: TransactionPooler) -> None:
        connection = await connect(pooler)
        assert await connection.fetchval("SELECT $1::int", 1) == 1  # leaves a named statement on this backend
        with pytest.raises(asyncpg.InvalidSQLStatementNameError, match=r"prepared statement .* does not exist"):
            await connection.fetchval("SELECT $1::int", 2)
        connection.terminate()

    async def test_session_advisory_locks(self, pooler: TransactionPooler) -> None:
        connection = await connect(pooler, statement_cache_size=0)
        mine = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_lock(4712)")
            assert await connection.fetchval(mine) == 1
        async with connection.transaction():
            assert await connection.fetchval(mine) == 0
            assert not await connection.fetchval("SELECT pg_try_advisory_lock(4712)")
        await connection.close()

    async def test_settings_outside_a_transaction_which_reach_somebody_else(self, pooler: TransactionPooler) -> None:
        connection, other = await connect(pooler, statement_cache_size=0), await connect(pooler, statement_cache_size=0)
        await connection.execute("SET work_mem = '123kB'")
        shown = []
        for whose in (connection, other):
            async with whose.transaction():
                shown.append(await whose.fetchval("SHOW work_mem"))
        await connection.close()
        await other.close()
        assert shown == ["4MB", "123kB"]

    async def test_encryption_is_not_offered(self, pooler: TransactionPooler) -> None:
        with pytest.raises(ConnectionError, match="rejected SSL"):
            await connect(pooler, ssl="require")
        connection = await connect(pooler, ssl="prefer")
        await connection.execute("SELECT 1")
        await connection.close()

    async def test_startup_parameters_that_no_pooler_tracks(self, pooler: TransactionPooler) -> None:
        with pytest.raises(asyncpg.ProtocolViolationError, match="unsupported startup parameter: statement_timeout"):
            await connect(pooler, server_settings={"statement_timeout": "1000"})
        connection = await connect(pooler, server_settings={"application_name": "sms-foundation"})
        await connection.close()
