"""What only the keeper in PostgreSQL must do: locks, one statement, poolers, and what it says in an outage."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from asyncpg.connection import LoggedQuery

from sms_foundation.core.config import Settings
from sms_foundation.core.db import Connection, Database, DatabaseUrl, parse_database_url
from sms_foundation.core.rates.base import Denied, RatesUnavailableError, Slot, Take, Wish
from sms_foundation.core.rates.postgres import PostgresRates, forget_idle
from tests.core.test_db_pooler import pooler_for, through
from tests.support.processes import eventually
from tests.support.service import make_settings

MINUTE = 60.0
# Those who wait for a lock in this test's database; other tests have theirs on the same server.
WAITING = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


def wish(key: str = "a", *, horizon_s: float = 10_000.0) -> Wish:
    return Wish(key, MINUTE, 1, horizon_s)


@pytest.fixture
def rates(database: Database) -> PostgresRates:
    return PostgresRates(database)


@pytest.fixture
async def connection(database: Database) -> AsyncIterator[Connection]:
    """Somebody else's connection."""
    async with database.connection() as connection:
        yield connection


async def put(connection: Connection, key: str, age: timedelta) -> None:
    await connection.execute("INSERT INTO rate_cells VALUES ($1, clock_timestamp() - $2::interval)", key, age)


async def wait_until_somebody_waits(database: Database) -> None:
    async def is_waiting() -> bool:
        async with database.connection() as connection:
            return bool(await connection.fetch(WAITING))

    await eventually(is_waiting, "somebody waits for a lock")


class TestReserve:
    async def test_a_cell_of_the_past_is_as_good_as_none(self, rates: PostgresRates, connection: Connection) -> None:
        await put(connection, "a", timedelta(days=3))

        assert await rates.reserve([wish(), wish()]) == [Slot(0), Slot(MINUTE)]

    async def test_sees_what_the_holder_of_a_lock_has_left(
        self, rates: PostgresRates, database: Database, connection: Connection
    ) -> None:
        """Not what was there when the statement began to wait."""
        await rates.reserve([wish()])
        async with connection.transaction():
            await connection.execute("UPDATE rate_cells SET tat = tat + interval '1 hour'")
            waiting = asyncio.create_task(rates.reserve([wish(horizon_s=3000), wish(), wish()]))
            await wait_until_somebody_waits(database)

        denied, first, second = await waiting

        assert isinstance(denied, Denied)
        assert isinstance(first, Slot)
        assert isinstance(second, Slot)
        assert 3600 < first.delay_s <= 3660
        assert second.delay_s == pytest.approx(first.delay_s + MINUTE)
        left = await connection.fetchval("SELECT tat - clock_timestamp() FROM rate_cells")
        assert timedelta(seconds=3700) < left <= timedelta(seconds=3780)

    async def test_no_slot_begins_while_it_still_waits(
        self, rates: PostgresRates, database: Database, connection: Connection
    ) -> None:
        await put(connection, "a", timedelta(hours=1))
        await put(connection, "b", timedelta(hours=1))
        async with connection.transaction():
            await connection.execute("SELECT FROM rate_cells WHERE key = 'b' FOR UPDATE")
            waiting = asyncio.create_task(rates.reserve([wish("a"), wish("b")]))
            await wait_until_somebody_waits(database)
            released_at: datetime = await connection.fetchval("SELECT clock_timestamp()")

        assert await waiting == [Slot(0), Slot(0)]
        for row in await connection.fetch("SELECT tat FROM rate_cells"):
            assert row[0] - timedelta(seconds=MINUTE) >= released_at

    async def test_locks_in_the_order_of_keys_so_that_two_never_wait_in_a_circle(
        self, rates: PostgresRates, database: Database, connection: Connection
    ) -> None:
        await rates.reserve([wish("a"), wish("b"), wish("c")])
        async with connection.transaction():
            await connection.execute("SELECT FROM rate_cells WHERE key = 'b' FOR UPDATE")
            waiting = asyncio.create_task(rates.reserve([wish("c"), wish("b"), wish("a")]))
            await wait_until_somebody_waits(database)
            async with database.connection() as third:
                free = await third.fetch("SELECT key FROM rate_cells FOR UPDATE SKIP LOCKED")
            assert [row[0] for row in free] == ["c"]
        await waiting

    async def test_known_keys_take_one_statement_however_many_there_are(self, database_url: DatabaseUrl) -> None:
        database = Database(database_url, make_settings(database_pool_size=2))
        await database.open()
        rates = PostgresRates(database)
        wishes = [wish(f"key-{n % 8}") for n in range(64)]
        await rates.reserve(wishes)
        statements: list[LoggedQuery] = []

        async with database.connection() as one, database.connection() as other:
            one.add_query_logger(statements.append)
            other.add_query_logger(statements.append)
        await rates.reserve(wishes)
        await database.close()

        assert len(statements) == 1

    async def test_so_do_new_keys(self, database_url: DatabaseUrl) -> None:
        database = Database(database_url, make_settings(database_pool_size=2))
        await database.open()
        rates = PostgresRates(database)
        await rates.reserve([wish("known")])
        statements: list[LoggedQuery] = []

        async with database.connection() as one, database.connection() as other:
            one.add_query_logger(statements.append)
            other.add_query_logger(statements.append)
        outcomes = await rates.reserve([wish("b"), wish("a"), wish("known"), wish("b"), wish("c", horizon_s=0)])
        await database.close()

        assert len(statements) == 1
        assert [outcomes[0], outcomes[1], outcomes[3], outcomes[4]] == [Slot(0), Slot(0), Slot(MINUTE), Slot(0)]

    async def test_a_key_that_somebody_else_makes_at_the_same_moment_is_one_key(
        self, rates: PostgresRates, database: Database, connection: Connection
    ) -> None:
        async with connection.transaction():
            await connection.execute("INSERT INTO rate_cells VALUES ('b', clock_timestamp() + interval '1 hour')")
            waiting = asyncio.create_task(rates.reserve([wish("a"), wish("b"), wish("c"), wish("b")]))
            await wait_until_somebody_waits(database)

        a, b, c, b_again = await waiting

        assert (a, c) == (Slot(0), Slot(0))
        assert isinstance(b, Slot)
        assert isinstance(b_again, Slot)
        assert 3500 < b.delay_s <= 3600
        assert b_again.delay_s == pytest.approx(b.delay_s + MINUTE)

    async def test_new_keys_in_opposite_order_let_everybody_through(self, rates: PostgresRates) -> None:
        keys = [f"key-{n}" for n in range(40)]

        answers = await asyncio.gather(*(rates.reserve([wish(key) for key in keys[:: (-1) ** n]]) for n in range(12)))

        assert {round(room_s / MINUTE) for room_s in (await rates.read(keys)).values()} == {12}
        assert all(isinstance(outcome, Slot) for answer in answers for outcome in answer)

    async def test_a_connection_that_breaks_in_the_middle_is_replaced(
        self, rates: PostgresRates, database: Database, connection: Connection
    ) -> None:
        await rates.reserve([wish()])
        async with connection.transaction():
            await connection.execute("SELECT FROM rate_cells FOR UPDATE")
            waiting = asyncio.create_task(rates.reserve([wish()]))
            await wait_until_somebody_waits(database)
            await connection.execute(f"SELECT pg_terminate_backend(pid) FROM ({WAITING}) AS waiting")

        (outcome,) = await waiting

        assert isinstance(outcome, Slot)
        assert 0 < outcome.delay_s <= MINUTE

    async def test_an_unreachable_database_is_one_clear_error(self, settings: Settings, tmp_path: Path) -> None:
        database = Database(parse_database_url(f"postgresql://u:secret@/sms?host={tmp_path}"), settings)
        await database.open()
        rates = PostgresRates(database)

        with pytest.raises(RatesUnavailableError, match="the database that keeps rates") as caught:
            await rates.reserve([wish()])
        with pytest.raises(RatesUnavailableError):
            await rates.read(["a"])

        await database.close()
        assert "secret" not in str(caught.value)


class TestTake:
    @pytest.mark.parametrize("costs_us", [[60_000_000] * 3, [60_000_000, 1_000_000, 2_000_000]], ids=["alike", "not"])
    async def test_keys_that_differ_take_one_statement(self, database_url: DatabaseUrl, costs_us: list[int]) -> None:
        database = Database(database_url, make_settings(database_pool_size=2))
        await database.open()
        rates = PostgresRates(database)
        takes = [Take(f"key-{n % 3}", costs_us[n % 3], 3_600_000_000) for n in range(3)]
        await rates.take(takes[:1])
        statements: list[LoggedQuery] = []

        async with database.connection() as one, database.connection() as other:
            one.add_query_logger(statements.append)
            other.add_query_logger(statements.append)
        await rates.take(takes)
        await database.close()

        assert len(statements) == 1

    async def test_sees_what_the_holder_of_a_lock_has_left(
        self, rates: PostgresRates, database: Database, connection: Connection
    ) -> None:
        await rates.take([Take("a", 1000, 0)])
        async with connection.transaction():
            await connection.execute("UPDATE rate_cells SET tat = clock_timestamp() + interval '1 hour'")
            waiting = asyncio.create_task(rates.take([Take("a", 1000, 60_000_000)]))
            await wait_until_somebody_waits(database)

        (outcome,) = await waiting

        assert isinstance(outcome, Denied)
        assert 3500 < outcome.wait_s <= 3540

    async def test_a_connection_that_breaks_in_the_middle_is_replaced(
        self, rates: PostgresRates, database: Database, connection: Connection
    ) -> None:
        await rates.take([Take("a", 1000, 0)])
        async with connection.transaction():
            await connection.execute("SELECT FROM rate_cells FOR UPDATE")
            waiting = asyncio.create_task(rates.give_back({"a": 1000}))
            await wait_until_somebody_waits(database)
            await connection.execute(f"SELECT pg_terminate_backend(pid) FROM ({WAITING}) AS waiting")

        await waiting


class TestBehindATransactionPooler:
    async def test_slots_are_handed_out_as_without_one(self, database_url: DatabaseUrl) -> None:
        async with pooler_for(database_url) as pooler:
            database = Database(through(pooler, database_url), make_settings())
            await database.open()
            rates = PostgresRates(database)

            answers = await asyncio.gather(*(rates.reserve([wish(), wish("b")]) for _ in range(20)))
            room_in_s = await rates.read(["a", "b"])

            await database.close()
        assert all(isinstance(outcome, Slot) for answer in answers for outcome in answer)
        assert {round(room_s / MINUTE) for room_s in room_in_s.values()} == {20}


class TestForgetIdle:
    async def test_deletes_what_nobody_has_used_for_an_hour(self, rates: PostgresRates, connection: Connection) -> None:
        await put(connection, "old", timedelta(minutes=61))
        await put(connection, "older", timedelta(days=9))
        await put(connection, "young", timedelta(minutes=59))
        await rates.reserve([wish("busy")])

        assert await forget_idle(connection) == 2
        assert await forget_idle(connection) == 0
        assert {row[0] for row in await connection.fetch("SELECT key FROM rate_cells")} == {"young", "busy"}
        assert await rates.reserve([wish("old")]) == [Slot(0)]

    async def test_leaves_a_cell_that_somebody_is_using(self, database: Database, connection: Connection) -> None:
        await put(connection, "a", timedelta(hours=2))
        async with database.transaction() as user:
            await user.execute("SELECT FROM rate_cells FOR UPDATE")

            assert await forget_idle(connection) == 0

    async def test_one_that_is_being_forgotten_is_made_anew(
        self, rates: PostgresRates, database: Database, connection: Connection
    ) -> None:
        await put(connection, "a", timedelta(hours=2))
        async with connection.transaction():
            await forget_idle(connection)
            waiting = asyncio.create_task(rates.reserve([wish(), wish()]))
            await wait_until_somebody_waits(database)

        assert await waiting == [Slot(0), Slot(MINUTE)]
