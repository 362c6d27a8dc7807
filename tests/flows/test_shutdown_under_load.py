"""SIGTERM in the middle of 200 requests a second: what was acknowledged is there, what was refused never happened.

What was answered 503 may have been done; whoever repeats it with its key or its provider's id has it done once.
"""

import asyncio
import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum

import orjson
import pytest

from sms_foundation.core.config import LOCAL_AUTH_TOKEN
from sms_foundation.core.db import Database, DatabaseUrl
from sms_foundation.core.ids import NIL
from sms_foundation.providers.twilio.signature import sign
from tests.support.access import make_client, make_key
from tests.support.http_connection import Answer, HttpConnection, RefusedError
from tests.support.processes import Processes, ServiceProcess, eventually, send_text
from tests.support.sending import start_simulator, summary, true_record, unlimited_providers
from tests.support.service import BASE_URL, SMS_PATH, TENANT_PHONE, encode_form, text_form

REQUESTS_PER_S = 200
REQUESTS = 800
SIGTERM_AFTER = 400


class Kind(StrEnum):
    """What is asked."""

    RECEIVE = "receive"
    SEND = "send"
    READ = "read"


# Two texts come in for each that goes out and each look at a conversation.
MIX = [Kind.RECEIVE, Kind.SEND, Kind.RECEIVE, Kind.READ]


@dataclass
class Load:
    """Requests at a steady pace, over connections that are kept and, each tenth of them, one of their own."""

    service: ServiceProcess
    key: str
    answers: dict[tuple[Kind, str], Answer] = field(default_factory=dict)
    refused: dict[tuple[Kind, str], str] = field(default_factory=dict)
    """Why, by what was asked."""
    _idle: list[HttpConnection] = field(default_factory=list)

    async def run(self) -> None:
        """Raises HalfAnswerError when an answer breaks off."""
        started = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for number in range(REQUESTS):
                await asyncio.sleep(started + number / REQUESTS_PER_S - time.monotonic())
                if number == SIGTERM_AFTER:
                    self.service.signal(signal.SIGTERM)
                group.create_task(self._ask(MIX[number % len(MIX)], number))
        for connection in self._idle:
            await connection.close()

    async def repeat_unacknowledged(self, other: "Load") -> None:
        """Ask again for what `other` did not get done for certain, as callers and providers do."""
        async with asyncio.TaskGroup() as group:
            for number in range(REQUESTS):
                kind = MIX[number % len(MIX)]
                if kind is not Kind.READ and _name(kind, number) not in other.acknowledged(kind):
                    group.create_task(self._ask(kind, number))
        for connection in self._idle:
            await connection.close()

    async def _ask(self, kind: Kind, number: int) -> None:
        name = _name(kind, number)
        is_kept = number % 10 != 0
        connection = self._idle.pop() if is_kept and self._idle else self.service.connect()
        try:
            self.answers[kind, name] = await self._exchange(connection, kind, name, number)
        except RefusedError as error:
            self.refused[kind, name] = str(error)
        if is_kept:
            self._idle.append(connection)
        else:
            await connection.close()

    async def _exchange(self, connection: HttpConnection, kind: Kind, name: str, number: int) -> Answer:
        phone = f"+1415555{number % 97:04d}"
        authorization = {"Authorization": f"Bearer {self.key}"}
        match kind:
            case Kind.RECEIVE:
                pairs = text_form(name, "Hola, no hay agua", sender=phone)
                headers = {"Content-Type": "application/x-www-form-urlencoded; charset=UTF-8"}
                headers["X-Twilio-Signature"] = sign(LOCAL_AUTH_TOKEN, BASE_URL + SMS_PATH, pairs)
                return await connection.request("POST", SMS_PATH, encode_form(pairs), headers)
            case Kind.SEND:
                body = orjson.dumps({"to": phone, "message": name, "idempotency_key": name})
                headers = authorization | {"Content-Type": "application/json"}
                return await connection.request("POST", "/v1/sms/send", body, headers)
            case Kind.READ:
                return await connection.get(f"/conversations/{TENANT_PHONE}", **authorization)

    def acknowledged(self, kind: Kind) -> set[str]:
        """Return the names of those that were answered with success."""
        return {name for (each, name), answer in self.answers.items() if each is kind and answer.status < 300}

    def undone(self, kind: Kind) -> set[str]:
        """Return the names of those that nobody answered."""
        return {name for each, name in self.refused if each is kind}


def _name(kind: Kind, number: int) -> str:
    return f"{kind}-{number:04d}"


@dataclass(frozen=True)
class Stage:
    """The simulator's providers, and what services on them are started with."""

    processes: Processes
    simulator: ServiceProcess
    service_port: int
    key: str
    environment: dict[str, str]

    async def start(self) -> ServiceProcess:
        """Start the service and wait until it is ready."""
        service = self.processes.serve(port=self.service_port, **self.environment)
        await service.until_ready()
        return service


@pytest.fixture
async def stage(processes: Processes, database_url: DatabaseUrl, database: Database) -> Stage:
    """Two providers without a rate, and a key with which to send and to read."""
    service_port = processes.reserve_port()
    simulator = await start_simulator(processes, service_port=service_port, LOG_LEVEL="WARNING")
    key = await make_key(database, await make_client(database))
    environment = {
        "DATABASE_URL": database_url.dsn,
        "OPEN_ACCESS": "false",
        "PROVIDERS": unlimited_providers(simulator),
        "WORK_POLL_S": "0.05",
        "UNKNOWN_SETTLE_S": "2",
    }
    return Stage(processes, simulator, service_port, key, environment)


async def _until_all_is_sent(stage: Stage, database: Database) -> None:
    async def is_over() -> bool:
        if await database.pool.fetchval("SELECT count(*) FROM work WHERE ref_id <> $1", NIL):
            return False
        return bool((await summary(stage.simulator))["is_quiet"])

    await eventually(is_over, "every message has been sent and has its receipt")


async def test_nothing_acknowledged_is_lost_or_done_twice_and_nothing_refused_is_done(
    stage: Stage, database: Database
) -> None:
    service = await stage.start()
    async with service.connect() as connection:
        assert (await send_text(connection, "before", sender=TENANT_PHONE)).status == 200  # what is looked at
    load = Load(service, stage.key)
    await load.run()  # no half answers

    assert await service.exit_code() == 0
    assert len(load.answers) + len(load.refused) == REQUESTS
    for kind in Kind:
        assert len(load.acknowledged(kind)) >= MIX.count(kind) * SIGTERM_AFTER // len(MIX) // 2, "it was under load"
        assert load.undone(kind), "it was asked until after its end"
    others = [answer for answer in load.answers.values() if answer.status not in (200, 202)]
    assert {answer.status for answer in others} <= {503}
    assert all(answer.json()["error"]["request_id"] == answer.headers["x-request-id"] for answer in others)
    # Whoever is answered from the signal on is told to come back over another connection.
    assert any(answer.headers.get("connection") == "close" for answer in load.answers.values())

    rows = await database.pool.fetch("SELECT provider_message_id FROM sms_messages WHERE direction = 'inbound'")
    received = Counter(row[0] for row in rows)
    assert load.acknowledged(Kind.RECEIVE) <= received.keys()
    assert not load.undone(Kind.RECEIVE) & received.keys()
    assert max(received.values()) == 1
    rows = await database.pool.fetch("SELECT id::text, message_content FROM sms_messages WHERE direction = 'outbound'")
    accepted = {row[0]: row[1] for row in rows}
    promised = {
        answer.json()["request_id"]: name for (kind, name), answer in load.answers.items() if answer.status == 202
    }
    assert promised.items() <= accepted.items()
    assert not load.undone(Kind.SEND) & set(accepted.values())
    assert await database.pool.fetchval("SELECT count(*) FROM work WHERE state = 'leased'") == 0

    again = Load(await stage.start(), stage.key)
    await again.repeat_unacknowledged(load)
    await _until_all_is_sent(stage, database)

    everything = {_name(MIX[number % len(MIX)], number) for number in range(REQUESTS)}
    sent = Counter(row["body"] for row in await true_record(stage.simulator))
    assert sent.keys() == {each for each in everything if each.startswith(Kind.SEND)}
    assert max(sent.values()) == 1
    rows = await database.pool.fetch("SELECT provider_message_id FROM sms_messages WHERE direction = 'inbound'")
    received = Counter(row[0] for row in rows)
    assert {each for each in everything if each.startswith(Kind.RECEIVE)} <= received.keys()
    assert max(received.values()) == 1
