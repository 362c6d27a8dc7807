"""The contract every provider fulfils, in our words.

An adapter turns these types into its provider's dialect and back; nothing above `providers/` sees a provider's own
field names. Adapters hold no state but a connection pool, know no database and raise nothing but the errors of
`providers.errors`.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple, Protocol

from sms_foundation.providers.errors import ErrorKind


class MessageStatus(StrEnum):
    """Where a message is on its way. Sources: the status enums of the providers, see each adapter."""

    ACCEPTED = "accepted"
    SCHEDULED = "scheduled"
    RECEIVING = "receiving"
    RECEIVED = "received"
    QUEUED = "queued"
    SENDING = "sending"
    UNKNOWN = "unknown"  # handed to a provider that never said whether it took it
    SENT = "sent"
    PARTIALLY_DELIVERED = "partially_delivered"
    DELIVERED = "delivered"
    UNDELIVERED = "undelivered"
    FAILED = "failed"
    EXPIRED = "expired"  # its time was over before it could be sent
    CANCELED = "canceled"
    READ = "read"


# `unknown` and `expired` are words of ours: from a provider they would mean something else; adapters translate them.
_STATUSES = {s.value: s for s in MessageStatus if s not in (MessageStatus.UNKNOWN, MessageStatus.EXPIRED)}


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


class Price(NamedTuple):
    """What one message cost: millionths of `currency` (ISO 4217), never negative."""

    micros: int
    currency: str


class StatusReport(NamedTuple):
    """What a provider says became of a message.

    `event_status` is the provider's own word, kept as an event even when unknown to us; `status` is ours, or None.
    `reference` is the one we gave along (`OutboundSms.reference`), if it came back. `error_kind` is what `error_code`
    means, None without one or for a code that is not documented.
    """

    provider: str
    provider_message_id: str
    event_status: str
    status: MessageStatus | None
    error_code: str | None
    error_message: str | None
    raw: str
    reference: str | None = None
    price: Price | None = None
    error_kind: ErrorKind | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboundSms:
    """A text to be sent, ready as it is: nothing about it is decided by the adapter but the spelling.

    `reference` is ours and new for every attempt: 1 to 40 characters of [0-9a-z.]. `recipient` and `sender` are E.164,
    short codes or (sender) alphanumeric. `body` has 0 to 1600 characters, none only with media. `validity_s`: after so
    long the provider should give up.
    """

    reference: str
    recipient: str
    sender: str
    body: str = field(repr=False)
    media_urls: tuple[str, ...] = ()
    validity_s: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SendReceipt:
    """The provider has the message. `status` is how far it is there, never further than SENT unless the provider says
    so; None for segments or price: not told (yet). `error_code`, `error_message`: why it came to a bad end already.
    `raw` is the response as a JSON object, for people."""

    provider_message_id: str
    event_status: str
    status: MessageStatus
    num_segments: int | None = None
    price: Price | None = None
    error_code: str | None = None
    error_message: str | None = None
    raw: str = field(default="{}", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class SentQuery:
    """What is known of a message whose sending got no answer; `attempted_at` is when the request may have left, UTC."""

    reference: str
    recipient: str
    sender: str
    body: str = field(repr=False)
    attempted_at: datetime


@dataclass(frozen=True, slots=True)
class WebhookRequest:
    """A provider's call as it arrived. Header names are in lower case; `path_and_query` is undecoded, byte for byte
    (surrogateescape), because some providers sign it."""

    method: str
    path_and_query: str
    headers: Mapping[bytes, bytes]
    body: bytes


@dataclass(frozen=True, slots=True)
class WebhookReply:
    """The answer a provider expects once its webhook is stored."""

    content_type: str
    body: bytes


@dataclass(frozen=True, slots=True)
class WebhookShape:
    """What a provider's webhooks look like on the wire; anything else is refused before it is read.

    `content_types` are media types without parameters; a GET has no body and needs none.
    """

    methods: frozenset[str]
    content_types: frozenset[str]
    reply: WebhookReply


class Provider(Protocol):
    """One configured account at one provider. Safe to use concurrently; every call has a bounded duration."""

    @property
    def name(self) -> str:
        """The configured instance, such as `twilio` or `twilio-eu`: part of webhook paths, rows and metric labels."""

    @property
    def kind(self) -> str:
        """The dialect: `twilio`, `messagebird`, `vonage`, `telnyx`, `http`; or `simulated`, which is none."""

    @property
    def webhook_shape(self) -> WebhookShape: ...

    @property
    def can_look_up(self) -> bool:
        """False: `find_sent` cannot tell that a message is absent, so an unanswered send is left to callbacks."""

    @property
    def can_redact(self) -> bool:
        """False: `redact` does nothing and returns False, whatever the message."""

    async def send(self, sms: OutboundSms) -> SendReceipt:
        """Hand `sms` to the provider; the request is written at most once. Raises ProviderError."""

    async def find_sent(self, query: SentQuery) -> Sequence[SendReceipt]:
        """Return every message at the provider that may be the one of `query`; empty: it is not there.

        Several only where the provider knows no reference of ours: the caller rules out those that are other messages
        of ours. Raises ProviderError when it cannot be told; never called unless `can_look_up`.
        """

    async def fetch_status(self, provider_message_id: str) -> StatusReport | None:
        """Return how far a message is now, None where the provider cannot be asked. Raises ProviderError."""

    def list_inbound(self, since: datetime, until: datetime) -> AsyncIterator[InboundSms]:
        """Yield what the provider received for us in [since, until), in any order; nothing where it cannot be asked.

        Raises ProviderError.
        """

    async def redact(self, provider_message_id: str) -> bool:
        """Have the provider forget body and media of a message that has ended; False where it cannot.

        Raises ProviderError.

        Idempotent.
        """

    def read_inbound(self, request: WebhookRequest) -> InboundSms:
        """Verify and parse a webhook about a text that came in. Raises NotAuthenticError, WebhookParseError."""

    def read_status(self, request: WebhookRequest) -> StatusReport:
        """Verify and parse a webhook about a text that went out. Raises NotAuthenticError, WebhookParseError."""

    async def aclose(self) -> None:
        """Close the connections. Idempotent."""
