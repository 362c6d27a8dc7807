"""The answers of the audit log."""

from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel, Field


class AuditEntry(BaseModel):
    """Something somebody did."""

    id: UUID = Field(description="Ids are in the order of time")
    created_at: datetime = Field(description="When it was done, UTC", examples=["2026-11-20T09:30:00Z"])
    actor: str = Field(
        description="The client that did it; command-line, service (its own work), or nobody (no credentials)",
        examples=["billing"],
    )
    credential: str = Field(description="With what, without its secret", examples=["key sf_live_k3J9x2Qa"])
    address: str | None = Field(description="From where; null on the command line", examples=["203.0.113.7"])
    request_id: str | None = Field(
        description="The request that did it; also in the service's log lines", examples=["0192c5a4-7f3e-7c1b-a1b2"]
    )
    action: str = Field(description="What was done; never changes its meaning", examples=["key.revoke"])
    target_kind: str = Field(description="To what sort of thing", examples=["key"])
    target: str = Field(
        description="To which one: its id. `list`: to those that `details` names", examples=["sf_live_k3J9x2Qa"]
    )
    details: dict[str, Any] = Field(
        description="More about it; never a secret, a whole phone number or what a message says", examples=[{}]
    )


class AuditLog(BaseModel):
    """Entries of the log, newest first."""

    entries: list[AuditEntry] = Field(description="A page of them")
    limit: int = Field(description="Entries per page, as asked for", examples=[20])
    next_cursor: str | None = Field(description="Cursor of the next page; null on the last", examples=[None])
