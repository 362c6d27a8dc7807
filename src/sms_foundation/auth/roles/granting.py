"""Who changes access, whose they can change, and what they can give: nothing they are not allowed themselves."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sms_foundation.auth import principal
from sms_foundation.auth.permissions import ALL, Permissions
from sms_foundation.auth.principal import Actor, actor_of, principal_of
from sms_foundation.core.errors import ForbiddenError


@dataclass(frozen=True, slots=True)
class Grantor:
    """Somebody who changes clients, keys, roles or people, with the `permissions` they can hand on."""

    actor: Actor
    permissions: Permissions

    def check(self, wanted: Permissions) -> None:
        """Raise ForbiddenError, which names what is missing, unless all that is `wanted` is theirs to give."""
        if missing := sorted(wanted - self.permissions):
            raise ForbiddenError(f"you cannot give what you are not allowed yourself: {', '.join(missing)}")

    def check_over(self, theirs: Permissions) -> None:
        """Raise ForbiddenError, which names why, where somebody with the permissions `theirs` is not theirs to change.

        Or else who manages clients, and nothing more, could shut out every admin, and nobody could undo it.
        """
        if beyond := sorted(theirs - self.permissions):
            raise ForbiddenError(f"you cannot change those who are allowed more than you: {', '.join(beyond)}")


COMMAND_LINE = Grantor(principal.COMMAND_LINE, ALL)
"""Whoever can reach the database could write the rows by hand."""


def grantor_of(scope: Mapping[str, Any]) -> Grantor:
    """Return who makes this request, as one who gives. Only in routes whose rule asks for a permission."""
    return Grantor(actor_of(scope), principal_of(scope).permissions)
