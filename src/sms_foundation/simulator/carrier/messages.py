"""A message inside a provider, and the store in which the provider finds it again."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

from sms_foundation.core.segments import count_segments

MAX_MESSAGES: Final = 250_000
"""The store forgets the oldest beyond so many; the true record does not."""


_NOT_YET: Final = datetime(1, 1, 1, tzinfo=UTC)


class Stage(StrEnum):
    """How far a message is; each dialect has words of its own for it."""

    SCHEDULED = "scheduled"
    QUEUED = "queued"
    SENT = "sent"
    DELIVERED = "delivered"
    UNDELIVERED = "undelivered"
    FAILED = "failed"
    CANCELED = "canceled"
    RECEIVED = "received"
    """An inbound text."""

    @property
    def is_final(self) -> bool:
        return self not in (Stage.SCHEDULED, Stage.QUEUED, Stage.SENT)


@dataclass(slots=True, kw_only=True, eq=False)
class Message:
    """One text at one provider. A dialect fills in the first part, the carrier the second."""

    provider: str
    id: str
    """Fresh, in the provider's own shape."""
    sender: str
    recipient: str
    body: str
    reference: str | None = None
    """The client's own, where the dialect carries one."""
    callback_url: str | None = None
    """Where receipts go; None: nowhere."""
    profile: str | None = None
    """Messaging service or profile it was sent through."""
    media_urls: tuple[str, ...] = ()
    send_at: datetime | None = None
    stage: Stage = Stage.QUEUED

    place: int = 0
    """Its place among all messages of the store, from 1."""
    number: int = -1
    """Its row in the true record; -1: none, it came in."""
    encoding: str = ""
    num_segments: int = 1
    accepted_at: datetime = _NOT_YET
    updated_at: datetime = _NOT_YET
    sent_at: datetime | None = None
    error_code: int | None = None
    """One of 30003 to 30008 when the carrier failed, in Twilio's numbers; dialects translate."""

    @property
    def is_inbound(self) -> bool:
        return self.stage is Stage.RECEIVED

    def count_segments(self) -> None:
        self.encoding, self.num_segments = count_segments(self.body)


class MessageStore:
    """The messages providers can be asked about, newest kept; by id, by recipient and by reference."""

    def __init__(self, size: int = MAX_MESSAGES) -> None:
        self._size = size
        self._places = 0
        self._by_id: dict[str, Message] = {}
        self._of: dict[tuple[str, str, str], deque[Message]] = {}

    def add(self, message: Message) -> None:
        self._places += 1
        message.place = self._places
        self._by_id[message.id] = message
        for key in _keys(message):
            self._of.setdefault(key, deque()).append(message)
        if len(self._by_id) > self._size:
            self.remove(next(iter(self._by_id.values())))

    def remove(self, message: Message) -> None:
        """Forget `message`. Idempotent."""
        if self._by_id.pop(message.id, None) is None:
            return
        for key in _keys(message):
            line = self._of[key]
            line.remove(message)
            if not line:
                del self._of[key]

    def find(self, provider: str, message_id: str) -> Message | None:
        message = self._by_id.get(message_id)
        return message if message is not None and message.provider == provider else None

    def list_newest(
        self, provider: str, *, recipient: str | None = None, reference: str | None = None
    ) -> Iterator[Message]:
        """Yield a provider's messages, newest first; with a recipient or reference without walking through the rest."""
        found: Iterable[Message]
        if reference is not None:
            found = reversed(self._of.get((provider, "reference", reference), deque()))
        elif recipient is not None:
            found = reversed(self._of.get((provider, "recipient", recipient), deque()))
        else:
            found = (each for each in reversed(self._by_id.values()) if each.provider == provider)
        return (each for each in found if recipient in (None, each.recipient))


def _keys(message: Message) -> list[tuple[str, str, str]]:
    keys = [(message.provider, "recipient", message.recipient)]
    if message.reference is not None:
        keys.append((message.provider, "reference", message.reference))
    return keys
