"""Invitations: the only way to an account, and the only way to another password for who has lost theirs.

Whoever has an invitation can take the account of its address over, so it gives what its maker could give, when it was
made and when it is accepted, and no more:
who accepts it has exactly its roles afterwards, also where there was an account with others before.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

import asyncpg

from sms_foundation.auth.audit.log import Action, record
from sms_foundation.auth.people.accounts import find_account, find_by_email
from sms_foundation.auth.people.secret_texts import SecretKind, generate_secret
from sms_foundation.auth.permissions import ALL, NONE, Permission, Permissions
from sms_foundation.auth.principal import COMMAND_LINE, LOCAL
from sms_foundation.auth.refusals import Reason, RefusedError
from sms_foundation.auth.roles.granting import Grantor
from sms_foundation.auth.roles.service import check_roles, permissions_of
from sms_foundation.core.clock import utc_now
from sms_foundation.core.db import Connection
from sms_foundation.core.errors import ConflictError, NotFoundError, ValidationError
from sms_foundation.core.ids import new_id

_COLUMNS = "id, email, roles, created_by, created_at, expires_at, used_at, revoked_at"
_ADD = """
INSERT INTO auth_invitations (id, digest, email, roles, created_by, created_at, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7)
"""
_LIST = f"""
SELECT {_COLUMNS} FROM auth_invitations WHERE id < coalesce($1, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid)
ORDER BY id DESC LIMIT $2
"""  # noqa: S608  # put together from constants
_LOCK = f"SELECT {_COLUMNS} FROM auth_invitations WHERE id = $1 FOR UPDATE"  # noqa: S608
_FIND_BY_DIGEST = f"SELECT {_COLUMNS} FROM auth_invitations WHERE digest = $1"  # noqa: S608
_LOCK_BY_DIGEST = _FIND_BY_DIGEST + " FOR UPDATE"
_REVOKE = "UPDATE auth_invitations SET revoked_at = $2 WHERE id = $1"
_USE = "UPDATE auth_invitations SET used_at = $2 WHERE id = $1"
# Makers of invitations that are no clients: whoever they were, they could do everything.
_NO_CLIENTS = frozenset({COMMAND_LINE.client_id, LOCAL.client_id})


class InvitationState(StrEnum):
    """What can become of an invitation."""

    OPEN = "open"
    USED = "used"
    REVOKED = "revoked"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Invitation:
    """An invitation without its secret."""

    id: UUID
    email: str
    roles: tuple[str, ...]
    created_by: str
    created_at: datetime
    expires_at: datetime
    used_at: datetime | None = None
    revoked_at: datetime | None = None

    def state(self, now: datetime) -> InvitationState:
        """Return what has become of it by `now`."""
        if self.used_at is not None:
            return InvitationState.USED
        if self.revoked_at is not None:
            return InvitationState.REVOKED
        return InvitationState.OPEN if now < self.expires_at else InvitationState.EXPIRED


@dataclass(frozen=True, slots=True)
class NewInvitation:
    """An invitation just made; `text` is for the invited person, once. `is_reset`: they have an account already."""

    invitation: Invitation
    text: str = field(repr=False)
    is_reset: bool


async def create_invitation(
    connection: Connection, grantor: Grantor, *, email: str, roles: Sequence[str] | None, lifetime: timedelta
) -> NewInvitation:
    """Invite somebody, or let somebody who has an account choose a new password. Needs a transaction.

    `email` is canonical. `roles` is what they will have; None: those they have now. Raises ValidationError for roles
    there are not, ForbiddenError when they, or the account, may more than the grantor, ConflictError for a disabled
    account.
    """
    account = await find_by_email(connection, email)
    if account is not None and account.is_disabled:
        raise ConflictError("the account with this address is disabled; enable it first")
    if roles is None:
        if account is None:
            raise ValidationError.of_field("roles", "name at least one: there is no account with this address yet")
        roles = account.roles
    roles = list(dict.fromkeys(roles))
    await check_roles(connection, roles)
    grantor.check(await permissions_of(connection, [*roles, *(account.roles if account is not None else ())]))
    now = utc_now()
    invitation = Invitation(new_id(), email, tuple(roles), grantor.actor.client_id, now, now + lifetime)
    secret = generate_secret(SecretKind.INVITATION)
    await connection.execute(
        _ADD, invitation.id, secret.digest, email, roles, invitation.created_by, now, invitation.expires_at
    )
    details = {"roles": roles, "client": None if account is None else account.id}
    await _record(connection, grantor, Action.INVITATION_CREATE, invitation.id, details)
    return NewInvitation(invitation, secret.text, is_reset=account is not None)


async def list_invitations(connection: Connection, *, before: UUID | None, limit: int) -> list[Invitation]:
    """Return invitations, newest first, those made before `before`."""
    return [_invitation(row) for row in await connection.fetch(_LIST, before, limit)]


async def revoke_invitation(connection: Connection, grantor: Grantor, invitation_id: UUID) -> None:
    """Make an invitation useless. Needs a transaction; repeating it changes nothing.

    Raises NotFoundError, or ConflictError for one that was used.
    """
    row = await connection.fetchrow(_LOCK, invitation_id)
    if row is None:
        raise NotFoundError("no invitation with this id")
    if row["used_at"] is not None:
        raise ConflictError("the invitation was used; disable the account instead")
    if row["revoked_at"] is None:
        await connection.execute(_REVOKE, invitation_id, utc_now())
        await _record(connection, grantor, Action.INVITATION_REVOKE, invitation_id, {})


async def find_invitation(connection: Connection, digest: bytes) -> Invitation | None:
    """Return an invitation by its secret, whatever became of it."""
    row = await connection.fetchrow(_FIND_BY_DIGEST, digest)
    return None if row is None else _invitation(row)


async def use_invitation(connection: Connection, digest: bytes) -> Invitation:
    """Use an invitation up. Needs a transaction, which no role changes in (`roles.service.keep_a_manager`).

    Raises RefusedError, also where its maker could not make it now: it would give back what was taken from them.
    """
    row = await connection.fetchrow(_LOCK_BY_DIGEST, digest)
    if row is None:
        raise RefusedError(Reason.UNKNOWN_INVITATION)
    invitation = _invitation(row)
    now = utc_now()
    match invitation.state(now):
        case InvitationState.USED:
            raise RefusedError(Reason.USED_INVITATION)
        case InvitationState.REVOKED:
            raise RefusedError(Reason.UNKNOWN_INVITATION)
        case InvitationState.EXPIRED:
            raise RefusedError(Reason.EXPIRED_INVITATION)
    given = await permissions_of(connection, invitation.roles)
    if not {Permission.CLIENTS_MANAGE, *given} <= await _permissions_of_maker(connection, invitation.created_by):
        raise RefusedError(Reason.UNKNOWN_INVITATION)
    await connection.execute(_USE, invitation.id, now)
    return invitation


async def _permissions_of_maker(connection: Connection, client_id: str) -> Permissions:
    """Return what whoever made an invitation may now."""
    if client_id in _NO_CLIENTS:
        return ALL
    maker = await find_account(connection, client_id)
    return NONE if maker is None or maker.is_disabled else await permissions_of(connection, maker.roles)


async def _record(
    connection: Connection, grantor: Grantor, action: Action, invitation_id: UUID, details: Mapping[str, object]
) -> None:
    target = str(invitation_id)
    await record(connection, grantor.actor, action, target_kind="invitation", target=target, details=details)


def _invitation(row: asyncpg.Record) -> Invitation:
    return Invitation(
        row["id"],
        row["email"],
        tuple(row["roles"]),
        row["created_by"],
        row["created_at"],
        row["expires_at"],
        row["used_at"],
        row["revoked_at"],
    )
