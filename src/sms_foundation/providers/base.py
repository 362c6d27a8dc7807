"""What every provider's webhooks mean, in our words.

Adapters parse into these types; nothing above `providers/` sees a provider's own field names.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


class MessageStatus(StrEnum):
    """Where a message is on its way. Sources: the status enums of the providers, see each adapter."""

    ACCEPTED = "accepted"
    SCHEDULED = "scheduled"
    RECEIVING = "receiving"
    RECEIVED = "received"
    QUEUED = "queued"
    SENDING = "sending"
    SENT = "sent"
    PARTIALLY_DELIVERED = "partially_delivered"
    DELIVERED = "delivered"
    UNDELIVERED = "undelivered"
    FAILED = "failed"
    CANCELED = "canceled"
    READ = "read"


_STATUSES = {status.value: status for status in MessageStatus}


def parse_status(word: str) -> MessageStatus | None:
    """Return the status that `word` names, None for a word that no provider has documented."""
    return _STATUSES.get(word)


@dataclass(frozen=True, slots=True)
class Media:
    """One attachment: where the provider keeps it, and its MIME type ("" when not told)."""

    url: str
    content_type: str


class InboundSms(NamedTuple):
    """A text that reached us. No string holds NUL or a lone surrogate; `raw` is a JSON object of all that was sent."""

    provider: str
    provider_message_id: str
    sender: str
    recipient: str
    body: str
    media: tuple[Media, ...]
    num_segments: int
    raw: str


class StatusReport(NamedTuple):
    """What a provider says became of a message.

    `event_status` is the provider's own word, kept as an event even when unknown to us; `status` is ours, or None.
    """

    provider: str
    provider_message_id: str
    event_status: str
    status: MessageStatus | None
    error_code: str | None
    error_message: str | None
    raw: str


class WebhookParseError(Exception):
    """The webhook is genuine but lacks what it must have; `reason` is a bounded label, the text is safe to show."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
