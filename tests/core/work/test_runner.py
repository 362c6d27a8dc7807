"""The loop that runs due work, on real rows; a second runner stands for another process."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import timedelta
from uuid import UUID

import asyncpg
import pytest
import structlog

from sms_foundation.core.clock import monotonic
from sms_foundation.core.db import Database, DatabaseUrl
from sms_foundation.core.tracing.context import NOWHERE, Origin, origin, parse_traceparent, resume
from sms_foundation.core.work import queue
from sms_foundation.core.work.metrics import WORK_RUNS
from sms_foundation.core.work.queue import NewWork, Priority, Work
from sms_foundation.core.work.runner import Again, Done, Handler, Later, Outcome, Retry, Settled, WorkRunner
from tests.support.outbound import CountingDatabase
from tests.support.processes import eventually
from tests.support.service import make_settings

SECRET = "Hola, mi clave es 4711"


def make_runner(database: Database, handle: Handler, **changes: object) -> WorkRunner:
    options: dict[str, object] = {"concurrency": 4, "poll_s": 0.02, "lease_s": 60, "max_attempts": 3, **changes}
    return WorkRunner(database, {"send": handle}, **options)  # type: ignore[arg-type]


@asynccontextmanager
async def running(runner: WorkRunner) -> AsyncIterator[WorkRunner]:
    runner.start()
    try:
        yield runner
    finally:
        await runner.stop(5)


async def enqueue(database: Database, numbers: Iterable[int], **more: object) -> None:
    async with database.transaction() as connection:
        await queue.enqueue(connection, [NewWork("send", UUID(int=n), **more) for n in numbers])  # type: ignore[arg-type]


async def rows(database: Database) -> list[asyncpg.Record]:
    return list(await database.pool.fetch("SELECT *, run_at - now() AS pause FROM work ORDER BY id"))


async def until_gone(database: Database) -> None:
    async def is_gone() -> bool:
        return not await rows(database)

    await eventually(is_gone, "all work is done")


async def until_leased(database: Database, number: int) -> None:
    async def is_leased() -> bool:
        return any(row["state"] == "leased" for row in await rows(database) if row["ref_id"].int == number)

    await eventually(is_leased, f"row {number} is leased")


async def until_finished_once(database: Database) -> asyncpg.Record:
    """Wait until the only row was run and given up or put aside, and return it."""

    async def is_finished() -> bool:
        (row,) = await rows(database)
        return bool(row["state"] != "leased" and (row["attempts"] or row["last_error"] or row["pause"] > timedelta(0)))

    await eventually(is_finished, "the row was run")
    return (await rows(database))[0]


async def make_due(database: Database) -> None:
    await database.pool.execute("UPDATE work SET run_at = now() WHERE state = 'due'")


def runs(outcome: str) -> float:
    return WORK_RUNS.labels("send", outcome)._value.get()


class Recorder:
    """A handler that remembers what it was given and returns what it was told to."""

    def __init__(self, outcome: Outcome | Exception | None = None) -> None:
        self.started: list[Work] = []
        self.at: list[float] = []
        self.finished: list[int] = []
        self.is_open = asyncio.Event()
        self.is_open.set()
        self._outcome = outcome or Done()

    @property
    def numbers(self) -> list[int]:
        return [work.ref_id.int for work in self.started]

    async def __call__(self, work: Work) -> Outcome:
        self.started.append(work)
        self.at.append(monotonic())
        await self.is_open.wait()
        self.finished.append(work.ref_id.int)
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return self._outcome

    async def until_started(self, count: int) -> None:
        async def are_there() -> bool:
            return len(self.started) >= count

        await eventually(are_there, f"{count} have started")


class TestRuns:
    async def test_what_is_due_and_deletes_it(self, database: Database) -> None:
        handler = Recorder()
        await enqueue(database, range(20))
        before = runs("done")
        async with running(make_runner(database, handler)):
            await until_gone(database)

        assert sorted(handler.numbers) == list(range(20))
        assert runs("done") == before + 20

    async def test_what_becomes_due_later_and_at_once_when_woken(self, database: Database) -> None:
        handler = Recorder()
        async with running(make_runner(database, handler, poll_s=3600)) as runner:
            await asyncio.sleep(0.05)
            await enqueue(database, [1])
            runner.wake()
            await until_gone(database)
            await enqueue(database, [2], delay=timedelta(seconds=0.1))
            runner.wake()
            await until_gone(database)

        assert handler.numbers == [1, 2]

    async def test_no_more_at_once_than_its_concurrency(self, database: Database) -> None:
        handler = Recorder()
        handler.is_open.clear()
        await enqueue(database, range(10))
        async with running(make_runner(database, handler, concurrency=3)):
            await handler.until_started(3)
            await asyncio.sleep(0.05)
            assert len(handler.started) == 3
            handler.is_open.set()
            await until_gone(database)

    async def test_work_of_one_order_key_one_after_the_other_in_two_processes(self, database: Database) -> None:
        order: dict[int, list[int]] = {0: [], 1: []}
        busy: set[int] = set()

        async def handle(work: Work) -> Outcome:
            key = work.ref_id.int % 2
            assert key not in busy
            busy.add(key)
            await asyncio.sleep(0.001)
            busy.discard(key)
            order[key].append(work.ref_id.int)
            return Done()

        for key in (0, 1):
            await enqueue(database, range(key, 16, 2), order_key=f"key-{key}")
        async with running(make_runner(database, handle)), running(make_runner(database, handle)):
            await until_gone(database)

        assert order == {0: list(range(0, 16, 2)), 1: list(range(1, 16, 2))}

    async def test_work_of_unknown_kinds_is_left_alone(self, database: Database) -> None:
        async with database.transaction() as connection:
            await queue.enqueue(connection, [NewWork("from a newer release", UUID(int=1))])
        await enqueue(database, [2])
        handler = Recorder()
        async with running(make_runner(database, handler)):
            await handler.until_started(1)
            await asyncio.sleep(0.05)

        assert [(row["kind"], row["state"], row["attempts"]) for row in await rows(database)] == [
            ("from a newer release", "due", 0)
        ]

    async def test_a_row_that_its_handler_deleted_with_its_effects_is_not_missed(self, database: Database) -> None:
        async def handle(work: Work) -> Outcome:
            async with database.transaction() as connection:
                assert await queue.finish(connection, [work])
            return Settled()

        await enqueue(database, [1])
        before = runs("done"), runs("unrecorded")
        async with running(make_runner(database, handle)):
            await until_gone(database)

        assert (runs("done"), runs("unrecorded")) == (before[0] + 1, before[1])


class TestFailure:
    async def test_is_retried_after_a_pause_with_its_reason(self, database: Database) -> None:
        handler = Recorder(Retry("somebody is away"))
        await enqueue(database, [1])
        async with running(make_runner(database, handler)):
            row = await until_finished_once(database)

        assert (row["state"], row["attempts"], row["last_error"]) == ("due", 1, "somebody is away")
        assert timedelta(0) < row["pause"] <= timedelta(seconds=2)

    async def test_is_retried_no_sooner_than_asked_for(self, database: Database) -> None:
        await enqueue(database, [1])
        async with running(make_runner(database, Recorder(Retry("told to wait", timedelta(minutes=5))))):
            row = await until_finished_once(database)

        assert timedelta(minutes=4) < row["pause"] <= timedelta(minutes=5)

    async def test_by_an_exception_keeps_its_type_and_not_its_text(self, database: Database) -> None:
        await enqueue(database, [1])
        with structlog.testing.capture_logs() as logs:
            async with running(make_runner(database, Recorder(ValueError(SECRET)))):
                row = await until_finished_once(database)

        assert (row["state"], row["last_error"]) == ("due", "ValueError")
        failed = [line for line in logs if line["event"] == "work.failed"]
        assert [(line["kind"], line["work_id"], line["attempts"]) for line in failed] == [("send", row["id"], 1)]
        assert SECRET not in str(failed)

    async def test_of_the_last_attempt_makes_it_dead_until_replayed(self, database: Database) -> None:
        handler = Recorder(Retry("refused"))
        await enqueue(database, [1])
        before = runs("dead")
        async with running(make_runner(database, handler, max_attempts=3)):
            for attempt in (1, 2, 3):
                await handler.until_started(attempt)
                await until_finished_once(database)
                await make_due(database)
            (row,) = await rows(database)
            assert (row["state"], row["attempts"], row["last_error"]) == ("dead", 3, "refused")
            assert runs("dead") == before + 1
            assert len(handler.started) == 3

            async with database.connection() as connection:
                assert await queue.replay_dead(connection) == 1
            await handler.until_started(4)
            assert handler.started[-1].attempts == 1

    @pytest.mark.parametrize("outcome", [Retry("away", is_outage=True), ConnectionRefusedError("away"), TimeoutError()])
    async def test_by_an_outage_is_never_dead_and_uses_up_half_the_attempts_at_most(
        self, database: Database, outcome: Outcome | Exception
    ) -> None:
        handler = Recorder(outcome)
        await enqueue(database, [1])
        async with running(make_runner(database, handler, max_attempts=4)):
            for attempt in range(1, 7):
                await handler.until_started(attempt)
                assert (await until_finished_once(database))["state"] == "due"
                await make_due(database)

        assert [work.attempts for work in handler.started[:6]] == [1, 2, 3, 3, 3, 3]

    async def test_by_taking_longer_than_half_the_lease_ends_before_somebody_else_begins(
        self, database: Database
    ) -> None:
        handler = Recorder()
        handler.is_open.clear()
        await enqueue(database, [1])
        async with running(make_runner(database, handler, lease_s=2)):
            row = await until_finished_once(database)

        assert (row["last_error"], len(handler.started)) == ("took longer than half its lease", 1)

    async def test_recurring_work_is_due_again_after_its_pause_with_no_attempt_counted(
        self, database: Database
    ) -> None:
        await enqueue(database, [1])
        async with running(make_runner(database, Recorder(Again(timedelta(minutes=15))))):
            row = await until_finished_once(database)

        assert (row["state"], row["attempts"]) == ("due", 0)
        assert timedelta(minutes=14) < row["pause"] <= timedelta(minutes=15)


async def leased(database: Database, runner: WorkRunner, numbers: Iterable[int]) -> list[Work]:
    """Rows as a webhook's transaction writes them: leased to the runner of its own process."""
    found = await database.pool.fetch(
        "INSERT INTO work (kind, ref_id, state, attempts, lease_token, lease_until) "
        "SELECT 'send', ref_id, 'leased', 1, $1, now() + interval '60 seconds' FROM unnest($2::uuid[]) AS t(ref_id) "
        "RETURNING id, kind, ref_id, attempts, lease_token",
        runner.lease_token,
        [UUID(int=n) for n in numbers],
    )
    return [Work(*row) for row in found]


class TestOffer:
    async def test_runs_without_being_claimed(self, database: Database) -> None:
        handler = Recorder()
        async with running(make_runner(database, handler, poll_s=3600)) as runner:
            for work in await leased(database, runner, [1, 2]):
                await runner.offer(work)
            await until_gone(database)

        assert [(work.ref_id.int, work.attempts) for work in handler.started] == [(1, 1), (2, 1)]

    async def test_beyond_its_room_is_taken_too_for_nobody_else_can_run_it(self, database: Database) -> None:
        handler = Recorder()
        handler.is_open.clear()
        async with running(make_runner(database, handler, concurrency=1, poll_s=3600)) as runner:
            room = runner.room
            for work in await leased(database, runner, range(room + 5)):
                await runner.offer(work)
            assert runner.room == 0
            handler.is_open.set()
            await until_gone(database)

        assert handler.numbers == list(range(room + 5))

    async def test_there_is_room_only_while_it_runs(self, database: Database) -> None:
        runner = make_runner(database, Recorder(), concurrency=2)
        assert runner.room == 0
        async with running(runner):
            assert runner.room == 16
        assert runner.room == 0


class TestPriorities:
    async def test_urgent_work_is_started_before_all_that_waits_here_already(self, database: Database) -> None:
        handler = Recorder()
        handler.is_open.clear()
        await enqueue(database, range(40), priority=Priority.BULK)
        runner = make_runner(database, handler, concurrency=1, poll_s=3600, priorities={"send": Priority})
        async with running(runner):
            await handler.until_started(1)
            await enqueue(database, [99], priority=Priority.URGENT)
            runner.wake()
            await until_leased(database, 99)
            handler.is_open.set()
            await until_gone(database)

        assert handler.numbers[1] == 99

    async def test_some_of_the_runs_are_for_urgent_work_alone(self, database: Database) -> None:
        handler = Recorder()
        handler.is_open.clear()
        await enqueue(database, range(10))
        runner = make_runner(database, handler, concurrency=3, reserved=1, priorities={"send": Priority})
        async with running(runner):
            await handler.until_started(2)
            await asyncio.sleep(0.05)
            assert len(handler.started) == 2
            await enqueue(database, [99], priority=Priority.URGENT)
            runner.wake()
            await handler.until_started(3)
            assert handler.numbers[2] == 99
            handler.is_open.set()
            await until_gone(database)

    async def test_work_of_a_priority_nobody_named_is_left_alone(self, database: Database) -> None:
        handler = Recorder()
        await enqueue(database, [1], priority=Priority.BULK)
        await enqueue(database, [2])
        async with running(make_runner(database, handler)):
            await handler.until_started(1)
            await asyncio.sleep(0.05)

        assert handler.numbers == [2]


class TestRoom:
    async def test_limits_what_is_claimed_of_its_lane_and_of_no_other(self, database: Database) -> None:
        handler = Recorder()
        handler.is_open.clear()
        await enqueue(database, range(10), priority=Priority.BULK)
        await enqueue(database, range(10, 14))
        room = {Priority.URGENT: 100, Priority.NORMAL: 100, Priority.BULK: 0}
        runner = make_runner(
            database, handler, concurrency=20, priorities={"send": Priority}, room=lambda _kind, each: room[each]
        )
        async with running(runner):
            await handler.until_started(4)
            await asyncio.sleep(0.1)
            assert sorted(handler.numbers) == [10, 11, 12, 13]
            room[Priority.BULK] = 100  # noticed without being told, soon
            await handler.until_started(14)
            handler.is_open.set()
            await until_gone(database)

    async def test_that_is_used_up_is_not_asked_for_again_at_once(self, database: Database) -> None:
        """One row at a time is all there is room for; claiming without a pause would keep the database busy."""
        counting = CountingDatabase(database.url, make_settings())
        await counting.open()
        await enqueue(database, range(200))
        handler = Recorder(Later(timedelta(hours=1), "no room"))
        async with running(make_runner(counting, handler, poll_s=3600, room=lambda _kind, _priority: 1)):
            await handler.until_started(2)
            before = counting.uses, len(handler.started)
            await asyncio.sleep(0.5)
            looks = len(handler.started) - before[1]
            uses = counting.uses - before[0]
        await counting.close()

        assert 1 <= looks <= 20
        assert uses <= 50


class TestLater:
    async def test_leaves_the_row_for_later_as_if_it_had_not_been_started(self, database: Database) -> None:
        await enqueue(database, [1])
        before = runs("later")
        async with running(make_runner(database, Recorder(Later(timedelta(minutes=5), "not its turn")))):
            row = await until_finished_once(database)

        assert (row["state"], row["attempts"], row["last_error"]) == ("due", 0, "not its turn")
        assert timedelta(minutes=4) < row["pause"] <= timedelta(minutes=5)
        assert runs("later") == before + 1

    async def test_any_number_of_times_never_makes_it_dead(self, database: Database) -> None:
        handler = Recorder(Later(timedelta(0), "not its turn"))
        await enqueue(database, [1])
        async with running(make_runner(database, handler, max_attempts=2)):
            await handler.until_started(10)

        assert {work.attempts for work in handler.started} == {1}
        assert [row["state"] for row in await rows(database)] == ["due"]


class TestWake:
    async def test_of_the_next_of_its_key_comes_with_the_end_of_the_one_before(self, database: Database) -> None:
        """Not with the next look, which may be far away."""
        handler = Recorder()
        await enqueue(database, range(5), order_key="a")
        async with running(make_runner(database, handler, poll_s=3600)):
            await until_gone(database)

        assert handler.numbers == list(range(5))

    async def test_comes_with_what_a_handler_has_made_due(self, database: Database) -> None:
        async def handle(work: Work) -> Outcome:
            async with database.transaction() as connection:
                await queue.finish(connection, [work])
                if work.ref_id.int == 1:
                    await queue.enqueue(connection, [NewWork("send", UUID(int=2))])
            return Settled(has_made_due=True)

        await enqueue(database, [1])
        async with running(make_runner(database, handle, poll_s=3600)):
            await until_gone(database)


class TestGivesWay:
    async def test_while_the_edge_is_busy_work_trickles(self, database: Database) -> None:
        handler = Recorder()
        await enqueue(database, range(12))
        async with running(make_runner(database, handler, is_edge_busy=lambda: True)):
            await until_gone(database)

        # Ten at once, then a pause of a quarter of a second, which is the least it can be on any machine.
        assert handler.at[10] - handler.at[0] >= 0.2

    async def test_when_the_edge_is_free_again_it_runs_freely(self, database: Database) -> None:
        handler = Recorder()
        handler.is_open.clear()
        is_busy = True
        await enqueue(database, range(8))
        async with running(make_runner(database, handler, concurrency=8, is_edge_busy=lambda: is_busy)):
            await handler.until_started(1)
            is_busy = False
            await handler.until_started(8)
            handler.is_open.set()
            await until_gone(database)


class TestCrash:
    async def test_work_of_a_holder_that_died_is_taken_over(self, database: Database) -> None:
        dead = make_runner(database, Recorder())
        await leased(database, dead, [1])
        await database.pool.execute("UPDATE work SET lease_until = now() - interval '1 second'")
        handler = Recorder()
        async with running(make_runner(database, handler)):
            await until_gone(database)

        assert [(work.ref_id.int, work.attempts) for work in handler.started] == [(1, 2)]

    async def test_work_of_a_holder_that_lives_is_not(self, database: Database) -> None:
        other = make_runner(database, Recorder())
        await leased(database, other, [1])
        handler = Recorder()
        async with running(make_runner(database, handler)):
            await enqueue(database, [2])
            await handler.until_started(1)
            await asyncio.sleep(0.05)

        assert handler.numbers == [2]
        assert [row["lease_token"] for row in await rows(database)] == [other.lease_token]

    async def test_it_recovers_when_all_its_connections_are_killed_again_and_again(
        self, database: Database, database_url: DatabaseUrl
    ) -> None:
        ours = Database(database_url, make_settings(database_application_name="runner"))
        await ours.open()

        async def handle(work: Work) -> Outcome:
            async with ours.connection() as connection:
                await connection.execute("SELECT pg_sleep(0.002)")
            return Done()

        async def kill() -> bool:
            return bool(
                await database.pool.fetchval(
                    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
                    "WHERE application_name = 'runner' AND datname = current_database()"
                )
            )

        async def is_gone() -> bool:
            await make_due(database)  # what an outage has put off
            return not await rows(database)

        await enqueue(database, range(60))
        with structlog.testing.capture_logs():
            async with running(make_runner(ours, handle, lease_s=1)):
                for _ in range(3):
                    await eventually(kill, "connections were killed")
                await eventually(is_gone, "all work is done")
        await ours.close()


class TestStop:
    async def test_finishes_what_runs_and_gives_back_what_waits(self, database: Database) -> None:
        handler = Recorder()
        handler.is_open.clear()
        await enqueue(database, range(8))
        runner = make_runner(database, handler, concurrency=2)
        runner.start()
        await handler.until_started(2)
        stopping = asyncio.create_task(runner.stop(20))
        await asyncio.sleep(0.05)
        assert not stopping.done()
        handler.is_open.set()
        await stopping

        assert sorted(handler.finished) == [0, 1]
        assert [(row["ref_id"].int, row["state"], row["attempts"]) for row in await rows(database)] == [
            (n, "due", 0) for n in range(2, 8)
        ]

    async def test_what_does_not_finish_in_time_is_interrupted_and_given_back(self, database: Database) -> None:
        handler = Recorder()
        handler.is_open.clear()
        await enqueue(database, [1])
        runner = make_runner(database, handler)
        runner.start()
        await handler.until_started(1)

        await runner.stop(3)  # of which more than half is left to what runs

        (row,) = await rows(database)
        assert (row["state"], handler.finished) == ("due", [])

    async def test_what_is_offered_too_late_is_given_back(self, database: Database) -> None:
        handler = Recorder()
        handler.is_open.clear()
        runner = make_runner(database, handler)
        runner.start()
        await enqueue(database, [1])
        await handler.until_started(1)
        stopping = asyncio.create_task(runner.stop(20))
        await asyncio.sleep(0)
        (late,) = await leased(database, runner, [2])
        await runner.offer(late)
        handler.is_open.set()
        await stopping

        assert [(row["ref_id"].int, row["state"]) for row in await rows(database)] == [(2, "due")]
        assert handler.numbers == [1]

    async def test_another_process_goes_on_at_once(self, database: Database) -> None:
        slow, quick = Recorder(), Recorder()
        slow.is_open.clear()
        await enqueue(database, range(6))
        first = make_runner(database, slow, concurrency=1)
        first.start()
        await slow.until_started(1)
        async with running(make_runner(database, quick)):
            stopping = asyncio.create_task(first.stop(20))
            await quick.until_started(5)
            slow.is_open.set()
            await stopping
            await until_gone(database)

        assert sorted(slow.finished + quick.finished) == list(range(6))

    async def test_one_that_never_started_has_nothing_to_stop(self, database: Database) -> None:
        await make_runner(database, Recorder()).stop(5)


class TestOrigin:
    async def test_of_a_run_is_that_of_its_row_whoever_ran_before_it(self, database: Database) -> None:
        causes = [Origin(f"00-{number:032x}-{number:016x}-01", f"req-{number}") for number in (1, 2, 3)]
        seen: list[Origin] = []

        async def look(work: Work) -> Outcome:
            seen.append(origin())
            return Done()

        for number, cause in enumerate(causes):
            async with database.transaction() as connection:
                resume(cause)
                await queue.enqueue(connection, [NewWork("send", UUID(int=number))])
        async with running(make_runner(database, look, concurrency=1)):
            await until_gone(database)

        assert seen == causes

    async def test_that_is_given_wins_over_what_is_current(self, database: Database) -> None:
        given = Origin(f"00-{'a' * 32}-{'b' * 16}-00", "req-1")
        resume(Origin(f"00-{'c' * 32}-{'d' * 16}-00", "req-2"))
        await enqueue(database, [1], cause=given)

        (row,) = await rows(database)
        assert Origin(row["trace_context"], row["request_id"]) == given

    async def test_survives_retries_and_delays(self, database: Database) -> None:
        given = Origin(f"00-{'a' * 32}-{'b' * 16}-00", "req-1")
        seen: list[Origin] = []
        answers: list[Outcome] = [Retry("no"), Later(timedelta(0), "not yet"), Again(timedelta(0)), Done()]

        async def look(work: Work) -> Outcome:
            seen.append(origin())
            return answers.pop(0)

        await enqueue(database, [1], cause=given)
        async with running(make_runner(database, look)) as runner:
            while answers:
                await make_due(database)
                runner.wake()
                await asyncio.sleep(0.01)
            await until_gone(database)

        assert seen == [given] * 4

    async def test_without_one_each_run_has_a_trace_of_its_own_for_its_log_lines(self, database: Database) -> None:
        seen: list[Origin] = []

        async def look(work: Work) -> Outcome:
            seen.append(origin())
            return Done()

        await enqueue(database, [1, 2], cause=NOWHERE)
        async with running(make_runner(database, look)):
            await until_gone(database)

        assert len({parse_traceparent(each.trace_context or "") for each in seen} - {None}) == 2
        assert [each.request_id for each in seen] == [None, None]
