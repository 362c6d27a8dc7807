"""How full pools and queues are, as Prometheus sees it: each one of a process, under load, and none of a closed one."""

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from prometheus_client import REGISTRY, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from sms_foundation.auth.people.passwords import Passwords
from sms_foundation.core.batching import Batcher, OverloadedError
from sms_foundation.core.config import Settings
from sms_foundation.core.db import Database, DatabaseUrl, parse_database_url
from sms_foundation.core.http import HttpClient, RequestNotSentError, create_http_client
from sms_foundation.core.ids import new_id
from sms_foundation.core.rates.base import RatesUnavailableError, Wish
from sms_foundation.core.rates.redis import RedisRates
from sms_foundation.core.saturation import Saturation, Use
from sms_foundation.core.work import queue
from sms_foundation.core.work.queue import NewWork, Work
from sms_foundation.core.work.runner import Done, WorkRunner
from tests.loopback import LoopbackServer, Received, reply
from tests.support.processes import eventually
from tests.support.service import Service, make_settings, running_service

Samples = dict[str, dict[str, float]]

KEY = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
GONE = f'[{{"kind": "telnyx", "name": "gone", "api_key": "a", "public_key": "{KEY}"}}]'


@pytest.fixture
def settings() -> Settings:
    """A service with every pool it can have."""
    return make_settings(
        database_pool_size=7,
        monitor_api_url="http://127.0.0.1:9",
        tenant_profile_api_url="http://127.0.0.1:9",
        redis_url="redis://127.0.0.1:9",
    )


def read(text: str, label: str) -> Samples:
    """Values by family and by this label, of the families that have it."""
    found: Samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if label in sample.labels and "reason" not in sample.labels:
                found.setdefault(sample.name, {})[sample.labels[label]] = sample.value
    return found


async def scrape(service: Service) -> str:
    answer = await service.client.get("/metrics")
    assert answer.status_code == 200
    return answer.text


def alive(*kinds: type) -> list[object]:
    """What exists of these kinds, found by nothing that the service says about itself."""
    gc.unfreeze()  # what a service has frozen is hidden from get_objects
    gc.collect()
    return [each for each in gc.get_objects() if isinstance(each, kinds)]


class TestEveryOneIsShown:
    async def test_every_queue_of_a_service(self, settings: Settings, database_url: DatabaseUrl) -> None:
        older = alive(Batcher)
        async with running_service(settings, database_url, Database(database_url, settings)) as service:
            own = [each for each in alive(Batcher) if not any(each is other for other in older)]
            shown = read(await scrape(service), "queue")["sms_queue_limit"]

            assert set(shown) == {
                *("inbound", "inbound_found", "receipts", "outbound", "limits", "content_reads"),
                *("enrichment_loads", "findings", "send_begin_urgent", "send_begin", "send_finish", "send_release"),
                *("work_finish", "work_postpone", "sender_finish", "sender_postpone"),
            }
            assert len(own) == len(shown)

    async def test_every_pool_of_a_service(self, settings: Settings, database_url: DatabaseUrl) -> None:
        view = Database(database_url, settings)
        kinds = (Database, HttpClient, WorkRunner, Passwords, RedisRates)
        older = alive(*kinds)
        async with running_service(settings, database_url, view) as service:
            own = [each for each in alive(*kinds) if not any(each is other for other in older)]
            shown = read(await scrape(service), "pool")["sms_pool_limit"]

            assert shown == {
                "database": 7,
                "monitor": 64,
                "tenant_profile": 64,
                **{f"provider:{name}": 100 for name in ("twilio", "messagebird", "vonage", "telnyx")},
                "redis": 100,
                "work": settings.work_concurrency,
                "sender": settings.send_concurrency,
                "passwords": 2,
            }
            assert len(own) == len(shown)

    async def test_each_with_use_and_who_waits_and_what_went_wrong(self, service: Service) -> None:
        text = await scrape(service)
        pools, queues = read(text, "pool"), read(text, "queue")

        assert pools["sms_pool_in_use"].keys() == pools["sms_pool_waiting"].keys() == pools["sms_pool_limit"].keys()
        assert queues["sms_queue_in_flight"].keys() == queues["sms_queue_waiting"].keys()
        assert queues["sms_queue_waiting"].keys() == queues["sms_queue_limit"].keys()
        assert 'sms_queue_errors_total{queue="inbound",reason="full"} 0.0' in text
        assert 'sms_pool_errors_total{pool="database",reason="timeout"} 0.0' in text


class TestSeveralInOneProcess:
    async def test_two_services_do_not_mix(self, service: Service, database_url: DatabaseUrl) -> None:
        other_settings = make_settings(database_pool_size=3)
        async with running_service(other_settings, database_url, service.database) as other:
            assert read(await scrape(other), "pool")["sms_pool_limit"]["database"] == 3
            assert read(await scrape(service), "pool")["sms_pool_limit"]["database"] == 7

    async def test_one_that_is_closed_is_gone(self, service: Service, database_url: DatabaseUrl) -> None:
        before = set(read(await scrape(service), "pool")["sms_pool_limit"])
        more = make_settings(providers=GONE)
        async with running_service(more, database_url, service.database) as other:
            assert "provider:gone" in read(await scrape(other), "pool")["sms_pool_limit"]

        assert set(read(await scrape(service), "pool")["sms_pool_limit"]) == before

    async def test_no_family_is_there_twice(self, service: Service) -> None:
        names = [line.split()[2] for line in (await scrape(service)).splitlines() if line.startswith("# TYPE")]

        assert len(names) == len(set(names))

    async def test_a_name_is_given_once(self) -> None:
        saturation = Saturation()
        saturation.watch_pool("database", lambda: Use(1, 0, 0))
        with pytest.raises(ValueError, match="database"):
            saturation.watch_pool("database", lambda: Use(1, 0, 0))


def waits() -> float:
    return REGISTRY.get_sample_value("sms_database_wait_seconds_count") or 0.0


class TestDatabase:
    async def test_tells_what_is_lent_and_who_waits(self, database_url: DatabaseUrl) -> None:
        database = Database(database_url, make_settings(database_pool_size=2))
        await database.open()
        async with database.connection(), database.connection():
            waiting = asyncio.create_task(database.transaction().__aenter__())
            await asyncio.sleep(0)

            assert (database.use().limit, database.use().in_use, database.use().waiting) == (2, 2, 1)

        await waiting
        assert (database.use().in_use, database.use().waiting) == (1, 0)
        database.pool.terminate()

    async def test_times_those_who_wait_and_only_them(self, database: Database) -> None:
        before = waits()
        async with database.connection():  # the first has to be opened
            pass
        assert waits() == before + 1
        async with database.connection():  # there it is
            pass
        assert waits() == before + 1

    async def test_counts_who_got_none_in_time(self, database_url: DatabaseUrl) -> None:
        database = Database(database_url, make_settings(database_pool_size=2, database_pool_timeout_s=0.1))
        await database.open()
        async with database.connection(), database.connection():
            with pytest.raises(TimeoutError):
                await database.connection().__aenter__()
        assert database.use().errors == {"timeout": 1, "failed": 0}
        await database.close()

    async def test_counts_connections_that_cannot_be_opened(self) -> None:
        database = Database(parse_database_url("postgresql://me@127.0.0.1:9/none"), make_settings())
        await database.open()
        with pytest.raises(OSError, match="9"):
            await database.connection().__aenter__()
        assert database.use().errors == {"timeout": 0, "failed": 1}
        assert database.use().waiting == 0
        await database.close()


def batcher(write: Callable[[Sequence[int]], Awaitable[Sequence[int]]], **options: Any) -> Batcher[int, int]:
    return Batcher(write, is_item_to_blame=lambda error: isinstance(error, ZeroDivisionError), **options)


class TestQueue:
    async def test_tells_what_waits_and_what_is_being_written(self) -> None:
        may_end = asyncio.Event()

        async def write(items: Sequence[int]) -> Sequence[int]:
            await may_end.wait()
            return items

        queue = batcher(write, max_items=2, max_waiting=3)
        futures = [queue.submit(number) for number in range(2)]
        await asyncio.sleep(0)
        futures += [queue.submit(number) for number in range(3)]
        assert queue.use() == Use(limit=3, in_use=2, waiting=3, errors={"full": 0, "timeout": 0, "failed": 0})

        with pytest.raises(OverloadedError):
            queue.submit(6)
        assert queue.use().errors["full"] == 1
        may_end.set()
        await asyncio.gather(*futures)
        await queue.close()
        assert (queue.use().in_use, queue.use().waiting) == (0, 0)

    async def test_counts_writes_that_fail_or_hang_and_no_items_that_are_to_blame(self) -> None:
        async def write(items: Sequence[int]) -> Sequence[int]:
            if items[0] == 2:
                await asyncio.Event().wait()
            return [items[0] // items[0]] if items[0] < 1 else [len("no such"[items[0]].missing)]  # type: ignore[attr-defined]

        queue = batcher(write, timeout_s=0.05)
        for number, error in ((0, ZeroDivisionError), (1, AttributeError), (2, TimeoutError)):
            with pytest.raises(error):
                await queue.submit(number)
        assert queue.use().errors == {"full": 0, "timeout": 1, "failed": 1}
        assert queue.use().in_use == 0
        await queue.close()


class TestHttpClient:
    async def test_tells_calls_with_a_connection_from_those_that_wait_for_one(self) -> None:
        may_answer = asyncio.Event()

        async def answer(_request: Received) -> bytes:
            await may_answer.wait()
            return reply(200)

        async with LoopbackServer(answer) as server, create_http_client(max_connections=2) as http:
            calls = [asyncio.create_task(http.request("GET", server.base_url)) for _ in range(5)]
            await asyncio.sleep(0)
            assert (http.use().limit, http.use().in_use, http.use().waiting) == (2, 2, 3)

            may_answer.set()
            await asyncio.gather(*calls)
            assert (http.use().in_use, http.use().waiting) == (0, 0)

    async def test_counts_failures_by_reason(self) -> None:
        async with create_http_client() as http:
            with pytest.raises(RequestNotSentError):
                await http.request("GET", "http://127.0.0.1:9/")
            errors = http.use().errors

        assert errors["connect_failed"] == 1
        assert sum(errors.values()) == 1


@asynccontextmanager
async def running(runner: WorkRunner) -> AsyncIterator[None]:
    runner.start()
    yield
    await runner.stop(2)


class TestWorkRunner:
    async def test_tells_what_runs_and_what_waits_for_its_turn(self, database: Database) -> None:
        may_end = asyncio.Event()

        async def handle(_work: Work) -> Done:
            await may_end.wait()
            return Done()

        runner = WorkRunner(database, {"test": handle}, concurrency=2, poll_s=0.05, lease_s=60, max_attempts=3)
        async with database.transaction() as connection:
            await queue.enqueue(connection, [NewWork("test", new_id()) for _ in range(5)])
        async with running(runner):

            async def is_full() -> bool:
                return runner.use() == Use(limit=2, in_use=2, waiting=3)

            await eventually(is_full, "two of five run")
            may_end.set()

            async def is_idle() -> bool:
                return runner.use() == Use(limit=2, in_use=0, waiting=0)

            await eventually(is_idle, "all have run")


class TestPasswords:
    async def test_tells_who_waits_and_who_is_sent_away(self) -> None:
        passwords = Passwords()
        asking = [asyncio.create_task(passwords.verify("four words are enough", None)) for _ in range(32)]
        await asyncio.sleep(0)
        assert passwords.use() == Use(limit=2, in_use=2, waiting=30, errors={"full": 0})

        with pytest.raises(OverloadedError):
            await passwords.verify("four words are enough", None)
        assert passwords.use().errors == {"full": 1}
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)


class TestRedis:
    async def test_counts_questions_that_got_no_answer(self) -> None:
        rates = RedisRates("redis://127.0.0.1:9")
        with pytest.raises(RatesUnavailableError):
            await rates.reserve([Wish("a", interval_s=1.0, units=1, horizon_s=0.0)])
        assert (rates.use().in_use, rates.use().errors) == (0, {"failed": 1})
        await rates.close()


class TestCollector:
    def test_writes_a_text_that_prometheus_reads(self) -> None:
        saturation = Saturation()
        saturation.watch_pool("database", lambda: Use(30, 4, 2, {"timeout": 1}))
        saturation.watch_queues({"inbound": lambda: Use(10_000, 32, 5, {"full": 3})})

        lines = [line for line in generate_latest(saturation).decode().splitlines() if not line.startswith("#")]

        assert lines == [
            'sms_pool_limit{pool="database"} 30.0',
            'sms_pool_in_use{pool="database"} 4.0',
            'sms_pool_waiting{pool="database"} 2.0',
            'sms_pool_errors_total{pool="database",reason="timeout"} 1.0',
            'sms_queue_limit{queue="inbound"} 10000.0',
            'sms_queue_in_flight{queue="inbound"} 32.0',
            'sms_queue_waiting{queue="inbound"} 5.0',
            'sms_queue_errors_total{queue="inbound",reason="full"} 3.0',
        ]
