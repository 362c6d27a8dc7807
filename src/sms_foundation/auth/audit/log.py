"""Writing the audit log: one row for whatever somebody did, in the transaction that did it."""

from collections.abc import Mapping
from enum import StrEnum

import orjson

from sms_foundation.auth.principal import Actor
from sms_foundation.core.db import Connection
from sms_foundation.core.ids import new_id

_RECORD = """
INSERT INTO auth_audit_log (id, actor, credential, address, request_id, action, target_kind, target, details)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9::jsonb)
"""


class Action(StrEnum):
    """What can be done that is worth remembering; the values are public and never change their meaning."""

    CLIENT_CREATE = "client.create"
    CLIENT_DISABLE = "client.disable"
    CLIENT_ENABLE = "client.enable"
    CLIENT_LIMIT = "client.limit"
    CLIENT_ROLES = "client.roles"
    KEY_CREATE = "key.create"
    KEY_REVOKE = "key.revoke"
    KEY_ROTATE = "key.rotate"
    IDENTITY_LINK = "identity.link"
    IDENTITY_UNLINK = "identity.unlink"
    ROLE_SET = "role.set"
    ROLE_DELETE = "role.delete"
    INVITATION_CREATE = "invitation.create"
    INVITATION_REVOKE = "invitation.revoke"
    PERSON_REGISTER = "person.register"
    PERSON_LOGIN = "person.login"
    PERSON_LOGOUT = "person.logout"
    PERSON_PASSWORD = "person.password"  # noqa: S105  # a label
    SESSION_REUSE = "session.reuse"
    SIGNING_KEY_ROTATE = "signing_key.rotate"
    NUMBER_RULE_SET = "number_rule.set"
    NUMBER_RULE_DELETE = "number_rule.delete"
    MESSAGES_READ_CONTENT = "messages.read_content"
    PRIVACY_EXPORT = "privacy.export"
    PRIVACY_ERASE = "privacy.erase"


async def record(
    connection: Connection,
    actor: Actor,
    action: Action,
    *,
    target_kind: str,
    target: str,
    details: Mapping[str, object] | None = None,
) -> None:
    """Write one row, which stays if the caller's transaction does.

    `target_kind` is a word such as client, key or conversation; `target` its id. `details` are JSON values. Neither
    holds a secret, a whole phone number or anything a message says: the log is kept for good, and cannot be corrected.
    """
    await connection.execute(
        _RECORD,
        new_id(),
        actor.client_id,
        actor.credential,
        actor.address,
        actor.request_id,
        action,
        target_kind,
        target,
        orjson.dumps(details or {}).decode(),
    )
