from collections import defaultdict
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from sms_foundation.simulator.carrier.messages import Message
from sms_foundation.simulator.carrier.record import TrueRecord

NOW = datetime(2026, 11, 20, 9, 30, tzinfo=UTC)


def message(n: int = 0, *, body: str = "Hola", provider: str = "twilio", recipient: str = "+15125550142") -> Message:
    return Message(
        provider=provider,
        id=f"SM{n}",
        sender="+15005550006",
        recipient=recipient,
        body=body,
        reference=None if n % 2 else f"r{n}",
        accepted_at=NOW,
    )


def add(record: TrueRecord, each: Message, moment: float = 0.0) -> Message:
    each.number = record.add(each, moment)
    return each


class TestRows:
    @given(body=st.text(), reference=st.none() | st.text())
    def test_what_was_written_is_read_back(self, body: str, reference: str | None) -> None:
        record = TrueRecord()
        each = message(body=body)
        each.reference = reference
        add(record, message(1), 1.0)
        add(record, each, 2.5)
        _, text = record.list_texts(limit=10)
        assert (text.body, text.reference, text.number, text.accepted_monotonic) == (body, reference, 1, 2.5)
        assert (text.provider, text.provider_message_id, text.recipient) == ("twilio", each.id, each.recipient)
        assert (text.accepted_at, text.arrived_at, text.error_code) == (NOW, None, None)

    def test_arrival_and_failure_are_noted(self) -> None:
        record = TrueRecord()
        arrived, failed = add(record, message(0)), add(record, message(1))
        record.mark_arrived(arrived, NOW + timedelta(seconds=1.5))
        record.mark_failed(failed, 30003)
        first, second = record.list_texts(limit=10)
        assert (first.arrived_at, first.error_code) == (NOW + timedelta(seconds=1.5), None)
        assert (second.arrived_at, second.error_code) == (None, 30003)
        figures = record.figures["twilio"]
        assert (figures.accepted, figures.arrived, figures.failed) == (2, 1, 1)

    @given(count=st.integers(0, 30), limit=st.integers(1, 7))
    def test_pages_together_are_everything_once(self, count: int, limit: int) -> None:
        record = TrueRecord()
        for n in range(count):
            add(record, message(n))
        seen: list[int] = []
        while page := record.list_texts(after=seen[-1] if seen else -1, limit=limit):
            seen += [text.number for text in page]
        assert seen == list(range(count))

    def test_it_filters_by_phone_and_provider(self) -> None:
        record = TrueRecord()
        add(record, message(0, recipient="+1"))
        add(record, message(1, provider="vonage"))
        assert [text.number for text in record.list_texts(limit=9, number="+1")] == [0]
        assert [text.number for text in record.list_texts(limit=9, provider="vonage")] == [1]
        assert record.list_texts(limit=9, number="+1", provider="vonage") == []

    def test_a_new_record_knows_nothing_of_what_is_still_on_its_way(self) -> None:
        record = TrueRecord()
        old = add(record, message(0))
        record.clear()
        record.mark_arrived(old, NOW)
        record.mark_failed(old, 30003)
        assert (len(record), record.arrived, record.figures) == (0, 0, {})
        assert add(record, message(1)).number == 1  # a number is never used twice
        (text,) = record.list_texts(limit=9)
        assert (text.number, text.arrived_at) == (1, None)


class TestFigures:
    @given(
        st.lists(
            st.tuples(st.sampled_from([0, 0.125, 0.25, 0.5, 1.125]), st.sampled_from(["twilio", "vonage"])), max_size=60
        )
    )
    def test_the_busiest_second_is_exact_wherever_it_begins(self, steps: list[tuple[float, str]]) -> None:
        record, moment = TrueRecord(), 0.0
        moments = defaultdict(list)
        for gap, provider in steps:
            moment += gap
            moments[provider].append(moment)
            add(record, message(provider=provider, body="a" * 161), moment)
        for provider, at in moments.items():
            busiest = max(sum(1 for each in at if start <= each and each - start < 1) for start in at)
            figures = record.figures[provider]
            assert figures.max_per_second == busiest
            assert figures.max_segments_per_second == busiest  # nobody counted segments: one each

    @given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(["+1", "+2"])), max_size=30))
    def test_repeats_are_those_beyond_the_first_of_each_body_and_phone(self, texts: list[tuple[str, str]]) -> None:
        record = TrueRecord()
        for n, (body, recipient) in enumerate(texts):
            add(record, message(n, body=body, recipient=recipient, provider="twilio" if n % 2 else "vonage"))
        assert record.repeats == len(texts) - len(set(texts))
        groups = {(text.body, text.recipient): times for text, times in record.list_repeated(10)}
        assert groups == {pair: texts.count(pair) for pair in texts if texts.count(pair) > 1}
