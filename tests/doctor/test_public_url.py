"""Does PUBLIC_BASE_URL lead here? Asked over real HTTP of the real service, and of everything else that may answer."""

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from sms_foundation.app import create_app
from sms_foundation.core.config import Settings
from sms_foundation.core.db import Database, DatabaseUrl
from sms_foundation.doctor.context import Context
from sms_foundation.doctor.findings import Report
from sms_foundation.doctor.limits import Limits
from sms_foundation.doctor.public_url import check_public_url
from sms_foundation.doctor.reading import Reader
from sms_foundation.providers.configured import configured_providers
from tests.doctor.examined import Examined
from tests.loopback import LoopbackServer, Received, reply
from tests.support.http_server import serving
from tests.support.service import make_settings

ALIVE = reply(200, b'{"ok":true}')
FORBIDDEN = reply(403, b'{"error":{"code":"sms.forbidden","message":"the webhook could not be verified"}}')
INVALID = reply(400, b'{"error":{"code":"sms.validation_error","message":"MessageSid is missing"}}')


async def check(database: Database, settings: Settings) -> Examined:
    report = Report()
    context = Context(
        settings=settings,
        configs=configured_providers(settings),
        reader=Reader(database),
        since=None,
        limits=Limits.of(settings),
        report=report,
    )
    report.findings += await check_public_url(context)
    return Examined(report)


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A port that is known before the service on it is made."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        yield listener


def base_url(listener: socket.socket) -> str:
    return f"http://127.0.0.1:{listener.getsockname()[1]}"


class TestRealService:
    async def test_is_recognised_and_keeps_nothing_of_the_visit(
        self, database: Database, database_url: DatabaseUrl, listener: socket.socket
    ) -> None:
        """With all four dialects: each of their webhooks says no as ours do."""
        settings = make_settings(public_base_url=base_url(listener))
        async with serving(create_app(settings, database_url), listener):
            found = await check(database, settings)

        assert found.names() == set()
        assert await database.pool.fetchval("SELECT count(*) FROM sms_messages") == 0
        assert await database.pool.fetchval("SELECT count(*) FROM sms_message_status_events") == 0

    @pytest.mark.parametrize(
        "changes", [{"twilio_auth_token": "another", "providers": None}, {"public_base_url": "https://sms.example.com"}]
    )
    async def test_with_other_settings_is_recognised_as_such(
        self, database: Database, database_url: DatabaseUrl, listener: socket.socket, changes: dict[str, Any]
    ) -> None:
        ours: dict[str, Any] = {"public_base_url": base_url(listener), "twilio_auth_token": "ours"}
        theirs = make_settings(**(ours | changes))
        async with serving(create_app(theirs, database_url), listener):
            found = await check(database, make_settings(**ours))

        assert found.names() == {"public_url_leads_to_other_settings"}

    async def test_without_our_provider_is_another(
        self, database: Database, database_url: DatabaseUrl, listener: socket.socket
    ) -> None:
        theirs = make_settings(public_base_url=base_url(listener), providers="[]")
        async with serving(create_app(theirs, database_url), listener):
            found = await check(database, make_settings(public_base_url=base_url(listener)))

        assert found.names() == {"public_url_leads_elsewhere"}


@pytest.mark.parametrize(
    ("answers", "name"),
    [
        ([reply(200, b"<html>It works!</html>")], "public_url_leads_elsewhere"),
        ([reply(404)], "public_url_leads_elsewhere"),
        ([reply(200, b'{"ok":true,"version":"of another"}')], "public_url_leads_elsewhere"),
        ([reply(301, location="https://www.example.com/health/live?secret=1")], "public_url_redirects"),
        ([reply(503, b'{"ok":false}')], "public_url_unreachable"),
        ([None], "public_url_unreachable"),
        ([ALIVE, reply(200)], "public_url_leads_elsewhere"),  # takes what nobody signed
        ([ALIVE, reply(403, b"Forbidden")], "public_url_leads_elsewhere"),  # no envelope of ours
        ([ALIVE, reply(308, location="/elsewhere")], "public_url_redirects"),
        ([ALIVE, FORBIDDEN, FORBIDDEN], "public_url_leads_to_other_settings"),
        ([ALIVE, FORBIDDEN, reply(200)], "public_url_leads_to_other_settings"),
        ([ALIVE, FORBIDDEN, INVALID], None),
    ],
)
async def test_whatever_else_answers_is_told_apart(
    database: Database, answers: list[bytes | None], name: str | None
) -> None:
    left = list(answers)

    async def answer(_request: Received) -> bytes | None:
        return left.pop(0)

    async with LoopbackServer(answer) as server:
        settings = make_settings(public_base_url=server.base_url, twilio_auth_token="ours")
        found = await check(database, settings)

    assert (found.names(), left) == (set() if name is None else {name}, [])
    assert "secret" not in repr(found.report)


async def test_nobody_there(database: Database, listener: socket.socket) -> None:
    found = await check(database, make_settings(public_base_url=base_url(listener)))

    assert "connect_failed" in found["public_url_unreachable"].why


async def test_an_instance_that_shows_its_health_to_nobody_is_known_by_its_webhooks(database: Database) -> None:
    unauthorized = reply(401, b'{"error":{"code":"sms.unauthorized"}}')
    left = [unauthorized, FORBIDDEN, INVALID]

    async def answer(_request: Received) -> bytes:
        return left.pop(0)

    async with LoopbackServer(answer) as server:
        found = await check(database, make_settings(public_base_url=server.base_url, twilio_auth_token="ours"))

    assert found.names() == set()
