"""Which language holds: laws of the rules, and an example of each reason."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from sms_foundation.enrichment.language.preference import (
    NO_EVIDENCE,
    UNKNOWN,
    Evidence,
    Reason,
    take_over,
    weigh,
)

confidences = st.integers(0, 100).map(lambda hundredths: hundredths / 100)
languages = st.sampled_from(["en", "es", "pt", UNKNOWN])
known_languages = st.sampled_from(["en", "es", "pt"])
own = st.builds(Evidence, confidences, st.integers(1, 6), languages)
# What a conversation can be in: nothing, taken over from the tenant, or decided by a text of its own.
states = st.one_of(
    st.just(NO_EVIDENCE),
    st.builds(Evidence, confidences, st.just(0), known_languages),
    st.builds(Evidence, confidences, st.integers(1, 6), known_languages),
)


@st.composite
def texts_of_a_conversation(draw: st.DrawFn) -> list[Evidence]:
    """Evidence from different messages: a message has one seq and is recognised the same way every time."""
    recognised = draw(st.lists(st.tuples(confidences, languages), max_size=8))
    return [Evidence(confidence, seq, language) for seq, (confidence, language) in enumerate(recognised, start=1)]


def after(texts: list[Evidence], start: Evidence = NO_EVIDENCE) -> Evidence:
    for text in texts:
        start = weigh(start, text).evidence
    return start


class TestWeigh:
    @given(texts_of_a_conversation(), st.data())
    def test_any_order_and_repetition_end_in_the_same_language(
        self, texts: list[Evidence], data: st.DataObject
    ) -> None:
        repeated = texts + (data.draw(st.lists(st.sampled_from(texts), max_size=8)) if texts else [])
        assert after(data.draw(st.permutations(repeated))) == after(texts)

    @given(texts_of_a_conversation())
    def test_most_certain_text_decides_and_the_newest_of_equals(self, texts: list[Evidence]) -> None:
        telling = [text for text in texts if text.language != UNKNOWN]
        assert after(texts) == max(telling, key=lambda each: (each.confidence, each.seq), default=NO_EVIDENCE)

    @given(states, confidences, st.integers(0, 10))
    def test_unknown_never_overwrites(self, known: Evidence, confidence: float, seq: int) -> None:
        decision = weigh(known, Evidence(confidence, seq, UNKNOWN))
        assert (decision.evidence, decision.reason) == (known, Reason.UNDECIDED)
        assert not decision.is_changed

    @given(states, own)
    def test_is_idempotent(self, known: Evidence, new: Evidence) -> None:
        once = weigh(known, new).evidence
        again = weigh(once, new)
        assert again.evidence == once
        assert not again.is_changed

    @given(confidences, known_languages, known_languages)
    def test_newer_wins_at_equal_confidence_and_older_does_not(self, confidence: float, old: str, new: str) -> None:
        older, newer = Evidence(confidence, 4, old), Evidence(confidence, 5, new)
        assert weigh(older, newer).evidence == newer
        assert weigh(newer, older).evidence == newer

    @given(texts_of_a_conversation())
    def test_confidence_never_falls(self, texts: list[Evidence]) -> None:
        held = [after(texts[:count]).confidence for count in range(len(texts) + 1)]
        assert all(before <= later for before, later in pairwise(held))

    @given(states, own)
    def test_reason_says_whether_the_language_is_another_one(self, known: Evidence, new: Evidence) -> None:
        decision = weigh(known, new)
        assert decision.is_changed == (decision.evidence.language != known.language)

    def test_gives_each_reason(self) -> None:
        known = Evidence(0.8, 3, "es")
        assert weigh(NO_EVIDENCE, known).reason is Reason.FIRST
        assert weigh(known, Evidence(0.79, 4, "en")).reason is Reason.WEAKER
        assert weigh(known, known).reason is Reason.WEAKER
        assert weigh(known, Evidence(0.8, 4, "es")).reason is Reason.CONFIRMED
        assert weigh(known, Evidence(0.8, 4, "en")).reason is Reason.CHANGED


class TestTakeOver:
    @given(states, states)
    def test_own_evidence_is_never_replaced(self, known: Evidence, tenant: Evidence) -> None:
        if known.seq > 0:
            decision = take_over(known, tenant)
            assert (decision.evidence, decision.reason) == (known, Reason.UNDECIDED)

    @given(confidences, known_languages, st.integers(0, 100), known_languages)
    def test_own_text_of_at_least_that_confidence_decides_again(
        self, confidence: float, language: str, more: int, own_language: str
    ) -> None:
        taken = take_over(NO_EVIDENCE, Evidence(confidence, 7, language)).evidence
        text = Evidence(min(1.0, confidence + more / 100), 1, own_language)
        assert weigh(taken, text).evidence == text

    @given(confidences, known_languages, known_languages)
    def test_weaker_own_text_leaves_the_tenants_language(
        self, confidence: float, language: str, own_language: str
    ) -> None:
        taken = take_over(NO_EVIDENCE, Evidence(1.0, 7, language)).evidence
        if confidence < 1.0:
            assert weigh(taken, Evidence(confidence, 1, own_language)).evidence == taken

    @given(states, st.integers(0, 9))
    def test_unknown_is_not_taken_over(self, known: Evidence, seq: int) -> None:
        assert take_over(known, Evidence(0.0, seq, UNKNOWN)).evidence == known

    @given(states, states)
    def test_is_idempotent(self, known: Evidence, tenant: Evidence) -> None:
        once = take_over(known, tenant).evidence
        again = take_over(once, tenant)
        assert again.evidence == once
        assert not again.is_changed

    @given(states, states)
    def test_reason_says_whether_the_language_is_another_one(self, known: Evidence, tenant: Evidence) -> None:
        decision = take_over(known, tenant)
        assert decision.is_changed == (decision.evidence.language != known.language)

    def test_taken_over_language_follows_the_tenant(self) -> None:
        taken = take_over(NO_EVIDENCE, Evidence(0.7, 10, "es"))
        assert taken.evidence == Evidence(0.7, 0, "es")
        assert taken.reason is Reason.TAKEN_OVER
        assert take_over(taken.evidence, Evidence(0.9, 11, "en")).evidence == Evidence(0.9, 0, "en")
        assert take_over(taken.evidence, Evidence(0.9, 11, "es")).reason is Reason.CONFIRMED
