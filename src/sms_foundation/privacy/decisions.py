"""What becomes of each table when a person's data is read out or erased. A table that is not here fails a test."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final


class Decision(StrEnum):
    """What erasing does with the rows that are about the person."""

    TOMBSTONE = "rows stay without anything personal"
    DELETED = "rows are deleted"
    KEPT = "kept, because it protects the person"
    EXPIRES = "rows cannot be read or found by number, and go by themselves"
    MASKED = "rows hold no more than the last four digits, and stay"
    NOBODY = "holds nothing about people who are texted"


DECISIONS: Final[Mapping[str, Decision]] = {
    "sms_conversations": Decision.TOMBSTONE,
    "sms_messages": Decision.TOMBSTONE,
    "sms_message_status_events": Decision.TOMBSTONE,
    "sms_send_attempts": Decision.DELETED,
    "sms_tenant_numbers": Decision.DELETED,
    "sms_tenants": Decision.DELETED,
    "work": Decision.DELETED,
    "rate_cells": Decision.DELETED,
    "sms_opt_outs": Decision.KEPT,
    "auth_number_rules": Decision.KEPT,
    "idempotency_keys": Decision.EXPIRES,
    "auth_audit_log": Decision.MASKED,
    "sms_providers": Decision.NOBODY,
    "sms_provider_windows": Decision.NOBODY,
    "sms_provider_changes": Decision.NOBODY,
    "auth_clients": Decision.NOBODY,
    "auth_identities": Decision.NOBODY,
    "auth_api_keys": Decision.NOBODY,
    "auth_roles": Decision.NOBODY,
    "auth_invitations": Decision.NOBODY,
    "auth_sessions": Decision.NOBODY,
    "auth_refresh_tokens": Decision.NOBODY,
    "auth_signing_keys": Decision.NOBODY,
}
