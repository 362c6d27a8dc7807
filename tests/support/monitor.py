"""The stand-in for the Collections Monitor and the profile service: a real server, in the test's own event loop."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from urllib.parse import parse_qs

import httpx
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from sms_foundation.simulator.app import build_app
from sms_foundation.simulator.settings import SimulatorSettings


class RunningMonitor:
    """What a test does with the running stand-in. `url` is the base URL of both services."""

    def __init__(self, app: ASGIApp, url: str, client: httpx.AsyncClient) -> None:
        self._app = app
        self._client = client
        self.url = f"{url}/monitor"
        self.lookups: list[str] = []
        """The spellings asked for, in order of arrival."""
        self.traceparents: list[str] = []
        """What the lookups said about where they come from, in order of arrival; "" for nothing."""
        self.puts: list[str] = []
        """The tenants whose language was put, in order of arrival, repeats included."""
        self.has_put = asyncio.Event()
        self._may_answer_puts = asyncio.Event()
        self._may_answer_puts.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == "/monitor/tenants/lookup":
            self.lookups += parse_qs(scope["query_string"].decode())["phone"]
            self.traceparents.append(dict(scope["headers"]).get(b"traceparent", b"").decode())
        if scope["type"] == "http" and scope["method"] == "PUT":
            self.puts.append(scope["path"].split("/")[3])
            self.has_put.set()
            await self._may_answer_puts.wait()
        await self._app(scope, receive, send)

    @contextmanager
    def holding_puts(self) -> Iterator[None]:
        """Let no PUT have its answer before the block ends."""
        self._may_answer_puts.clear()
        try:
            yield
        finally:
            self._may_answer_puts.set()

    async def add_tenant(self, tenant_id: str, *numbers: str) -> None:
        """Let the Monitor know a tenant from now on, under exactly these spellings."""
        await self._post("/tenants", {"tenant_id": tenant_id, "phone_numbers": numbers})

    async def misbehave(self, **plan: object) -> None:
        """Fail as the simulator's fault plan says; without arguments: behave again."""
        await self._post("/faults", plan)

    async def language(self, tenant_id: str) -> tuple[str | None, int]:
        """Return the language in a tenant's profile, and how often it changed."""
        response = await self._client.get(f"{self.url}/tenants/{tenant_id}")
        assert response.status_code == 200, response.text
        return response.json()["language"], response.json()["language_updates"]

    async def _post(self, path: str, body: object) -> None:
        response = await self._client.post(self.url + path, json=body)
        assert response.is_success, response.text


@asynccontextmanager
async def running_monitor(*, api_key: str | None = None) -> AsyncIterator[RunningMonitor]:
    """Serve the simulator on a free port of the loopback."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        headers = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
        async with httpx.AsyncClient(headers=headers) as client:
            app = build_app(SimulatorSettings(service_url="http://127.0.0.1:9", monitor_api_key=api_key))
            monitor = RunningMonitor(app, url, client)
            server = uvicorn.Server(
                uvicorn.Config(monitor, ws="none", lifespan="on", access_log=False, log_config=None)
            )
            serving = asyncio.create_task(server.serve(sockets=[listener]))
            while not server.started:
                assert not serving.done(), "the stand-in did not start"
                await asyncio.sleep(0.005)
            try:
                yield monitor
            finally:
                await client.aclose()
                server.should_exit = True
                await serving
