"""Looking up, setting and deleting roles; nobody gives what they have not, and somebody can always manage clients."""

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from sms_foundation.auth.audit.log import Action, record
from sms_foundation.auth.permissions import (
    BUILT_IN_ROLES,
    NONE,
    Permission,
    Permissions,
    granted_by,
    known_permissions,
)
from sms_foundation.auth.roles import repository
from sms_foundation.auth.roles.granting import Grantor
from sms_foundation.auth.roles.schemas import RoleBody
from sms_foundation.core.db import Connection
from sms_foundation.core.errors import ConflictError, NotFoundError, ValidationError

_MANAGING = tuple(name for name, granted in BUILT_IN_ROLES.items() if Permission.CLIENTS_MANAGE in granted)
_BUILT_IN_FOR = {
    "viewer": "looks, without seeing what messages say",
    "operator": "sends, sees and steers messages",
    "admin": "everything",
}

lock_access = repository.lock_access


@dataclass(frozen=True, slots=True)
class Role:
    """A role and what it allows."""

    name: str
    permissions: Permissions
    description: str
    is_built_in: bool


async def list_roles(connection: Connection) -> list[Role]:
    """Return the built-in roles, each of which includes the one before, then those of one's own by name."""
    own = [
        Role(row["name"], known_permissions(row["permissions"]), row["description"], is_built_in=False)
        for row in await repository.list_roles(connection)
    ]
    return [*(_built_in(name) for name in BUILT_IN_ROLES), *own]


async def permissions_of(connection: Connection, names: Collection[str]) -> Permissions:
    """Return what roles allow together; those that do not exist allow nothing."""
    rows = await repository.find_roles(connection, names)
    return granted_by(names, {row["name"]: known_permissions(row["permissions"]) for row in rows})


async def check_roles(connection: Connection, names: Sequence[str], *, field: str = "roles") -> None:
    """Raise ValidationError of `field` that names the roles there are, unless all of `names` are among them.

    Needs a transaction: until it ends, none of them is deleted.
    """
    await repository.lock_access(connection, is_shared=True)
    own = {row["name"] for row in await repository.find_roles(connection, names)}
    if unknown := sorted({*names} - BUILT_IN_ROLES.keys() - own):
        there_are = ", ".join(role.name for role in await list_roles(connection))
        raise ValidationError.of_field(field, f"there is no role {', '.join(unknown)}; there are {there_are}")


async def set_role(connection: Connection, grantor: Grantor, name: str, asked: RoleBody) -> Role:
    """Make a role, or change it for everybody who has it. Needs a transaction; repeating it changes nothing.

    Raises ValidationError for a built-in name, ForbiddenError when it gains or loses what the grantor is not allowed,
    ConflictError when nobody could manage clients any more.
    """
    if name in BUILT_IN_ROLES:
        raise ValidationError.of_field("name", f"{name} is built in; choose another name")
    async with keep_a_manager(connection):
        before = await _find(connection, name)
        wanted = frozenset(asked.permissions)
        had = NONE if before is None else before.permissions
        grantor.check_over(had - wanted)
        grantor.check(wanted - had)
        role = Role(name, wanted, asked.description, is_built_in=False)
        if role != before:
            await repository.write_role(connection, name, wanted, asked.description)
            await record(
                connection,
                grantor.actor,
                Action.ROLE_SET,
                target_kind="role",
                target=name,
                details={"before": None if before is None else sorted(before.permissions), "after": sorted(wanted)},
            )
    return role


async def delete_role(connection: Connection, grantor: Grantor, name: str) -> None:
    """Delete a role nobody has. Needs a transaction.

    Raises ValidationError for a built-in one, NotFoundError, ConflictError that says how many have it.
    """
    if name in BUILT_IN_ROLES:
        raise ValidationError.of_field("name", f"{name} is built in and cannot be deleted")
    await repository.lock_access(connection)
    clients, invitations = await repository.count_uses(connection, name)
    if clients or invitations:
        uses = [f"{count} {what}" for count, what in ((clients, "clients"), (invitations, "open invitations")) if count]
        raise ConflictError(f"the role is in use: {' and '.join(uses)}")
    if not await repository.delete_role(connection, name):
        raise NotFoundError("no role with this name")
    await record(connection, grantor.actor, Action.ROLE_DELETE, target_kind="role", target=name)


@asynccontextmanager
async def keep_a_manager(connection: Connection) -> AsyncIterator[None]:
    """Let nobody else change who may do what, and undo the block where it leaves nobody who may manage clients.

    Needs a transaction. Raises ConflictError; when there was nobody before, nothing is lost.
    """
    await repository.lock_access(connection)
    had_one = await repository.has_manager(connection, _MANAGING)
    yield
    if had_one and not await repository.has_manager(connection, _MANAGING):
        raise ConflictError(
            f"this would leave no client that has {Permission.CLIENTS_MANAGE}; give it to another first"
        )


async def _find(connection: Connection, name: str) -> Role | None:
    for row in await repository.find_roles(connection, [name]):
        return Role(name, known_permissions(row["permissions"]), row["description"], is_built_in=False)
    return None


def _built_in(name: str) -> Role:
    return Role(name, BUILT_IN_ROLES[name], _BUILT_IN_FOR[name], is_built_in=True)
