"""What is due is sent through whichever provider works: once, in order, and never late. Providers are real HTTP."""

import asyncio
from collections import Counter, defaultdict
from datetime import timedelta

import orjson
import pytest
import structlog

from sms_foundation.core.clock import utc_now
from sms_foundation.core.db import Database, DatabaseUrl
from sms_foundation.core.work import queue
from sms_foundation.core.work.queue import Priority
from sms_foundation.core.work.runner import Done, Later, Settled
from sms_foundation.messaging.outbound import control
from sms_foundation.messaging.outbound.policy import SendingPolicy
from tests.loopback import reply
from tests.support.outbound import (
    PHONE,
    SENDER,
    HttpProvider,
    Taken,
    accept,
    attempts,
    count_taken,
    events,
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
    until_status,
    until_taken,
    until_taken_count,
    work_rows,
)
from tests.support.processes import eventually


class TestChoice:
    async def test_is_made_when_the_message_is_dispatched(self, database: Database, database_url: DatabaseUrl) -> None:
        """What is configured then counts, not what was there when it was accepted."""
        (id_,) = await accept(database, request())
        before = await message(database, id_)
        async with http_providers(newcomer := HttpProvider("newcomer")), sending(database_url, [newcomer]):
            await until_taken(database, id_)

        assert (before["provider"], before["from_number"]) == (None, None)
        after = await message(database, id_)
        assert (after["provider"], after["from_number"], after["provider_message_id"]) == (
            "newcomer",
            SENDER,
            "newcomer-1",
        )
        assert await work_rows(database) == []

    async def test_shares_hold_within_a_percent_over_several_workers(
        self, database: Database, database_url: DatabaseUrl
    ) -> None:
        weights = {"a": 50, "b": 30, "c": 20}
        providers = [HttpProvider(name, {"weight": weight}) for name, weight in weights.items()]
        await accept(database, *(request(phone) for phone in phones(1_000)))
        async with (
            http_providers(*providers),
            sending(database_url, providers),
            sending(database_url, providers),
            sending(database_url, providers),
        ):
            await until_taken_count(database, 1_000)

        assert sum(len(each.taken) for each in providers) == 1_000
        for each in providers:
            assert abs(len(each.taken) / 10 - weights[each.name]) <= 1

    async def test_says_with_every_attempt_why_and_by_which_weights(
        self, database: Database, database_url: DatabaseUrl
    ) -> None:
        providers = [
            HttpProvider("a", {"weight": 60}),
            HttpProvider("b", {"weight": 40}),
            HttpProvider("only-mexico", {"countries": ["MX"]}),
        ]
        (id_,) = await accept(database, request("+12125550123"))
        async with http_providers(*providers), sending(database_url, providers):
            await until_taken(database, id_)

        (attempt,) = await attempts(database, id_)
        assert orjson.loads(attempt["reasons"]) == {
            "reasons": {"a": "chosen", "b": "other_turn", "only-mexico": "no_country"},
            "weights": {"a": 60, "b": 40},
        }
        assert (attempt["provider"], attempt["outcome"], attempt["error_kind"]) == ("a", "sent", None)
        assert attempt["latency_ms"] >= 0
        assert attempt["finished_at"] >= attempt["started_at"]
        assert await events(database, id_) == ["accepted"]  # the provider's word

    async def test_what_nobody_could_ever_carry_fails_at_once_says_so_and_can_be_replayed(
        self, database: Database, database_url: DatabaseUrl
    ) -> None:
        (id_,) = await accept(database, request(sender="+14155550000"))
        async with http_providers(a := HttpProvider("a")), sending(database_url, [a]):
            await until_status(database, id_, "failed")

        row = await message(database, id_)
        assert (row["error_code"], row["error_message"]) == ("no_provider", "no provider can carry it (a: no_sender)")
        assert row["ended_at"] is not None
        assert (a.handed, await events(database, id_)) == ([], ["failed"])
        # Put aside: a process that is configured for it may yet send it.
        (work,) = await work_rows(database)
        assert (work["state"], work["last_error"]) == ("dead", row["error_message"])

    async def test_when_nobody_can_now_it_waits_and_does_not_fail(
        self, database: Database, database_url: DatabaseUrl
    ) -> None:
        (id_,) = await accept(database, request())
        await database.pool.execute(
            "INSERT INTO sms_providers (name, circuit, circuit_until) VALUES ('a', 'open', now() + interval '1 hour')"
        )
        async with (
            http_providers(a := HttpProvider("a")),
            sending(database_url, [a], is_running=False) as process,
        ):
            (work,) = await process.claim()
            assert await process.run([work]) == [Later(timedelta(seconds=5), "provider_unavailable")]
            assert (await status(database, id_), await attempts(database, id_)) == ("accepted", [])
            await database.pool.execute("UPDATE sms_messages SET expires_at = now() + interval '2 seconds'")
            (sooner,) = await process.run([work])
            assert isinstance(sooner, Later)
            assert sooner.delay <= timedelta(seconds=2)
            await database.pool.execute("UPDATE sms_messages SET expires_at = now()")
            await process.run([work])

        assert (await status(database, id_), a.handed) == ("expired", [])


class TestFailover:
    async def test_traffic_moves_to_the_others_and_comes_back(
        self, database: Database, database_url: DatabaseUrl
    ) -> None:
        bad, good = HttpProvider("bad", answer=refusing("busy", 503)), HttpProvider("good")
        async with http_providers(bad, good), sending(database_url, [bad, good], concurrency=4, reserved=0) as process:
            await accept(database, *(request(phone) for phone in phones(60)))

            async def are_all_sent() -> bool:
                await make_due(database)
                return not await work_rows(database)

            await eventually(are_all_sent, "all are sent")
            assert (len(good.taken), len(bad.taken)) == (60, 0)
            assert 5 <= len(bad.handed) <= 12  # until the circuit opened, and who was on the way there by then
            assert (await process.states.read())["bad"].circuit == "open"

            bad.answer = take
            await database.pool.execute("UPDATE sms_providers SET circuit_until = now() WHERE name = 'bad'")
            process.states._cache.read_at = 0
            await accept(database, *(request(phone, "again") for phone in phones(60)))
            await eventually(are_all_sent, "all of the second round are sent")

        assert len(bad.taken) > 10

    async def test_the_provider_that_failed_is_left_out_of_the_next_try(
        self, database: Database, database_url: DatabaseUrl
    ) -> None:
        bad = HttpProvider("bad", {"weight": 10_000}, answer=refusing("busy", 503))
        good = HttpProvider("good", {"weight": 1})
        (id_,) = await accept(database, request())
        async with http_providers(bad, good), sending(database_url, [bad, good]):

            async def has_failed_once() -> bool:
                return await outcomes(database, id_) == [("bad", "failed")] and await status(database, id_) == "queued"

            await eventually(has_failed_once, "one attempt has failed")
            await make_due(database)
            await eventually(lambda: _is(outcomes(database, id_), [("bad", "failed"), ("good", "sent")]), "it is sent")

        first, second = (orjson.loads(row["reasons"])["reasons"] for row in await attempts(database, id_))
        assert (first, second) == ({"bad": "chosen", "good": "other_turn"}, {"bad": "failed_before", "good": "chosen"})

    async def test_a_sole_provider_that_failed_is_tried_again(
        self, database: Database, database_url: DatabaseUrl
    ) -> None:
        answers = iter([refusing("busy", 503), take])

        async def answer(provider: HttpProvider, taken: Taken) -> bytes | None:
            return await next(answers)(provider, taken)

        (id_,) = await accept(database, request())
        async with http_providers(a := HttpProvider("a", answer=answer)), sending(database_url, [a]):
            await eventually(lambda: _is(outcomes(database, id_), [("a", "failed")]), "one attempt has failed")
            await make_due(database)
            await eventually(lambda: _is(outcomes(database, id_), [("a", "failed"), ("a", "sent")]), "it is sent")


async def _is(looking, wanted: object) -> bool:  # type: ignore[no-untyped-def]
    return bool(await looking == wanted)


class TestRetries:
    async def test_pauses_start_at_two_seconds_and_double(self, database: Database, database_url: DatabaseUrl) -> None:
        await accept(database, request())
        async with (
            http_providers(a := HttpProvider("a", answer=refusing("busy", 503))),
            sending(database_url, [a], is_running=False) as process,
        ):
            pauses = []
            for _ in range(5):
                (work,) = await process.claim()
                assert await process.run([work]) == [Settled()]
                await forgive(database)
                (row,) = await work_rows(database)
                assert (row["state"], row["last_error"]) == ("due", "unavailable")
                pauses.append(row["pause"].total_seconds())
                await make_due(database)

        for pause, full in zip(pauses, (2, 4, 8, 16, 32), strict=True):
            assert full / 2 - 1 < pause <= full

    async def test_no_sooner_than_the_provider_asks_for(self, database: Database, database_url: DatabaseUrl) -> None:
        await accept(database, request())
        slow_down = refusing("slow-down", 429, retry_after="120")
        async with (
            http_providers(a := HttpProvider("a", answer=slow_down)),
            sending(database_url, [a], is_running=False) as process,
        ):
            await process.run(await process.claim())

        (row,) = await work_rows(database)
        assert timedelta(seconds=115) < row["pause"] <= timedelta(seconds=120)

    async def test_after_the_last_it_is_failed_with_a_dead_row_and_a_replay_starts_anew(
        self, database: Database, database_url: DatabaseUrl
    ) -> None:
        (id_,) = await accept(database, request())
        async with (
            http_providers(a := HttpProvider("a", answer=refusing("busy", 503))),
            sending(database_url, [a], is_running=False) as process,
        ):

            async def use_up_retries() -> int:
                for tries in range(1, 20):
                    await process.run(await process.claim())
                    await forgive(database)
                    process.states._cache.read_at = 0
                    if await status(database, id_) == "failed":
                        return tries
                    await make_due(database)
                raise AssertionError("it is never given up")

            assert await use_up_retries() == 6  # the first try, and five more
            row = await message(database, id_)
            assert (row["error_code"], row["error_message"]) == ("busy", "refused: busy")
            assert row["ended_at"] is not None
            (dead,) = await work_rows(database)
            assert (dead["state"], dead["last_error"]) == ("dead", "unavailable")

            await queue.replay_dead(database.pool)  # type: ignore[arg-type]
            assert await use_up_retries() == 6
            await queue.replay_dead(database.pool)  # type: ignore[arg-type]
            a.answer = take
            await process.run(await process.claim())

        row = await message(database, id_)
        assert (row["delivery_status"], row["error_code"], row["ended_at"]) == ("sending", None, None)
        assert len(await attempts(database, id_)) == 13
        assert await work_rows(database) == []

    async def test_a_permanent_refusal_ends_it_at_once_and_harms_nobody_else(
        self, database: Database, database_url: DatabaseUrl
    ) -> None:
        async def answer(provider: HttpProvider, taken: Taken) -> bytes | None:
            decide = refusing("bad-number") if taken.recipient == PHONE else take
            return await decide(provider, taken)

        refused, *_ = await accept(database, request(), *(request(phone) for phone in phones(10)))
        async with (
            http_providers(a := HttpProvider("a", answer=answer), b := HttpProvider("b", answer=answer)),
            sending(database_url, [a, b], is_running=False) as process,
        ):
            await process.run(await process.claim())
            states = await process.states.read()

        row = await message(database, refused)
        assert (row["delivery_status"], row["error_code"]) == ("failed", "bad-number")
        (attempt,) = await attempts(database, refused)
        assert (attempt["outcome"], attempt["error_kind"], attempt["http_status"]) == (
            "refused",
            "invalid_recipient",
            400,
        )
        assert await count_taken(database) == 10
        assert await work_rows(database) == []
        assert {state.consecutive_failures for state in states.values()} == {0}  # no provider is to blame

    async def test_replay_of_one_that_expired_meanwhile_does_not_send_it(
        self, database: Database, database_url: DatabaseUrl
    ) -> None:
        (id_,) = await accept(database, request(expires_at=utc_now() + timedelta(hours=1)))
        async with (
            http_providers(a := HttpProvider("a", answer=refusing("busy", 503))),
            sending(database_url, [a], is_running=False) as process,
        ):
            (work,) = await process.claim()
            await queue.put_aside(database.pool, work, error="by hand")  # type: ignore[arg-type]
            await database.pool.execute(
                "UPDATE sms_messages SET delivery_status = 'failed', expires_at = now() - interval '1 s'"
            )
            await queue.replay_dead(database.pool)  # type: ignore[arg-type]
            await process.run(await process.claim())

        assert (a.handed, await status(database, id_)) == ([], "expired")


class TestExpiry:
    async def test_what_is_past_it_is_not_sent(self, database: Database, database_url: DatabaseUrl) -> None:
        late, timely = await accept(
            database,
            request(expires_at=utc_now() - timedelta(milliseconds=1)),
            request("+14155550124", expires_at=utc_now() + timedelta(hours=1)),
        )
        async with http_providers(a := HttpProvider("a")), sending(database_url, [a]):
            await until_status(database, late, "expired")
            await until_taken(database, timely)

        assert [each.message_id for each in a.taken] == [timely]
        row = await message(database, late)
        assert (row["error_code"], await events(database, late)) == ("expired", ["expired"])
        assert row["ended_at"] is not None
        assert (await attempts(database, late), await work_rows(database)) == ([], [])

    async def test_one_whose_slot_comes_after_it_is_not_sent(
        self, database: Database, database_url: DatabaseUrl
    ) -> None:
        """An urgent message may reserve a slot seconds ahead: by then its time may be over."""
        first, second = await accept(
            database,
            request(priority=Priority.URGENT),
            request("+14155550124", priority=Priority.URGENT, expires_at=utc_now() + timedelta(seconds=0.6)),
        )
        async with http_providers(a := HttpProvider("a", {"rate_per_s": 1})), sending(database_url, [a]):
            await until_taken(database, first)
            await until_status(database, second, "expired")

        assert [each.message_id for each in a.handed] == [first]
        assert await work_rows(database) == []

    async def test_one_that_waits_is_expired_on_time_not_when_its_turn_comes(
        self, database: Database, database_url: DatabaseUrl
    ) -> None:
        await accept(database, request(expires_at=utc_now() + timedelta(seconds=30)))
        slow_down = refusing("slow-down", 429, retry_after="600")
        async with (
            http_providers(a := HttpProvider("a", answer=slow_down)),
            sending(database_url, [a], is_running=False) as process,
        ):
            await process.run(await process.claim())

        (row,) = await work_rows(database)
        assert timedelta(seconds=25) < row["pause"] <= timedelta(seconds=30)


class TestOrder:
    async def test_holds_per_recipient_over_retries_and_two_workers(
        self, database: Database, database_url: DatabaseUrl
    ) -> None:
        strikes: Counter[str] = Counter()

        async def answer(provider: HttpProvider, taken: Taken) -> bytes | None:
            strikes[taken.body] += 1
            is_unlucky = strikes[taken.body] == 1 and hash(taken.body) % 3 == 0
            return await (refusing("bad-luck", 429) if is_unlucky else take)(provider, taken)

        a = HttpProvider("a", answer=answer)
        everybody = phones(6)
        for number in range(10):
            await accept(database, *(request(phone, f"{number} for {phone}") for phone in everybody))
        async with http_providers(a), sending(database_url, [a]), sending(database_url, [a]):

            async def are_all_sent() -> bool:
                await make_due(database)
                await forgive(database)
                return not await work_rows(database)

            await eventually(are_all_sent, "all are sent")

        by_phone: dict[str, list[str]] = defaultdict(list)
        for each in a.taken:
            by_phone[each.recipient].append(each.body)
        assert by_phone == {phone: [f"{number} for {phone}" for number in range(10)] for phone in everybody}
        assert max(strikes.values()) > 1

    @pytest.mark.parametrize(("client", "is_overtaken"), [("patient", False), ("hasty", True), ("anybody", False)])
    async def test_what_those_behind_a_stuck_head_do_is_up_to_its_client(
        self, database: Database, database_url: DatabaseUrl, client: str, is_overtaken: bool
    ) -> None:
        async def answer(provider: HttpProvider, taken: Taken) -> bytes | None:
            return await (refusing("busy", 503) if taken.body == "first" else take)(provider, taken)

        policy = SendingPolicy(skip_after={"hasty": 2})
        first, second = await accept(
            database, request(content="first", client_id=client), request(content="second", client_id=client)
        )
        async with (
            http_providers(a := HttpProvider("a", answer=answer)),
            sending(database_url, [a], policy=policy, is_running=False) as process,
        ):
            for _ in range(2):
                (work,) = await process.claim()
                assert work.ref_id == first
                await process.run([work])
                await make_due(database)
            # Two attempts have failed: the limit of the hasty one.
            claimed = {work.ref_id for work in await process.claim()}

        assert claimed == ({first, second} if is_overtaken else {first})


class TestPriority:
    async def test_urgent_passes_ten_thousand_waiting_bulk_messages(
        self, database: Database, database_url: DatabaseUrl
    ) -> None:
        for start in range(0, 10_000, 1_000):
            await accept(
                database, *(request(phone, priority=Priority.BULK) for phone in phones(10_000)[start : start + 1_000])
            )
        a = HttpProvider("a", {"rate_per_s": 50})
        async with http_providers(a), sending(database_url, [a]):
            await until_taken_count(database, 10)
            before = len(a.handed)
            (urgent,) = await accept(database, request("+12125550123", priority=Priority.URGENT))
            await until_taken(database, urgent)
            place = [each.message_id for each in a.handed].index(urgent)

        # Those that had their slot already go before it: a fifth of a second's worth, and what a look takes.
        assert place - before < 50

    async def test_bulk_does_not_starve_normal(self, database: Database, database_url: DatabaseUrl) -> None:
        await accept(database, *(request(phone, priority=Priority.BULK) for phone in phones(1_000)))
        a = HttpProvider("a", {"rate_per_s": 50})
        async with http_providers(a), sending(database_url, [a]):
            await until_taken_count(database, 10)
            before = len(a.handed)
            normal = await accept(database, *(request(phone, "normal") for phone in phones(20)))
            for each in normal:
                await until_taken(database, each)
            bulk_between = len(a.handed) - before - len(normal)

        assert bulk_between < 60

    async def test_normal_over_a_senders_rate_does_not_queue_up_behind_bulk(
        self, database: Database, database_url: DatabaseUrl
    ) -> None:
        """A line of hundreds of bulk messages waits for one number; what is more important has a line of its own."""
        await accept(database, *(request(phone, priority=Priority.BULK) for phone in phones(200)))
        a = HttpProvider("a", {"sender_rates": {"*": 4}})
        async with http_providers(a), sending(database_url, [a]):

            async def are_all_in_line() -> bool:
                rows = await work_rows(database)
                return all(row["last_error"] == "sender_rate" for row in rows[20:])

            await eventually(are_all_in_line, "all bulk messages are in line")
            normal = await accept(database, *(request(phone, "normal") for phone in phones(6)))
            urgent = await accept(
                database, *(request(phone, "urgent", priority=Priority.URGENT) for phone in phones(6))
            )
            before = len(a.handed)
            for each in [*urgent, *normal]:
                await until_taken(database, each)

        sent = [each.message_id for each in a.handed[before:]]
        assert len(sent) - 12 < 12  # hardly more bulk between than others
        assert set(sent) >= {*urgent, *normal}


class TestOptOut:
    async def test_is_recorded_from_a_refusal_and_later_sends_are_refused_without_a_call(
        self, database: Database, database_url: DatabaseUrl
    ) -> None:
        a = HttpProvider("a", answer=refusing("opted-out"))
        (first,) = await accept(database, request())
        async with http_providers(a), sending(database_url, [a]):
            await until_status(database, first, "failed")
            a.answer = take
            second, other = await accept(database, request(content="again"), request("+14155550124"))
            await until_status(database, second, "failed")
            await until_taken(database, other)

        assert (await message(database, first))["error_code"] == "opted-out"
        assert (await message(database, second))["error_code"] == "opted_out"
        assert [each.message_id for each in a.handed] == [first, other]
        rows = await database.pool.fetch("SELECT * FROM sms_opt_outs")
        assert [(row["phone_number_canonical"], row["sender"], row["source"], row["provider"]) for row in rows] == [
            (PHONE, SENDER, "provider", "a")
        ]
        assert await work_rows(database) == []

    async def test_also_counts_for_other_providers(self, database: Database, database_url: DatabaseUrl) -> None:
        a, b = HttpProvider("a", answer=refusing("opted-out")), HttpProvider("b")
        (first,) = await accept(database, request(provider="a"))
        async with http_providers(a, b), sending(database_url, [a, b]):
            await until_status(database, first, "failed")
            (second,) = await accept(database, request(content="again", provider="b"))
            await until_status(database, second, "failed")

        assert b.handed == []


class TestAccountRefused:
    async def test_opens_the_circuit_at_once_says_so_loudly_and_the_message_goes_elsewhere(
        self, database: Database, database_url: DatabaseUrl
    ) -> None:
        bad, good = HttpProvider("bad", {"weight": 10_000}, answer=refusing("suspended", 401)), HttpProvider("good")
        (id_,) = await accept(database, request())
        with structlog.testing.capture_logs() as logs:
            async with http_providers(bad, good), sending(database_url, [bad, good]) as process:
                await eventually(lambda: _is(outcomes(database, id_), [("bad", "failed")]), "one attempt has failed")
                assert (await process.states.read())["bad"].circuit == "open"
                await make_due(database)
                await eventually(lambda: _is(outcomes(database, id_), [("bad", "failed"), ("good", "sent")]), "sent")

        loud = [line for line in logs if line["log_level"] == "error"]
        assert {line["event"] for line in loud} == {"provider.account_refused", "provider.changed"}
        assert {line["provider"] for line in loud} == {"bad"}
        rows = await database.pool.fetch("SELECT provider, what, old, new, reason FROM sms_provider_changes")
        assert [tuple(row) for row in rows] == [
            ("bad", "circuit", "closed", "open", "no call can succeed with this account")
        ]


class TestCanceled:
    async def test_between_claim_and_begin_is_not_sent(self, database: Database, database_url: DatabaseUrl) -> None:
        (id_,) = await accept(database, request())
        async with (
            http_providers(a := HttpProvider("a")),
            sending(database_url, [a], is_running=False) as process,
        ):
            (work,) = await process.claim()
            async with database.transaction() as connection:
                await control.cancel(connection, id_)
            assert await process.run([work]) == [Done()]

        assert (a.handed, await status(database, id_), await attempts(database, id_)) == ([], "canceled", [])

    async def test_while_its_attempt_is_being_written_is_either_sent_or_canceled(
        self, database: Database, database_url: DatabaseUrl
    ) -> None:
        """The cancellation holds the message's lock when dispatching wants to begin: so it decides."""
        (id_,) = await accept(database, request())
        async with (
            http_providers(a := HttpProvider("a")),
            sending(database_url, [a], is_running=False) as process,
        ):
            (work,) = await process.claim()
            async with database.transaction() as connection:
                await control.cancel(connection, id_)
                running = asyncio.create_task(process.run([work]))

                async def is_waiting() -> bool:
                    return bool(
                        await database.pool.fetchval(
                            "SELECT count(*) FROM pg_stat_activity "
                            "WHERE datname = current_database() AND wait_event_type = 'Lock'"
                        )
                    )

                await eventually(is_waiting, "dispatching waits for the lock")
            (outcome,) = await running
            assert isinstance(outcome, Later)
            assert await process.run([work]) == [Done()]

        assert (a.handed, await status(database, id_), await attempts(database, id_)) == ([], "canceled", [])


class TestScheduled:
    async def test_is_sent_when_its_time_has_come_and_not_before(
        self, database: Database, database_url: DatabaseUrl
    ) -> None:
        send_at = utc_now() + timedelta(seconds=0.7)
        (id_,) = await accept(database, request(send_at=send_at))
        sent_at = []

        async def answer(provider: HttpProvider, taken: Taken) -> bytes | None:
            sent_at.append(utc_now())
            return await take(provider, taken)

        # However long the pauses between looks are: what a release makes due is looked for at once.
        async with http_providers(a := HttpProvider("a", answer=answer)), sending(database_url, [a], poll_s=3600):
            await until_taken(database, id_)

            async def is_sent() -> bool:
                return bool(sent_at)

            await eventually(is_sent, "it is sent")

        assert timedelta(0) <= sent_at[0] - send_at
        assert await work_rows(database) == []

    async def test_survives_restarts_and_can_be_moved(self, database: Database, database_url: DatabaseUrl) -> None:
        (id_,) = await accept(database, request(send_at=utc_now() + timedelta(hours=1)))
        a = HttpProvider("a")
        async with http_providers(a):
            async with sending(database_url, [a]):
                await asyncio.sleep(0.1)
            assert await status(database, id_) == "accepted"
            async with database.transaction() as connection:
                await control.reschedule(connection, id_, utc_now() + timedelta(seconds=0.1))
            async with sending(database_url, [a]):
                await until_taken(database, id_)
                await eventually(lambda: _is(outcomes(database, id_), [("a", "sent")]), "it is sent")

        assert len(a.taken) == 1

    async def test_released_takes_its_place_by_the_time_of_acceptance(
        self, database: Database, database_url: DatabaseUrl
    ) -> None:
        scheduled, later = await accept(
            database, request(content="scheduled", send_at=utc_now() + timedelta(hours=1)), request(content="later")
        )
        async with (
            http_providers(a := HttpProvider("a")),
            sending(database_url, [a], is_running=False) as process,
        ):
            await database.pool.execute("UPDATE work SET run_at = now()")
            (release,) = [work for work in await process.claim() if work.kind == "release_message"]
            await queue.release(database.pool, release.lease_token)  # type: ignore[arg-type]
            (release,) = [work for work in await process.claim() if work.kind == "release_message"]
            assert await process.dispatcher.release(release) == Settled(has_made_due=True)
            rows = await work_rows(database)

        assert {row["order_key"] for row in rows} == {f"{PHONE}/1"}
        assert [row["ref_id"] for row in rows] == [scheduled, later]

    async def test_one_canceled_while_it_is_released_is_not_sent(
        self, database: Database, database_url: DatabaseUrl
    ) -> None:
        (id_,) = await accept(database, request(send_at=utc_now() + timedelta(hours=1)))
        async with (
            http_providers(a := HttpProvider("a")),
            sending(database_url, [a], is_running=False) as process,
        ):
            await database.pool.execute("UPDATE work SET run_at = now()")
            (release,) = await process.claim()
            async with database.transaction() as connection:
                await control.cancel(connection, id_)
            await process.dispatcher.release(release)
            assert await process.run(await process.claim()) == [Done()]

        assert (a.handed, await status(database, id_)) == ([], "canceled")


class TestWhatProvidersSay:
    async def test_is_kept_with_message_and_attempt(self, database: Database, database_url: DatabaseUrl) -> None:
        async def answer(provider: HttpProvider, taken: Taken) -> bytes:
            provider.taken.append(taken)
            return reply(200, orjson.dumps({"id": taken.id, "note": "\0 is nothing PostgreSQL can store"}))

        (id_,) = await accept(database, request())
        async with http_providers(a := HttpProvider("a", answer=answer)), sending(database_url, [a]):
            await eventually(lambda: _is(outcomes(database, id_), [("a", "sent")]), "it is sent")

        (attempt,) = await attempts(database, id_)
        assert orjson.loads(attempt["response"])["id"] == "a-1"
        row = await message(database, id_)
        assert row["sent_at"] is not None
        assert row["poll_at"] > row["sent_at"]
