"""The API, for people who have to log in."""

from collections.abc import AsyncIterator

import httpx
import pytest

from sms_foundation.core.config import Settings
from sms_foundation.core.db import Database, DatabaseUrl
from tests.support.access import make_client
from tests.support.service import Service, make_settings, running_service
from tests.support.tokens import OURS


@pytest.fixture
def settings() -> Settings:
    return make_settings(
        signing_key=OURS.pem, open_access=False, work_in_process=False, failure_limit="off", login_limit="off"
    )


@pytest.fixture
async def service(settings: Settings, database_url: DatabaseUrl, database: Database) -> AsyncIterator[Service]:
    """The running service, with an admin of ours, `boss`, so that the start makes none."""
    await make_client(database, "boss")
    async with running_service(settings, database_url, database) as service:
        yield service


@pytest.fixture
def api(service: Service) -> httpx.AsyncClient:
    return service.client
