"""The keys of an outside issuer, fetched from where it publishes them and kept through its outages."""

import asyncio
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
import orjson
import structlog
from joserfc.errors import JoseError
from joserfc.jwk import RSAKey

from sms_foundation.auth.tokens.issuers import OutsideIssuer
from sms_foundation.auth.tokens.private_keys import LEAST_BITS
from sms_foundation.auth.tokens.single_flight import SingleFlight
from sms_foundation.core.clock import monotonic
from sms_foundation.core.http import USER_AGENT

log = structlog.get_logger(__name__)

REFRESH_S = 600.0
_JITTER = 0.2  # so that instances started together do not ask together
# A name that is not known makes us ask again, this often at most, whoever makes names up.
SEARCH_EVERY_S = 60.0
# Before there are any keys at all, an issuer that was away for a moment must not lock its callers out for a minute.
FIRST_TRIES_EVERY_S = 5.0
_RETRY_S = 60.0
_TIMEOUT_S = 5.0
# All of a fetch: who sends a byte every few seconds keeps each read within the time, and requests waiting for ever.
_FETCH_TIMEOUT_S = 5.0
_MAX_BYTES = 256 * 1024
_MOST_KEYS = 100
_SHORTEST_MODULUS = LEAST_BITS // 8 * 4 // 3  # base64url
_LONGEST_MODULUS = 8192 // 8 * 4 // 3 + 2


class JwksError(Exception):
    """What was fetched is no set of keys; the text says why and quotes nothing."""


class Jwks:
    """The RS256 keys at one URL, by name. Never raises because the issuer cannot be reached: it has the keys it has."""

    def __init__(self, url: str, http: httpx.AsyncClient, *, issuer: str) -> None:
        self._url = url
        self._http = http
        self._issuer = issuer
        self._keys: Mapping[str, RSAKey] | None = None
        self._due_at = 0.0
        self._searched_at = float("-inf")
        self._fetching = SingleFlight(self._fetch)

    async def find(self, kid: str) -> RSAKey | None:
        """Return the key with this name. One that is not known is looked for, at most once a minute."""
        now = monotonic()
        key = None if self._keys is None else self._keys.get(kid)
        if key is None:
            await self._look_for_news(now)
            return None if self._keys is None else self._keys.get(kid)
        if now >= self._due_at and not self._fetching.is_running:
            self._fetching.start()
        return key

    async def close(self) -> None:
        """Stop fetching."""
        await self._fetching.close()

    async def _look_for_news(self, now: float) -> None:
        """Fetch, unless that was tried a moment ago; whoever asks while somebody fetches waits for the same answer."""
        if not self._fetching.is_running:
            pause_s = SEARCH_EVERY_S if self._keys is not None else FIRST_TRIES_EVERY_S
            if now - self._searched_at < pause_s:
                return
            self._searched_at = now
        await self._fetching.join()

    async def _fetch(self) -> None:
        try:
            async with asyncio.timeout(_FETCH_TIMEOUT_S):
                keys = read_jwks(await self._get())
        except (TimeoutError, httpx.HTTPError, httpx.InvalidURL, JwksError) as error:
            self._due_at = monotonic() + _spread(_RETRY_S)
            log.warning(
                "jwks.unavailable",
                issuer=self._issuer,
                error=str(error) if isinstance(error, JwksError) else type(error).__name__,
                kept_keys=len(self._keys or ()),
            )
            return
        if not keys:
            log.warning("jwks.no_usable_key", issuer=self._issuer)
        self._keys = keys
        self._due_at = monotonic() + _spread(REFRESH_S)

    async def _get(self) -> bytes:
        body = bytearray()
        async with self._http.stream("GET", self._url) as response:
            if response.status_code != httpx.codes.OK:
                raise JwksError(f"status {response.status_code}")
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > _MAX_BYTES:
                    raise JwksError("too large")
        return bytes(body)


@asynccontextmanager
async def open_jwks(issuers: Mapping[str, OutsideIssuer]) -> AsyncIterator[dict[str, Jwks]]:
    """Return where each issuer's keys are found, by the same names. Fetches when asked, and nothing after the end."""
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(_create_client())
        found = {name: Jwks(each.jwks_url, http, issuer=each.issuer) for name, each in issuers.items()}
        for each in found.values():
            stack.push_async_callback(each.close)
        yield found


def _create_client() -> httpx.AsyncClient:
    """Make the client that fetches keys: no redirects, no proxies or credentials of the environment, 5 s."""
    return httpx.AsyncClient(
        timeout=_TIMEOUT_S,
        follow_redirects=False,
        trust_env=False,
        limits=httpx.Limits(max_connections=8, max_keepalive_connections=0),
        headers={"User-Agent": USER_AGENT, "Accept": "application/json"},
    )


def read_jwks(body: bytes) -> dict[str, RSAKey]:
    """Return the keys of a JWK set that can sign RS256, by name; others are passed over, however broken they are.

    Of two with one name the first counts. Raises JwksError when it is no set at all.
    """
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise JwksError("no JSON") from None
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise JwksError("no JWK set")
    keys: dict[str, RSAKey] = {}
    for entry in entries[:_MOST_KEYS]:
        if isinstance(entry, dict) and (key := _read_key(entry)) is not None:
            keys.setdefault(entry["kid"], key)
    return keys


def _read_key(entry: dict[str, Any]) -> RSAKey | None:
    kid, modulus, exponent = entry.get("kid"), entry.get("n"), entry.get("e")
    is_for_us = entry.get("kty") == "RSA" and entry.get("use", "sig") == "sig" and entry.get("alg", "RS256") == "RS256"
    if not is_for_us or not all(isinstance(each, str) and each for each in (kid, modulus, exponent)):
        return None
    if not _SHORTEST_MODULUS <= len(str(modulus)) <= _LONGEST_MODULUS:
        return None
    try:
        key = RSAKey.import_key({"kty": "RSA", "n": str(modulus), "e": str(exponent)})
    except (JoseError, ValueError, TypeError):
        return None
    return key if key.public_key.key_size >= LEAST_BITS else None


def _spread(seconds: float) -> float:
    return seconds * random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311  # when to ask again is no secret
