"""What must hold when much waits, something is missing or two go for the same thing."""

import asyncio
from datetime import timedelta
from uuid import uuid4

import orjson
import pytest

from sms_foundation.core.db import Database, DatabaseUrl
from sms_foundation.core.errors import ConflictError
from sms_foundation.core.rates.base import RatesUnavailableError
from sms_foundation.core.work import queue
from sms_foundation.core.work.queue import Lane, NewWork, Priority
from sms_foundation.core.work.runner import Later, Settled
from sms_foundation.messaging import opt_outs
from sms_foundation.messaging.jobs import RECONCILE_MESSAGES, SEND_MESSAGE
from sms_foundation.messaging.outbound import control
from sms_foundation.messaging.outbound.pace import Pace, Place
from sms_foundation.messaging.outbound.reconcile import recurring_messaging_work
from sms_foundation.providers.config import ProviderConfig
from sms_foundation.worker import keep_recurring_work
from tests.support.outbound import (
    PHONE,
    HttpProvider,
    ScriptedRates,
    accept,
    http_providers,
    message,
    outcomes,
    phones,
    refusing,
    request,
    sending,
    status,
    until_status,
    until_taken,
    work_rows,
)
from tests.support.processes import eventually
from tests.support.service import make_settings, running_service


class TestManyForOnePhone:
    async def test_cost_the_claim_a_few_rows_each_whatever_the_planner_believes(self, database: Database) -> None:
        waiting = 1_500
        async with database.connection() as connection:
            await connection.execute("VACUUM ANALYZE work")  # while it is empty, as it is most of the time
            await connection.execute(
                "INSERT INTO work (kind, ref_id, order_key) "
                "SELECT $1, gen_random_uuid(), 'one phone' FROM generate_series(1, $2)",
                SEND_MESSAGE,
                waiting,
            )
            read = "SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE relname = 'work'"
            await connection.execute("SELECT pg_stat_force_next_flush()")
            before = await connection.fetchval(read)
            claimed = await queue.claim(
                connection,
                lanes=[Lane(SEND_MESSAGE, Priority.NORMAL, 64)],
                limit=64,
                lease_token=uuid4(),
                lease=timedelta(minutes=1),
            )
            await connection.execute("SELECT pg_stat_force_next_flush()")
            await connection.execute("SELECT pg_stat_clear_snapshot()")
            after = await connection.fetchval(read)

        assert len(claimed) == 1
        assert after - before < 10 * waiting  # not a thousandfold of it

    async def test_do_not_keep_an_urgent_one_to_another_phone_waiting(
        self, database: Database, database_url: DatabaseUrl
    ) -> None:
        await accept(database, *(request(content=f"{n}", provider="b") for n in range(300)))
        urgent_request = request("+14155550199", priority=Priority.URGENT, provider="a")
        async with (
            http_providers(a := HttpProvider("a"), b := HttpProvider("b", answer=refusing("busy"))),
            sending(database_url, [a, b]),
        ):
            (urgent,) = await accept(database, urgent_request)
            await until_taken(database, urgent)


class TestWithoutProviders:
    async def test_messages_wait_for_a_process_that_has_one(
        self, database: Database, database_url: DatabaseUrl
    ) -> None:
        settings = make_settings(app_env="development")
        (id_,) = await accept(database, request())
        async with running_service(settings, database_url, database):
            await asyncio.sleep(0.5)

        assert await status(database, id_) == "accepted"
        assert [row["state"] for row in await work_rows(database)].count("due") >= 1
        async with http_providers(a := HttpProvider("a")), sending(database_url, [a]):
            await until_taken(database, id_)


class TestTwoRowsOfOneMessage:
    async def test_in_one_batch_make_one_call(self, database: Database, database_url: DatabaseUrl) -> None:
        (id_,) = await accept(database, request())
        async with database.transaction() as connection:
            await queue.enqueue(connection, [NewWork(SEND_MESSAGE, id_)])
        async with http_providers(a := HttpProvider("a")), sending(database_url, [a], is_running=False) as process:
            work = await process.claim()
            results = await process.run(work)

        assert len(work) == 2
        assert {type(each) for each in results} == {Settled, Later}
        assert len(a.handed) == 1
        assert await outcomes(database, id_) == [("a", "sent")]


class TestStop:
    async def test_start_lifts_what_a_provider_recorded_under_another_sender(self, database: Database) -> None:
        await database.pool.execute(
            "INSERT INTO sms_opt_outs (phone_number_canonical, sender, source) VALUES ($1, $2, 'provider')",
            PHONE,
            "MG" + "0" * 32,
        )
        async with database.connection() as connection:
            await opt_outs.apply_keyword(connection, uuid4(), phone=PHONE, own_number="+15005550006", text="start")

        assert await database.pool.fetchval("SELECT count(*) FROM sms_opt_outs") == 0


class TestRetention:
    @pytest.mark.parametrize(("retention", "days"), [("hash", 0), ("3", 3)])
    async def test_holds_for_what_was_refused(
        self, database: Database, database_url: DatabaseUrl, retention: str, days: int
    ) -> None:
        (id_,) = await accept(database, request(content_retention=retention))
        async with http_providers(a := HttpProvider("a", answer=refusing("bad-number"))), sending(database_url, [a]):
            await until_status(database, id_, "failed")

        row = await message(database, id_)
        assert row["redact_at"] - row["ended_at"] == timedelta(days=days)

    async def test_holds_for_what_was_canceled_and_what_expired(
        self, database: Database, database_url: DatabaseUrl
    ) -> None:
        canceled, late = await accept(
            database, request(content_retention="hash"), request("+14155550199", content_retention="hash")
        )
        await database.pool.execute("UPDATE sms_messages SET expires_at = now() WHERE id = $1", late)
        async with database.transaction() as connection:
            await control.cancel(connection, canceled)
        async with http_providers(a := HttpProvider("a")), sending(database_url, [a]):
            await until_status(database, late, "expired")

        for id_ in (canceled, late):
            row = await message(database, id_)
            assert row["redact_at"] == row["ended_at"]

    async def test_full_content_is_kept(self, database: Database, database_url: DatabaseUrl) -> None:
        (id_,) = await accept(database, request())
        async with http_providers(a := HttpProvider("a")), sending(database_url, [a]):
            await until_taken(database, id_)

        assert (await message(database, id_))["redact_at"] is None

    async def test_hash_of_a_content_is_never_sent_when_its_dead_row_is_replayed(
        self, database: Database, database_url: DatabaseUrl
    ) -> None:
        (id_,) = await accept(database, request(content_retention="hash"))
        await database.pool.execute(
            "UPDATE sms_messages SET delivery_status = 'failed', message_content = 'sha256:0' WHERE id = $1", id_
        )

        async def is_done() -> bool:
            return not await work_rows(database)

        async with http_providers(a := HttpProvider("a")), sending(database_url, [a]):
            await eventually(is_done, "the replayed row is gone")

        assert (a.handed, await status(database, id_)) == ([], "failed")

    async def test_message_whose_content_is_gone_cannot_be_retried(self, database: Database) -> None:
        (id_,) = await accept(database, request(content_retention="hash"))
        await database.pool.execute(
            "UPDATE sms_messages SET delivery_status = 'failed', message_content = 'sha256:0' WHERE id = $1", id_
        )
        with pytest.raises(ConflictError, match="no longer kept"):
            async with database.transaction() as connection:
                await control.retry(connection, id_, was_not_sent=False)


class TestRatesAway:
    async def test_are_not_asked_again_and_again(self) -> None:
        config = ProviderConfig(name="a", senders=("+15005550006",), sender_rates={"*": None})
        pace = Pace(ScriptedRates([RatesUnavailableError("away")]), [config])
        assert pace.room(["a"], Priority.NORMAL) > 0

        with pytest.raises(RatesUnavailableError):
            await pace.ask([Place("a", "+15005550006", 1, Priority.NORMAL)])

        assert pace.room(["a"], Priority.NORMAL) == 0

    async def test_of_redis_leave_the_messages_waiting(self, database: Database, database_url: DatabaseUrl) -> None:
        (id_,) = await accept(database, request())
        async with http_providers(a := HttpProvider("a", {"rate_per_s": 50})):
            settings = make_settings(redis_url="redis://127.0.0.1:9/0", providers=orjson.dumps([a.entry]).decode())
            async with running_service(settings, database_url, database):

                async def was_looked_at() -> bool:
                    return "sender_rate" in [row["last_error"] for row in await work_rows(database)]

                await eventually(was_looked_at, "the message was put off")

        assert (a.handed, await status(database, id_)) == ([], "accepted")


class TestPutAside:
    @pytest.mark.parametrize("stuck", ["accepted", "queued", "sending"])
    async def test_message_on_its_way_can_be_retried(self, database: Database, stuck: str) -> None:
        (id_,) = await accept(database, request())
        await database.pool.execute("UPDATE sms_messages SET delivery_status = $2 WHERE id = $1", id_, stuck)
        await database.pool.execute("UPDATE work SET state = 'dead'")

        async with database.transaction() as connection:
            await control.retry(connection, id_, was_not_sent=True)

        assert await status(database, id_) == "queued"
        assert [row["state"] for row in await work_rows(database)] == ["due"]

    async def test_message_of_a_living_row_is_not_doubled_by_a_retry(self, database: Database) -> None:
        (id_,) = await accept(database, request())
        await database.pool.execute("UPDATE sms_messages SET delivery_status = 'failed' WHERE id = $1", id_)

        async with database.transaction() as connection:
            await control.retry(connection, id_, was_not_sent=False)

        assert len(await work_rows(database)) == 1


class TestProbe:
    async def test_of_a_message_that_did_not_try_is_free_for_the_next_one(
        self, database: Database, database_url: DatabaseUrl
    ) -> None:
        async with http_providers(a := HttpProvider("a")), sending(database_url, [a], is_running=False) as process:
            await process.states.read()
            await database.pool.execute(
                "UPDATE sms_providers SET circuit = 'open', circuit_until = now() - interval '1 second'"
            )
            assert await process.states.try_probe("a")
            assert not await process.states.try_probe("a")

            await process.states.release_probe("a")

            assert await process.states.try_probe("a")


class TestRecurringWork:
    async def test_row_that_died_is_replaced(self, database: Database) -> None:
        async with database.transaction() as connection:
            await queue.enqueue(connection, recurring_messaging_work())
        await database.pool.execute("UPDATE work SET state = 'dead' WHERE kind = $1", RECONCILE_MESSAGES)
        keeping = asyncio.create_task(keep_recurring_work(database, look_every_s=0.05))

        async def is_back() -> bool:
            return bool(
                await database.pool.fetchval(
                    "SELECT count(*) FROM work WHERE kind = $1 AND state = 'due'", RECONCILE_MESSAGES
                )
            )

        try:
            await eventually(is_back, "reconciliation goes on")
        finally:
            keeping.cancel()


class TestPhones:
    async def test_slow_sender_does_not_hold_up_another_one(
        self, database: Database, database_url: DatabaseUrl
    ) -> None:
        slow, quick = "+15005550001", "+15005550002"
        rates = {slow: 0.5, quick: None}
        await accept(database, *(request(phone, sender=slow) for phone in phones(400)))
        (id_,) = await accept(database, request("+14155559999", sender=quick))
        a = HttpProvider("a", {"senders": [slow, quick], "sender_rates": rates, "rate_per_s": 50})
        async with http_providers(a), sending(database_url, [a]):
            await until_taken(database, id_)

        assert len(a.handed) < 20  # most of those in front still wait for their sender
