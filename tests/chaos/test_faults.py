"""The faults are what they are called: a server that is frozen stands still, and the simulator takes every rule."""

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import psutil
import pytest

from chaos.errors import ChaosError
from chaos.faults import MONITOR_PLANS, PROVIDER_RULES, RECEIPT_RULES, Rule
from chaos.plan import LANES, MONITOR, PROVIDERS, RECEIPTS
from chaos.postgres import Postgres
from sms_foundation.core.local_postgres import LocalPostgres
from sms_foundation.simulator.faults.schemas import FaultIn
from sms_foundation.simulator.monitor.schemas import Faults
from tests.support.processes import eventually

# Which of them depends on what the client was reading when the connection went.
_CUT_OFF = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)
RULES = [rule for rules in PROVIDER_RULES.values() for rule in rules] + [*RECEIPT_RULES.values()]


@pytest.fixture
async def postgres(tmp_path: Path) -> AsyncIterator[Postgres]:
    server = Postgres(tmp_path / "postgres")
    try:
        await server.open()
        yield server
    finally:
        server.close()


async def connect(postgres: Postgres) -> asyncpg.Connection:
    return await asyncpg.connect(postgres.url, timeout=10)


def postmaster(folder: Path) -> psutil.Process:
    return psutil.Process(int((folder / "postgres" / "data" / "postmaster.pid").read_text().split()[0]))


class TestRules:
    @pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["kind"])
    def test_are_what_the_simulator_takes(self, rule: Rule) -> None:
        assert FaultIn(**rule, provider=None, for_s=1.0).kind == rule["kind"]

    @pytest.mark.parametrize("plan", MONITOR_PLANS.values(), ids=MONITOR_PLANS)
    def test_of_the_monitor_are_what_it_takes(self, plan: Rule) -> None:
        assert Faults(**plan) != Faults()

    def test_exist_for_every_kind_that_is_planned(self) -> None:
        assert {kind for name in PROVIDERS for kind in LANES[name]} == PROVIDER_RULES.keys()
        assert {*LANES[RECEIPTS]} == RECEIPT_RULES.keys()
        assert {*LANES[MONITOR]} == MONITOR_PLANS.keys()


@pytest.mark.slow
class TestPostgres:
    async def test_syncs_commits_to_the_disk(self, postgres: Postgres) -> None:
        connection = await connect(postgres)
        assert await connection.fetchval("SHOW fsync") == "on"
        assert await connection.fetchval("SHOW synchronous_commit") == "on"
        assert await connection.fetchval("SELECT to_regclass('sms_messages')") is not None
        await connection.close()

    async def test_that_does_not_is_refused(self, tmp_path: Path) -> None:
        with LocalPostgres(tmp_path / "postgres", fast=True) as fast:
            assert urlsplit(fast.url).scheme == "postgresql"
            with pytest.raises(ChaosError, match="fsync off"):
                await Postgres(tmp_path / "postgres").open()

    async def test_cut_ends_connections_and_nothing_else(self, postgres: Postgres) -> None:
        connection = await connect(postgres)
        assert await postgres.cut() >= 1  # what made the schema may still be on its way out
        with pytest.raises(_CUT_OFF):
            await connection.fetchval("SELECT 1")
        again = await connect(postgres)
        assert await again.fetchval("SELECT 1") == 1
        await again.close()

    async def test_frozen_answers_nobody_until_it_goes_on(self, postgres: Postgres, tmp_path: Path) -> None:
        connection = await connect(postgres)
        freezing = asyncio.create_task(postgres.freeze_for(60))

        async def stands_still() -> bool:
            server = postmaster(tmp_path)
            return {process.status() for process in [server, *server.children()]} == {psutil.STATUS_STOPPED}

        await eventually(stands_still, "all of its processes are stopped")
        asked = asyncio.create_task(connection.fetchval("SELECT 1"))
        answered, _ = await asyncio.wait([asked], timeout=0.3)
        freezing.cancel()
        assert not answered
        assert await asked == 1
        await connection.close()

    @pytest.mark.parametrize("how", [signal.SIGQUIT, signal.SIGINT])
    async def test_stopped_breaks_off_everything_and_comes_back_under_the_same_address(
        self, postgres: Postgres, tmp_path: Path, how: signal.Signals
    ) -> None:
        url, before = postgres.url, postmaster(tmp_path)
        connection = await connect(postgres)
        await connection.execute("CREATE TABLE kept AS SELECT 1 AS one")
        await postgres.stop_for(0.1, how)
        with pytest.raises(_CUT_OFF):
            await connection.fetchval("SELECT 1")
        again = await connect(postgres)
        assert await again.fetchval("SELECT one FROM kept") == 1
        await again.close()
        assert postgres.url == url
        assert postmaster(tmp_path) != before
