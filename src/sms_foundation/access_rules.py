"""Who may call what: every route of the service, and what it asks for. A route that is not here cannot be served."""

from collections.abc import Sequence

from fastapi import APIRouter

from sms_foundation.auth.gate import Access, Rules
from sms_foundation.auth.permissions import Permission as P  # noqa: N817  # the table is read more easily with a letter
from sms_foundation.core.web.guarded import declared_routes

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
    # Operations
    ("GET", "/health"): Access.OPERATIONS,
    ("GET", "/health/live"): Access.OPERATIONS,
    ("GET", "/health/ready"): Access.OPERATIONS,
    ("GET", "/metrics"): Access.OPERATIONS,
    ("GET", "/"): Access.OPEN,
}
"""By method and path template. Webhooks of providers authenticate by signature and never come to the gate; the API
document (/docs, /openapi.json) is open: it holds nothing secret."""


def check_rules(routers: Sequence[APIRouter]) -> None:
    """Raise LookupError unless exactly the routes of `routers` have a rule."""
    routes = declared_routes(*routers)
    if undeclared := sorted(routes - RULES.keys()):
        raise LookupError(f"no rule says who may call {undeclared}: add them to access_rules")
    if stale := sorted(RULES.keys() - routes):
        raise LookupError(f"access_rules has rules for routes that do not exist: {stale}")
