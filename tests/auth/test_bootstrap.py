"""The first start: on a database without clients one admin key is made, once, and told to whoever started it."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import httpx
import orjson
import pytest
from pydantic import SecretStr

from sms_foundation.app import create_app
from sms_foundation.auth.bootstrap import check_admin_key, introduce_first_admin, make_first_admin
from sms_foundation.auth.keys.format import digest_of, generate_key, is_well_formed, prefix_of
from sms_foundation.core.config import Settings
from sms_foundation.core.db import Database, DatabaseUrl, parse_database_url
from sms_foundation.core.errors import StartupError
from sms_foundation.migrations import runner
from tests.support import postgres
from tests.support.access import bearer, make_client
from tests.support.processes import Processes, ServiceProcess, eventually
from tests.support.service import BASE_URL, make_settings, running
from tests.support.tcp_gate import TcpGate

KEY = re.compile(r"sf_live_[0-9A-Za-z]{8}_[0-9A-Za-z]{49}")


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    processes = Processes(tmp_path)
    yield processes
    processes.end()


async def rows(database: Database, table: str) -> int:
    return int(await database.pool.fetchval(f"SELECT count(*) FROM {table}"))


async def has_clients(process: ServiceProcess) -> bool:
    answer = await process.get("/v1/clients")
    return answer.status == 200 and bool(answer.json()["clients"])


class TestMakeFirstAdmin:
    async def test_an_empty_database_gets_one_admin_with_one_key(self, database: Database) -> None:
        key = await make_first_admin(database, None)

        assert key is not None
        assert is_well_formed(key)
        client = await database.pool.fetchrow("SELECT * FROM auth_clients")
        assert (client["id"], client["kind"], client["roles"]) == ("admin", "service", ["admin"])
        stored = await database.pool.fetchrow("SELECT * FROM auth_api_keys")
        assert (stored["client_id"], stored["prefix"], stored["digest"]) == ("admin", prefix_of(key), digest_of(key))
        assert (stored["is_test"], stored["scopes"], stored["networks"], stored["expires_at"]) == (
            False,
            None,
            [],
            None,
        )

    async def test_it_is_in_the_audit_log_without_the_secret(self, database: Database) -> None:
        key = await make_first_admin(database, None)

        log = await database.pool.fetch("SELECT actor, action, target, details FROM auth_audit_log ORDER BY id")
        assert [(row["actor"], row["action"]) for row in log] == [
            ("service", "client.create"),
            ("service", "key.create"),
        ]
        assert key is not None
        assert key.rpartition("_")[2] not in str(log)

    async def test_a_second_start_makes_nothing(self, database: Database) -> None:
        await make_first_admin(database, None)

        assert await make_first_admin(database, None) is None
        assert await rows(database, "auth_api_keys") == 1

    async def test_a_database_with_any_client_is_none_for_a_first_start(self, database: Database) -> None:
        await make_client(database, "somebody", roles=["viewer"])

        assert await make_first_admin(database, None) is None
        assert await rows(database, "auth_clients") == 1

    async def test_of_many_processes_at_once_exactly_one_gets_the_key(
        self, database_url: DatabaseUrl, database: Database, settings: Settings
    ) -> None:
        async with AsyncExitStack() as stack:
            instances = []
            for _ in range(8):
                instance = Database(database_url, settings)
                await instance.open()
                stack.push_async_callback(instance.close)
                instances.append(instance)
            keys = await asyncio.gather(*(make_first_admin(instance, None) for instance in instances))

        (key,) = [key for key in keys if key is not None]
        assert await database.pool.fetchval("SELECT digest FROM auth_api_keys") == digest_of(key)
        assert await rows(database, "auth_clients") == 1

    async def test_a_key_that_is_given_is_stored_as_digest_and_not_told_again(self, database: Database) -> None:
        given = generate_key(is_test=False)

        assert await make_first_admin(database, SecretStr(given.text)) is None

        stored = await database.pool.fetchrow("SELECT * FROM auth_api_keys")
        assert (stored["digest"], stored["prefix"]) == (given.digest, given.prefix)


class TestCheckAdminKey:
    @pytest.mark.parametrize(
        "text",
        ["hunter2", generate_key(is_test=True).text, generate_key(is_test=False).text[:-1], " "],
        ids=["no key", "a test key", "a key cut off", "blank"],
    )
    async def test_what_is_no_live_key_stops_the_start_and_is_not_shown(
        self, text: str, database_url: DatabaseUrl, database: Database
    ) -> None:
        for start in (
            lambda: check_admin_key(SecretStr(text)),
            lambda: create_app(make_settings(admin_api_key=text), database_url),
        ):
            with pytest.raises(StartupError, match="ADMIN_API_KEY") as error:
                start()
            assert text.strip() == "" or text not in str(error.value)
        with pytest.raises(StartupError):
            await make_first_admin(database, SecretStr(text))
        assert await rows(database, "auth_clients") == 0


class TestIntroduceFirstAdmin:
    @pytest.fixture
    async def empty_url(self, postgres_server: str) -> AsyncIterator[DatabaseUrl]:
        url = await postgres.clone(postgres_server, "template1")
        yield url
        await postgres.drop(postgres_server, url)

    async def test_waits_for_the_database_and_for_its_schema(self, empty_url: DatabaseUrl, settings: Settings) -> None:
        told: list[str] = []
        async with TcpGate(empty_url) as gate:
            database = Database(parse_database_url(gate.url), settings)
            await database.open()
            waiting = asyncio.create_task(introduce_first_admin(database, None, told.append))

            async def has_ended() -> bool:
                return waiting.done()

            await gate.open()
            await runner.upgrade(empty_url)
            await eventually(has_ended, "the admin is there")
            await database.close()

        (text,) = told
        assert len(KEY.findall(text)) == 1

    async def test_tells_the_key_alone_and_once(self, database: Database) -> None:
        told: list[str] = []
        for _ in range(2):
            await introduce_first_admin(database, None, told.append)

        (text,) = told
        (key,) = KEY.findall(text)
        assert f"export SMS_API_KEY={key}\n" in text
        assert f"keys rotate {prefix_of(key)} " in text

    async def test_says_nothing_where_the_key_was_given(self, database: Database) -> None:
        told: list[str] = []
        await introduce_first_admin(database, SecretStr(generate_key(is_test=False).text), told.append)

        assert told == []


class TestService:
    async def test_the_key_it_tells_opens_it(self, database_url: DatabaseUrl) -> None:
        told: list[str] = []

        async def is_told() -> bool:
            return bool(told)

        app = create_app(make_settings(open_access=False), database_url, announce=told.append)
        async with (
            running(app),
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=BASE_URL) as client,
        ):
            await eventually(is_told, "the key is told")
            (key,) = KEY.findall(told[0])
            response = await client.get("/v1/clients", headers=bearer(key))

        assert response.status_code == 200
        assert [each["id"] for each in response.json()["clients"]] == ["admin"]

    @pytest.mark.slow
    async def test_prints_the_key_once_beside_a_log_that_is_json(self, processes: Processes) -> None:
        """Two starts on one database: the first prints it, past the log; no line of the log ever holds it."""
        logs = []
        for _ in range(2):
            process = processes.serve(ADMIN_API_KEY="", LOG_LEVEL="DEBUG", LOG_FORMAT="json")
            await process.until_ready()

            await eventually(partial(has_clients, process), "there is an admin")
            process.press_ctrl_c()
            await process.exit_code()
            logs.append(process.log)

        first, second = logs
        (key,) = KEY.findall(first)
        assert is_well_formed(key)
        assert not KEY.search(second)
        lines = [line for line in first.splitlines() if line.startswith("{")]
        assert all(orjson.loads(line) for line in lines)
        assert key not in "".join(lines)
        rest = [line for line in first.splitlines() if line and not line.startswith("{")]
        assert rest[0].startswith("FIRST START")
        assert not [line for line in second.splitlines() if not line.startswith("{")]

    @pytest.mark.slow
    async def test_a_developer_sees_it_below_the_welcome(self, processes: Processes) -> None:
        service = processes.run(
            port=processes.reserve_port(), simulator_port=processes.reserve_port(), ADMIN_API_KEY=""
        )

        async def is_told() -> bool:
            return "FIRST START" in service.log and bool(KEY.findall(service.log))

        await eventually(is_told, "the key is told")

        assert service.log.index("SMS Foundation is starting") < service.log.index("FIRST START")
        (key,) = KEY.findall(service.log)
        assert (await service.get("/v1/clients", Authorization=f"Bearer {key}")).status == 200
