"""What a caller can be allowed to do, and the roles that are made of it. Pure."""

from collections.abc import Collection, Iterable, Mapping
from enum import StrEnum
from functools import reduce
from typing import Final


class Permission(StrEnum):
    """One thing that can be allowed. The values are public and never change their meaning."""

    MESSAGES_SEND = "messages:send"
    MESSAGES_READ = "messages:read"
    MESSAGES_READ_CONTENT = "messages:read_content"
    MESSAGES_CONTROL = "messages:control"
    CONVERSATIONS_WRITE = "conversations:write"
    NUMBERS_READ = "numbers:read"
    NUMBERS_WRITE = "numbers:write"
    CLIENTS_READ = "clients:read"
    CLIENTS_MANAGE = "clients:manage"
    ROLES_MANAGE = "roles:manage"
    AUDIT_READ = "audit:read"
    OPERATIONS_READ = "operations:read"


Permissions = frozenset[Permission]
NONE: Final[Permissions] = frozenset()
ALL: Final[Permissions] = frozenset(Permission)

# What it means, for people: `sms-foundation roles list`, and the API document.
MEANING: Final[Mapping[Permission, str]] = {
    Permission.MESSAGES_SEND: "send messages",
    Permission.MESSAGES_READ: "see messages and conversations: when, how, with which result",
    Permission.MESSAGES_READ_CONTENT: "see what they say, and whole phone numbers",
    Permission.MESSAGES_CONTROL: "cancel, move and repeat messages",
    Permission.CONVERSATIONS_WRITE: "file conversations under workflows",
    Permission.NUMBERS_READ: "see which numbers may be texted",
    Permission.NUMBERS_WRITE: "change which numbers may be texted",
    Permission.CLIENTS_READ: "see clients, their keys (never the secret) and roles",
    Permission.CLIENTS_MANAGE: "create and disable clients, keys and invitations",
    Permission.ROLES_MANAGE: "change roles",
    Permission.AUDIT_READ: "read the audit log",
    Permission.OPERATIONS_READ: "read /health and /metrics from outside",
}

_VIEWER: Final[Permissions] = frozenset({Permission.MESSAGES_READ, Permission.NUMBERS_READ})
_OPERATOR: Final[Permissions] = _VIEWER | {
    Permission.MESSAGES_SEND,
    Permission.MESSAGES_READ_CONTENT,
    Permission.MESSAGES_CONTROL,
    Permission.CONVERSATIONS_WRITE,
    Permission.NUMBERS_WRITE,
    Permission.OPERATIONS_READ,
}

BUILT_IN_ROLES: Final[Mapping[str, Permissions]] = {"viewer": _VIEWER, "operator": _OPERATOR, "admin": ALL}
"""Each includes the one before. They cannot be changed; roles of one's own are rows of `auth_roles`."""

# What a test key can never do: it could make itself, or somebody, a key that is none.
BEYOND_TEST: Final[Permissions] = frozenset(
    {Permission.CLIENTS_MANAGE, Permission.ROLES_MANAGE, Permission.NUMBERS_WRITE}
)


def union(first: Permissions, second: Permissions) -> Permissions:
    """Return what either allows. Commutative, associative, idempotent; NONE is neutral."""
    return first | second


def granted_by(roles: Iterable[str], own_roles: Mapping[str, Permissions]) -> Permissions:
    """Return what `roles` allow together; one that is neither built in nor among `own_roles` allows nothing."""
    return reduce(union, (BUILT_IN_ROLES.get(role) or own_roles.get(role, NONE) for role in roles), NONE)


def known_permissions(names: Collection[str]) -> Permissions:
    """Return the permissions with these names; names from another version, which mean nothing here, allow nothing."""
    return frozenset(permission for permission in Permission if permission.value in {*names})
