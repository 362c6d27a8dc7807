"""The service inside the test's own event loop, called through ASGI, on the test's own database."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from urllib.parse import quote_plus

import httpx
from starlette.types import ASGIApp, Message

from sms_foundation.app import create_app
from sms_foundation.core.config import LOCAL_ACCOUNT_SID, LOCAL_AUTH_TOKEN, LOCAL_PHONE_NUMBER, Settings
from sms_foundation.core.db import Database, DatabaseUrl
from sms_foundation.providers.twilio.signature import sign

BASE_URL = "https://sms.example.com"
SMS_PATH = "/webhook/twilio/sms"
STATUS_PATH = "/webhook/twilio/status"
TENANT_PHONE = "+14155550123"

Pairs = Sequence[tuple[str, str]]


def make_settings(**changes: object) -> Settings:
    """Settings of a test run; `.env` and the environment play no part."""
    values: dict[str, object] = {
        "app_env": "test",
        "public_base_url": BASE_URL,
        "database_pool_size": 6,
        "work_poll_s": 0.05,
        "client_limit": "off",
        "number_limit": "off",
        "simulator_url": "http://127.0.0.1:9",  # nobody listens there: a test that sends says who does
        "log_format": "json",
        **changes,
    }
    return Settings(_env_file=None, **values)  # type: ignore[arg-type, call-arg]


def encode_form(pairs: Pairs) -> bytes:
    """Encode as a form, byte for byte what `surrogateescape` text stands for."""
    return "&".join(
        f"{quote_plus(name, errors='surrogateescape')}={quote_plus(value, errors='surrogateescape')}"
        for name, value in pairs
    ).encode()


def text_form(sid: str, body: str = "Hello", *, sender: str = TENANT_PHONE, **more: str) -> list[tuple[str, str]]:
    """The parameters of an inbound text, blank ones included."""
    return [
        ("ToCountry", "US"),
        ("ToCity", ""),
        ("MessageSid", sid),
        ("SmsSid", sid),
        ("SmsMessageSid", sid),
        ("AccountSid", LOCAL_ACCOUNT_SID),
        ("From", sender),
        ("To", LOCAL_PHONE_NUMBER),
        ("Body", body),
        ("NumMedia", "0"),
        ("NumSegments", "1"),
        ("SmsStatus", "received"),
        ("ApiVersion", "2010-04-01"),
        *more.items(),
    ]


def status_form(sid: str, status: str, **more: str) -> list[tuple[str, str]]:
    """The parameters of a status callback."""
    return [
        ("MessageSid", sid),
        ("SmsSid", sid),
        ("AccountSid", LOCAL_ACCOUNT_SID),
        ("MessageStatus", status),
        ("SmsStatus", status),
        ("From", LOCAL_PHONE_NUMBER),
        ("To", TENANT_PHONE),
        ("ApiVersion", "2010-04-01"),
        *more.items(),
    ]


class Service:
    """A running service and what a test does with it."""

    def __init__(self, client: httpx.AsyncClient, settings: Settings, database: Database, app: ASGIApp) -> None:
        self.client = client
        self.settings = settings
        self.database = database
        self._app = app

    def calling_from(self, address: str) -> httpx.AsyncClient:
        """Return a client whose connections come from this address; `client` is on this machine."""
        transport = httpx.ASGITransport(self._app, raise_app_exceptions=False, client=(address, 4711))
        return httpx.AsyncClient(transport=transport, base_url=BASE_URL)

    async def post(self, path: str, body: bytes, *, signature: str | None, **headers: str) -> httpx.Response:
        """POST raw bytes as a form, with this signature or none."""
        all_headers = {"Content-Type": "application/x-www-form-urlencoded; charset=UTF-8", **headers}
        if signature is not None:
            all_headers["X-Twilio-Signature"] = signature
        return await self.client.post(path, content=body, headers=all_headers)

    async def post_signed(self, path: str, pairs: Pairs, *, auth_token: str = LOCAL_AUTH_TOKEN) -> httpx.Response:
        """POST `pairs`, signed as Twilio signs them."""
        return await self.post(path, encode_form(pairs), signature=sign(auth_token, BASE_URL + path, pairs))

    async def text(self, sid: str, body: str = "Hello", *, sender: str = TENANT_PHONE, **more: str) -> httpx.Response:
        """Let a text arrive."""
        return await self.post_signed(SMS_PATH, text_form(sid, body, sender=sender, **more))

    async def status(self, sid: str, status: str, **more: str) -> httpx.Response:
        """Let a status callback arrive."""
        return await self.post_signed(STATUS_PATH, status_form(sid, status, **more))

    async def conversation(self, phone: str = TENANT_PHONE, **params: object) -> dict[str, object]:
        """Read a conversation, which must exist."""
        response = await self.client.get(f"/conversations/{phone}", params=params)
        assert response.status_code == 200, response.text
        return dict(response.json())

    async def finish_work(self, *kinds: str) -> None:
        """Wait until no work (of these kinds) is open. Recurring and dead rows do not count."""
        for _ in range(400):
            open_rows = await self.database.pool.fetchval(
                "SELECT count(*) FROM work WHERE state <> 'dead' AND ref_id <> '00000000-0000-0000-0000-000000000000' "
                "AND ($1::text[] = '{}' OR kind = ANY($1))",
                list(kinds),
            )
            if not open_rows:
                return
            await asyncio.sleep(0.025)
        raise AssertionError(f"{open_rows} rows of work are still open")


@asynccontextmanager
async def running(app: ASGIApp) -> AsyncIterator[None]:
    """Run an ASGI application's lifespan, as a server does."""
    to_app: asyncio.Queue[Message] = asyncio.Queue()
    from_app: asyncio.Queue[Message] = asyncio.Queue()
    task = asyncio.create_task(app({"type": "lifespan", "state": {}}, to_app.get, from_app.put))  # type: ignore[arg-type]
    await to_app.put({"type": "lifespan.startup"})
    message = await from_app.get()
    assert message["type"] == "lifespan.startup.complete", message
    try:
        yield
    finally:
        await to_app.put({"type": "lifespan.shutdown"})
        await from_app.get()
        await task


@asynccontextmanager
async def running_service(settings: Settings, url: DatabaseUrl, database: Database) -> AsyncIterator[Service]:
    """Start the service on `url`; `database` is the test's own view of the same database."""
    app = create_app(settings, url)
    async with (
        running(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app, raise_app_exceptions=False), base_url=BASE_URL) as client,
    ):
        yield Service(client, settings, database, app)
