"""Every provider's texts arrive with the same guarantees: verified, stored exactly once, answered as it expects."""

import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import httpx
import orjson
import pytest

from sms_foundation.app import create_app
from sms_foundation.core.config import LOCAL_PHONE_NUMBER
from sms_foundation.core.db import Database, DatabaseUrl
from sms_foundation.providers.twilio.signature import sign
from sms_foundation.simulator.app import build_app
from sms_foundation.simulator.settings import SimulatorSettings
from tests.simulator.servers import serve
from tests.support.http_server import serving
from tests.support.service import BASE_URL, Service, encode_form, make_settings, running_service, text_form

PROVIDERS = ["twilio", "messagebird", "vonage", "telnyx"]


@dataclass(frozen=True)
class Wired:
    """A service and the simulator whose phones text it, over real HTTP."""

    service_url: str
    simulator_url: str
    database: Database

    async def text(self, provider: str, sender: str, body: str, **more: object) -> dict[str, object]:
        """Let a phone text the organisation through `provider`."""
        async with httpx.AsyncClient(timeout=20) as client:
            text = {"from": sender, "body": body, "provider": provider, **more}
            response = await client.post(f"{self.simulator_url}/simulator/texts", json=text)
        assert response.status_code == 200, response.text
        return dict(response.json())


@pytest.fixture(scope="module")
def listener() -> Iterator[socket.socket]:
    """The port is known before either server is made: each has to know the other's."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        yield found


@pytest.fixture(scope="module")
def simulator_url(listener: socket.socket) -> Iterator[str]:
    service_url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with serve(build_app(SimulatorSettings(service_url=service_url))) as url:
        yield url


@pytest.fixture
async def wired(
    listener: socket.socket, simulator_url: str, database_url: DatabaseUrl, database: Database
) -> AsyncIterator[Wired]:
    port = listener.getsockname()[1]
    settings = make_settings(public_base_url=None, port=port, simulator_url=simulator_url)
    async with serving(create_app(settings, database_url), listener.dup()):
        yield Wired(f"http://127.0.0.1:{port}", simulator_url, database)


class TestInbound:
    @pytest.mark.parametrize("provider", PROVIDERS)
    async def test_is_verified_and_stored_under_its_provider(self, wired: Wired, provider: str) -> None:
        await wired.text(provider, "+15125550142", "Hola, ¿está libre?")

        rows = await wired.database.pool.fetch(
            "SELECT provider, from_number, to_number, message_content, direction FROM sms_messages"
        )
        assert [tuple(row) for row in rows] == [
            (provider, "+15125550142", LOCAL_PHONE_NUMBER, "Hola, ¿está libre?", "inbound")
        ]

    async def test_of_one_phone_through_all_of_them_is_one_conversation(self, wired: Wired) -> None:
        for provider in PROVIDERS:
            await wired.text(provider, "+15125550142", f"by {provider}")

        rows = await wired.database.pool.fetch("SELECT phone_number_canonical, message_count FROM sms_conversations")
        assert [tuple(row) for row in rows] == [("+15125550142", 4)]

    async def test_redelivered_ten_times_at_once_is_stored_once(self, wired: Wired) -> None:
        await wired.text("twilio", "+15125550142", "Hola", copies=10)

        assert await wired.database.pool.fetchval("SELECT count(*) FROM sms_messages") == 1

    @pytest.mark.parametrize("provider", PROVIDERS)
    @pytest.mark.parametrize("kind", ["sms", "status"])
    async def test_what_is_not_signed_is_refused_and_nothing_stored(
        self, wired: Wired, provider: str, kind: str
    ) -> None:
        content_type = "application/json" if provider == "telnyx" else "application/x-www-form-urlencoded"
        async with httpx.AsyncClient() as client:
            response = await client.post(
                f"{wired.service_url}/webhook/{provider}/{kind}", content=b"{}", headers={"Content-Type": content_type}
            )

        assert (response.status_code, response.json()["error"]["code"]) == (403, "sms.forbidden")
        assert await wired.database.pool.fetchval("SELECT count(*) FROM sms_messages") == 0

    async def test_name_that_is_not_configured_has_no_webhook(self, wired: Wired) -> None:
        async with httpx.AsyncClient() as client:
            response = await client.post(f"{wired.service_url}/webhook/nobody/sms")

        assert response.status_code == 404


TOKENS = {"twilio": "token-of-the-first", "twilio-eu": "token-of-the-second"}


class TestTwoAccountsOfOneKind:
    @pytest.fixture
    async def service(self, database_url: DatabaseUrl, database: Database) -> AsyncIterator[Service]:
        accounts = [
            {"kind": "twilio", "name": name, "account_sid": "", "auth_token": token, "senders": ["+15005550006"]}
            for name, token in TOKENS.items()
        ]
        settings = make_settings(providers=orjson.dumps(accounts).decode())
        async with running_service(settings, database_url, database) as service:
            yield service

    async def test_each_has_webhooks_and_secrets_of_its_own(self, service: Service, database: Database) -> None:
        for name, token in TOKENS.items():
            path = f"/webhook/{name}/sms"
            form = text_form("SM1", "Hola")
            for other in TOKENS.values():
                response = await service.post(path, encode_form(form), signature=sign(other, BASE_URL + path, form))
                assert response.status_code == (200 if other == token else 403)

        # The same id at two accounts is two messages.
        rows = await database.pool.fetch("SELECT provider, provider_message_id FROM sms_messages ORDER BY provider")
        assert [tuple(row) for row in rows] == [("twilio", "SM1"), ("twilio-eu", "SM1")]
