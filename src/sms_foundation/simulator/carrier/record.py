"""The true record: what providers accepted and what reached a phone, as only the world outside could know it.

Lost, doubled and reordered messages are counted here, not in the service. Rows are packed: a million take
350 MB, and the garbage collector has nothing to walk through.
"""

import math
from array import array
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

import orjson

from sms_foundation.simulator.carrier.messages import Message

_WINDOW_S: Final = 1.0
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class RecordedText:
    """One accepted message. `number` counts from 0 in the order of acceptance, over all providers."""

    number: int
    provider: str
    provider_message_id: str
    sender: str
    recipient: str
    body: str
    reference: str | None
    num_segments: int
    accepted_at: datetime
    accepted_monotonic: float
    """Seconds of this process's monotonic clock: for distances between rows."""
    arrived_at: datetime | None
    """When the phone showed it; None: still on its way, or it never arrives. Per phone in the order of acceptance."""
    error_code: int | None
    """Why it never arrives, in Twilio's numbers."""


@dataclass(slots=True)
class ProviderFigures:
    """One provider's share of the record."""

    accepted: int = 0
    arrived: int = 0
    failed: int = 0
    segments: int = 0
    max_per_second: int = 0
    """Most messages accepted within any second, wherever it begins."""
    max_segments_per_second: int = 0
    _window: deque[tuple[float, int]] = field(default_factory=deque, repr=False)
    _window_segments: int = field(default=0, repr=False)

    def count_accepted(self, moment: float, segments: int) -> None:
        self.accepted += 1
        self.segments += segments
        window = self._window
        window.append((moment, segments))
        self._window_segments += segments
        while moment - window[0][0] >= _WINDOW_S:
            self._window_segments -= window.popleft()[1]
        self.max_per_second = max(self.max_per_second, len(window))
        self.max_segments_per_second = max(self.max_segments_per_second, self._window_segments)


class TrueRecord:
    """Append-only, in memory and never shortened; `clear` starts anew."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget everything. Messages on their way still arrive at their phones but enter no record."""
        self.figures: dict[str, ProviderFigures] = {}
        self.repeats = 0
        """Messages whose recipient and body had been accepted before, from whichever provider."""
        self.arrived = 0
        self._first_number = getattr(self, "_next_number", 0)
        self._next_number = self._first_number
        self._texts = bytearray()
        self._ends = array("Q")
        self._accepted = array("d")
        self._accepted_monotonic = array("d")
        self._arrived = array("d")
        self._errors = array("H")
        self._segments = array("H")
        self._first_of: dict[int, int] = {}
        self._repeated: Counter[int] = Counter()

    def __len__(self) -> int:
        return len(self._ends)

    def add(self, message: Message, moment: float) -> int:
        """Append an accepted message and return its number; `moment` is the monotonic clock's."""
        number = self._next_number
        self._next_number += 1
        row = (message.provider, message.id, message.sender, message.recipient, message.body, message.reference)
        self._texts += orjson.dumps(row)
        self._ends.append(len(self._texts))
        self._accepted.append((message.accepted_at - _EPOCH).total_seconds())
        self._accepted_monotonic.append(moment)
        self._arrived.append(math.nan)
        self._errors.append(0)
        self._segments.append(message.num_segments)
        self._figures_of(message.provider).count_accepted(moment, message.num_segments)
        self._count_repeat(number, message)
        return number

    def mark_arrived(self, message: Message, at: datetime) -> None:
        if (row := self._row_of(message.number)) is not None:
            self._arrived[row] = (at - _EPOCH).total_seconds()
            self.arrived += 1
            self._figures_of(message.provider).arrived += 1

    def mark_failed(self, message: Message, error_code: int) -> None:
        if (row := self._row_of(message.number)) is not None:
            self._errors[row] = error_code
            self._figures_of(message.provider).failed += 1

    def list_texts(
        self, *, after: int = -1, limit: int, number: str | None = None, provider: str | None = None
    ) -> list[RecordedText]:
        """Return at most `limit` rows in the order of acceptance, from the one after number `after` on.

        `number` is a phone: the recipient.
        """
        start = max(0, after + 1 - self._first_number)
        # A row that does not hold the bytes is not worth reading; where it does, they may still be the text's own.
        needles = [orjson.dumps(value) for value in (number, provider) if value is not None]
        found: list[RecordedText] = []
        for row in range(start, len(self)):
            begin, end = self._ends[row - 1] if row else 0, self._ends[row]
            if any(self._texts.find(needle, begin, end) < 0 for needle in needles):
                continue
            text = self._read(row)
            if number in (None, text.recipient) and provider in (None, text.provider):
                found.append(text)
                if len(found) == limit:
                    break
        return found

    def list_repeated(self, limit: int) -> Iterator[tuple[RecordedText, int]]:
        """Yield the first of each group of messages with one recipient and body, and how many there are."""
        for first, repeats in list(self._repeated.items())[:limit]:
            yield self._read(first - self._first_number), repeats + 1

    def _count_repeat(self, number: int, message: Message) -> None:
        first = self._first_of.setdefault(hash((message.recipient, message.body)), number)
        if first == number:
            return
        text = self._read(first - self._first_number)
        if (text.recipient, text.body) == (message.recipient, message.body):  # equal hashes alone prove nothing
            self.repeats += 1
            self._repeated[first] += 1

    def _figures_of(self, provider: str) -> ProviderFigures:
        figures = self.figures.get(provider)
        if figures is None:
            figures = self.figures[provider] = ProviderFigures()
        return figures

    def _row_of(self, number: int) -> int | None:
        row = number - self._first_number
        return row if number >= 0 and row >= 0 else None

    def _read(self, row: int) -> RecordedText:
        start = self._ends[row - 1] if row else 0
        provider, message_id, sender, recipient, body, reference = orjson.loads(self._texts[start : self._ends[row]])
        return RecordedText(
            number=self._first_number + row,
            provider=provider,
            provider_message_id=message_id,
            sender=sender,
            recipient=recipient,
            body=body,
            reference=reference,
            num_segments=self._segments[row],
            accepted_at=_EPOCH + timedelta(seconds=self._accepted[row]),
            accepted_monotonic=self._accepted_monotonic[row],
            arrived_at=None if math.isnan(self._arrived[row]) else _EPOCH + timedelta(seconds=self._arrived[row]),
            error_code=self._errors[row] or None,
        )
