"""A Twilio account on loopback that answers as a test says, and a service that sends through it."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import parse_qsl

import orjson

from sms_foundation.core.config import LOCAL_ACCOUNT_SID, LOCAL_AUTH_TOKEN, LOCAL_PHONE_NUMBER
from tests.loopback import LoopbackServer, Received, reply


class TwilioAccount:
    """Takes every message, unless an answer is scripted. `sent` holds the forms of what it was asked to send."""

    def __init__(self) -> None:
        self.sent: list[dict[str, str]] = []
        self.answers: deque[bytes] = deque()
        self.is_open = asyncio.Event()
        """Cleared: calls get their answer once it is set."""
        self.is_open.set()
        self.base_url = ""

    @property
    def providers(self) -> str:
        """PROVIDERS of a service that has only this account, and no rates."""
        account = {
            "kind": "twilio",
            "name": "twilio",
            "account_sid": LOCAL_ACCOUNT_SID,
            "auth_token": LOCAL_AUTH_TOKEN,
            "api_base_url": self.base_url,
            "senders": [LOCAL_PHONE_NUMBER],
            "rate_per_s": None,
            "sender_rates": {"*": None},
            "has_media": True,
        }
        return orjson.dumps([account]).decode()

    async def answer(self, request: Received) -> bytes:
        if request.method != "POST":
            return _json(200, {"messages": [], "next_page_uri": None})
        form = dict(parse_qsl(request.body.decode(), keep_blank_values=True))
        self.sent.append(form)
        await self.is_open.wait()
        if self.answers:
            return self.answers.popleft()
        sid = f"SM{len(self.sent):032d}"
        message = {"sid": sid, "account_sid": LOCAL_ACCOUNT_SID, "status": "queued", "num_segments": "2"}
        return _json(201, {**message, "to": form["To"], "from": form.get("From"), "price": None, "price_unit": "USD"})


def refusal(code: int, status: int) -> bytes:
    """Return what Twilio answers when it does not take a message."""
    return _json(status, {"code": code, "message": "No.", "more_info": "https://www.twilio.com", "status": status})


def _json(status: int, value: object) -> bytes:
    return reply(status, orjson.dumps(value), content_type="application/json")


@asynccontextmanager
async def running_account() -> AsyncIterator[TwilioAccount]:
    """Serve an account on a free port."""
    account = TwilioAccount()
    async with LoopbackServer(account.answer) as server:
        account.base_url = server.base_url
        yield account
        account.is_open.set()
