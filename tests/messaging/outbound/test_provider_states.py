"""What several processes know together about the providers; each `ProviderStates` here is one process."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta

import pytest
import structlog

from sms_foundation.core.config import Settings
from sms_foundation.core.db import Database, DatabaseUrl, is_outage, parse_database_url
from sms_foundation.messaging.outbound.health import CircuitState, HealthRules
from sms_foundation.messaging.outbound.provider_states import ProviderStates, list_changes
from tests.support.outbound import (
    CountingDatabase,
    HttpProvider,
    ScriptedRates,
    Taken,
    accept,
    count_taken,
    http_providers,
    phones,
    request,
    sending,
    take,
    until_taken_count,
)
from tests.support.processes import eventually
from tests.support.service import make_settings
from tests.support.tcp_gate import TcpGate

NAMES = ["a", "b"]


@pytest.fixture
async def processes(database_url: DatabaseUrl, settings: Settings) -> AsyncIterator[list[ProviderStates]]:
    """Two processes with connections of their own, which have looked at the providers once."""
    async with AsyncExitStack() as stack:
        made = []
        for _ in range(2):
            database = Database(database_url, settings)
            await database.open()
            stack.push_async_callback(database.close)
            made.append(ProviderStates(database, NAMES))
            await made[-1].read()
        yield made


async def fail(states: ProviderStates, times: int, name: str = "a") -> None:
    for _ in range(times):
        await states.note_attempt(name, is_failure=True)


async def succeed(states: ProviderStates, times: int, name: str = "a") -> None:
    for _ in range(times):
        await states.note_attempt(name, is_failure=False)


async def circuit(database: Database, name: str = "a") -> str:
    return str(await database.pool.fetchval("SELECT circuit FROM sms_providers WHERE name = $1", name))


async def let_pass(database: Database, seconds: float) -> None:
    """Let all that providers wait for come so much nearer."""
    await database.pool.execute(
        "UPDATE sms_providers SET circuit_until = circuit_until - $1::interval, "
        "unhealthy_until = unhealthy_until - $1::interval, weight_changed_at = weight_changed_at - $1::interval",
        timedelta(seconds=seconds),
    )
    await database.pool.execute(
        "UPDATE sms_provider_windows SET started_at = started_at - $1::interval", timedelta(seconds=seconds)
    )


async def changes(database: Database) -> list[tuple[str, str, str, str, str]]:
    """(provider, what, old, new, reason), newest first."""
    async with database.connection() as connection:
        return [tuple(row)[:5] for row in await list_changes(connection, limit=100)]  # type: ignore[misc]


class TestCircuit:
    async def test_opens_after_five_failures_in_a_row_whichever_processes_saw_them(
        self, database: Database, processes: list[ProviderStates]
    ) -> None:
        one, other = processes
        await fail(one, 2)
        await fail(other, 2)
        assert await circuit(database) == "closed"
        with structlog.testing.capture_logs() as logs:
            await fail(one, 1)

        assert await circuit(database) == "open"
        assert await circuit(database, "b") == "closed"
        assert await changes(database) == [("a", "circuit", "closed", "open", "5 failures in a row")]
        (line,) = [line for line in logs if line["event"] == "provider.changed"]
        assert (line["log_level"], line["provider"], line["reason"]) == ("error", "a", "5 failures in a row")
        until = await database.pool.fetchval("SELECT circuit_until - now() FROM sms_providers WHERE name = 'a'")
        assert timedelta(seconds=25) < until <= timedelta(seconds=30)

    async def test_a_success_between_them_keeps_it_closed(
        self, database: Database, processes: list[ProviderStates]
    ) -> None:
        one, _ = processes
        await fail(one, 4)
        await succeed(one, 1)
        await fail(one, 4)

        assert await circuit(database) == "closed"

    async def test_opens_at_once_when_every_further_call_would_fail(
        self, database: Database, processes: list[ProviderStates]
    ) -> None:
        await processes[0].note_attempt("a", is_failure=True, opens_circuit=True)

        assert await changes(database) == [("a", "circuit", "closed", "open", "no call can succeed with this account")]

    async def test_the_right_to_probe_is_one_processs_alone(
        self, database: Database, processes: list[ProviderStates]
    ) -> None:
        await fail(processes[0], 5)
        assert [await each.try_probe("a") for each in processes] == [False, False]  # too early
        await let_pass(database, 30)

        won = await asyncio.gather(*(each.try_probe("a") for each in processes * 10))

        assert (won.count(True), await circuit(database)) == (1, "probing")

    async def test_a_probe_that_went_through_closes_it_and_one_that_failed_opens_it_again(
        self, database: Database, processes: list[ProviderStates]
    ) -> None:
        one, other = processes
        await fail(one, 5)
        for is_failure, after in ((True, "open"), (False, "closed")):
            await let_pass(database, 30)
            assert await other.try_probe("a")
            await other.note_attempt("a", is_failure=is_failure, is_probe=True)
            assert await circuit(database) == after

        assert [(old, new, reason) for _, _, old, new, reason in await changes(database)] == [
            ("probing", "closed", "the probe went through"),
            ("open", "probing", "time to try again with one message"),
            ("probing", "open", "the probe failed"),
            ("open", "probing", "time to try again with one message"),
            ("closed", "open", "5 failures in a row"),
        ]
        await fail(one, 4)
        assert await circuit(database) == "closed"  # it counts from the beginning

    async def test_a_probe_whose_process_died_is_somebody_elses_after_its_lease(
        self, database: Database, processes: list[ProviderStates]
    ) -> None:
        one, other = processes
        await fail(one, 5)
        await let_pass(database, 30)
        assert await one.try_probe("a")
        assert not await other.try_probe("a")
        await let_pass(database, 60)

        assert await other.try_probe("a")


class TestProbeOfTwoProcesses:
    async def test_is_one_call_and_everybody_comes_back_when_it_went_through(
        self, database: Database, database_url: DatabaseUrl
    ) -> None:
        may_answer = asyncio.Event()

        async def answer(provider: HttpProvider, taken: Taken) -> bytes | None:
            await may_answer.wait()
            return await take(provider, taken)

        await accept(database, *(request(phone) for phone in phones(100)))
        await database.pool.execute(
            "INSERT INTO sms_providers (name, circuit, circuit_until) VALUES ('a', 'open', now())"
        )
        async with (
            http_providers(a := HttpProvider("a", answer=answer)),
            sending(database_url, [a]),
            sending(database_url, [a]),
        ):

            async def have_all_been_looked_at() -> bool:
                return not await database.pool.fetchval("SELECT count(*) FROM work WHERE last_error IS NULL") > 1

            await eventually(have_all_been_looked_at, "all have been looked at")
            assert len(a.handed) == 1
            may_answer.set()
            await until_taken_count(database, 1)
            await database.pool.execute("UPDATE work SET run_at = now()")
            await until_taken_count(database, 100)

        assert (len(a.handed), await circuit(database)) == (100, "closed")

    async def test_is_not_wasted_on_a_message_that_has_to_wait_for_its_sender(
        self, database: Database, database_url: DatabaseUrl
    ) -> None:
        """Or a busy sender would keep its provider closed: one probe a minute, each without a slot."""
        first, _ = await accept(database, *(request(phone) for phone in phones(2)))
        async with (
            http_providers(a := HttpProvider("a", {"sender_rates": {"*": 0.01}})),
            sending(database_url, [a], is_running=False) as process,
        ):
            await process.run((await process.claim())[:1])
            assert [each.message_id for each in a.handed] == [first]
            await database.pool.execute("UPDATE sms_providers SET circuit = 'open', circuit_until = now()")
            process.states._cache.read_at = 0
            await database.pool.execute("UPDATE work SET state = 'due', lease_token = NULL, lease_until = NULL")
            await process.run(await process.claim())

        assert (len(a.handed), await circuit(database)) == (1, "open")

    async def test_is_one_message_of_a_batch_and_the_others_take_no_slots_from_it(
        self, database: Database, database_url: DatabaseUrl
    ) -> None:
        await accept(database, *(request(phone) for phone in phones(30)))
        await database.pool.execute(
            "INSERT INTO sms_providers (name, circuit, circuit_until) VALUES ('a', 'open', now())"
        )
        rates = ScriptedRates([])
        async with (
            http_providers(a := HttpProvider("a", {"rate_per_s": 50})),
            sending(database_url, [a], rates=rates, is_running=False) as process,
        ):
            await process.run(await process.claim())

        assert (len(a.handed), len(rates.wishes)) == (1, 1)


class TestHealth:
    async def test_a_provider_that_fails_most_calls_gets_a_rest_and_comes_back_after_it(
        self, database: Database, processes: list[ProviderStates]
    ) -> None:
        one, other = processes
        for states in processes:  # never five in a row
            await fail(states, 4)
            assert await changes(database) == []
            await succeed(states, 1)

        assert await changes(database) == [
            ("a", "health", "healthy", "unhealthy", "8 of 10 attempts failed within 300 s")
        ]
        await fail(other, 1)  # a rest that has begun is not prolonged
        assert len(await changes(database)) == 1
        await let_pass(database, 301)
        await one.tend()
        assert (await changes(database))[0] == ("a", "health", "unhealthy", "healthy", "its rest is over")

    async def test_what_is_older_than_the_window_does_not_count(
        self, database: Database, processes: list[ProviderStates]
    ) -> None:
        one, _ = processes
        for failures in (4, 3):
            await fail(one, failures)
            await succeed(one, 1)
        await let_pass(database, 301)
        await fail(one, 1)

        assert await changes(database) == []

    async def test_slow_receipts_take_weight_away_in_small_steps_and_it_drifts_back(
        self, database: Database, processes: list[ProviderStates]
    ) -> None:
        one, other = processes
        for _ in range(20):
            one.note_delivery("a", 61.0)
            other.note_delivery("b", 2.0)
        await one._flush()
        await other._flush()
        await one.tend()
        await other.tend()  # too soon for a second step, whoever looks
        assert await changes(database) == [("a", "weight", "100 %", "90 %", "20 of 20 receipts took more than 60 s")]
        await let_pass(database, 121)
        await other.tend()
        assert (await changes(database))[0][2:4] == ("90 %", "80 %")

        await let_pass(database, 301)
        await one.tend()
        assert (await changes(database))[0] == ("a", "weight", "80 %", "90 %", "receipts come in time")

    async def test_when_all_are_slow_nobody_loses_weight(
        self, database: Database, processes: list[ProviderStates]
    ) -> None:
        for name in NAMES:
            for _ in range(20):
                processes[0].note_delivery(name, 61.0)
        await processes[0]._flush()
        await processes[0].tend()

        assert await changes(database) == []


class TestRead:
    async def test_asks_the_database_once_a_second_at_most_and_sees_what_others_changed_after_it(
        self, database: Database, database_url: DatabaseUrl, processes: list[ProviderStates]
    ) -> None:
        counting = CountingDatabase(database_url, make_settings())
        await counting.open()
        states = ProviderStates(counting, NAMES)
        await states.read()
        before = counting.uses
        await fail(processes[0], 5)
        for _ in range(100):
            await states.read()
        assert counting.uses - before <= 1

        async def has_seen_it() -> bool:
            return (await states.read())["a"].circuit is CircuitState.OPEN

        await eventually(has_seen_it, "it sees the open circuit")
        await counting.close()

    async def test_knows_a_provider_that_was_just_configured(self, database: Database) -> None:
        states = ProviderStates(database, ["new"])

        assert (await states.read())["new"].circuit is CircuitState.CLOSED
        assert (await ProviderStates(database, ["new"]).read())["new"].weight_percent == 100


class TestNoteAttempt:
    async def test_counts_successes_together_and_failures_at_once(
        self, database: Database, processes: list[ProviderStates]
    ) -> None:
        await succeed(processes[0], 50)
        assert await database.pool.fetchval("SELECT count(*) FROM sms_provider_windows") == 0
        await fail(processes[0], 1)

        row = await database.pool.fetchrow("SELECT sum(attempts), sum(failures) FROM sms_provider_windows")
        assert tuple(row) == (51, 1)

    async def test_keeps_what_could_not_be_written_until_it_can(
        self, database: Database, database_url: DatabaseUrl
    ) -> None:
        async with TcpGate(database_url) as gate:
            await gate.open()
            behind = Database(parse_database_url(gate.url), make_settings())
            await behind.open()
            states = ProviderStates(behind, NAMES)
            await states.read()
            await gate.close()
            for _ in range(5):
                with pytest.raises(Exception) as failure:  # noqa: PT011  # whatever it is called
                    await fail(states, 1)
                assert is_outage(failure.value)
            await gate.open()
            await states._flush()
            await behind.close()

        assert await circuit(database) == "open"

    async def test_of_a_provider_that_is_no_longer_configured_is_nothing(
        self, database: Database, processes: list[ProviderStates]
    ) -> None:
        await fail(processes[0], 5, "gone")
        processes[0].note_delivery("gone", 1.0)

        assert await changes(database) == []

    async def test_what_is_counted_is_written_within_about_a_second_and_at_the_end(
        self, database: Database, database_url: DatabaseUrl
    ) -> None:
        async with http_providers(a := HttpProvider("a")), sending(database_url, [a]):
            await accept(database, request())
            await until_taken_count(database, 1)

        assert await database.pool.fetchval("SELECT sum(attempts) FROM sms_provider_windows") == 1
        assert await count_taken(database) == 1

    async def test_rules_can_be_others(self, database: Database) -> None:
        states = ProviderStates(database, NAMES, rules=HealthRules(failures_to_open=2))
        await states.read()
        await fail(states, 2)

        assert await circuit(database) == "open"
