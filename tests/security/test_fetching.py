"""URLs that come in are stored and passed on; nobody here opens them."""

import ast
from collections.abc import AsyncIterator

import pytest

from sms_foundation.core.config import Settings
from tests.loopback import LoopbackServer, Received, reply
from tests.support.access import bearer, make_client, make_key
from tests.support.declared_metrics import SOURCE
from tests.support.processes import eventually
from tests.support.service import Service, make_settings

# Modules that call others. The addresses of all of them come from settings.
CALLERS = {
    "auth/tokens/jwks.py",  # OUTSIDE_ISSUERS
    "cli/send.py",  # the service itself
    "core/http.py",  # the one that makes clients for all others
    "doctor/public_url.py",  # PUBLIC_BASE_URL
    "providers/registry.py",  # the providers' api_base_url, send_url
    "worker.py",  # MONITOR_API_URL, TENANT_PROFILE_API_URL
}


@pytest.fixture
async def decoy() -> AsyncIterator[LoopbackServer]:
    """A server within reach of the service, such as the metadata server of a cloud, that notes who comes."""

    async def answer(_: Received) -> bytes:
        return reply(200, b"secret of the inside")

    async with LoopbackServer(answer) as server:
        yield server


class TestUrlsOfOthers:
    async def test_nobody_comes_to_where_media_callbacks_and_texts_point(
        self, service: Service, decoy: LoopbackServer
    ) -> None:
        url = decoy.base_url
        media = {"NumMedia": "1", "MediaUrl0": f"{url}/media", "MediaContentType0": "image/jpeg"}
        urls = {"StatusCallback": f"{url}/callback", "SmsUrl": f"{url}/sms", "ReferralSourceUrl": f"{url}/referral"}
        await service.text("MM1", f"look at {url}/text", **media, **urls)
        await service.status("MM1", "failed", ErrorMessage=f"see {url}/error", **urls)
        body = {"to": "+14155550188", "message": f"see {url}/text", "media_urls": [f"{url}/out"]}
        key = await make_key(service.database, await make_client(service.database), is_test=True)
        headers = bearer(key) | {"Referer": f"{url}/from", "Origin": url}
        sent = await service.client.post("/v1/sms/send", json=body, headers=headers)
        assert sent.status_code == 202, sent.text
        await service.finish_work()
        state = await service.database.pool.fetchval("SELECT delivery_status FROM sms_messages WHERE is_test")
        assert state == "delivered"

        assert decoy.connections == 0

    @pytest.mark.parametrize("name", ["callback_url", "status_callback", "webhook_url", "statusCallback"])
    async def test_nobody_can_name_a_url_to_be_called_back(self, service: Service, name: str) -> None:
        body = {"to": "+14155550188", "message": "Hello", name: "http://169.254.169.254/latest/meta-data"}

        response = await service.client.post("/v1/sms/send", json=body)

        assert response.status_code == 400, response.text

    @pytest.mark.parametrize(
        "url", ["file:///etc/passwd", "gopher://127.0.0.1:6379/_x", "//169.254.169.254", "data:text/plain,x", "http://"]
    )
    async def test_media_of_other_schemes_are_refused(self, service: Service, url: str) -> None:
        body = {"to": "+14155550188", "message": "Hello", "media_urls": [url]}

        response = await service.client.post("/v1/sms/send", json=body)

        assert response.status_code == 400, response.text


class TestRedirects:
    @pytest.fixture
    async def monitor(self, decoy: LoopbackServer) -> AsyncIterator[LoopbackServer]:
        async def redirect(_: Received) -> bytes:
            return reply(302, location=f"{decoy.base_url}/inside")

        async with LoopbackServer(redirect) as server:
            yield server

    @pytest.fixture
    def settings(self, monitor: LoopbackServer) -> Settings:
        return make_settings(monitor_api_url=monitor.base_url, monitor_api_key="key-for-the-monitor")

    async def test_of_a_service_we_call_lead_nowhere(
        self, service: Service, monitor: LoopbackServer, decoy: LoopbackServer
    ) -> None:
        async def is_asked_again() -> bool:
            return len(monitor.received) > 1  # so the first answer has been dealt with

        await service.text("SM1")
        await eventually(is_asked_again, "the Monitor is asked again")

        assert decoy.connections == 0


def test_no_other_module_can_call_anybody() -> None:
    clients = {"httpx", "aiohttp", "requests", "urllib3", "http.client", "urllib.request"}
    found = set()
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            modules = (
                [each.name for each in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
            makes_client = isinstance(node, ast.Name) and node.id == "create_http_client"
            if makes_client or clients & {*modules}:
                found.add(path.relative_to(SOURCE).as_posix())

    assert {each for each in found if not each.startswith("simulator/")} == CALLERS
