"""Storing requests: one commit for many, one message per key, and one order that everybody sees."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from sms_foundation.core.config import Settings
from sms_foundation.core.db import Database, DatabaseUrl, is_outage, retry_races
from sms_foundation.core.work.queue import Priority
from sms_foundation.messaging.outbound.accept import MessageAcceptor
from sms_foundation.messaging.outbound.asked import CONFLICT, Accepted, Outcome, SendRequest
from tests.support.service import Service, make_settings

PHONE = "+14155550123"


@pytest.fixture
def settings() -> Settings:
    """Nothing is sent: what is read is what was accepted."""
    return make_settings(work_in_process=False)


@pytest.fixture
async def acceptor(database: Database) -> AsyncIterator[MessageAcceptor]:
    acceptor = MessageAcceptor(database, timeout_s=10, on_accepted=lambda: None)
    yield acceptor
    await acceptor.close()


@asynccontextmanager
async def two_processes(url: DatabaseUrl, settings: Settings) -> AsyncIterator[list[MessageAcceptor]]:
    """Two acceptors on one database that share nothing else."""
    async with AsyncExitStack() as stack:
        acceptors = []
        for _ in range(2):
            database = Database(url, settings)
            await database.open()
            stack.push_async_callback(database.close)
            acceptor = MessageAcceptor(database, timeout_s=10, on_accepted=lambda: None)
            stack.push_async_callback(acceptor.close)
            acceptors.append(acceptor)
        yield acceptors


def request(content: str = "Hello", **changes: Any) -> SendRequest:
    values: dict[str, Any] = {"recipient": PHONE, "client_id": "client", "encoding": "GSM-7", "num_segments": 1}
    values |= {"content": content, "digest": hashlib.sha256(content.encode()).digest(), **changes}
    return SendRequest(**values)


def accepted(outcome: Outcome) -> Accepted:
    assert isinstance(outcome, Accepted)
    return outcome


async def accept_all(acceptor: MessageAcceptor, database: Database, requests: Sequence[SendRequest]) -> list[Outcome]:
    """Store all in one transaction, as often as it loses a race."""

    async def attempt() -> list[Outcome]:
        async with database.transaction() as connection:
            return await acceptor.accept_all(connection, requests)

    return await retry_races(attempt)


async def messages(database: Database) -> list[asyncpg.Record]:
    """Every message with its work, conversation by conversation."""
    rows: list[asyncpg.Record] = await database.pool.fetch(
        "SELECT m.*, w.id AS work_id, w.kind, w.order_key, w.run_at, w.priority AS work_priority "
        "FROM sms_messages AS m LEFT JOIN work AS w ON w.ref_id = m.id ORDER BY m.conversation_id, m.conversation_seq"
    )
    return rows


async def refuse_content(database: Database, content: str) -> None:
    """Make PostgreSQL refuse every message with this content, as it would refuse what it cannot hold."""
    await database.pool.execute(
        f"ALTER TABLE sms_messages ADD CONSTRAINT poison CHECK (message_content <> '{content}')"
    )


class TestAccept:
    async def test_message_conversation_and_work_are_there_when_it_returns(
        self, acceptor: MessageAcceptor, database: Database
    ) -> None:
        expires_at = datetime.now(UTC) + timedelta(hours=1)
        made = accepted(
            await acceptor.accept(
                request(
                    "Hola",
                    sender="+15005550006",
                    media_urls=("https://example.com/1",),
                    idempotency_key="k",
                    metadata={"case": "1"},
                    priority=Priority.URGENT,
                    provider="twilio",
                    expires_at=expires_at,
                    content_retention="7",
                )
            )
        )
        [row] = await messages(database)
        assert {
            name: row[name]
            for name in (
                "id conversation_id conversation_seq direction from_number to_number message_content encoding "
                "num_segments delivery_status client_id idempotency_key priority requested_sender requested_provider "
                "send_at expires_at content_retention provider provider_message_id created_at"
            ).split()
        } == {
            "id": made.message_id,
            "conversation_id": made.conversation_id,
            "conversation_seq": 1,
            "direction": "outbound",
            "from_number": "+15005550006",
            "to_number": PHONE,
            "message_content": "Hola",
            "encoding": "GSM-7",
            "num_segments": 1,
            "delivery_status": "accepted",
            "client_id": "client",
            "idempotency_key": "k",
            "priority": 0,
            "requested_sender": "+15005550006",
            "requested_provider": "twilio",
            "send_at": None,
            "expires_at": expires_at,
            "content_retention": "7",
            "provider": None,
            "provider_message_id": None,
            "created_at": made.created_at,
        }
        assert (row["kind"], row["order_key"], row["work_priority"]) == ("send_message", f"{PHONE}/0", 0)
        assert (row["metadata"], row["media"]) == (
            '{"case": "1"}',
            '[{"url": "https://example.com/1", "content_type": ""}]',
        )
        assert made.message_id.version == 7

    async def test_message_for_later_waits_outside_of_the_order(
        self, acceptor: MessageAcceptor, database: Database
    ) -> None:
        send_at = datetime.now(UTC) + timedelta(hours=1)
        await acceptor.accept(request("later", send_at=send_at))
        await acceptor.accept(request("past", send_at=send_at - timedelta(hours=2)))
        later, past = await messages(database)
        assert (later["kind"], later["order_key"], later["run_at"]) == ("release_message", None, send_at)
        assert (past["kind"], past["order_key"]) == ("send_message", f"{PHONE}/1")
        assert past["run_at"] <= datetime.now(UTC)

    async def test_tells_that_there_is_work_unless_there_is_none(self, database: Database) -> None:
        calls = []
        acceptor = MessageAcceptor(database, timeout_s=10, on_accepted=lambda: calls.append(1))
        await acceptor.accept(request(idempotency_key="k"))
        await acceptor.accept(request(idempotency_key="k"))
        await acceptor.close()
        assert len(calls) == 1

    async def test_poisoned_row_in_a_batch_fails_alone(self, acceptor: MessageAcceptor, database: Database) -> None:
        await refuse_content(database, "poison")
        contents = [*(f"good {number}" for number in range(10)), "poison", "last"]
        outcomes = await asyncio.gather(
            *(acceptor.accept(request(content)) for content in contents), return_exceptions=True
        )
        failures = [each for each in outcomes if isinstance(each, BaseException)]
        assert [type(each) for each in failures] == [asyncpg.CheckViolationError]
        assert outcomes[10] is failures[0]
        stored = await messages(database)
        assert [row["message_content"] for row in stored] == [each for each in contents if each != "poison"]
        assert [row["conversation_seq"] for row in stored] == list(range(1, 12))
        assert all(row["work_id"] is not None for row in stored)

    async def test_what_cannot_be_stored_is_not_accepted(
        self, database_url: DatabaseUrl, settings: Settings, database: Database
    ) -> None:
        gone = Database(database_url, settings)
        await gone.open()
        acceptor = MessageAcceptor(gone, timeout_s=10, on_accepted=lambda: None)
        await gone.close()
        with pytest.raises(Exception) as caught:  # noqa: PT011  # whichever it is: is_outage tells
            await acceptor.accept(request())
        assert is_outage(caught.value)
        await acceptor.close()
        assert await messages(database) == []


class TestIdempotency:
    async def test_same_key_returns_what_it_made_at_first(self, acceptor: MessageAcceptor, database: Database) -> None:
        first = accepted(await acceptor.accept(request(idempotency_key="k", num_segments=3, encoding="UCS-2")))
        await database.pool.execute("UPDATE sms_messages SET delivery_status = 'delivered', num_segments = 9")
        again = accepted(await acceptor.accept(request(idempotency_key="k", num_segments=3, encoding="UCS-2")))
        assert again.is_replay
        assert not first.is_replay
        for name in ("message_id", "conversation_id", "created_at", "num_segments", "encoding"):
            assert getattr(again, name) == getattr(first, name), name
        assert len(await messages(database)) == 1
        assert await database.pool.fetchval("SELECT message_count FROM sms_conversations") == 1

    async def test_same_key_for_something_else_is_a_conflict(
        self, acceptor: MessageAcceptor, database: Database
    ) -> None:
        await acceptor.accept(request("one", idempotency_key="k"))
        assert await acceptor.accept(request("two", idempotency_key="k")) is CONFLICT
        assert await acceptor.accept(request("one", idempotency_key="k", digest=b"other")) is CONFLICT
        assert [row["message_content"] for row in await messages(database)] == ["one"]

    async def test_keys_are_a_clients_own(self, acceptor: MessageAcceptor, database: Database) -> None:
        for client in ("a", "b"):
            assert not accepted(await acceptor.accept(request(client, idempotency_key="k", client_id=client))).is_replay
        assert len(await messages(database)) == 2

    async def test_no_key_means_a_new_message_each_time(self, acceptor: MessageAcceptor, database: Database) -> None:
        await acceptor.accept(request())
        await acceptor.accept(request())
        assert len(await messages(database)) == 2

    async def test_ten_at_once_create_one(self, acceptor: MessageAcceptor, database: Database) -> None:
        outcomes = [
            accepted(each)
            for each in await asyncio.gather(*(acceptor.accept(request(idempotency_key="k")) for _ in range(10)))
        ]
        assert sorted(each.is_replay for each in outcomes) == [False] + [True] * 9
        assert len({each.message_id for each in outcomes}) == 1
        [row] = await messages(database)
        assert row["work_id"] is not None

    @pytest.mark.parametrize("phones", [1, 7])
    async def test_ten_at_once_in_two_processes_create_one_per_key(
        self, database_url: DatabaseUrl, settings: Settings, database: Database, phones: int
    ) -> None:
        """With one phone the conversation's lock is what they meet at, with several only the key."""
        async with two_processes(database_url, settings) as acceptors:
            for round_ in range(10):
                outcomes = await asyncio.gather(
                    *(
                        acceptors[number % 2].accept(
                            request(
                                str(number % phones),
                                recipient=f"+1415555012{number % phones}",
                                idempotency_key=f"k{round_}",
                            )
                        )
                        for number in range(10)
                    )
                )
                made = [each for each in outcomes if isinstance(each, Accepted)]
                assert len({each.message_id for each in made}) == 1
                assert [each.is_replay for each in made].count(False) == 1
                assert len(made) == 10 if phones == 1 else len(made) < 10
        assert len(await messages(database)) == 10
        assert await database.pool.fetchval("SELECT count(*) FROM work") == 10

    async def test_processes_that_meet_at_nothing_but_the_key_agree_too(
        self, database_url: DatabaseUrl, settings: Settings, database: Database
    ) -> None:
        async with two_processes(database_url, settings) as acceptors:
            for round_ in range(20):
                outcomes = await asyncio.gather(
                    *(
                        acceptor.accept(request(recipient=f"+1415555012{place}", idempotency_key=f"k{round_}"))
                        for place, acceptor in enumerate(acceptors)
                    )
                )
                assert sorted(accepted(each).is_replay for each in outcomes) == [False, True]
        assert len(await messages(database)) == 20


class TestOrder:
    async def test_work_of_a_conversation_is_in_the_order_of_acceptance_whoever_accepts(
        self, database_url: DatabaseUrl, settings: Settings, database: Database, service: Service
    ) -> None:
        """Two processes and inbound texts on three conversations: numbers have no gap, and work ids follow them."""
        phones = [f"+1415555012{digit}" for digit in range(3)]
        async with two_processes(database_url, settings) as acceptors:

            async def accept(acceptor: MessageAcceptor, name: str) -> None:
                for number in range(25):
                    await asyncio.gather(
                        *(acceptor.accept(request(f"{name}{number}", recipient=phone)) for phone in phones)
                    )

            async def receive() -> None:
                for number in range(25):
                    for phone in phones:
                        await service.text(f"SM{phone}-{number}", sender=phone)

            await asyncio.gather(accept(acceptors[0], "a"), accept(acceptors[1], "b"), receive())
        stored = await messages(database)
        by_conversation: dict[UUID, list[asyncpg.Record]] = {}
        for row in stored:
            by_conversation.setdefault(row["conversation_id"], []).append(row)
        assert len(by_conversation) == 3
        for rows in by_conversation.values():
            assert [row["conversation_seq"] for row in rows] == list(range(1, 76))
            outbound = [row for row in rows if row["direction"] == "outbound"]
            assert [row["work_id"] for row in outbound] == sorted(row["work_id"] for row in outbound)
            for name in "ab":
                own = [row["message_content"] for row in outbound if row["message_content"].startswith(name)]
                assert own == [f"{name}{number}" for number in range(25)]
        assert {row["message_count"] for row in await database.pool.fetch("SELECT * FROM sms_conversations")} == {75}

    async def test_one_batch_keeps_its_order(self, acceptor: MessageAcceptor, database: Database) -> None:
        contents = [str(number) for number in range(100)]
        await accept_all(acceptor, database, [request(content) for content in contents])
        stored = await messages(database)
        assert [row["message_content"] for row in stored] == contents
        assert [row["work_id"] for row in stored] == sorted(row["work_id"] for row in stored)


class TestAcceptAll:
    async def test_a_thousand_in_one_transaction(self, acceptor: MessageAcceptor, database: Database) -> None:
        outcomes = await accept_all(
            acceptor,
            database,
            [request(str(number), recipient=f"+1415555{number % 700:04d}") for number in range(1000)],
        )
        stored = {row["id"]: row for row in await messages(database)}
        assert len(stored) == 1000
        assert [stored[accepted(each).message_id]["message_content"] for each in outcomes] == [
            str(number) for number in range(1000)
        ]
        assert await database.pool.fetchval("SELECT count(DISTINCT xmin::text) FROM sms_messages") == 1

    async def test_what_the_database_refuses_takes_all_with_it(
        self, acceptor: MessageAcceptor, database: Database
    ) -> None:
        await refuse_content(database, "poison")
        with pytest.raises(asyncpg.CheckViolationError):
            await accept_all(acceptor, database, [request(content) for content in ("one", "poison", "two")])
        assert await messages(database) == []
        assert not await database.pool.fetchval("SELECT count(*) FROM work")
        assert not await database.pool.fetchval("SELECT count(*) FROM sms_conversations")

    async def test_repeated_keys_within_it_make_one_message(
        self, acceptor: MessageAcceptor, database: Database
    ) -> None:
        first, again, other, alone = await accept_all(
            acceptor,
            database,
            [
                request("one", idempotency_key="k"),
                request("one", idempotency_key="k"),
                request("two", idempotency_key="k"),
                request("one"),
            ],
        )
        assert accepted(again).is_replay
        assert accepted(again).message_id == accepted(first).message_id
        assert other is CONFLICT
        assert accepted(alone).message_id != accepted(first).message_id
        assert len(await messages(database)) == 2

    async def test_batches_that_share_phones_do_not_lock_each_other_out(
        self, database_url: DatabaseUrl, settings: Settings, database: Database
    ) -> None:
        phones = [f"+1415555{number:04d}" for number in range(50)]
        async with two_processes(database_url, settings) as acceptors:
            await asyncio.gather(
                *(
                    accept_all(
                        acceptors[number % 2],
                        database,
                        [request(f"{number}", recipient=phone) for phone in (phones if number % 3 else phones[::-1])],
                    )
                    for number in range(8)
                )
            )
        assert len(await messages(database)) == 400
        assert not await database.pool.fetchval(
            "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
        )

    async def test_an_error_of_the_caller_takes_all_with_it(
        self, acceptor: MessageAcceptor, database: Database
    ) -> None:
        async def fail_afterwards() -> None:
            async with database.transaction() as connection:
                await acceptor.accept_all(connection, [request("one")])
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await fail_afterwards()
        assert await messages(database) == []

    async def test_nothing_at_all_is_nothing(self, acceptor: MessageAcceptor, database: Database) -> None:
        assert await accept_all(acceptor, database, []) == []
