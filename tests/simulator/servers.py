"""Real servers on loopback: any ASGI application, and receivers that stand for the service."""

import asyncio
import socket
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TypeVar
from urllib.parse import parse_qsl

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from twilio.request_validator import RequestValidator

from sms_foundation.simulator.rest.no_answer import CuttableProtocol
from sms_foundation.simulator.settings import SimulatorSettings
from sms_foundation.simulator.timing import Timing

Seen = TypeVar("Seen")

AUTH_TOKEN = "made-up-token"
TWIML = Response('<?xml version="1.0" encoding="UTF-8"?><Response/>', media_type="text/xml")


@contextmanager
def serve(app: ASGIApp) -> Iterator[str]:
    """Serve `app` from a thread on a free port; yields its base URL."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    server = uvicorn.Server(
        uvicorn.Config(app, http=CuttableProtocol, ws="none", access_log=False, log_level="error", lifespan="on")
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        time.sleep(0.005)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(timeout=10)
        listener.close()


class SwitchingServer:
    """One server for many applications, one at a time: starting one for each would take most of a test's time."""

    def __init__(self) -> None:
        self.url = ""
        self._current: ASGIApp | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            assert self._current is not None, "a request after the end of its test"
            await self._current(scope, receive, send)
            return
        self._loop = asyncio.get_running_loop()
        while (event := (await receive())["type"]) == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        assert event == "lifespan.shutdown"
        await send({"type": "lifespan.shutdown.complete"})

    @contextmanager
    def running(self, app: ASGIApp) -> Iterator[str]:
        """Serve `app` until the end of the block, its lifespan included; yields the base URL."""
        assert self._loop is not None, "the server is not running"
        has_started, end = threading.Event(), asyncio.Event()
        events = ["lifespan.startup"]

        async def receive() -> Message:
            if not events:
                await end.wait()
            return {"type": events.pop() if events else "lifespan.shutdown"}

        async def send(message: Message) -> None:
            assert message["type"] in ("lifespan.startup.complete", "lifespan.shutdown.complete"), message
            has_started.set()

        life = asyncio.run_coroutine_threadsafe(
            _as_coroutine(app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, receive, send)), self._loop
        )
        assert has_started.wait(timeout=10), "the application did not start"
        self._current = app
        try:
            yield self.url
        finally:
            self._loop.call_soon_threadsafe(end.set)
            life.result(timeout=10)
            self._current = None


async def _as_coroutine(awaitable: Awaitable[None]) -> None:
    await awaitable


@dataclass(frozen=True)
class ReceivedWebhook:
    """A webhook as it arrived, below the receiver's own path.

    `path` includes the query, header names are in lower case.
    """

    path: str
    headers: dict[str, str]
    pairs: list[tuple[str, str]]
    raw: bytes

    @property
    def form(self) -> dict[str, str]:
        return dict(self.pairs)


@dataclass
class Receiver:
    """Checks every signature with Twilio's SDK (403 when it is wrong), then gives the next scripted answer or TwiML."""

    base_url: str
    signed_base_url: str | None = None
    answers: deque[Response | Callable[[ReceivedWebhook], Response]] = field(default_factory=deque)
    received: list[ReceivedWebhook] = field(default_factory=list)
    unsigned: int = 0

    def receive(self, path: str, request: Request, raw: bytes) -> Response:
        pairs = parse_qsl(raw.decode(), keep_blank_values=True)
        webhook = ReceivedWebhook(path, dict(request.headers), pairs, raw)
        signature = request.headers.get("X-Twilio-Signature", "")
        url = (self.signed_base_url or self.base_url) + path
        if not RequestValidator(AUTH_TOKEN).validate(url, dict(pairs), signature):
            self.unsigned += 1
            return Response("forged", 403)
        self.received.append(webhook)
        answer = self.answers.popleft() if self.answers else TWIML
        return answer if isinstance(answer, Response) else answer(webhook)


class ReceiverServer:
    """One server for many receivers, each under a path of its own, so that no test sees another's late request."""

    def __init__(self) -> None:
        self.url = ""
        self._receivers: list[Receiver] = []
        self.app = Starlette(routes=[Route("/{place:int}/{path:path}", self._receive, methods=["POST"])])

    def add_receiver(self) -> Receiver:
        receiver = Receiver(f"{self.url}/{len(self._receivers)}")
        self._receivers.append(receiver)
        return receiver

    async def _receive(self, request: Request) -> Response:
        query = f"?{request.url.query}" if request.url.query else ""
        receiver = self._receivers[request.path_params["place"]]
        return receiver.receive(f"/{request.path_params['path']}{query}", request, await request.body())


@dataclass
class FakeTime:
    """A clock that moves only when somebody sleeps or a test moves it."""

    now_s: float = 1_000.0
    slept: list[float] = field(default_factory=list)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now_s += seconds
        await asyncio.sleep(0)

    def now(self) -> datetime:
        return datetime(2026, 11, 20, 9, 30, tzinfo=UTC) + timedelta(seconds=self.now_s - 1_000)

    @property
    def timing(self) -> Timing:
        return Timing(now=self.now, monotonic=lambda: self.now_s, sleep=self.sleep)


def settings_for(service_url: str, **changes: object) -> SimulatorSettings:
    return SimulatorSettings(service_url=service_url, auth_token=AUTH_TOKEN, **changes)  # type: ignore[arg-type]


def until(look: Callable[[], Seen], is_enough: Callable[[Seen], bool], *, patience_s: float = 10) -> Seen:
    """Look again and again until it is enough, and return what was seen then; fail after `patience_s`."""
    deadline = time.monotonic() + patience_s
    while not is_enough(seen := look()):
        assert time.monotonic() < deadline, f"still {seen}"
        time.sleep(0.005)
    return seen


def closed_port_url() -> str:
    """Return a base URL at which nothing listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{listener.getsockname()[1]}"
