"""The sending half of the service in the test's own loop: providers that the test decides about, and processes."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID, uuid4

import asyncpg
import orjson

from sms_foundation.core.clock import monotonic
from sms_foundation.core.db import Database, DatabaseUrl
from sms_foundation.core.rates.base import Outcome as RateOutcome
from sms_foundation.core.rates.base import Rates, Slot, Take, Wish
from sms_foundation.core.rates.postgres import PostgresRates
from sms_foundation.core.work import queue
from sms_foundation.core.work.queue import Lane, Priority, Work
from sms_foundation.core.work.runner import Outcome, WorkRunner
from sms_foundation.messaging.jobs import RELEASE_MESSAGE, SEND_MESSAGE, SEND_TEST_MESSAGE
from sms_foundation.messaging.outbound.accept import MessageAcceptor
from sms_foundation.messaging.outbound.asked import Accepted, SendRequest
from sms_foundation.messaging.outbound.dispatch import Dispatcher
from sms_foundation.messaging.outbound.health import RULES, HealthRules
from sms_foundation.messaging.outbound.pace import Pace
from sms_foundation.messaging.outbound.policy import SendingPolicy
from sms_foundation.messaging.outbound.provider_states import ProviderStates
from sms_foundation.messaging.outbound.resolve import Resolver
from sms_foundation.providers.base import Provider
from sms_foundation.providers.registry import (
    AnyProviderConfig,
    open_connections,
    open_provider,
    parse_provider_configs,
)
from sms_foundation.providers.simulated.adapter import SIMULATED, SimulatedProvider
from tests.loopback import LoopbackServer, Received, reply
from tests.support.processes import eventually
from tests.support.service import BASE_URL, make_settings

PHONE = "+14155550123"
SENDER = "+15005550006"

# What a provider of these tests may answer instead of taking the message, and what its codes mean.
KINDS = {
    "opted-out": "opted_out",
    "bad-number": "invalid_recipient",
    "suspended": "account",
    "busy": "unavailable",
    "slow-down": "rate_limited",
}


@dataclass(frozen=True)
class Taken:
    """A message as a provider took it, `at` on the monotonic clock."""

    at: float
    id: str
    reference: str
    sender: str
    recipient: str
    body: str

    @property
    def message_id(self) -> UUID:
        return UUID(hex=self.reference.partition(".")[0])


Answer = Callable[["HttpProvider", Taken], Awaitable[bytes | None]]


def refusing(code: str, status: int = 400, **headers: str) -> Answer:
    """Take nothing and answer with one of KINDS."""

    async def answer(_provider: "HttpProvider", _message: Taken) -> bytes:
        return reply(status, orjson.dumps({"code": code, "text": f"refused: {code}"}), **headers)

    return answer


async def take(provider: "HttpProvider", message: Taken) -> bytes:
    """Take the message and say so."""
    provider.taken.append(message)
    return reply(200, orjson.dumps({"id": message.id}))


async def take_in_silence(provider: "HttpProvider", message: Taken) -> None:
    """Take the message and hang up without an answer."""
    provider.taken.append(message)


async def drop(_provider: "HttpProvider", _message: Taken) -> None:
    """Hang up without an answer and without the message."""


@dataclass
class HttpProvider:
    """A provider on loopback that can be asked by reference; `answer` decides about every message it is handed."""

    name: str
    options: dict[str, Any] = field(default_factory=dict)
    answer: Answer = take
    handed: list[Taken] = field(default_factory=list)
    taken: list[Taken] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    cannot_be_asked: bool = False
    url: str = ""

    async def respond(self, request: Received) -> bytes | None:
        if request.method == "POST":
            values = orjson.loads(request.body)
            number = len(self.handed) + 1
            self.handed.append(Taken(at=monotonic(), id=f"{self.name}-{number}", **values))
            return await self.answer(self, self.handed[-1])
        if self.cannot_be_asked:
            return reply(503)
        (reference,) = parse_qs(urlsplit(request.target).query)["reference"]
        self.asked.append(reference)
        found = [{"id": each.id, "reference": each.reference} for each in self.taken if each.reference == reference]
        return reply(200, orjson.dumps({"messages": found}))

    @property
    def entry(self) -> dict[str, Any]:
        """Its place in PROVIDERS."""
        return {
            "kind": "http",
            "name": self.name,
            "send_url": f"{self.url}/messages",
            "body": {"reference": "{reference}", "sender": "{from}", "recipient": "{to}", "body": "{body}"},
            "answer": {"message_id_path": "id", "code_path": "code", "text_path": "text", "kinds_by_code": KINDS},
            "look_up": {"url": f"{self.url}/messages?reference={{reference}}", "list_path": "messages"},
            "rate_per_s": None,
            "senders": [SENDER],
            "sender_rates": {"*": None},
            **self.options,
        }


_KINDS = (RELEASE_MESSAGE, SEND_MESSAGE, SEND_TEST_MESSAGE)


@asynccontextmanager
async def http_providers(*providers: HttpProvider) -> AsyncIterator[None]:
    """Run the servers of these providers."""
    async with AsyncExitStack() as stack:
        for each in providers:
            server = await stack.enter_async_context(LoopbackServer(each.respond))
            each.url = server.base_url
        yield


class ScriptedRates:
    """Rates that answer as told, one call after the other; afterwards everybody may go."""

    def __init__(self, answers: list[RateOutcome | Exception]) -> None:
        self.wishes: list[Wish] = []
        self.answers = answers

    async def reserve(self, wishes: Sequence[Wish]) -> list[RateOutcome]:
        self.wishes += wishes
        answer = self.answers.pop(0) if self.answers else Slot(0.0)
        if isinstance(answer, Exception):
            raise answer
        return [answer] * len(wishes)

    async def take(self, takes: Sequence[Take]) -> list[RateOutcome]:
        raise AssertionError("senders reserve, and take nothing")

    async def give_back(self, costs_us: Mapping[str, int]) -> None:
        raise AssertionError("what senders reserve cannot be given back")

    async def read(self, keys: Sequence[str]) -> dict[str, float]:
        return dict.fromkeys(keys, 0.0)


class CountingDatabase(Database):
    """Counts how often a connection is taken, which is about how often the database is asked."""

    uses = 0

    def connection(self) -> Any:
        self.uses += 1
        return super().connection()


@dataclass
class Sending:
    """One process that sends. `claim` and `run` do by hand what `runner` does by itself once started."""

    database: CountingDatabase
    configs: tuple[AnyProviderConfig, ...]
    providers: dict[str, Provider]
    states: ProviderStates
    pace: Pace
    dispatcher: Dispatcher
    resolver: Resolver
    runner: WorkRunner

    async def claim(self, *, lease: timedelta = timedelta(seconds=60), limit: int = 100) -> list[Work]:
        lanes = [Lane(kind, priority, limit) for priority in Priority for kind in _KINDS]
        async with self.database.connection() as connection:
            return await queue.claim(connection, lanes=lanes, limit=limit, lease_token=uuid4(), lease=lease)

    async def run(self, work: Sequence[Work]) -> list[Outcome]:
        """Run claimed rows; what they come to is the caller's to record, unless it is Settled."""
        return list(await asyncio.gather(*(self.resolver.send(each) for each in work)))

    async def begin(self, work: Work) -> None:
        """Do what comes before the call, and then nothing more: the process has died."""
        await self.dispatcher._begin([work])


@asynccontextmanager
async def sending(
    url: DatabaseUrl,
    providers: Sequence[HttpProvider] | Sequence[dict[str, Any]],
    *,
    policy: SendingPolicy | None = None,
    rules: HealthRules = RULES,
    rates: Rates | None = None,
    is_running: bool = True,
    **options: Any,
) -> AsyncIterator[Sending]:
    """Start a process that sends through `providers`; `is_running=False`: only by hand."""
    entries = [each.entry if isinstance(each, HttpProvider) else each for each in providers]
    configs = parse_provider_configs(orjson.dumps(entries).decode(), variables={})
    async with AsyncExitStack() as stack:
        database = CountingDatabase(url, make_settings())
        await database.open()
        stack.push_async_callback(database.close)
        opened: dict[str, Provider] = {}
        for config in configs:
            opened[config.name] = open_provider(config, open_connections(config), base_urls=[BASE_URL])
            stack.push_async_callback(opened[config.name].aclose)
        states = ProviderStates(database, list(opened), rules=rules)
        stack.push_async_callback(states.close)
        made = _make(database, configs, opened, states, rates or PostgresRates(database), policy, options)
        stack.push_async_callback(made.dispatcher.close)
        if is_running:
            states.start()
            made.runner.start()
        yield made
        await made.runner.stop(5)


def _make(
    database: CountingDatabase,
    configs: tuple[AnyProviderConfig, ...],
    providers: dict[str, Provider],
    states: ProviderStates,
    rates: Rates,
    policy: SendingPolicy | None,
    options: dict[str, Any],
) -> Sending:
    pace = Pace(rates, configs)
    policy = policy or SendingPolicy()
    carriers = {**providers, SIMULATED: SimulatedProvider()}
    dispatcher = Dispatcher(database, carriers, configs, states, pace, policy)
    resolver = Resolver(database, carriers, dispatcher, policy)
    runner = WorkRunner(
        database,
        {SEND_MESSAGE: resolver.send, SEND_TEST_MESSAGE: resolver.send, RELEASE_MESSAGE: dispatcher.release},
        priorities=dict.fromkeys(_KINDS, Priority),
        room=dispatcher.room,
        **{"concurrency": 32, "reserved": 4, "poll_s": 0.05, "lease_s": 60, "max_attempts": 12, **options},
    )
    return Sending(database, configs, providers, states, pace, dispatcher, resolver, runner)


def request(recipient: str = PHONE, content: str = "Hello", **more: Any) -> SendRequest:
    """A message as `requests.make_request` would have made it."""
    digest = sha256(f"{recipient}{content}{more}".encode()).digest()
    values = {"encoding": "GSM-7", "num_segments": 1, "client_id": "client", "digest": digest, **more}
    return SendRequest(recipient=recipient, content=content, **values)


def phones(count: int) -> list[str]:
    return [f"+1415555{number:04d}" for number in range(count)]


async def accept(database: Database, *requests: SendRequest) -> list[UUID]:
    """Accept messages in this order, in one transaction; returns their ids."""
    acceptor = MessageAcceptor(database, timeout_s=20.0, on_accepted=lambda: None)
    async with database.transaction() as connection:
        outcomes = await acceptor.accept_all(connection, requests)
    return [each.message_id for each in outcomes if isinstance(each, Accepted)]


async def message(database: Database, message_id: UUID) -> asyncpg.Record:
    return await database.pool.fetchrow("SELECT * FROM sms_messages WHERE id = $1", message_id)


async def status(database: Database, message_id: UUID) -> str:
    return str((await message(database, message_id))["delivery_status"])


async def statuses(database: Database) -> Counter[str]:
    """Count outbound messages by status."""
    rows = await database.pool.fetch("SELECT delivery_status FROM sms_messages WHERE direction = 'outbound'")
    return Counter(row[0] for row in rows)


async def attempts(database: Database, message_id: UUID) -> list[asyncpg.Record]:
    return list(
        await database.pool.fetch("SELECT * FROM sms_send_attempts WHERE message_id = $1 ORDER BY number", message_id)
    )


async def outcomes(database: Database, message_id: UUID) -> list[tuple[str, str | None]]:
    """(provider, outcome) of every attempt."""
    return [(row["provider"], row["outcome"]) for row in await attempts(database, message_id)]


async def events(database: Database, message_id: UUID) -> list[str]:
    rows = await database.pool.fetch(
        "SELECT event_status FROM sms_message_status_events WHERE message_id = $1 ORDER BY id", message_id
    )
    return [row[0] for row in rows]


async def work_rows(database: Database) -> list[asyncpg.Record]:
    return list(await database.pool.fetch("SELECT *, run_at - now() AS pause FROM work ORDER BY id"))


async def until_status(database: Database, message_id: UUID, *wanted: str) -> None:
    async def is_there() -> bool:
        return await status(database, message_id) in wanted

    await eventually(is_there, f"the message is {' or '.join(wanted)}")


async def until_taken(database: Database, *message_ids: UUID) -> None:
    """Wait until providers have these messages, and we know."""

    async def are_taken() -> bool:
        return not await database.pool.fetchval(
            "SELECT count(*) FROM sms_messages WHERE id = ANY($1) AND provider_message_id IS NULL", message_ids
        )

    await eventually(are_taken, f"{len(message_ids)} messages are taken")


async def count_taken(database: Database) -> int:
    """Count the messages that providers have, as far as we know."""
    return int(
        await database.pool.fetchval(
            "SELECT count(*) FROM sms_messages WHERE direction = 'outbound' AND provider_message_id IS NOT NULL"
        )
    )


async def until_taken_count(database: Database, count: int) -> None:
    """Wait until providers have so many messages."""

    async def are_taken() -> bool:
        return await count_taken(database) >= count

    await eventually(are_taken, f"{count} messages are taken")


async def make_due(database: Database) -> None:
    """Let the time come for which work waits."""
    await database.pool.execute("UPDATE work SET run_at = now() WHERE state = 'due'")


async def expire_leases(database: Database) -> None:
    """Let the leases of processes that died run out, and have somebody notice."""
    await database.pool.execute("UPDATE work SET lease_until = now() - interval '1 s' WHERE state = 'leased'")
    async with database.connection() as connection:
        await queue.take_over_expired(connection, max_attempts=12)


async def forgive(database: Database) -> None:
    """Forget what providers are blamed for."""
    await database.pool.execute(
        "UPDATE sms_providers SET circuit = 'closed', consecutive_failures = 0, unhealthy_until = NULL"
    )
    await database.pool.execute("DELETE FROM sms_provider_windows")


async def age_attempts(database: Database, by: timedelta) -> None:
    """Let calls have been made so much longer ago."""
    await database.pool.execute("UPDATE sms_send_attempts SET started_at = started_at - $1::interval", by)
