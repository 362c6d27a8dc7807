"""The SQL of work rows, on real rows and, where it is about races, on two connections."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import orjson
import pytest

from sms_foundation.core.db import Connection, Database
from sms_foundation.core.work import queue
from sms_foundation.core.work.queue import Lane, NewWork, Priority, Work

MINE, THEIRS = uuid4(), uuid4()
LEASE = timedelta(seconds=60)


@pytest.fixture
async def connection(database: Database) -> AsyncIterator[Connection]:
    async with database.connection() as connection:
        yield connection


@pytest.fixture
async def other(database: Database) -> AsyncIterator[Connection]:
    """A second connection: another worker."""
    async with database.connection() as connection:
        yield connection


def new(number: int = 0, *, kind: str = "send", **more: object) -> NewWork:
    return NewWork(kind, UUID(int=number), **more)  # type: ignore[arg-type]


async def enqueue(connection: Connection, *work: NewWork) -> None:
    async with connection.transaction():
        await queue.enqueue(connection, work)


LANES = [Lane("send", Priority.NORMAL, 100), Lane("other", Priority.NORMAL, 100)]


async def claim(
    connection: Connection,
    *,
    limit: int = 100,
    token: UUID = MINE,
    lease: timedelta = LEASE,
    lanes: Sequence[Lane] | None = None,
) -> list[Work]:
    lanes = lanes or [Lane("send", Priority.NORMAL, limit)]
    return await queue.claim(connection, lanes=lanes, limit=limit, lease_token=token, lease=lease)


async def seconds_until_next(connection: Connection) -> float | None:
    return await queue.seconds_until_next(connection, lanes=[Lane("send", Priority.NORMAL, 1)])


def numbers(work: Sequence[Work]) -> list[int]:
    return [each.ref_id.int for each in work]


async def states(connection: Connection) -> list[tuple[int, str, int]]:
    """(number, state, attempts) of all rows, in order of id."""
    rows = await connection.fetch("SELECT ref_id, state, attempts FROM work ORDER BY id")
    return [(row[0].int, row[1], row[2]) for row in rows]


class TestEnqueue:
    async def test_becomes_due_when_the_callers_transaction_commits(
        self, connection: Connection, other: Connection
    ) -> None:
        async with connection.transaction():
            await queue.enqueue(connection, [new(1)])
            assert await claim(other) == []

        assert numbers(await claim(other)) == [1]

    async def test_is_undone_with_the_callers_transaction(self, connection: Connection) -> None:
        transaction = connection.transaction()
        await transaction.start()
        await queue.enqueue(connection, [new(1)])
        await transaction.rollback()

        assert await states(connection) == []

    async def test_a_delay_postpones_it(self, connection: Connection) -> None:
        await enqueue(connection, new(1, delay=timedelta(hours=1)), new(2))

        assert numbers(await claim(connection)) == [2]
        seconds = await seconds_until_next(connection)
        assert seconds is not None
        assert 3500 < seconds <= 3600

    async def test_of_one_unique_key_only_one_row_is_open(self, connection: Connection) -> None:
        await enqueue(connection, new(1, unique_key="a"), new(2, unique_key="a"), new(3, unique_key="b"), new(4))
        await enqueue(connection, new(5, unique_key="a"))
        assert [row[0] for row in await states(connection)] == [1, 3, 4]

        held = await claim(connection)
        await enqueue(connection, new(6, unique_key="a"))  # also while it is being run
        await queue.finish(connection, held)
        await enqueue(connection, new(7, unique_key="a"))
        assert await states(connection) == [(7, "due", 0)]

    async def test_a_unique_key_enqueued_by_two_at_once_is_one_row(
        self, connection: Connection, other: Connection
    ) -> None:
        async with connection.transaction():
            await queue.enqueue(connection, [new(1, unique_key="a")])
            second = asyncio.create_task(enqueue(other, new(2, unique_key="a")))
            await asyncio.sleep(0.02)
        await second

        assert [row[0] for row in await states(connection)] == [1]

    async def test_a_dead_row_does_not_hold_its_unique_key(self, connection: Connection) -> None:
        await enqueue(connection, new(1, unique_key="a"))
        await queue.put_aside(connection, (await claim(connection))[0], error="no")
        await enqueue(connection, new(2, unique_key="a"))

        assert await states(connection) == [(1, "dead", 1), (2, "due", 0)]


class TestClaim:
    async def test_takes_the_oldest_first_and_no_more_than_asked_for(self, connection: Connection) -> None:
        await enqueue(connection, *(new(n) for n in range(5)))

        assert numbers(await claim(connection, limit=2)) == [0, 1]
        assert numbers(await claim(connection, limit=9)) == [2, 3, 4]
        assert await claim(connection) == []

    async def test_leases_the_row_to_the_token_and_counts_the_attempt(self, connection: Connection) -> None:
        await enqueue(connection, new(1))

        (work,) = await claim(connection, token=THEIRS)

        assert (work.kind, work.attempts, work.lease_token) == ("send", 1, THEIRS)
        row = await connection.fetchrow("SELECT state, lease_token, lease_until - now() AS left FROM work")
        assert (row["state"], row["lease_token"]) == ("leased", THEIRS)
        assert timedelta(seconds=50) < row["left"] <= LEASE

    async def test_leaves_work_of_unknown_kinds_alone(self, connection: Connection) -> None:
        await enqueue(connection, new(1, kind="from a newer release"), new(2))

        assert numbers(await claim(connection)) == [2]
        assert await seconds_until_next(connection) is None

    async def test_two_at_once_share_without_waiting_for_each_other(
        self, connection: Connection, other: Connection
    ) -> None:
        await enqueue(connection, *(new(n) for n in range(6)))
        async with connection.transaction():
            mine = await claim(connection, limit=3)
            theirs = await claim(other, limit=6, token=THEIRS)

        assert (numbers(mine), numbers(theirs)) == ([0, 1, 2], [3, 4, 5])


class TestLanes:
    URGENT, NORMAL, BULK = (Lane("send", priority, 100) for priority in Priority)

    async def test_are_walked_in_the_order_given_and_no_further_than_the_limit(self, connection: Connection) -> None:
        for number, priority in enumerate([Priority.BULK, Priority.NORMAL, Priority.URGENT, Priority.NORMAL]):
            await enqueue(connection, new(number, priority=priority))

        first = await claim(connection, limit=2, lanes=[self.URGENT, self.NORMAL, self.BULK])
        second = await claim(connection, limit=2, lanes=[self.URGENT, self.NORMAL, self.BULK])

        assert sorted(numbers(first)) == [1, 2]
        assert sorted(numbers(second)) == [0, 3]
        assert {work.ref_id.int: work.priority for work in first} == {1: Priority.NORMAL, 2: Priority.URGENT}

    async def test_give_no_more_than_their_room(self, connection: Connection) -> None:
        await enqueue(connection, *(new(n, priority=Priority.BULK) for n in range(10)), new(10))

        lanes = [Lane("send", Priority.NORMAL, 5), Lane("send", Priority.BULK, 3)]
        assert numbers(await claim(connection, lanes=lanes)) == [0, 1, 2, 10]

    async def test_that_are_not_named_are_left_alone(self, connection: Connection) -> None:
        await enqueue(connection, new(1, priority=Priority.BULK), new(2, kind="other"))

        assert await claim(connection, lanes=[self.URGENT, self.NORMAL]) == []
        assert await queue.seconds_until_next(connection, lanes=[self.URGENT, self.NORMAL]) is None

    async def test_say_when_the_next_of_any_of_them_is_due(self, connection: Connection) -> None:
        await enqueue(
            connection,
            new(1, priority=Priority.BULK, delay=timedelta(seconds=50)),
            new(2, priority=Priority.URGENT, delay=timedelta(seconds=500)),
        )

        seconds = await queue.seconds_until_next(connection, lanes=[self.URGENT, self.BULK])
        assert seconds is not None
        assert 40 < seconds <= 50


class TestOrderKey:
    async def test_only_the_oldest_of_a_key_is_claimed(self, connection: Connection) -> None:
        await enqueue(connection, *(new(n, order_key="ab"[n % 2]) for n in range(6)), new(6))

        for batch in ([0, 1, 6], [2, 3], [4, 5], []):
            held = await claim(connection)
            assert numbers(held) == batch
            assert await claim(connection) == []
            await queue.finish(connection, held)

    async def test_one_that_waits_for_its_next_try_holds_the_others_back(self, connection: Connection) -> None:
        await enqueue(connection, new(1, order_key="a"), new(2, order_key="a"))
        (work,) = await claim(connection)
        await queue.retry_later(connection, work, delay=timedelta(hours=1), error="not now")

        assert await claim(connection) == []

    async def test_a_dead_one_lets_the_others_go(self, connection: Connection) -> None:
        await enqueue(connection, new(1, order_key="a"), new(2, order_key="a"))
        await queue.put_aside(connection, (await claim(connection))[0], error="no")

        assert numbers(await claim(connection)) == [2]

    async def test_an_older_one_replayed_waits_for_the_one_that_runs(self, connection: Connection) -> None:
        await enqueue(connection, new(1, order_key="a"), new(2, order_key="a"))
        await queue.put_aside(connection, (await claim(connection))[0], error="no")
        running = await claim(connection)
        await queue.replay_dead(connection)
        assert await claim(connection) == []

        await queue.finish(connection, running)
        assert numbers(await claim(connection)) == [1]

    async def test_id_order_is_commit_order(self, connection: Connection, other: Connection) -> None:
        """Who enqueues first commits first: the other waits, or a lower id could appear after a higher one ran."""
        async with connection.transaction():
            await queue.enqueue(connection, [new(1, order_key="a")])
            later = asyncio.create_task(enqueue(other, new(2, order_key="a")))
            await asyncio.wait([later], timeout=0.05)
            assert not later.done()
        await later

        assert [row[0] for row in await states(connection)] == [1, 2]

    async def test_other_keys_are_not_waited_for(self, connection: Connection, other: Connection) -> None:
        async with connection.transaction():
            await queue.enqueue(connection, [new(1, order_key="a")])
            await enqueue(other, new(2, order_key="b"))

        assert sorted(row[0] for row in await states(connection)) == [1, 2]

    async def test_keys_in_any_order_never_deadlock(self, connection: Connection, other: Connection) -> None:
        async def add(via: Connection, keys: str) -> None:
            for _ in range(30):
                await enqueue(via, *(new(order_key=key) for key in keys))

        await asyncio.gather(add(connection, "abcd"), add(other, "dcba"))

        assert len(await states(connection)) == 240

    async def test_two_workers_keep_the_order(self, database: Database) -> None:
        async with database.transaction() as connection:
            await queue.enqueue(connection, [new(n, order_key=f"key-{n % 5}") for n in range(60)])
        started: list[int] = []
        running: set[int] = set()

        async def work_off(token: UUID) -> None:
            while len(started) < 60:
                async with database.connection() as connection:
                    held = await claim(connection, limit=3, token=token)
                for each in held:
                    key = each.ref_id.int % 5
                    assert key not in running
                    running.add(key)
                    started.append(each.ref_id.int)
                await asyncio.sleep(0)
                running.difference_update(each.ref_id.int % 5 for each in held)
                async with database.connection() as connection:
                    await queue.finish(connection, held)

        async with asyncio.timeout(30):
            await asyncio.gather(work_off(MINE), work_off(THEIRS))

        for key in range(5):
            assert [n for n in started if n % 5 == key] == list(range(key, 60, 5))

    async def test_the_database_refuses_two_running_under_one_key(self, connection: Connection) -> None:
        await enqueue(connection, new(1, order_key="a"), new(2, order_key="a"))

        with pytest.raises(asyncpg.UniqueViolationError):
            await connection.execute("UPDATE work SET state = 'leased', lease_token = $1, lease_until = now()", MINE)


class TestLeaseToken:
    async def test_a_late_finisher_does_not_delete_what_somebody_took_over(self, connection: Connection) -> None:
        await enqueue(connection, new(1), new(2))
        mine = await claim(connection, lease=timedelta(0))
        await queue.take_over_expired(connection, max_attempts=9)
        theirs = await claim(connection, token=THEIRS, limit=1)

        assert await queue.finish(connection, mine) == set()
        assert await queue.finish(connection, theirs) == {theirs[0].id}
        assert await states(connection) == [(2, "due", 1)]

    async def test_a_late_outcome_of_any_kind_changes_nothing(self, connection: Connection) -> None:
        await enqueue(connection, new(1))
        (late,) = await claim(connection, lease=timedelta(0))
        await queue.take_over_expired(connection, max_attempts=9)
        await claim(connection, token=THEIRS)
        before = await connection.fetchrow("SELECT * FROM work")

        await queue.retry_later(connection, late, delay=timedelta(0), error="late")
        await queue.put_aside(connection, late, error="late")
        await queue.run_again(connection, late, delay=timedelta(0))
        await queue.give_back(connection, [late])
        assert await queue.release(connection, MINE) == 0

        assert await connection.fetchrow("SELECT * FROM work") == before


class TestPostpone:
    async def test_makes_rows_due_later_as_if_they_had_not_been_started(self, connection: Connection) -> None:
        await enqueue(connection, new(1), new(2))
        soon, later = await claim(connection)
        await queue.postpone(
            connection, [(soon, timedelta(0), "first in line"), (later, timedelta(hours=1), "x" * 1000)]
        )

        assert await states(connection) == [(1, "due", 0), (2, "due", 0)]
        assert numbers(await claim(connection)) == [1]
        errors = await connection.fetch("SELECT last_error FROM work ORDER BY id")
        assert [row[0] for row in errors] == ["first in line", "x" * 500]

    async def test_of_one_of_a_key_still_holds_the_others_back(self, connection: Connection) -> None:
        await enqueue(connection, new(1, order_key="a"), new(2, order_key="a"))
        (first,) = await claim(connection)
        await queue.postpone(connection, [(first, timedelta(hours=1), "not its turn")])

        assert await claim(connection) == []

    async def test_of_what_somebody_took_over_changes_nothing(self, connection: Connection) -> None:
        await enqueue(connection, new(1))
        (late,) = await claim(connection, lease=timedelta(0))
        await queue.take_over_expired(connection, max_attempts=9)
        await claim(connection, token=THEIRS)
        before = await connection.fetchrow("SELECT * FROM work")
        await queue.postpone(connection, [(late, timedelta(0), "late")])

        assert await connection.fetchrow("SELECT * FROM work") == before


class TestTakeOverExpired:
    async def test_makes_due_what_nobody_holds_any_more(self, connection: Connection) -> None:
        await enqueue(connection, new(1), new(2))
        await claim(connection, limit=1, lease=timedelta(0))
        await claim(connection, limit=1)

        assert await queue.take_over_expired(connection, max_attempts=9) == 1
        assert await states(connection) == [(1, "due", 1), (2, "leased", 1)]
        assert [each.attempts for each in await claim(connection)] == [2]

    async def test_what_killed_its_process_too_often_is_dead(self, connection: Connection) -> None:
        await enqueue(connection, new(1))
        for _ in range(3):
            await claim(connection, lease=timedelta(0))
            await queue.take_over_expired(connection, max_attempts=3)

        assert await states(connection) == [(1, "dead", 3)]
        (dead,) = await queue.list_dead(connection)
        assert dead.last_error == "the process that ran it died or hung (lease expired)"

    async def test_does_not_wait_for_a_holder_that_is_finishing(
        self, connection: Connection, other: Connection
    ) -> None:
        await enqueue(connection, new(1))
        held = await claim(connection, lease=timedelta(0))
        async with connection.transaction():
            await queue.finish(connection, held)
            assert await queue.take_over_expired(other, max_attempts=9) == 0

        assert await states(connection) == []


class TestOutcomes:
    async def test_a_retry_is_due_after_its_delay_with_its_error(self, connection: Connection) -> None:
        await enqueue(connection, new(1), new(2))
        soon, later = await claim(connection)
        await queue.retry_later(connection, soon, delay=timedelta(0), error="x" * 1000)
        await queue.retry_later(connection, later, delay=timedelta(hours=1), error="y")

        assert numbers(await claim(connection)) == [1]
        assert await connection.fetchval("SELECT last_error FROM work WHERE id = $1", soon.id) == "x" * 500

    async def test_recurring_work_begins_to_count_anew(self, connection: Connection) -> None:
        await enqueue(connection, new(1))
        await queue.retry_later(connection, (await claim(connection))[0], delay=timedelta(0), error="failed once")
        await queue.run_again(connection, (await claim(connection))[0], delay=timedelta(0))

        (again,) = await claim(connection)
        assert again.attempts == 1
        assert await connection.fetchval("SELECT last_error FROM work") is None

    async def test_what_was_never_started_is_given_back_as_if_never_claimed(self, connection: Connection) -> None:
        await enqueue(connection, new(1), new(2))
        await queue.give_back(connection, await claim(connection))

        assert await states(connection) == [(1, "due", 0), (2, "due", 0)]
        assert numbers(await claim(connection, token=THEIRS)) == [1, 2]

    async def test_release_gives_back_all_of_one_holder(self, connection: Connection) -> None:
        await enqueue(connection, new(1), new(2))
        await claim(connection, limit=1)
        await claim(connection, token=THEIRS)

        assert await queue.release(connection, MINE) == 1
        assert await states(connection) == [(1, "due", 0), (2, "leased", 1)]


class TestDead:
    async def test_are_listed_oldest_first_with_their_last_error(self, connection: Connection) -> None:
        await enqueue(connection, new(1), new(2, kind="other"), new(3), new(4))
        for work in (await claim(connection, lanes=LANES))[:3]:
            await queue.put_aside(connection, work, error=f"refused {work.ref_id.int}")

        dead = await queue.list_dead(connection)

        assert [(each.ref_id.int, each.kind, each.attempts, each.last_error) for each in dead] == [
            (1, "send", 1, "refused 1"),
            (2, "other", 1, "refused 2"),
            (3, "send", 1, "refused 3"),
        ]
        assert all(datetime.now(UTC) - each.created_at < timedelta(minutes=5) for each in dead)
        assert [each.ref_id.int for each in await queue.list_dead(connection, kind="send", limit=1)] == [1]

    async def test_are_replayed_with_all_their_attempts_back(self, connection: Connection) -> None:
        await enqueue(connection, *(new(n, kind="send" if n < 3 else "other") for n in range(4)))
        for work in await claim(connection, lanes=LANES):
            await queue.put_aside(connection, work, error="no")
        first = (await queue.list_dead(connection))[0].id

        assert await queue.replay_dead(connection, ids=[first, 10**9]) == 1
        assert await queue.replay_dead(connection, kind="other") == 1
        assert await states(connection) == [(0, "due", 0), (1, "dead", 1), (2, "dead", 1), (3, "due", 0)]
        assert await queue.replay_dead(connection) == 2
        assert await queue.replay_dead(connection) == 0

    async def test_one_whose_key_has_a_successor_stays_dead(self, connection: Connection) -> None:
        for number in (1, 2):
            await enqueue(connection, new(number, unique_key="a"))
            await queue.put_aside(connection, (await claim(connection))[0], error="no")

        assert await queue.replay_dead(connection) == 1
        assert await states(connection) == [(1, "dead", 1), (2, "due", 0)]
        assert await queue.replay_dead(connection) == 0


class TestBacklog:
    async def test_counts_by_kind_and_state(self, connection: Connection) -> None:
        await enqueue(connection, *(new(n) for n in range(4)), new(9, delay=timedelta(hours=1)), new(10, kind="other"))
        await queue.put_aside(connection, (await claim(connection, limit=2))[0], error="no")
        await connection.execute(
            "UPDATE work SET run_at = now() - interval '90 seconds' WHERE ref_id = $1", UUID(int=3)
        )

        other, send = await queue.backlog(connection)

        assert (other.kind, other.due, other.dead) == ("other", 1, 0)
        assert (send.due, send.scheduled, send.leased, send.dead) == (2, 1, 1, 1)
        assert 90 <= send.oldest_due_s < 600
        seconds = await seconds_until_next(connection)
        assert seconds is not None
        assert seconds > 3500  # what is due already is claimed, not waited for

    async def test_counts_no_further_than_told_and_knows_the_oldest_all_the_same(self, connection: Connection) -> None:
        later = timedelta(hours=1)
        await enqueue(connection, *(new(n, priority=priority) for priority in Priority for n in range(5)))
        await enqueue(connection, *(new(n, delay=later) for n in range(5)), *(new(n, kind="other") for n in range(2)))
        await enqueue(connection, *(new(n, kind="dead") for n in range(5)), *(new(n, kind="leased") for n in range(5)))
        await connection.execute("UPDATE work SET state = 'dead' WHERE kind = 'dead'")
        await claim(connection, lanes=[Lane("leased", Priority.NORMAL, 5)])
        await connection.execute("UPDATE work SET run_at = now() - interval '90 seconds' WHERE id = 12")

        dead, leased, other, send = await queue.backlog(connection, count_at_most=3)

        assert (dead.kind, dead.dead) == ("dead", 3)
        assert (leased.kind, leased.leased) == ("leased", 3)
        assert (other.kind, other.due, other.scheduled) == ("other", 2, 0)
        assert (send.kind, send.due, send.scheduled) == ("send", 3 * len(Priority), 3)
        assert 90 <= send.oldest_due_s < 600

    async def test_reads_no_more_rows_however_many_there_are(self, connection: Connection) -> None:
        await enqueue(connection, *(new(n) for n in range(300)), *(new(n, delay=timedelta(1)) for n in range(300)))
        await enqueue(connection, *(new(n, kind="dead") for n in range(300)))
        await connection.execute("UPDATE work SET state = 'dead' WHERE kind = 'dead'")
        await connection.execute("ANALYZE work")  # as autovacuum does

        (told,) = await connection.fetchrow("EXPLAIN (ANALYZE, FORMAT JSON) " + queue._BACKLOG.replace("$1", "5"))

        scans = [node for node in walk(orjson.loads(told)[0]["Plan"]) if node.get("Relation Name") == "work"]
        assert max(node["Actual Rows"] for node in scans) <= 5
        assert {node["Node Type"] for node in scans} <= {"Index Scan", "Index Only Scan"}


def walk(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("Plans", []):
        yield from walk(child)
