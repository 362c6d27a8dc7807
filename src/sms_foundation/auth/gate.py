"""The gate every request passes: who calls, may they do this, and not too often. The route runs after it.

What each route asks for stands in one table, `access_rules`. Credentials are an API key (`Authorization: Bearer sf_...`
or `X-API-Key`), or a token (`Authorization: Bearer ey...`), our own or of an outside issuer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Protocol
from urllib.parse import urlsplit
from uuid import UUID

from sms_foundation.auth.address import (
    ANYWHERE,
    Network,
    caller_address,
    is_forwarded,
    is_loopback,
    is_within,
)
from sms_foundation.auth.directory import Directory, Grant
from sms_foundation.auth.keys.format import digest_of, is_well_formed
from sms_foundation.auth.limits.failures import FailureLimit
from sms_foundation.auth.limits.limiter import Limiter
from sms_foundation.auth.metrics import AUTH_FAILURES
from sms_foundation.auth.permissions import Permission, Permissions
from sms_foundation.auth.principal import LOCAL, Principal, set_principal
from sms_foundation.auth.refusals import RateLimitedError, Reason, RefusedError
from sms_foundation.auth.refusing import refuse
from sms_foundation.core.clock import utc_now
from sms_foundation.core.errors import ForbiddenError

Scope = Mapping[str, Any]
_LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})


class Access(StrEnum):
    """What a route can ask for besides a permission."""

    OPEN = "open"  # nothing
    SIGNED = "signed"  # a provider's signature, which the route checks itself
    KNOWN = "known"  # anybody who has credentials
    OPERATIONS = "operations"  # nothing within OPERATIONS_NETWORKS, operations:read from elsewhere


Rule = Permission | Access
Rules = Mapping[tuple[str, str], Rule]
"""What each route asks for, by method and path template."""


class OpenAccess(StrEnum):
    """Who is answered without credentials, as `principal.LOCAL`."""

    NOBODY = "nobody"
    THIS_MACHINE = "this_machine"
    EVERYBODY = "everybody"


@dataclass(frozen=True, slots=True)
class KeyToken:
    """A token of ours that was made with an API key: good for what the key is, within `scopes` (None: all of it)."""

    key_id: UUID
    scopes: Permissions | None = None


@dataclass(frozen=True, slots=True)
class SessionToken:
    """A token of ours for a person who is logged in."""

    session_id: UUID


@dataclass(frozen=True, slots=True)
class OutsideToken:
    """A token of an issuer that OUTSIDE_ISSUERS names; `subject` is the value of its subject claim."""

    issuer: str
    subject: str


VerifiedToken = KeyToken | SessionToken | OutsideToken


class TokenVerifier(Protocol):
    """Reads tokens: ours and those of outside issuers."""

    async def verify(self, token: str) -> VerifiedToken:
        """Return whom a JWT stands for, after checking everything about it that can be checked without the database.

        Raises RefusedError.
        """
        ...


class Gate:
    """Lets requests through, or raises what they are answered with: 401, 403 or 429."""

    def __init__(
        self,
        rules: Rules,
        directory: Directory,
        tokens: TokenVerifier,
        limiter: Limiter,
        failures: FailureLimit,
        *,
        operations_networks: tuple[Network, ...],
        forwarded_hops: int,
        open_access: OpenAccess,
        own_hosts: frozenset[str] = frozenset(),
    ) -> None:
        self._rules = rules
        self._directory = directory
        self._tokens = tokens
        self._limiter = limiter
        self._failures = failures
        self._operations_networks = operations_networks
        self._forwarded_hops = forwarded_hops
        self._open_access = open_access
        self._own_hosts = own_hosts | _LOCAL_HOSTS

    async def check(self, scope: Scope, path: str) -> None:
        """Let a request for the route with the template `path` pass, noting in `scope["state"]` who makes it.

        Raises UnauthorizedError, ForbiddenError, RateLimitedError; KeyError for a route no rule is declared for.
        """
        rule = self._rules[scope["method"], path]
        if rule is Access.SIGNED:
            return
        state = scope["state"]
        address = state["address"] = caller_address(scope, self._forwarded_hops)
        # Behind a proxy that FORWARDED_HOPS does not count anybody may be: that is within no network.
        place = state["place"] = "" if is_forwarded(scope) and not self._forwarded_hops else address
        if rule is Access.OPEN or (rule is Access.OPERATIONS and self._is_inside(place)):
            return
        try:
            principal = await self._identify(scope, address, place)
        except RefusedError as error:
            await refuse(self._failures, error.reason, address)
        set_principal(state, principal)
        permission = Permission.OPERATIONS_READ if rule is Access.OPERATIONS else rule
        if isinstance(permission, Permission) and permission not in principal.permissions:
            AUTH_FAILURES.labels(Reason.NOT_PERMITTED).inc()
            raise ForbiddenError("this is not allowed with these credentials")
        try:
            state["headers"] = await self._limiter.admit(principal)
        except RateLimitedError as error:
            state["headers"] = error.headers
            raise

    def _is_inside(self, place: str) -> bool:
        """Tell whether a call comes from where operations need no credentials."""
        return self._operations_networks == ANYWHERE or is_within(place, self._operations_networks)

    async def _identify(self, scope: Scope, address: str, place: str) -> Principal:
        """Return who calls, from `place`, and counted by `address`. Raises RefusedError."""
        credential = _credential(scope)
        if credential is None:
            if self._is_open_to(scope, place):
                return LOCAL
            raise RefusedError(Reason.MISSING)
        if credential.startswith("sf_"):
            digest = digest_of(credential)
            if not self._directory.is_known(digest):
                self._failures.check(address)  # a flood of guesses is not handed on to the database
                if not is_well_formed(credential):
                    raise RefusedError(Reason.CHECKSUM)
            return usable(await self._directory.by_digest(digest), place)
        if credential.count(".") != 2:
            raise RefusedError(Reason.MALFORMED)
        return await self._identify_token(credential, place)

    async def _identify_token(self, token: str, place: str) -> Principal:
        match await self._tokens.verify(token):
            case KeyToken(key_id, scopes):
                principal = usable(await self._directory.by_key_id(key_id), place)
                if scopes is not None:
                    principal = replace(principal, permissions=principal.permissions & scopes)
                return principal
            case SessionToken(session_id):
                return usable(await self._directory.by_session(session_id), place)
            case OutsideToken(issuer, subject):
                return usable(await self._directory.by_identity(issuer, subject), place)

    def _is_open_to(self, scope: Scope, place: str) -> bool:
        match self._open_access:
            case OpenAccess.NOBODY:
                return False
            case OpenAccess.EVERYBODY:
                return True
            case OpenAccess.THIS_MACHINE:
                return is_loopback(place) and self._is_no_strange_page(scope)

    def _is_no_strange_page(self, scope: Scope) -> bool:
        """Tell whether no web page of somebody else's asks, which a browser on this machine would do for it.

        It says whose page it is in Origin. A page whose name was made to point to this machine shows in Host.
        """
        headers: Sequence[tuple[bytes, bytes]] = scope["headers"]
        return all(_host_of(value) in self._own_hosts for name, value in headers if name in (b"origin", b"host"))


def _host_of(value: bytes) -> str:
    """Return the host in `http://localhost:8000` or `localhost:8000`; "" where there is none."""
    text = value.decode("latin-1").rpartition("://")[2]
    try:
        return urlsplit(f"//{text}").hostname or ""
    except ValueError:
        return ""


def _credential(scope: Scope) -> str | None:
    """Return the key or token of a request, None without any. Raises RefusedError for another scheme."""
    key: bytes | None = None
    headers: Sequence[tuple[bytes, bytes]] = scope["headers"]
    for name, value in headers:
        if name == b"authorization":
            scheme, _, token = value.partition(b" ")
            if scheme.lower() != b"bearer" or not token.strip():
                raise RefusedError(Reason.MALFORMED)
            return token.strip().decode("latin-1")
        if name == b"x-api-key":
            key = value
    return None if key is None else key.strip().decode("latin-1")


def usable(grant: Grant, place: str) -> Principal:
    """Return for whom a grant is, unless it is over or not for where its caller is. Raises RefusedError."""
    if grant.expires_at is not None and grant.expires_at <= utc_now():
        raise RefusedError(Reason.EXPIRED_KEY)
    if grant.networks and not is_within(place, grant.networks):
        raise RefusedError(Reason.WRONG_NETWORK)
    return grant.principal
