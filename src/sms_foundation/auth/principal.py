"""Who calls: what the gate found out, for routes to read."""

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from uuid import UUID

from sms_foundation.auth.permissions import ALL, Permission, Permissions


class ClientKind(StrEnum):
    """A calling service, or a person's account."""

    SERVICE = "service"
    PERSON = "person"


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """A client as it calls now. `permissions` are those of its roles, less what its credential leaves out.

    `credential` names the credential for people, without secret: `key sf_live_k3J9x2Qa`, `session 0192...`,
    `token of https://accounts.google.com`. `limit` is the client's own request limit as text (`100/1s`, `off`), None:
    the default. `is_test`: what it sends goes to the simulated provider. `session_id` is a person's log-in, where the
    credential is a token of ours.
    """

    client_id: str
    kind: ClientKind
    permissions: Permissions
    credential: str
    is_test: bool = False
    limit: str | None = None
    session_id: UUID | None = None

    def may(self, permission: Permission) -> bool:
        return permission in self.permissions


LOCAL = Principal(
    client_id="local", kind=ClientKind.SERVICE, permissions=ALL, credential="none: open access", limit="off"
)
"""Whoever calls without a credential where OPEN_ACCESS allows that: the developer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """Who did something, for the audit log; `client_id` is `command-line` or `service` where no request asked."""

    client_id: str
    credential: str
    address: str | None = None
    request_id: str | None = None


COMMAND_LINE = Actor(client_id="command-line", credential="database access")
SERVICE = Actor(client_id="service", credential="none: its own work")


def principal_of(scope: Mapping[str, Any]) -> Principal:
    """Return who makes this request. Only in routes whose rule asks for somebody: KeyError anywhere else."""
    principal: Principal = scope["state"]["principal"]
    return principal


def actor_of(scope: Mapping[str, Any]) -> Actor:
    """Return the same as it stands in the audit log; on open routes, the address alone is known."""
    state = scope["state"]
    principal: Principal | None = state.get("principal")
    return Actor(
        client_id="nobody" if principal is None else principal.client_id,
        credential="none" if principal is None else principal.credential,
        address=state.get("address"),
        request_id=state.get("request_id"),
    )


def set_principal(state: MutableMapping[str, Any], principal: Principal) -> None:
    """Note who makes a request, for routes, the log line and repetitions (`core.web.once`)."""
    state["principal"] = principal
    state["client_id"] = principal.client_id
    # Who repeats a request: a test key is not answered what a live one did. And whoever is allowed something else than
    # the one who was answered gets no kept answer at all: it may hold what only that one could ask for.
    state["asker"] = ("client", principal.client_id, principal.is_test)
    state["asker_may"] = sorted(principal.permissions)
    state["log"]["client_id"] = principal.client_id
