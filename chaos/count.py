"""What must be zero, counted over the evidence. Pure functions: a record and ids in, counts out."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, TypeVar

from chaos.record import Arrival, Evidence, Send

ANSWER_WITHIN_S: Final = 15.0
"""Twilio's own limit; an answer after it would not have been heard."""
REACHED: Final = frozenset({"delivered", "read"})
NOT_REACHED: Final = frozenset({"undelivered", "failed", "expired", "canceled"})
FINAL: Final = REACHED | NOT_REACHED


@dataclass(frozen=True, slots=True)
class Count:
    """One claim about the run; `found` names what contradicts it, and must be empty."""

    claim: str
    found: tuple[str, ...] = ()
    note: str = ""

    @property
    def is_zero(self) -> bool:
        return not self.found


def count_all(evidence: Evidence) -> list[Count]:
    """Return every count, in the order in which they are shown."""
    return [
        Count("texts acknowledged but missing", tuple(missing_texts(evidence))),
        Count("texts nobody acknowledged, not found by reconciling either", tuple(unfound_texts(evidence))),
        Count("texts stored twice", tuple(doubled_texts(evidence))),
        Count("texts stored that no phone sent", tuple(invented_texts(evidence))),
        Count("texts of a phone stored out of order", tuple(swapped_texts(evidence))),
        Count(
            "sends never accepted, though repeated", tuple(each.key for each in evidence.sends if not each.message_ids)
        ),
        Count("keys that made two messages", tuple(each.key for each in evidence.sends if len(each.message_ids) > 1)),
        Count("sends accepted but neither delivered, failed nor surfaced", tuple(lost_sends(evidence))),
        Count("texts that reached a phone twice", tuple(doubled_arrivals(evidence))),
        Count("texts on phones that nobody asked for", tuple(invented_arrivals(evidence))),
        Count("texts out of order at a phone", tuple(swapped_arrivals(evidence))),
        Count("final states that went backwards", tuple(states_gone_back(evidence))),
        Count("final states that the phones contradict", tuple(contradicted_states(evidence))),
        Count("messages with a provider id that is not theirs", tuple(confused_messages(evidence))),
        Count("work left behind", tuple(work_left(evidence))),
        Count("webhooks acknowledged after more than 15 s", tuple(late_answers(evidence)), slowest_answer(evidence)),
        Count("valid requests refused or broken", tuple(evidence.refusals)),
        Count("processes that ended by themselves, or not when told", tuple(evidence.accidents)),
        Count("what did not settle", tuple(evidence.unsettled)),
    ]


def missing_texts(evidence: Evidence) -> Iterable[str]:
    stored = {each.sid for each in evidence.history if each.is_inbound}
    return [text.sid for text in evidence.texts if text.is_acknowledged and text.sid not in stored]


def unfound_texts(evidence: Evidence) -> Iterable[str]:
    """Only once reconciling has looked everywhere: until then they are the provider's."""
    stored = {each.sid for each in evidence.history if each.is_inbound}
    unheard = [text.sid for text in evidence.texts if not text.is_acknowledged]
    return [sid for sid in unheard if sid not in stored] if evidence.is_reconciled else []


def doubled_texts(evidence: Evidence) -> Iterable[str]:
    times = Counter(each.sid for each in evidence.history if each.is_inbound)
    return [str(sid) for sid, count in times.items() if count > 1]


def invented_texts(evidence: Evidence) -> Iterable[str]:
    sent = {text.sid for text in evidence.texts}
    return [str(each.sid) for each in evidence.history if each.is_inbound and each.sid not in sent]


def swapped_texts(evidence: Evidence) -> Iterable[str]:
    """Those that stand behind a later one. What no webhook brought may: reconciling finds it minutes later."""
    texts = {text.sid: text for text in evidence.texts if text.is_acknowledged}
    highest: dict[str, int] = {}
    for each in evidence.history:
        text = texts.get(each.sid or "")
        if text is None or not each.is_inbound:
            continue
        if text.place < highest.get(text.phone, -1):
            yield text.sid
        highest[text.phone] = max(highest.get(text.phone, -1), text.place)


def unaccepted_sends(evidence: Evidence) -> Iterable[str]:
    return [send.key for send in evidence.sends if not send.message_ids]


def doubled_keys(evidence: Evidence) -> Iterable[str]:
    return [send.key for send in evidence.sends if len(send.message_ids) > 1]


def lost_sends(evidence: Evidence) -> Iterable[str]:
    status = {each.id: each.status for each in evidence.history if not each.is_inbound}
    for send in evidence.sends:
        for message_id in send.message_ids:
            if status.get(message_id) not in FINAL and message_id not in evidence.dead:
                yield f"{message_id} ({status.get(message_id, 'not in the history')})"


def doubled_arrivals(evidence: Evidence) -> Iterable[str]:
    """More of a text than were asked for: clients do send the same words twice, each time with another key."""
    asked = _by_text(evidence.sends)
    for text, arrivals in _by_text(evidence.arrivals, only=lambda each: each.has_arrived).items():
        if len(arrivals) > len(asked.get(text, ())) > 0:
            yield f"{_ids(asked[text])} ({', '.join(each.message for each in arrivals)})"


def invented_arrivals(evidence: Evidence) -> Iterable[str]:
    asked = {(send.phone, send.body) for send in evidence.sends}
    return [each.message for each in evidence.arrivals if (each.phone, each.body) not in asked]


def swapped_arrivals(evidence: Evidence) -> Iterable[str]:
    """Those that came after a later one of their phone and priority; across priorities there is no order."""
    awaited = {text: iter(sends) for text, sends in _by_text(evidence.sends).items()}
    highest: dict[tuple[str, str], int] = {}
    for arrival in sorted(evidence.arrivals, key=lambda each: each.number):
        send = next(awaited.get((arrival.phone, arrival.body), iter(())), None) if arrival.has_arrived else None
        if send is None:  # what nobody asked for, or not so often, has a count of its own
            continue
        line = (send.phone, send.priority)
        if send.place < highest.get(line, -1):
            yield f"{_ids([send])} ({arrival.message})"
        highest[line] = max(highest.get(line, -1), send.place)


def states_gone_back(evidence: Evidence) -> Iterable[str]:
    """Nothing follows a final state, but that what was delivered may be read."""
    for message_id, sightings in evidence.sightings.items():
        for place, end in enumerate(sightings):
            later = [each.status for each in sightings[place + 1 :] if each.last_asked_s >= end.first_answered_s]
            wrong = [status for status in later if status not in (end.status, "read")]
            if end.status in FINAL and (wrong or ("read" in later and end.status in NOT_REACHED)):
                yield f"{message_id} ({end.status}, then {', '.join(later)})"
                break


def contradicted_states(evidence: Evidence) -> Iterable[str]:
    """Delivered, but on no phone, or the other way round."""
    status = {each.id: each.status for each in evidence.history if not each.is_inbound}
    arrived = _by_text(evidence.arrivals, only=lambda each: each.has_arrived)
    for text, sends in _by_text(evidence.sends).items():
        shown = [(message_id, status.get(message_id)) for send in sends for message_id in send.message_ids]
        reached = [each for each in shown if each[1] in REACHED]
        not_reached = [each for each in shown if each[1] in NOT_REACHED]
        on_phone = len(arrived.get(text, ()))
        yield from (f"{message_id} ({state}, on no phone)" for message_id, state in reached[on_phone:])
        unexplained = max(on_phone - len(reached), 0)
        yield from (f"{message_id} ({state}, on the phone)" for message_id, state in not_reached[:unexplained])


def confused_messages(evidence: Evidence) -> Iterable[str]:
    """Delivered ones whose provider id is not that of this very text, or is another message's as well."""
    texts = {message_id: (send.phone, send.body) for send in evidence.sends for message_id in send.message_ids}
    carried = {arrival.message: (arrival.phone, arrival.body) for arrival in evidence.arrivals}
    taken: set[str | None] = set()
    for each in evidence.history:
        if each.id in texts and each.status in REACHED:
            if carried.get(each.sid or "") != texts[each.id] or each.sid in taken:
                yield f"{each.id} ({each.sid})"
            taken.add(each.sid)


def work_left(evidence: Evidence) -> Iterable[str]:
    yield from (f"{count} {kind}" for kind, count in evidence.open_work.items())
    for each in evidence.history:
        if each.is_inbound and not each.is_understood:
            yield f"{each.id} (no language or no tenant looked up)"


def late_answers(evidence: Evidence) -> Iterable[str]:
    return [
        f"{each.message} ({each.latency_ms / 1000:.1f} s)"
        for each in evidence.webhooks
        if each.is_acknowledged and each.latency_ms > ANSWER_WITHIN_S * 1000
    ]


def slowest_answer(evidence: Evidence) -> str:
    slowest = max((each.latency_ms for each in evidence.webhooks if each.is_acknowledged), default=0.0)
    return f"slowest {slowest / 1000:.1f} s"


Text = tuple[str, str]
"""Phone and words."""
SomeText = TypeVar("SomeText", Send, Arrival)


def _by_text(
    texts: Iterable[SomeText], only: Callable[[SomeText], bool] = lambda _: True
) -> dict[Text, list[SomeText]]:
    """Group by phone and words, in the order given."""
    groups: dict[Text, list[SomeText]] = defaultdict(list)
    for each in texts:
        if only(each):
            groups[each.phone, each.body].append(each)
    return groups


def _ids(sends: Iterable[Send]) -> str:
    return " ".join(message_id for send in sends for message_id in send.message_ids)
