"""Requests that change something happen once, however often they are repeated with the same Idempotency-Key.

The answer is kept in the transaction that made the change, so there is never one without the other: a crash, an error
or a failed commit leaves nothing behind and the request can be repeated; after the commit a repetition gets the same
answer. Kept answers may hold secrets, such as a new API key. They are sealed under a key that only the request itself
yields, and the database holds nothing of the request but digests: docs/adr/0009.
"""

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from os import urandom

import asyncpg
import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from fastapi import Request
from fastapi.responses import Response
from pydantic import BaseModel, Field

from sms_foundation.core.db import Connection, Database, is_broken_connection, retry_races
from sms_foundation.core.errors import IdempotencyError, RequestRunningError, UnavailableError
from sms_foundation.core.web.bodies import read_body, read_headers
from sms_foundation.core.web.idempotency_key import IdempotencyKey
from sms_foundation.core.web.metrics import IDEMPOTENT_REQUESTS

Change = Callable[[Connection], Awaitable[Response]]
"""Changes something within the transaction of the connection, and returns the answer."""

# Of a body that no route has a use for: all others were read before, each with a limit of its own.
_MAX_BODY_BYTES = 64 * 1024
_NONCE_BYTES = 12  # Source: NIST SP 800-38D, 8.2.2: random nonces of 96 bits
_REPLAYED = (b"x-idempotent-replayed", b"true")

# A lock nobody waits for; gone with the transaction, so it works behind a transaction pooler too.
_LOCK = "SELECT pg_try_advisory_xact_lock($1)"
# A statement of its own: it has to see what the last holder of the lock committed.
_FIND = "SELECT request_digest, answer FROM idempotency_keys WHERE digest = $1 AND expires_at > now()"
_KEEP = """
INSERT INTO idempotency_keys AS k (digest, request_digest, status, answer, expires_at)
VALUES ($1, $2, $3, $4, now() + $5)
ON CONFLICT (digest) DO UPDATE
SET request_digest = excluded.request_digest, status = excluded.status, answer = excluded.answer,
    created_at = now(), expires_at = excluded.expires_at
"""


class IdempotencyHeaders(BaseModel):
    """What headers say about repetitions of a request."""

    idempotency_key: IdempotencyKey | None = Field(None, alias="Idempotency-Key")


@dataclass(frozen=True, slots=True)
class _Named:
    """A request with an Idempotency-Key: `digest` of who asks and their key, `request_digest` of what they ask."""

    digest: bytes
    request_digest: bytes
    sealing_key: bytes = field(repr=False)

    @property
    def lock(self) -> int:
        return int.from_bytes(self.digest[:8], signed=True)


class Once:
    """Runs changes that HTTP requests ask for, each in one transaction."""

    def __init__(self, database: Database, *, keep_hours: int) -> None:
        self._database = database
        self._keep = timedelta(hours=keep_hours)

    @staticmethod
    def is_named(request: Request) -> bool:
        """Tell whether a request has an Idempotency-Key: one that changes nothing need not be run otherwise."""
        return "idempotency-key" in request.headers

    async def run(self, request: Request, change: Change) -> Response:
        """Return what `change` answers, after its commit; or what it answered when it was asked for before.

        `change` may be called again after a lost race, and must have no effect outside its connection. What it raises
        undoes it; an answer above 399 is committed but not kept. Raises RequestValidationError for a key that is none,
        IdempotencyError when the key stands for another request, RequestRunningError while its twin is running, an
        outage (`core.db.is_outage`), and UnavailableError when nobody knows whether the commit took place.
        """
        named = await _named(request)
        if named is None:
            return await retry_races(lambda: self._run_unnamed(change))
        return await retry_races(lambda: self._run_named(request, named, change))

    async def find_kept(self, request: Request) -> Response | None:
        """Return the answer to a repetition of a request that is over; None when `run` is to find out.

        For a route that counts something before `run`: what is repeated must not count again. Raises IdempotencyError
        for a key that stands for another request, and an outage (`core.db.is_outage`).
        """
        named = await _named(request)
        if named is None:
            return None

        async def find() -> asyncpg.Record | None:
            async with self._database.connection() as connection:
                return await connection.fetchrow(_FIND, named.digest)

        kept = await retry_races(find)
        if kept is None:
            return None
        response = _replay(request, named, kept)
        IDEMPOTENT_REQUESTS.labels("replayed").inc()
        return response

    async def _run_unnamed(self, change: Change) -> Response:
        is_committing = False
        try:
            async with self._database.transaction() as connection:
                response = await change(connection)
                is_committing = True
        except Exception as error:
            # Repeating what may have been done would do it twice; only a key makes that safe.
            if is_committing and is_broken_connection(error):
                raise UnavailableError(
                    "whether it was done is not known; look, and next time send an Idempotency-Key"
                ) from error
            raise
        return response

    async def _run_named(self, request: Request, named: _Named, change: Change) -> Response:
        async with self._database.transaction() as connection:
            if not await connection.fetchval(_LOCK, named.lock):
                IDEMPOTENT_REQUESTS.labels("running").inc()
                raise RequestRunningError("a request with this Idempotency-Key is still running", retry_after_s=1)
            kept = await connection.fetchrow(_FIND, named.digest)
            if kept is not None:
                response = _replay(request, named, kept)
            else:
                response = await change(connection)
                if response.status_code < 400:
                    await connection.execute(
                        _KEEP,
                        named.digest,
                        named.request_digest,
                        response.status_code,
                        _seal(named, response),
                        self._keep,
                    )
        IDEMPOTENT_REQUESTS.labels("fresh" if kept is None else "replayed").inc()
        return response


async def _named(request: Request) -> _Named | None:
    key = read_headers(IdempotencyHeaders, request).idempotency_key
    return None if key is None else _name(request, key, await _body_of(request))


async def _body_of(request: Request) -> bytes:
    """Return the body, whether the route has read it already or has no use for one."""
    body: bytes | None = request.scope["state"].get("body")
    return await read_body(request, limit_bytes=_MAX_BODY_BYTES) if body is None else body


def _name(request: Request, key: str, body: bytes) -> _Named:
    scope = request.scope
    asker = scope["state"].get("asker") or ["open", scope["route"].path, scope["state"].get("address")]
    target = scope.get("raw_path") or scope["path"].encode()
    may = scope["state"].get("asker_may")
    asked = [asker, may, key, scope["method"], target.decode("latin-1"), scope["query_string"].decode("latin-1")]
    # Of all this only what is derived is stored, one way: who reads the table cannot even try passwords against it,
    # as long as the key is not to be guessed.
    secret = hashlib.sha256(orjson.dumps(asked))
    secret.update(body)
    return _Named(
        digest=hashlib.sha256(orjson.dumps([asker, key])).digest(),
        request_digest=_derive(secret.digest(), b"request"),
        sealing_key=_derive(secret.digest(), b"answer"),
    )


def _derive(secret: bytes, purpose: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=b"sms-foundation idempotency " + purpose).derive(secret)


def _seal(named: _Named, response: Response) -> bytes:
    headers = [[name.decode("latin-1"), value.decode("latin-1")] for name, value in response.raw_headers]
    answer = orjson.dumps([response.status_code, headers]) + b"\n" + bytes(response.body)
    nonce = urandom(_NONCE_BYTES)
    return nonce + AESGCM(named.sealing_key).encrypt(nonce, answer, named.digest)


def _replay(request: Request, named: _Named, kept: asyncpg.Record) -> Response:
    """Return the kept answer. Raises IdempotencyError unless it was given to the same request."""
    answer = kept["answer"]
    try:
        if kept["request_digest"] != named.request_digest:
            raise InvalidTag
        opened = AESGCM(named.sealing_key).decrypt(answer[:_NONCE_BYTES], answer[_NONCE_BYTES:], named.digest)
    except InvalidTag:
        IDEMPOTENT_REQUESTS.labels("conflict").inc()
        raise IdempotencyError("the Idempotency-Key was used for another request; take a new one") from None
    request.scope["state"]["log"]["is_replay"] = True
    head, _, body = opened.partition(b"\n")
    status, headers = orjson.loads(head)
    response = Response(body, status_code=status)
    response.raw_headers = [*((name.encode("latin-1"), value.encode("latin-1")) for name, value in headers), _REPLAYED]
    return response
