from datetime import UTC, datetime

from sms_foundation.simulator.answers import DebuggerCode
from sms_foundation.simulator.journal import Attempt, Delivery, DeliveryJournal, EventKind, Phones, SentText

NOW = datetime(2026, 11, 20, tzinfo=UTC)


def delivery(name: str, *, kind: EventKind = EventKind.TEXT, error_code: DebuggerCode | None = None) -> Delivery:
    attempt = Attempt("http://service.example/", False, NOW, 1.5, 200, error_code, None)
    return Delivery(name, kind, name, None, f"+1512555{name}", "+15005550006", "token", NOW, (attempt, attempt))


def sent(sid: str) -> SentText:
    return SentText(sid, "+15005550006", "Hola", (), NOW)


class TestDeliveryJournal:
    def test_newest_first_within_the_limit(self) -> None:
        journal = DeliveryJournal()
        for name in ("0100", "0101", "0102"):
            journal.add(delivery(name))
        assert [each.id for each in journal.find(limit=2)] == ["0102", "0101"]

    def test_filters_are_combined(self) -> None:
        journal = DeliveryJournal()
        journal.add(delivery("0100", error_code=DebuggerCode.CONNECTION_FAILURE))
        journal.add(delivery("0101", kind=EventKind.STATUS))
        assert [each.id for each in journal.find(limit=9, is_delivered=False)] == ["0100"]
        assert [each.id for each in journal.find(limit=9, kind=EventKind.STATUS, number="+15125550101")] == ["0101"]
        assert [each.id for each in journal.find(limit=9, number="+15005550006")] == ["0101", "0100"]
        assert journal.find(limit=9, kind=EventKind.STATUS, is_delivered=False) == []

    def test_old_entries_make_room(self) -> None:
        journal = DeliveryJournal(size=2)
        for name in ("0100", "0101", "0102"):
            journal.add(delivery(name))
        assert [each.id for each in journal.find(limit=9)] == ["0102", "0101"]

    def test_latency_is_that_of_all_attempts(self) -> None:
        assert delivery("0100").latency_ms == 3.0


class TestPhones:
    def test_a_phone_remembers_its_last_texts_newest_first(self) -> None:
        phones = Phones(texts_each=2)
        for sid in ("a", "b", "c"):
            phones.add("+15125550100", sent(sid))
        assert [text.message_sid for text in phones.texts_of("+15125550100")] == ["c", "b"]
        assert phones.texts_of("+15125550101") == []

    def test_the_phone_silent_longest_is_forgotten(self) -> None:
        phones = Phones(phones=2)
        for number in ("1", "2", "1", "3"):
            phones.add(number, sent(number))
        assert phones.texts_of("2") == []
        assert len(phones.texts_of("1")) == 2
