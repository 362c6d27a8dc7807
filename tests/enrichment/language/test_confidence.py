from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from sms_foundation.enrichment.language.confidence import WordEvidence, confidence

PLAIN = WordEvidence("es", words=4, lead=10.0, against=0.0, lead_over_others=5.0, known_share=1.0)
NATS = st.floats(0.0, 600.0)
EVIDENCE = st.builds(
    WordEvidence,
    language=st.just("es"),
    words=st.integers(1, 60),
    lead=NATS,
    against=NATS,
    lead_over_others=st.floats(-600.0, 600.0),
    known_share=st.floats(0.0, 1.0),
)


class TestConfidence:
    @given(EVIDENCE)
    def test_it_is_a_probability(self, evidence: WordEvidence) -> None:
        assert 0.0 <= confidence(evidence) <= 1.0

    @given(EVIDENCE, NATS)
    def test_a_greater_lead_never_lowers_it(self, evidence: WordEvidence, more: float) -> None:
        assert confidence(replace(evidence, lead=evidence.lead + more)) >= confidence(evidence)

    @given(EVIDENCE, NATS)
    def test_disagreeing_words_never_raise_it(self, evidence: WordEvidence, more: float) -> None:
        assert confidence(replace(evidence, against=evidence.against + more)) <= confidence(evidence)

    @given(EVIDENCE, NATS)
    def test_another_language_that_fits_better_never_raises_it(self, evidence: WordEvidence, worse: float) -> None:
        other = replace(evidence, lead_over_others=evidence.lead_over_others - worse)
        assert confidence(other) <= confidence(evidence)

    @given(EVIDENCE)
    def test_two_tied_languages_are_at_most_a_half(self, evidence: WordEvidence) -> None:
        assert confidence(replace(evidence, lead=0.0)) <= 0.5

    def test_unknown_words_lower_it(self) -> None:
        assert confidence(replace(PLAIN, known_share=0.5)) < confidence(PLAIN)
