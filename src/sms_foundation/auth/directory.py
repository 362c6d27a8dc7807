"""What is known about credentials, kept in memory for seconds: the database says who calls, but not for every request.

An answer is used for `FRESH_S`, then asked for again beside the requests that still use it, and never used longer than
`STALE_S` after it was asked for. So whatever is revoked, disabled or taken away anywhere stops to work on every
instance within `STALE_S`, without a message from one to another that could be lost.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
import orjson

from sms_foundation.auth.address import Network, parse_networks
from sms_foundation.auth.metrics import AUTH_LOOKUPS
from sms_foundation.auth.permissions import BEYOND_TEST, Permissions, granted_by, known_permissions
from sms_foundation.auth.principal import ClientKind, Principal
from sms_foundation.auth.refusals import Reason, RefusedError
from sms_foundation.core.clock import monotonic, utc_now
from sms_foundation.core.db import Database

FRESH_S = 2.0
STALE_S = 4.0
_MOST_KEPT = 10_000

# Roles of one's own come with the client: the built-in ones are in the code.
_CLIENT = """c.id AS client_id, c.kind, c.roles, c.request_limit, c.disabled_at,
    (SELECT coalesce(jsonb_object_agg(r.name, r.permissions), '{}') FROM auth_roles AS r WHERE r.name = ANY(c.roles))
        AS own_roles"""
_KEY = f"""
SELECT k.id AS key_id, k.prefix, k.is_test, k.scopes, k.networks, k.expires_at, k.revoked_at AS ended_at,
    k.last_used_at, {_CLIENT}
FROM auth_api_keys AS k JOIN auth_clients AS c ON c.id = k.client_id"""  # noqa: S608  # put together from constants
_BY_DIGEST = _KEY + " WHERE k.digest = $1"
_BY_KEY_ID = _KEY + " WHERE k.id = $1"
_BY_SESSION = f"""
SELECT {_CLIENT}, s.id AS session_id, s.ended_at FROM auth_sessions AS s JOIN auth_clients AS c ON c.id = s.client_id
WHERE s.id = $1
"""  # noqa: S608
_BY_IDENTITY = f"""
SELECT {_CLIENT}, NULL AS ended_at, i.issuer
FROM auth_identities AS i JOIN auth_clients AS c ON c.id = i.client_id WHERE i.issuer = $1 AND i.subject = $2
"""  # noqa: S608
_NOTE_USE = """
UPDATE auth_api_keys SET last_used_at = now()
WHERE id = $1 AND (last_used_at IS NULL OR last_used_at < now() - interval '1 minute')
"""
_NOTE_USE_EVERY_S = 60.0


@dataclass(frozen=True, slots=True)
class Grant:
    """Credentials that are accepted: for whom, until when (None: no end), and from which networks (none: from any).

    `key_id` is that of the API key behind them, if it is one.
    """

    principal: Principal
    expires_at: datetime | None = None
    networks: tuple[Network, ...] = ()
    key_id: UUID | None = None


@dataclass(slots=True)
class _Entry:
    """An answer, when it was asked for (monotonic), and the question that is under way since `refreshed_at`."""

    answer: Grant | Reason
    asked_at: float = float("-inf")
    refresh: "asyncio.Task[Grant | Reason] | None" = None
    refreshed_at: float = float("-inf")


# What is asked about: the digest of a key, (issuer, subject), or the id of a key or session.
@dataclass(frozen=True, slots=True)
class _Session:
    id: UUID


_Question = bytes | UUID | _Session | tuple[str, str]


class Directory:
    """Looks credentials up. Every method raises RefusedError for those not accepted, and an outage when it has to ask
    a database that cannot be reached."""

    def __init__(self, database: Database, *, monotonic: Callable[[], float] = monotonic) -> None:
        self._database = database
        self._monotonic = monotonic
        self._entries: OrderedDict[_Question, _Entry] = OrderedDict()
        self._asking: set[asyncio.Task[Any]] = set()

    async def by_digest(self, digest: bytes) -> Grant:
        """Return what the API key with this SHA-256 grants."""
        return await self._find(digest)

    async def by_key_id(self, key_id: UUID) -> Grant:
        """Return what a token made with an API key grants: what the key does, no longer than the key."""
        return await self._find(key_id)

    async def by_session(self, session_id: UUID) -> Grant:
        """Return what a person's log-in grants until it ends."""
        return await self._find(_Session(session_id))

    async def by_identity(self, issuer: str, subject: str) -> Grant:
        """Return what an outside issuer's token grants the client that is linked to its subject."""
        return await self._find((issuer, subject))

    def is_known(self, digest: bytes) -> bool:
        """Tell, without asking anybody, whether a key was accepted here before; it may have been revoked since."""
        entry = self._entries.get(digest)
        return entry is not None and isinstance(entry.answer, Grant)

    def forget(self) -> None:
        """Ask anew about everybody: something was changed by this process, which need not wait for itself."""
        self._entries.clear()

    def forget_session(self, session_id: UUID) -> None:
        """Ask anew about one log-in, which this process has ended."""
        self._entries.pop(_Session(session_id), None)

    async def close(self) -> None:
        """Stop asking; a use that was not noted is noted with the next."""
        asking = list(self._asking)
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)

    async def _find(self, question: _Question) -> Grant:
        entry = self._entries.get(question)
        now = self._monotonic()
        if entry is None or now - entry.asked_at >= FRESH_S:
            answer = await self._ask_again(question, entry, now)
        else:
            answer = entry.answer
        if isinstance(answer, Grant):
            return answer
        raise RefusedError(answer)

    async def _ask_again(self, question: _Question, entry: _Entry | None, now: float) -> Grant | Reason:
        """Return the answer known, while another is fetched; wait for that where the one known is too old."""
        if entry is None:
            # Entered before it is answered, so that requests that come at once ask once.
            entry = self._entries[question] = _Entry(Reason.UNKNOWN_KEY)
            while len(self._entries) > _MOST_KEPT:
                self._entries.popitem(last=False)
        if entry.refresh is None or now - entry.refreshed_at >= STALE_S:  # what hangs would bring an old answer
            entry.refresh = asyncio.create_task(self._refresh(question, entry, now))
            entry.refreshed_at = now
            self._watch(entry.refresh)
        if now - entry.asked_at < STALE_S:
            return entry.answer
        return await asyncio.shield(entry.refresh)

    async def _refresh(self, question: _Question, entry: _Entry, asked_at: float) -> Grant | Reason:
        try:
            answer = await self._fetch(question)
        except BaseException:
            if entry.asked_at == float("-inf"):
                self._drop(question, entry)  # nothing is known: an outage must not fill the memory with guesses
            raise
        finally:
            if entry.refreshed_at == asked_at:
                entry.refresh = None
        if asked_at < entry.asked_at:
            return answer  # overtaken by a later question
        if isinstance(answer, Grant):
            entry.answer, entry.asked_at = answer, asked_at
        else:
            # What is refused is not kept: it may be accepted the next moment, and guesses would fill the memory.
            self._drop(question, entry)
        return answer

    def _drop(self, question: _Question, entry: _Entry) -> None:
        if self._entries.get(question) is entry:
            del self._entries[question]

    async def _fetch(self, question: _Question) -> Grant | Reason:
        statement, arguments, kind = _statement(question)
        AUTH_LOOKUPS.labels(kind).inc()
        async with self._database.connection() as connection:
            row = await connection.fetchrow(statement, *arguments)
            if row is None:
                return {"session": Reason.SESSION_ENDED, "identity": Reason.UNKNOWN_SUBJECT}.get(
                    kind, Reason.UNKNOWN_KEY
                )
        answer = _answer(row, kind)
        if isinstance(answer, Grant) and kind == "key" and _is_use_news(row["last_used_at"]):
            # Beside the answer: whoever rotates the key at this moment holds its row.
            self._watch(asyncio.create_task(self._note_use(row["key_id"])))
        return answer

    async def _note_use(self, key_id: UUID) -> None:
        async with self._database.connection() as connection:
            await connection.execute(_NOTE_USE, key_id)

    def _watch(self, task: asyncio.Task[Any]) -> None:
        self._asking.add(task)
        task.add_done_callback(self._look_at)

    def _look_at(self, task: asyncio.Task[Any]) -> None:
        """Whoever waits for it gets the error; where nobody does, the next request asks again."""
        self._asking.discard(task)
        if not task.cancelled():
            task.exception()


def _statement(question: _Question) -> tuple[str, Sequence[object], str]:
    match question:
        case bytes():
            return _BY_DIGEST, [question], "key"
        case _Session(id):
            return _BY_SESSION, [id], "session"
        case (issuer, subject):
            return _BY_IDENTITY, [issuer, subject], "identity"
        case _:
            return _BY_KEY_ID, [question], "key"


def _answer(row: asyncpg.Record, kind: str) -> Grant | Reason:
    if row["disabled_at"] is not None:
        return Reason.CLIENT_DISABLED
    if row["ended_at"] is not None and row["ended_at"] <= utc_now():
        return Reason.REVOKED_KEY if kind == "key" else Reason.SESSION_ENDED
    permissions = granted_by(row["roles"], _own_roles(row["own_roles"]))
    credential = {"key": "key {prefix}", "session": "session {session_id}", "identity": "token of {issuer}"}[kind]
    principal = Principal(
        client_id=row["client_id"],
        kind=ClientKind(row["kind"]),
        permissions=permissions,
        credential=credential.format_map(row),
        limit=row["request_limit"],
        session_id=row["session_id"] if kind == "session" else None,
    )
    return _confined_to_key(principal, row) if kind == "key" else Grant(principal)


def _confined_to_key(principal: Principal, row: asyncpg.Record) -> Grant:
    permissions = principal.permissions
    if row["scopes"] is not None:
        permissions &= known_permissions(row["scopes"])
    if row["is_test"]:
        permissions -= BEYOND_TEST
    ends = [at for at in (row["expires_at"], row["ended_at"]) if at is not None]
    return Grant(
        replace(principal, permissions=permissions, is_test=row["is_test"]),
        expires_at=min(ends, default=None),
        networks=parse_networks(row["networks"]),
        key_id=row["key_id"],
    )


def _own_roles(json: str) -> dict[str, Permissions]:
    return {name: known_permissions(names) for name, names in orjson.loads(json).items()}


def _is_use_news(last_used_at: datetime | None) -> bool:
    return last_used_at is None or (utc_now() - last_used_at).total_seconds() >= _NOTE_USE_EVERY_S
