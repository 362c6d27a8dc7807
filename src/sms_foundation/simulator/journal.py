"""What was delivered and how it went: bounded, in memory, newest first."""

from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from itertools import islice
from typing import Generic, TypeVar

from sms_foundation.simulator.answers import DebuggerCode

TextT = TypeVar("TextT")


class EventKind(StrEnum):
    TEXT = "text"
    STATUS = "status"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One HTTP request of a delivery."""

    url: str
    """The URL that was signed: without user, password or fragment."""
    is_fallback: bool
    started_at: datetime
    latency_ms: float
    status_code: int | None
    """None: no answer came."""
    error_code: DebuggerCode | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event and every attempt to deliver it, oldest attempt first; there is at least one."""

    id: str
    kind: EventKind
    message_sid: str
    message_status: str | None
    """None for an inbound text."""
    sender: str
    recipient: str | None
    idempotency_token: str
    created_at: datetime
    attempts: tuple[Attempt, ...]
    replies: tuple[str, ...] = ()
    """Texts the answer sent back to the phone (TwiML <Message> or text/plain)."""

    @property
    def is_delivered(self) -> bool:
        return self.error_code is None

    @property
    def status_code(self) -> int | None:
        return self.attempts[-1].status_code

    @property
    def error_code(self) -> DebuggerCode | None:
        return self.attempts[-1].error_code

    @property
    def latency_ms(self) -> float:
        """All attempts together."""
        return round(sum(attempt.latency_ms for attempt in self.attempts), 3)


class DeliveryJournal:
    """The last `size` deliveries."""

    def __init__(self, size: int = 10_000) -> None:
        self._deliveries: deque[Delivery] = deque(maxlen=size)

    def add(self, delivery: Delivery) -> None:
        self._deliveries.append(delivery)

    def find(
        self,
        *,
        limit: int,
        kind: EventKind | None = None,
        message_sid: str | None = None,
        number: str | None = None,
        is_delivered: bool | None = None,
    ) -> list[Delivery]:
        """Return at most `limit` deliveries that fit every filter given, newest first."""
        fitting: Iterator[Delivery] = (
            each
            for each in reversed(self._deliveries)
            if kind in (None, each.kind)
            and message_sid in (None, each.message_sid)
            and number in (None, each.sender, each.recipient)
            and is_delivered in (None, each.is_delivered)
        )
        return list(islice(fitting, limit))


@dataclass(frozen=True, slots=True)
class SentText:
    """A text as the phone that sent it remembers it."""

    message_sid: str
    recipient: str
    body: str
    media_urls: tuple[str, ...]
    sent_at: datetime


@dataclass(frozen=True, slots=True)
class ReceivedText:
    """A text as the phone that received it shows it."""

    provider: str
    provider_message_id: str
    sender: str
    body: str
    media_urls: tuple[str, ...]
    arrived_at: datetime


class _Pile(Generic[TextT]):
    """The last texts of many phones; the phone that was silent longest is forgotten first."""

    def __init__(self, phones: int, texts_each: int) -> None:
        self._texts: OrderedDict[str, deque[TextT]] = OrderedDict()
        self._max_phones = phones
        self._texts_each = texts_each

    def add(self, number: str, text: TextT) -> None:
        texts = self._texts.get(number)
        if texts is None:
            texts = self._texts[number] = deque(maxlen=self._texts_each)
        texts.append(text)
        self._texts.move_to_end(number)
        if len(self._texts) > self._max_phones:
            self._texts.popitem(last=False)

    def newest_first(self, number: str) -> list[TextT]:
        return list(reversed(self._texts.get(number, ())))


class Phones:
    """Every phone that texted or was texted, and the last texts of both directions; all else is forgotten."""

    def __init__(self, *, phones: int = 10_000, texts_each: int = 100) -> None:
        self._sent: _Pile[SentText] = _Pile(phones, texts_each)
        self._received: _Pile[ReceivedText] = _Pile(phones, texts_each)

    def add(self, number: str, text: SentText) -> None:
        """Remember what `number` sent."""
        self._sent.add(number, text)

    def receive(self, number: str, text: ReceivedText) -> None:
        """Remember what reached `number`."""
        self._received.add(number, text)

    def texts_of(self, number: str) -> list[SentText]:
        """Return what `number` sent, newest first; empty when it is unknown."""
        return self._sent.newest_first(number)

    def received_by(self, number: str) -> list[ReceivedText]:
        """Return what reached `number`, newest first; empty when nothing did."""
        return self._received.newest_first(number)
