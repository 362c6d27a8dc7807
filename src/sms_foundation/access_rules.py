"""Who may call what: every route of the service, and what it asks for. A route that is not here cannot be served."""

from collections.abc import Set

from sms_foundation.auth.gate import Access, Rule, Rules
from sms_foundation.auth.permissions import MEANING
from sms_foundation.auth.permissions import Permission as P  # noqa: N817  # the table is read more easily with a letter
from sms_foundation.core.web.openapi import Demand, Demands

RULES: Rules = {
    # Sending
    ("POST", "/v1/sms/send"): P.MESSAGES_SEND,
    ("POST", "/v1/sms/send/batch"): P.MESSAGES_SEND,
    ("POST", "/v1/sms/preview"): P.MESSAGES_SEND,
    ("POST", "/sms/send"): P.MESSAGES_SEND,
    ("POST", "/api/sms"): P.MESSAGES_SEND,
    ("POST", "/messages/send"): P.MESSAGES_SEND,
    # Messages and conversations; what they say only with messages:read_content
    ("GET", "/v1/sms"): P.MESSAGES_READ,
    ("GET", "/v1/sms/{request_id}"): P.MESSAGES_READ,
    ("PATCH", "/v1/sms/{request_id}"): P.MESSAGES_CONTROL,
    ("POST", "/v1/sms/{request_id}/cancel"): P.MESSAGES_CONTROL,
    ("POST", "/v1/sms/{request_id}/retry"): P.MESSAGES_CONTROL,
    ("GET", "/conversations"): P.MESSAGES_READ,
    ("GET", "/conversations/{phone_number}"): P.MESSAGES_READ,
    ("PATCH", "/conversations/{phone_number}"): P.CONVERSATIONS_WRITE,
    ("GET", "/messages/{id}"): P.MESSAGES_READ,
    # Which numbers may be texted
    ("GET", "/v1/number-rules"): P.NUMBERS_READ,
    ("POST", "/v1/number-rules"): P.NUMBERS_WRITE,
    ("DELETE", "/v1/number-rules/{prefix}"): P.NUMBERS_WRITE,
    # Who may do what
    ("GET", "/v1/clients"): P.CLIENTS_READ,
    ("POST", "/v1/clients"): P.CLIENTS_MANAGE,
    ("GET", "/v1/clients/{client_id}"): P.CLIENTS_READ,
    ("PATCH", "/v1/clients/{client_id}"): P.CLIENTS_MANAGE,
    ("POST", "/v1/clients/{client_id}/disable"): P.CLIENTS_MANAGE,
    ("POST", "/v1/clients/{client_id}/enable"): P.CLIENTS_MANAGE,
    ("POST", "/v1/clients/{client_id}/identities"): P.CLIENTS_MANAGE,
    ("DELETE", "/v1/clients/{client_id}/identities"): P.CLIENTS_MANAGE,
    ("GET", "/v1/keys"): P.CLIENTS_READ,
    ("POST", "/v1/keys"): P.CLIENTS_MANAGE,
    ("GET", "/v1/keys/{key_id}"): P.CLIENTS_READ,
    ("POST", "/v1/keys/{key_id}/revoke"): P.CLIENTS_MANAGE,
    ("POST", "/v1/keys/{key_id}/rotate"): P.CLIENTS_MANAGE,
    ("GET", "/v1/roles"): P.CLIENTS_READ,
    ("PUT", "/v1/roles/{name}"): P.ROLES_MANAGE,
    ("DELETE", "/v1/roles/{name}"): P.ROLES_MANAGE,
    ("GET", "/v1/invitations"): P.CLIENTS_MANAGE,
    ("POST", "/v1/invitations"): P.CLIENTS_MANAGE,
    ("DELETE", "/v1/invitations/{invitation_id}"): P.CLIENTS_MANAGE,
    # Logging in, and who one is
    ("GET", "/.well-known/jwks.json"): Access.OPEN,
    ("POST", "/auth/token"): Access.OPEN,
    ("POST", "/auth/register"): Access.OPEN,
    ("POST", "/auth/login"): Access.OPEN,
    ("POST", "/auth/refresh_token"): Access.OPEN,
    ("POST", "/auth/logout"): Access.OPEN,
    ("GET", "/users/me"): Access.KNOWN,
    ("POST", "/users/me/password"): Access.KNOWN,
    # Audit log
    ("GET", "/v1/audit"): P.AUDIT_READ,
    # Operations
    ("GET", "/health"): Access.OPERATIONS,
    ("GET", "/health/live"): Access.OPERATIONS,
    ("GET", "/health/ready"): Access.OPERATIONS,
    ("GET", "/health/startup"): Access.OPERATIONS,
    ("GET", "/metrics"): Access.OPERATIONS,
    ("GET", "/"): Access.OPEN,
}
"""By method and path template. Webhooks of providers authenticate by signature and never come to the gate; the API
document (/docs, /openapi.json) is open: it holds nothing secret."""


def check_rules(routes: Set[tuple[str, str]]) -> None:
    """Raise LookupError unless exactly these routes (method, path template) have a rule."""
    if undeclared := sorted(routes - RULES.keys()):
        raise LookupError(f"no rule says who may call {undeclared}: add them to access_rules")
    if stale := sorted(RULES.keys() - routes):
        raise LookupError(f"access_rules has rules for routes that do not exist: {stale}")


def demands() -> Demands:
    """Return the rules as they stand in the API document."""
    return {route: demand for route, rule in RULES.items() if (demand := _demand(rule)) is not None}


def _demand(rule: Rule) -> Demand | None:
    if isinstance(rule, P):
        return Demand(f"**Asks for** `{rule}`: {MEANING[rule]}.", permission=rule)
    match rule:
        case Access.KNOWN:
            return Demand("**Asks for** any valid credentials.")
        case Access.OPERATIONS:
            words = f"**Open** within OPERATIONS_NETWORKS; from elsewhere asks for `{P.OPERATIONS_READ}`."
            return Demand(words, permission=P.OPERATIONS_READ, is_optional=True)
    return None
