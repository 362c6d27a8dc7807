"""Does a message's status follow from its events and attempts? Pure, by the same rule that applies them.

Receipts come in any order, and who was first is not always to be told from times. So it is asked whether a status could
have come about at all: something has said it, and nothing that was said leads further (`states.next_status`). Before a
provider has named the message only we ourselves say something, one after the other, and the last word counts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from sms_foundation.messaging.outbound.store import AttemptOutcome
from sms_foundation.messaging.states import FINAL, next_status
from sms_foundation.providers.base import MessageStatus, parse_status


class Said(StrEnum):
    """Who said the word of an event."""

    US = "us"  # a step of our own, before any provider had the message
    ANSWER = "answer"  # the provider, when it took the message
    REPORT = "report"  # the provider, later
    ELSEWHERE = "elsewhere"  # another provider or id than the message's: kept, never applied


@dataclass(frozen=True, slots=True)
class Event:
    """One status event; `at` in seconds."""

    said: Said
    word: str
    at: float


@dataclass(frozen=True, slots=True)
class Attempt:
    """The last attempt; `at` is when it was begun, in seconds."""

    outcome: AttemptOutcome | None
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageFacts:
    """What there is about one message. `events` in the order in which they were written.

    `words`: what its provider's reports mean; None: nobody here knows that provider. `has_person`: not erased.
    """

    status: MessageStatus
    is_inbound: bool
    is_named: bool
    has_ended: bool
    has_person: bool
    events: Sequence[Event]
    last_attempt: Attempt | None
    words: Mapping[str, MessageStatus] | None


# What `messaging.outbound` writes about its own steps, and what it means. `absent`: the provider does not have it.
_OUR_WORDS: Final = {
    "queued": MessageStatus.QUEUED,
    "absent": MessageStatus.QUEUED,
    "unknown": MessageStatus.UNKNOWN,
    "failed": MessageStatus.FAILED,
    "expired": MessageStatus.EXPIRED,
    "canceled": MessageStatus.CANCELED,
}
# Where a message can be while its provider has said nothing that leads further.
_ON_ITS_WAY: Final = frozenset({MessageStatus.QUEUED, MessageStatus.SENDING, MessageStatus.UNKNOWN})
_NOT_BEGUN: Final = frozenset({MessageStatus.ACCEPTED, MessageStatus.QUEUED})


def find_contradiction(message: MessageFacts) -> str | None:
    """Return in a few words what speaks against the status of a message, None when nothing does."""
    if not message.is_inbound and message.has_ended != (message.status in FINAL):
        return f"{message.status}, with the time of an end" if message.has_ended else f"{message.status}, without one"
    if message.is_named or message.is_inbound:
        return _against_reports(message)
    return _against_steps(message) if message.has_person else None


def _against_reports(message: MessageFacts) -> str | None:
    """A provider has the message: it was told so, and nothing that it was told leads further."""
    possible = {MessageStatus.RECEIVED} if message.is_inbound else set(_ON_ITS_WAY)
    for event in message.events:
        if event.said is Said.ELSEWHERE:
            continue
        possible |= _meanings(event, message.words)
        if (further := _leads_to(event, message)) is not None:
            return f"{message.status}, though it was reported {further}"
    if message.status in possible or message.words is None:
        return None
    return f"{message.status}, which nobody has reported"


def _leads_to(event: Event, message: MessageFacts) -> MessageStatus | None:
    """Return the status to which an event would have led, had it been applied."""
    if event.said is not Said.REPORT or message.words is None:
        return None
    meant = message.words.get(event.word)
    return meant if meant is not None and next_status(message.status, meant) is not message.status else None


def _meanings(event: Event, words: Mapping[str, MessageStatus] | None) -> set[MessageStatus]:
    """Return whatever the word of an event may have been taken for."""
    if event.said is Said.US:
        return {_OUR_WORDS[event.word]} if event.word in _OUR_WORDS else set()
    # An answer's word can mean less than the same word of a report; and so reports were read that came before their
    # messages, once.
    meant = {None if words is None else words.get(event.word), parse_status(event.word)}
    return {each for each in meant if each is not None}


def _against_steps(message: MessageFacts) -> str | None:
    """No provider has the message: the last of our own steps says where it is."""
    ours = [each for each in message.events if each.said is Said.US]
    attempt, step = message.last_attempt, ours[-1] if ours else None
    if attempt is not None and (step is None or attempt.at > step.at):
        expected = {MessageStatus.UNKNOWN if attempt.outcome is AttemptOutcome.UNKNOWN else MessageStatus.SENDING}
    elif step is None:
        expected = set(_NOT_BEGUN)
    else:
        expected = {_OUR_WORDS[step.word]} if step.word in _OUR_WORDS else set()
    if message.status in expected:
        return None
    return f"{message.status}, where its steps say {' or '.join(sorted(expected)) or 'nothing'}"
