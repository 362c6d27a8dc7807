"""The gauges of the backlog when the database answers late, or not at all."""

from collections.abc import AsyncIterator
from uuid import UUID

import pytest
from prometheus_client import REGISTRY

from sms_foundation.core.config import Settings
from sms_foundation.core.db import Database, parse_database_url
from sms_foundation.core.work import queue
from sms_foundation.core.work.queue import NewWork
from sms_foundation.operations.backlog import BacklogGauges
from tests.support.processes import eventually
from tests.support.tcp_gate import TcpGate

NO_TIME_S = 0.001


@pytest.fixture
async def behind_the_gate(gate: TcpGate, settings: Settings) -> AsyncIterator[Database]:
    await gate.open()
    database = Database(parse_database_url(gate.url), settings)
    await database.open()
    yield database
    gate.thaw()
    await database.close()


async def enqueue(database: Database, *numbers: int) -> None:
    async with database.transaction() as connection:
        await queue.enqueue(connection, [NewWork("gone", UUID(int=number)) for number in numbers])


def due() -> float | None:
    return REGISTRY.get_sample_value("sms_work_backlog", {"kind": "gone", "state": "due"})


def age_s() -> float:
    age = REGISTRY.get_sample_value("sms_work_backlog_age_seconds")
    assert age is not None
    return age


class TestRefresh:
    async def test_shows_an_answer_that_comes_too_late_for_whoever_asked(
        self, behind_the_gate: Database, database: Database, gate: TcpGate
    ) -> None:
        gauges = BacklogGauges(behind_the_gate, patience_s=30)
        await enqueue(database, 1)
        await gauges.refresh()
        assert due() == 1
        impatient = BacklogGauges(behind_the_gate, patience_s=NO_TIME_S)
        await enqueue(database, 2, 3)
        gate.hold_answers()
        await impatient.refresh()
        assert due() == 1

        gate.thaw()

        async def is_shown() -> bool:
            return due() == 3

        await eventually(is_shown, "what came late is shown, though nobody has asked again")

    async def test_says_how_old_the_answer_is(
        self, behind_the_gate: Database, database: Database, gate: TcpGate
    ) -> None:
        gauges = BacklogGauges(behind_the_gate, patience_s=NO_TIME_S)
        gate.freeze()
        await enqueue(database, 1)

        ages = []
        for _ in range(3):
            await gauges.refresh()
            ages.append(age_s())

        assert 0 < ages[0] < ages[1] < ages[2]
        gate.thaw()

        async def is_young() -> bool:
            before = age_s()
            await gauges.refresh()
            return age_s() < before

        await eventually(is_young, "it has been counted again")

    async def test_shows_nothing_that_is_too_old(
        self, behind_the_gate: Database, database: Database, gate: TcpGate
    ) -> None:
        await enqueue(database, 1)
        await BacklogGauges(behind_the_gate, patience_s=30).refresh()
        assert due() == 1
        gate.freeze()

        await BacklogGauges(behind_the_gate, patience_s=NO_TIME_S, longest_shown_s=NO_TIME_S).refresh()

        assert due() is None
