"""Whatever happens while somebody is erased: nothing of them is left, no opt-out is lost, nothing is torn off."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from uuid import UUID

import asyncpg
import pytest

from sms_foundation.core.config import LOCAL_PHONE_NUMBER
from sms_foundation.core.db import Database
from sms_foundation.core.ids import NIL
from sms_foundation.messaging.facts import load_messages
from sms_foundation.messaging.opt_outs import apply_keyword, record_opt_outs_of
from tests.support.one_person import OTHER, PERSON, KilledError, Listening, World
from tests.support.outbound import HttpProvider, Taken, expire_leases, work_rows
from tests.support.processes import eventually


@asynccontextmanager
async def calling(world: World) -> AsyncIterator[UUID]:
    """Have a message in the hands of its provider, who answers at the end of the block."""
    called, may_answer = asyncio.Event(), asyncio.Event()
    taking = world.provider.answer

    async def answer_later(provider: HttpProvider, message: Taken) -> bytes | None:
        called.set()
        await may_answer.wait()
        return await taking(provider, message)

    world.provider.answer = answer_later
    id_ = await world.send("pineapple")
    sending = asyncio.create_task(world.send_off())
    await called.wait()
    try:
        yield id_
    finally:
        may_answer.set()
        await sending


@asynccontextmanager
async def erasing_held_up(
    world: World, message_id: UUID | None = None, *statements: str, at_once: int = 1
) -> AsyncIterator[Listening]:
    """Erase the person, and run the block while that waits for us.

    For a message, if there is one; and for whatever a transaction has locked that has run `statements` and commits at
    the end of the block. `at_once`: so many erase the person.
    """
    listening = Listening()
    async with AsyncExitStack() as stack:
        connection = await stack.enter_async_context(world.database.transaction())
        for each in statements:
            await connection.execute(each)
        if message_id is not None:
            await stack.enter_async_context(world.held(message_id))
        tasks = [asyncio.create_task(world.erase(listener=listening.listener)) for _ in range(at_once)]
        await world.until_somebody_waits(at_once)
        yield listening
    await asyncio.gather(*tasks)


async def until_it_waits_for_calls(world: World, listening: Listening) -> None:
    async def is_waiting() -> bool:
        return bool(listening.waited_for)

    await eventually(is_waiting, "a call is waited for")


@asynccontextmanager
async def erasing_while_called(world: World) -> AsyncIterator[None]:
    """Erase somebody to whom a message is just being handed; the block is while that is waited for."""
    async with calling(world):
        listening = Listening()
        task = asyncio.create_task(world.erase(listener=listening.listener))
        await until_it_waits_for_calls(world, listening)
        yield
    await task


async def message_of(world: World, sid: str) -> asyncpg.Record:
    return await world.database.pool.fetchrow("SELECT * FROM sms_messages WHERE provider_message_id = $1", sid)


async def open_work(database: Database) -> list[str]:
    return [row["kind"] for row in await work_rows(database) if row["ref_id"] != NIL]


class TestStop:
    async def test_that_a_worker_reads_meanwhile_is_the_persons(self, world: World) -> None:
        async with erasing_while_called(world):
            await world.text("SM1", "STOP")
            await world.read_texts()

        assert await world.opted_out() == {PERSON}
        assert await world.traces() == {"sms_opt_outs": {"4155550123"}}

    async def test_that_nobody_has_read_when_the_erasing_waits_is_taken_at_its_word(self, world: World) -> None:
        async with erasing_while_called(world):
            await world.text("SM1", "STOP")

        assert await world.opted_out() == {PERSON}
        assert await world.traces() == {"sms_opt_outs": {"4155550123"}}

    async def test_that_comes_while_messages_are_erased_is_not_erased_unread(self, world: World) -> None:
        await world.text("SM1", "pineapple")
        await world.read_texts()  # or it would be waited for earlier, to call off that
        async with erasing_held_up(world, (await message_of(world, "SM1"))["id"]):
            await world.text("SM2", "STOP")

        assert await world.opted_out() == {PERSON}
        assert await world.traces() == {"sms_opt_outs": {"4155550123"}}
        assert await open_work(world.database) == []

    async def test_that_comes_after_the_erasing_died_is_the_persons(self, world: World) -> None:
        await world.text("SM1", "pineapple")
        with pytest.raises(KilledError):
            await world.erase(listener=Listening(dies_at="progress").listener)
        await world.text("SM2", "STOP")
        await world.read_texts()

        assert await world.opted_out() == {PERSON}

    async def test_that_a_provider_tells_after_the_erasing_died_is_the_persons(self, world: World) -> None:
        id_ = await world.send("pineapple")
        await world.send_off()
        with pytest.raises(KilledError):
            await world.erase(listener=Listening(dies_at="progress").listener)
        async with world.database.connection() as connection:
            await record_opt_outs_of(connection, [id_])

        assert await world.opted_out() == {PERSON}

    async def test_is_not_undone_by_a_start_of_before(self, world: World) -> None:
        """A worker that was slow has read START; the person was erased, and has said STOP since."""
        await world.text("SM1", "START")
        start = await message_of(world, "SM1")
        async with world.database.connection() as connection:
            read = (await load_messages(connection, [start["id"]]))[start["id"]]
        await world.erase()
        await world.text("SM2", "STOP")
        await world.read_texts()
        async with world.database.transaction() as connection:
            await apply_keyword(connection, read.id, phone=read.phone, own_number=read.own_number, text=read.content)

        assert await world.opted_out() == {PERSON}

    async def test_is_not_lost_to_a_start_that_is_just_being_applied(self, world: World) -> None:
        """START has looked for later words, finds none, and forgets what STOP says once more: but not after that."""
        await world.database.pool.execute(
            "INSERT INTO sms_opt_outs (phone_number_canonical, sender, source) VALUES ($1, $2, 'keyword')",
            PERSON,
            LOCAL_PHONE_NUMBER,
        )
        await world.text("SM1", "START")
        async with world.database.transaction() as connection:
            await connection.execute("SELECT FROM sms_opt_outs FOR UPDATE")
            start = asyncio.create_task(world.read_texts())
            await world.until_somebody_waits()
            await world.text("SM2", "STOP")
            stop = asyncio.create_task(world.read_texts())

            async def is_said() -> bool:
                return stop.done() or await world.count_waiting() == 2

            await eventually(is_said, "STOP is applied, or waits")
        await asyncio.gather(start, stop)

        assert await world.opted_out() == {PERSON}

    async def test_is_never_filed_under_nobody(self, world: World) -> None:
        with pytest.raises(asyncpg.CheckViolationError):
            await world.database.pool.execute(
                "INSERT INTO sms_opt_outs (phone_number_canonical, sender, source) VALUES ($1, 'x', 'keyword')",
                f"erased:{NIL}",
            )


class TestWhatComesIn:
    async def test_before_the_conversation_forgets_whose_it_was_is_erased_as_well(self, world: World) -> None:
        """A text is being stored when the last look is taken: it is in the conversation, or in a new one, but seen."""
        await world.text("SM1", "pineapple")
        first = await message_of(world, "SM1")
        storing = [
            f"UPDATE sms_conversations SET message_count = 2 WHERE id = '{first['conversation_id']}'",
            "INSERT INTO sms_messages (id, conversation_id, conversation_seq, direction, provider, "
            "provider_message_id, from_number, to_number, message_content, delivery_status) "
            f"VALUES (gen_random_uuid(), '{first['conversation_id']}', 2, 'inbound', 'twilio', 'SM2', '{PERSON}', "
            "'+15005550006', 'pineapple', 'received')",
        ]
        async with erasing_held_up(world, None, *storing):
            pass

        assert await world.traces() == {}
        second = await message_of(world, "SM2")
        assert (second["conversation_id"], second["from_number"]) == (first["conversation_id"], "erased")

    async def test_after_it_makes_a_new_conversation(self, world: World) -> None:
        await world.text("SM1", "pineapple")
        await world.erase()
        await world.text("SM2", "hello")

        assert (await world.service.conversation(PERSON))["message_count"] == 1

    async def test_is_of_the_same_conversation_while_it_is_half_erased(self, world: World) -> None:
        await world.text("SM1", "pineapple")
        with pytest.raises(KilledError):
            await world.erase(listener=Listening(dies_at="progress").listener)
        await world.text("SM2", "pineapple")
        assert (await world.service.conversation(PERSON))["message_count"] == 2
        erased = await world.erase()

        assert (erased.conversations, erased.messages) == (1, 1)
        assert await world.traces() == {}


class TestTwoAtOnce:
    async def test_do_no_more_than_one(self, person: World) -> None:
        first = (await person.messages())[0]["id"]
        async with erasing_held_up(person, first, at_once=2):
            pass

        assert await person.traces() == {"sms_opt_outs": {"4155550123"}}
        names = await person.database.pool.fetch("SELECT phone_number_canonical, id FROM sms_conversations")
        assert all(name == f"erased:{id_}" for name, id_ in names)


class TestWhatIsSent:
    async def test_taken_by_a_sender_just_before_it_is_called_off_is_waited_for(self, world: World) -> None:
        stuck = await world.send("pineapple that nobody took")
        await world.database.pool.execute("UPDATE work SET state = 'dead', last_error = 'x' WHERE ref_id = $1", stuck)
        id_ = await world.send("pineapple", priority="urgent")
        async with erasing_held_up(world, stuck) as listening:  # it has seen both, and is about the first

            async def die() -> None:
                await until_it_waits_for_calls(world, listening)
                left.extend(row["ref_id"] for row in await work_rows(world.database) if row["ref_id"] != NIL)
                await expire_leases(world.database)

            left: list[UUID] = []
            (work,) = await world.sender.claim()
            await world.sender.begin(work)
            death = asyncio.create_task(die())
        await death

        assert left == [id_]
        assert await world.traces() == {}
        assert await open_work(world.database) == []

    async def test_put_back_in_line_just_before_it_is_erased_is_canceled(self, world: World) -> None:
        await world.text("SM1", "pineapple")
        failed = await world.send("refuse: pineapple")
        await world.send_off()
        await world.read_texts()
        handed = len(world.provider.handed)
        async with erasing_held_up(world, (await message_of(world, "SM1"))["id"]):
            response = await world.service.client.post(f"/v1/sms/{failed}/retry", json={})
            assert response.status_code == 200, response.text
        await world.send_off()

        assert len(world.provider.handed) == handed
        assert await world.traces() == {}
        status = await world.database.pool.fetchval("SELECT delivery_status FROM sms_messages WHERE id = $1", failed)
        assert (status, await open_work(world.database)) == ("canceled", [])


class TestTenants:
    async def test_who_is_just_getting_another_number_stays(self, person: World) -> None:
        getting_it = [
            "SELECT FROM sms_tenants WHERE tenant_id = 'tenant-77' FOR NO KEY UPDATE",
            "INSERT INTO sms_tenant_numbers (tenant_id, phone_number_canonical, last_used_at) "
            f"VALUES ('tenant-77', '{OTHER}', now())",
        ]
        async with erasing_held_up(person, None, *getting_it):
            pass

        assert await person.database.pool.fetchval("SELECT count(*) FROM sms_tenants") == 1
