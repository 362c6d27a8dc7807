"""A key as it may be shown, and how it is with it. Pure."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

KeyState = Literal["active", "expiring", "expired", "revoked"]
_SOON = timedelta(days=7)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A key without its secret; `scopes` None: all its client has, `networks` none: from anywhere.

    From `revoked_at` on it is not accepted, which lies ahead for a while where it was rotated. `replaces`: the key that
    was rotated into this one.
    """

    id: UUID
    client_id: str
    name: str
    prefix: str
    is_test: bool
    scopes: tuple[str, ...] | None
    networks: tuple[str, ...]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None = None
    last_used_at: datetime | None = None
    replaces: UUID | None = None

    def state(self, now: datetime) -> KeyState:
        """Return how it is with the key; expiring: replaced but still good, or in its last week."""
        if self.revoked_at is not None and self.revoked_at <= now:
            return "revoked"
        if self.expires_at is not None and self.expires_at <= now:
            return "expired"
        if self.revoked_at is not None or (self.expires_at is not None and self.expires_at - now <= _SOON):
            return "expiring"
        return "active"
