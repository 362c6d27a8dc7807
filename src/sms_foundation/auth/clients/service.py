"""Making, showing and changing clients. Every change needs a transaction, which gets its audit row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import asyncpg

from sms_foundation.auth.audit.log import Action, record
from sms_foundation.auth.clients import repository
from sms_foundation.auth.clients.schemas import ClientBody, IdentityBody
from sms_foundation.auth.permissions import Permissions
from sms_foundation.auth.principal import ClientKind
from sms_foundation.auth.roles.granting import Grantor
from sms_foundation.auth.roles.service import check_roles, keep_a_manager, permissions_of
from sms_foundation.auth.tokens.issuers import canonical_issuer
from sms_foundation.core.clock import utc_now
from sms_foundation.core.db import Connection
from sms_foundation.core.errors import ConflictError, NotFoundError

is_any_client_there = repository.is_any_client_there


@dataclass(frozen=True, slots=True)
class Client:
    """A service or a person's account, without its password."""

    id: str
    kind: ClientKind
    display_name: str | None
    email: str | None
    roles: tuple[str, ...]
    request_limit: str | None
    created_at: datetime
    updated_at: datetime
    disabled_at: datetime | None


@dataclass(frozen=True, slots=True)
class Identity:
    """A token's issuer and subject that stand for a client."""

    issuer: str
    subject: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class ClientDetails:
    """A client, what its roles allow together, and its outside identities, oldest first."""

    client: Client
    permissions: Permissions
    identities: tuple[Identity, ...]


async def list_clients(connection: Connection, *, after: str = "", limit: int) -> list[Client]:
    """Return at most `limit` clients by id, those after the id `after`."""
    return [_client(row) for row in await repository.list_clients(connection, after=after, limit=limit)]


async def get_client(connection: Connection, client_id: str) -> Client:
    """Return a client. Raises NotFoundError."""
    return _existing(await repository.find_client(connection, client_id))


async def describe_client(connection: Connection, client_id: str) -> ClientDetails:
    """Return a client with all that is known about it. Raises NotFoundError."""
    client = await get_client(connection, client_id)
    identities = await repository.list_identities(connection, client_id)
    return ClientDetails(
        client, await permissions_of(connection, client.roles), tuple(Identity(**dict(row)) for row in identities)
    )


async def create_client(connection: Connection, grantor: Grantor, asked: ClientBody) -> Client:
    """Make a service, which can do nothing before it has a key or an identity.

    Raises ValidationError for roles there are not, ForbiddenError for roles that allow more than the grantor is
    allowed, ConflictError when the id is taken.
    """
    roles = _in_order(asked.roles)
    await check_roles(connection, roles)
    grantor.check(await permissions_of(connection, roles))
    row = await repository.insert_service(
        connection, asked.id, display_name=asked.display_name, roles=roles, request_limit=asked.request_limit
    )
    if row is None:
        raise ConflictError("there is a client with this id")
    await _record(
        connection, grantor, Action.CLIENT_CREATE, asked.id, {"roles": roles, "request_limit": asked.request_limit}
    )
    return _client(row)


async def disable_client(connection: Connection, grantor: Grantor, client_id: str) -> Client:
    """Accept nothing of a client any more, on every instance within 5 s, and end its log-ins.

    Repeating it changes nothing. Raises NotFoundError, ForbiddenError when it is allowed more than the grantor,
    ConflictError for the last who may manage clients.
    """
    async with keep_a_manager(connection):
        client = await _lock(connection, client_id)
        if client.disabled_at is not None:
            return client
        grantor.check_over(await permissions_of(connection, client.roles))
        now = utc_now()
        changed = await _update(connection, client, roles=client.roles, limit=client.request_limit, disabled_at=now)
        ended = await repository.end_sessions(connection, client_id, now)
        await _record(connection, grantor, Action.CLIENT_DISABLE, client_id, {"sessions_ended": ended})
    return changed


async def enable_client(connection: Connection, grantor: Grantor, client_id: str) -> Client:
    """Accept a disabled client's keys and identities again; its log-ins stay ended. Repeating it changes nothing.

    Raises NotFoundError, ForbiddenError when it is allowed more than the grantor.
    """
    client = await _lock(connection, client_id)
    if client.disabled_at is None:
        return client
    grantor.check(await permissions_of(connection, client.roles))
    changed = await _update(connection, client, roles=client.roles, limit=client.request_limit, disabled_at=None)
    await _record(connection, grantor, Action.CLIENT_ENABLE, client_id)
    return changed


async def set_roles(connection: Connection, grantor: Grantor, client_id: str, roles: Sequence[str]) -> Client:
    """Give a client these roles instead of those it has. Repeating it changes nothing.

    Raises NotFoundError, ValidationError for roles there are not, ForbiddenError when they allow, or it was allowed,
    what the grantor is not, ConflictError for the last who may manage clients.
    """
    wanted = _in_order(roles)
    async with keep_a_manager(connection):
        client = await _lock(connection, client_id)
        if client.roles == wanted:
            return client
        await check_roles(connection, wanted)
        before, after = await permissions_of(connection, client.roles), await permissions_of(connection, wanted)
        grantor.check_over(before)
        grantor.check(after)
        changed = await _update(
            connection, client, roles=wanted, limit=client.request_limit, disabled_at=client.disabled_at
        )
        details = {"before": client.roles, "after": wanted}
        await _record(connection, grantor, Action.CLIENT_ROLES, client_id, details)
    return changed


async def set_limit(connection: Connection, grantor: Grantor, client_id: str, limit: str | None) -> Client:
    """Limit a client's requests (`100/1s`, `off`; None: as CLIENT_LIMIT says).

    Raises NotFoundError, ForbiddenError when it is allowed more than the grantor.
    """
    client = await _lock(connection, client_id)
    if client.request_limit == limit:
        return client
    grantor.check_over(await permissions_of(connection, client.roles))
    changed = await _update(connection, client, roles=client.roles, limit=limit, disabled_at=client.disabled_at)
    details = {"before": client.request_limit, "after": limit}
    await _record(connection, grantor, Action.CLIENT_LIMIT, client_id, details)
    return changed


async def link_identity(connection: Connection, grantor: Grantor, client_id: str, identity: IdentityBody) -> None:
    """Take tokens of an outside issuer for a subject as a client's. Repeating it changes nothing.

    Raises NotFoundError, ForbiddenError when the client is allowed more than the grantor, ConflictError when the
    identity is another client's.
    """
    client = await _lock(connection, client_id)
    grantor.check(await permissions_of(connection, client.roles))
    owner = await repository.link_identity(connection, client_id, canonical_issuer(identity.issuer), identity.subject)
    if owner is None:
        await _record(connection, grantor, Action.IDENTITY_LINK, client_id, identity.model_dump())
    elif owner != client_id:
        raise ConflictError(f"this identity is linked to {owner}")


async def unlink_identity(connection: Connection, grantor: Grantor, client_id: str, identity: IdentityBody) -> None:
    """Take an outside issuer's tokens for a subject as this client's no more.

    Raises NotFoundError, ForbiddenError when the client is allowed more than the grantor.
    """
    client = await _lock(connection, client_id)
    grantor.check_over(await permissions_of(connection, client.roles))
    issuer = canonical_issuer(identity.issuer)
    if not await repository.unlink_identity(connection, client_id, issuer, identity.subject):
        raise NotFoundError("the client has no such identity")
    await _record(connection, grantor, Action.IDENTITY_UNLINK, client_id, identity.model_dump())


def _in_order(roles: Sequence[str]) -> tuple[str, ...]:
    return tuple(sorted({*roles}))


async def _lock(connection: Connection, client_id: str) -> Client:
    return _existing(await repository.find_client(connection, client_id, locks=True))


def _existing(row: asyncpg.Record | None) -> Client:
    if row is None:
        raise NotFoundError("no client with this id")
    return _client(row)


async def _update(
    connection: Connection,
    client: Client,
    *,
    roles: Sequence[str],
    limit: str | None,
    disabled_at: datetime | None,
) -> Client:
    return _client(
        await repository.update_client(connection, client.id, roles=roles, request_limit=limit, disabled_at=disabled_at)
    )


async def _record(
    connection: Connection,
    grantor: Grantor,
    action: Action,
    client_id: str,
    details: Mapping[str, object] | None = None,
) -> None:
    await record(connection, grantor.actor, action, target_kind="client", target=client_id, details=details)


def _client(row: asyncpg.Record) -> Client:
    values = dict(row)
    return Client(**{**values, "kind": ClientKind(values["kind"]), "roles": tuple(values["roles"])})
