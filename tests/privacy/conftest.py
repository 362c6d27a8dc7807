"""A person about whom everything is stored that can be."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from sms_foundation.core.config import Settings
from sms_foundation.core.db import Database, DatabaseUrl
from tests.support.one_person import World, quoting, reconciliation_of
from tests.support.outbound import HttpProvider, http_providers, sending
from tests.support.service import Service, make_settings


@pytest.fixture
def settings() -> Settings:
    """Nothing happens but what a test does: no work is done in the service's process."""
    return make_settings(work_in_process=False, number_limit="1000/1h")


@pytest.fixture
async def world(service: Service, database: Database, database_url: DatabaseUrl) -> AsyncIterator[World]:
    """Nobody yet."""
    provider = HttpProvider("twilio", answer=quoting)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(http_providers(provider))
        process = await stack.enter_async_context(sending(database_url, [provider], is_running=False))
        reconciliation = await stack.enter_async_context(reconciliation_of(process))
        yield World(service, database, process, provider, reconciliation)


@pytest.fixture
async def person(world: World) -> World:
    """Somebody about whom everything is stored that can be."""
    await world.live()
    return world
