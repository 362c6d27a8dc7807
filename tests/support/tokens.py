"""Tokens as others make them: rightly, wrongly, and with intent; and an issuer that publishes keys over HTTP."""

import asyncio
import base64
import hmac
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import orjson
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from joserfc.jwk import RSAKey
from starlette.types import Receive, Scope, Send

from sms_foundation.auth.tokens.private_keys import SigningKey, generate_signing_key
from tests.support.http_server import serving

OURS = generate_signing_key()
"""What the service signs with in tests that say so."""
STRANGER = generate_signing_key()
"""A key of nobody we know."""

Claims = Mapping[str, Any]


def now() -> int:
    return int(datetime.now(UTC).timestamp())


def encode(part: object) -> str:
    data = part if isinstance(part, bytes) else orjson.dumps(part)
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def sign(claims: object, key: SigningKey, **header: object) -> str:
    """An RS256 token with this header on top of the usual one; None leaves a field of it out."""
    full = {"alg": "RS256", "typ": "JWT", "kid": key.kid, **header}
    start = f"{encode({name: value for name, value in full.items() if value is not None})}.{encode(claims)}"
    private = key.key.private_key
    assert private is not None
    return f"{start}.{encode(private.sign(start.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


def sign_hs256(claims: object, secret: bytes, **header: object) -> str:
    start = f"{encode({'alg': 'HS256', 'typ': 'JWT', **header})}.{encode(claims)}"
    return f"{start}.{encode(hmac.digest(secret, start.encode(), 'sha256'))}"


def public_pem(key: SigningKey) -> bytes:
    return RSAKey.import_key(key.public_jwk).as_pem()  # type: ignore[arg-type]


class Issuer:
    """Somebody who publishes keys; what it answers can be changed, and how often it was asked is counted."""

    def __init__(self) -> None:
        self.keys: list[dict[str, Any]] = []
        self.body: bytes | None = None
        self.status = 200
        self.headers: list[tuple[bytes, bytes]] = []
        self.asked = 0
        self.was_asked = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.is_dripping = False
        self.url = ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            for kind in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{kind}.complete"})
            return
        self.asked += 1
        self.was_asked.set()
        await self.may_answer.wait()
        body = orjson.dumps({"keys": self.keys}) if self.body is None else self.body
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        if self.is_dripping:
            await _drip(receive, send)
        await send({"type": "http.response.body", "body": body})


async def _drip(receive: Receive, send: Send) -> None:
    """Send a blank now and then, which are no news to whoever reads JSON, until nobody reads any more."""
    gone = asyncio.create_task(_until_gone(receive))
    for _ in range(500):
        await send({"type": "http.response.body", "body": b" ", "more_body": True})
        await asyncio.wait([gone], timeout=0.01)
        if gone.done():
            break
    gone.cancel()


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


@asynccontextmanager
async def running_issuer(*keys: SigningKey) -> AsyncIterator[Issuer]:
    """Serve the public halves of `keys` on a free port."""
    issuer = Issuer()
    issuer.keys = [dict(key.public_jwk) for key in keys]
    async with serving(issuer) as server:
        issuer.url = f"http://127.0.0.1:{server.port}/keys"
        yield issuer
