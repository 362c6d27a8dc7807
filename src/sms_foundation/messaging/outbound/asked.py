"""What is asked to be sent, and what becomes of the asking."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from sms_foundation.core.segments import Encoding
from sms_foundation.core.tracing.context import Origin, origin
from sms_foundation.core.work.queue import Priority


@dataclass(frozen=True, slots=True, kw_only=True)
class SendRequest:
    """A message somebody wants sent; validated: everything in it can be stored as it is.

    `recipient` and `sender` are canonical addresses; `sender` and `provider` None: any. Times are UTC. `digest` is the
    SHA-256 of what was asked for. `content_retention` is `full`, `hash` or a number of days. `is_test`: nobody but the
    simulated provider is to get it. `cause` is what was current when it was made.
    """

    recipient: str
    content: str = field(repr=False)
    encoding: Encoding
    num_segments: int
    client_id: str
    digest: bytes
    sender: str | None = None
    media_urls: tuple[str, ...] = ()
    idempotency_key: str | None = None
    metadata: Mapping[str, str] | None = None
    priority: Priority = Priority.NORMAL
    provider: str | None = None
    send_at: datetime | None = None
    expires_at: datetime | None = None
    content_retention: str = "full"
    is_test: bool = False
    cause: Origin = field(default_factory=origin, compare=False)

    @property
    def identity(self) -> object:
        """What two requests have in common that ask for the same message: a client's key, or else nothing."""
        return id(self) if self.idempotency_key is None else (self.client_id, self.idempotency_key)


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """The message that a request made, or had made before (`is_replay`); in that case with what it was then."""

    message_id: UUID
    conversation_id: UUID
    created_at: datetime
    num_segments: int
    encoding: Encoding
    is_test: bool = False
    is_replay: bool = False


class IdempotencyConflict:
    """The key stands for another request already; nothing was made."""


CONFLICT = IdempotencyConflict()
Outcome = Accepted | IdempotencyConflict
KeyOfClient = tuple[str, str]
"""A client's id, and the key it gave a request."""
