"""kill -9 in the middle of a burst, and two services that get the same texts: once each, and all of it finished."""

import asyncio
from collections.abc import AsyncIterator
from urllib.parse import parse_qs, urlsplit

import orjson
import pytest

from sms_foundation.core.db import Database, DatabaseUrl
from sms_foundation.core.ids import NIL
from tests.loopback import LoopbackServer, Received, reply
from tests.support.http_connection import HalfAnswerError, RefusedError
from tests.support.processes import Processes, ServiceProcess, eventually, send_text

# What each phone says, always the same; `language` by phone number is what must come of it.
_SAYINGS = (
    ("en", "The heating in my apartment has been broken since yesterday"),
    ("es", "Hola, no hay agua caliente en mi apartamento desde ayer"),
    ("pt", "Bom dia, a torneira da cozinha não para de pingar"),
)
_PHONES = [f"+1415555{number:04d}" for number in range(30)]
_KNOWN = _PHONES[::2]  # the others are nobody's
WORKING = {"WORK_LEASE_S": "1", "WORK_POLL_S": "0.05"}


def _text_of(number: int) -> tuple[str, str, str]:
    """Return sid, sender and body of the burst's `number`-th text."""
    place = number % len(_PHONES)
    return f"SM{number:032x}", _PHONES[place], _SAYINGS[place % 3][1]


@pytest.fixture
async def slow_monitor() -> AsyncIterator[LoopbackServer]:
    """A Collections Monitor that thinks for a moment, and knows every second phone."""

    async def answer(request: Received) -> bytes:
        await asyncio.sleep(0.05)
        phone = parse_qs(urlsplit(request.target).query).get("phone", [""])[0]
        if phone in _KNOWN:
            return reply(200, orjson.dumps({"tenant_id": f"tenant-{phone[-4:]}"}))
        return reply(404)

    async with LoopbackServer(answer) as monitor:
        yield monitor


class Burst:
    """`total` texts over some connections; what is not acknowledged is left for the next `deliver`, as Twilio does."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.acknowledged: set[str] = set()

    async def deliver(self, service: ServiceProcess, *, connections: int = 8) -> None:
        """Send what is left until all is acknowledged or the service is gone."""
        left = [each for each in map(_text_of, range(self.total)) if each[0] not in self.acknowledged]
        async with asyncio.TaskGroup() as group:
            for start in range(connections):
                group.create_task(self._deliver(service, left[start::connections]))

    async def _deliver(self, service: ServiceProcess, texts: list[tuple[str, str, str]]) -> None:
        async with service.connect() as connection:
            for sid, sender, body in texts:
                try:
                    answer = await send_text(connection, sid, body, sender=sender)
                except (RefusedError, HalfAnswerError):  # killed, it may break off in the middle of an answer
                    return
                assert answer.status == 200
                self.acknowledged.add(sid)

    async def until_acknowledged(self, count: int) -> None:
        async def are_enough() -> bool:
            return len(self.acknowledged) >= count

        await eventually(are_enough, f"{count} texts are acknowledged")


async def _stored(database: Database) -> list[str]:
    return [row[0] for row in await database.pool.fetch("SELECT provider_message_id FROM sms_messages")]


async def _until_no_work_is_left(database: Database) -> None:
    async def is_finished() -> bool:
        return not await database.pool.fetchval("SELECT count(*) FROM work WHERE ref_id <> $1", NIL)

    await eventually(is_finished, "no work is left")


async def _assert_all_is_understood(database: Database, total: int) -> None:
    """Every text once, with its language; every conversation with its tenant, its language and a true count."""
    messages = await database.pool.fetch(
        "SELECT provider_message_id AS sid, from_number, language_detected FROM sms_messages"
    )
    expected = {(sid, sender, _SAYINGS[_PHONES.index(sender) % 3][0]) for sid, sender, _ in map(_text_of, range(total))}
    assert len(messages) == total
    assert {tuple(row) for row in messages} == expected
    conversations = await database.pool.fetch(
        "SELECT phone_number_canonical AS phone, tenant_id, tenant_lookup_status AS looked_up, language_detected AS "
        "language, message_count, (SELECT count(*) FROM sms_messages WHERE conversation_id = c.id) AS messages, "
        "(SELECT array_agg(conversation_seq ORDER BY conversation_seq) FROM sms_messages WHERE conversation_id = c.id) "
        "AS seqs FROM sms_conversations AS c"
    )
    assert len(conversations) == min(total, len(_PHONES))
    for row in conversations:
        is_known = row["phone"] in _KNOWN
        assert row["tenant_id"] == (f"tenant-{row['phone'][-4:]}" if is_known else None)
        assert row["looked_up"] == ("matched" if is_known else "unknown")
        assert row["language"] == _SAYINGS[_PHONES.index(row["phone"]) % 3][0]
        assert row["message_count"] == row["messages"]
        assert row["seqs"] == list(range(1, row["messages"] + 1))


class TestServeIsKilled:
    async def test_in_a_burst_nothing_acknowledged_is_lost_and_all_of_it_is_finished_later(
        self, processes: Processes, database_url: DatabaseUrl, database: Database, slow_monitor: LoopbackServer
    ) -> None:
        settings = {"DATABASE_URL": database_url.dsn, "MONITOR_API_URL": slow_monitor.base_url, **WORKING}
        service = processes.serve(**settings)
        await service.until_ready()
        burst = Burst(300)
        delivery = asyncio.create_task(burst.deliver(service))
        await burst.until_acknowledged(120)
        service.kill()
        await delivery

        stored = await _stored(database)
        assert burst.acknowledged <= set(stored)
        assert len(stored) == len(set(stored))
        assert len(burst.acknowledged) < burst.total
        assert await database.pool.fetchval("SELECT count(*) FROM work WHERE state = 'leased'")

        service = processes.serve(port=service.port, **settings)
        await service.until_ready()
        await burst.deliver(service)
        assert len(burst.acknowledged) == burst.total
        await _until_no_work_is_left(database)
        await _assert_all_is_understood(database, burst.total)


class TestWorkerIsKilled:
    async def test_another_worker_finishes_what_it_had_begun(
        self, processes: Processes, database_url: DatabaseUrl, database: Database, slow_monitor: LoopbackServer
    ) -> None:
        settings = {"DATABASE_URL": database_url.dsn, "MONITOR_API_URL": slow_monitor.base_url, **WORKING}
        service = processes.serve(WORK_IN_PROCESS="false", **settings)
        worker = processes.start("worker", **settings)
        await service.until_ready()
        burst = Burst(150)
        delivery = asyncio.create_task(burst.deliver(service))

        async def is_busy() -> bool:
            return len(slow_monitor.received) >= 20

        await eventually(is_busy, "the worker is looking up tenants")
        worker.kill()
        await delivery
        assert len(burst.acknowledged) == burst.total
        assert await database.pool.fetchval("SELECT count(*) FROM work WHERE kind = 'message_received'")

        processes.start("worker", **settings)
        await _until_no_work_is_left(database)
        await _assert_all_is_understood(database, burst.total)
        assert service.is_running


class TestTwoServices:
    async def test_that_get_the_same_texts_at_once_store_each_once(
        self, processes: Processes, database_url: DatabaseUrl, database: Database, slow_monitor: LoopbackServer
    ) -> None:
        settings = {"DATABASE_URL": database_url.dsn, "MONITOR_API_URL": slow_monitor.base_url, **WORKING}
        services = [processes.serve(**settings), processes.serve(**settings)]
        processes.start("worker", **settings)
        for service in services:
            await service.until_ready()
        bursts = [Burst(120), Burst(120)]

        await asyncio.gather(
            *(burst.deliver(service, connections=12) for burst, service in zip(bursts, services, strict=True))
        )

        for burst in bursts:
            assert len(burst.acknowledged) == burst.total
        await _until_no_work_is_left(database)
        await _assert_all_is_understood(database, 120)
        duplicates = sum(event.get("outcome") == "duplicate" for service in services for event in service.events)
        assert duplicates == 120
