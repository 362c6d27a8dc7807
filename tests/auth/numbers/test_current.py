"""The rules as a process knows them: read once for many, never older than seconds."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sms_foundation.auth.numbers.current import STALE_S, CurrentRules
from sms_foundation.core.clock import monotonic
from sms_foundation.core.config import Settings
from sms_foundation.core.db import Database, DatabaseUrl, is_outage, parse_database_url
from sms_foundation.core.ids import new_id
from tests.support.outbound import CountingDatabase
from tests.support.processes import eventually
from tests.support.service import make_settings

PHONE = "+14155550123"


async def deny(database: Database, prefix: str) -> None:
    await database.pool.execute(
        "INSERT INTO auth_number_rules (id, prefix, is_allowed, created_by) VALUES ($1, $2, false, 'test')",
        new_id(),
        prefix,
    )


async def is_allowed(rules: CurrentRules) -> bool:
    return (await rules.get()).decide(PHONE).is_allowed


@pytest.fixture
async def counting(database_url: DatabaseUrl) -> AsyncIterator[CountingDatabase]:
    counting = CountingDatabase(database_url, make_settings())
    await counting.open()
    yield counting
    await counting.close()


@pytest.fixture
async def rules(counting: CountingDatabase) -> AsyncIterator[CurrentRules]:
    rules = CurrentRules(counting)
    yield rules
    await rules.close()


class TestGet:
    async def test_messages_that_come_at_once_ask_once(self, rules: CurrentRules, counting: CountingDatabase) -> None:
        await deny(counting, "+1415")

        answers = await asyncio.gather(*(is_allowed(rules) for _ in range(100)))

        assert set(answers) == {False}
        assert counting.uses == 1
        assert not await is_allowed(rules)
        assert counting.uses == 1

    async def test_a_change_elsewhere_is_known_within_seconds(self, rules: CurrentRules, database: Database) -> None:
        assert await is_allowed(rules)
        await deny(database, "+1415")
        changed_at = monotonic()
        seen_after_s: list[float] = []

        async def has_noticed() -> bool:
            asked_at = monotonic()
            if await is_allowed(rules):
                assert asked_at - changed_at < STALE_S
                return False
            seen_after_s.append(asked_at - changed_at)
            return True

        await eventually(has_noticed, "the rule is known")
        assert seen_after_s[0] <= STALE_S + 1

    async def test_an_unreachable_database_is_an_outage_and_not_a_permission(
        self, settings: Settings, tmp_path: Path
    ) -> None:
        database = Database(parse_database_url(f"postgresql://u:secret@/sms?host={tmp_path}"), settings)
        await database.open()
        rules = CurrentRules(database)

        with pytest.raises(OSError) as caught:  # noqa: PT011  # whichever the operating system has
            await rules.get()

        assert is_outage(caught.value)
        await rules.close()
        await database.close()

    async def test_whoever_goes_away_takes_nobody_along(self, rules: CurrentRules, database: Database) -> None:
        await deny(database, "+1415")
        impatient = asyncio.create_task(is_allowed(rules))
        patient = asyncio.create_task(is_allowed(rules))
        await asyncio.sleep(0)
        impatient.cancel()

        assert not await patient


class TestForget:
    async def test_own_change_is_known_at_once(self, rules: CurrentRules, database: Database) -> None:
        assert await is_allowed(rules)
        await deny(database, "+1415")

        rules.forget()

        assert not await is_allowed(rules)

    async def test_what_was_being_read_before_the_change_is_not_kept(
        self, rules: CurrentRules, database: Database, counting: CountingDatabase
    ) -> None:
        """Held up in the database, so that the change comes in between."""
        async with database.transaction() as blocker:
            await blocker.execute("LOCK TABLE auth_number_rules IN ACCESS EXCLUSIVE MODE")
            early = asyncio.create_task(is_allowed(rules))
            await asyncio.sleep(0)
            rules.forget()
            late = asyncio.create_task(is_allowed(rules))
            await asyncio.sleep(0)
        await asyncio.gather(early, late)

        assert counting.uses == 2
