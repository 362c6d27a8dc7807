"""How far to trust a verdict: two logistic estimates, fitted on labelled texts.

Confidence = P(the candidate, if it is one of the three languages) * P(it is one of the three at all).

`benchmarks/language.py --data FILE --fit` computes the weights and their cross-validated error. In the fit a mistake
weighs five times a right answer, since a wrong language is kept and passed on while "unknown" waits for the next text:
0.7 here is right more than nine times in ten.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

Language = Literal["en", "es", "pt", "unknown"]

Weights = tuple[Sequence[float], Sequence[float]]  # of `among_answers_features` and of `an_answer_features`

FITTED: Final[Weights] = ((1.19,), (-0.57, 1.09, 3.34, -2.11, -1.15))


@dataclass(frozen=True, slots=True)
class WordEvidence:
    """What a text's words say for the best of the three languages. Leads are in nats."""

    language: Language
    words: int
    lead: float  # over the second best of the three, at least 0
    against: float  # what single words said for that second best; part of the evidence that `lead` nets out
    lead_over_others: float  # over the best language that is never answered; negative when that one fits better
    known_share: float  # share of the words that the language's list holds, 0 to 1


def confidence(evidence: WordEvidence, weights: Weights = FITTED) -> float:
    """Estimated probability that the text is in `evidence.language`, 0 to 1; at most a half when two languages tie."""
    among_answers, an_answer = weights
    return _logistic(among_answers, among_answers_features(evidence)) * _logistic(
        an_answer, an_answer_features(evidence)
    )


def among_answers_features(evidence: WordEvidence) -> tuple[float, ...]:
    """Inputs of P(candidate, given one of the three): the lead, less where words disagree.

    Leads grow with the length while words of one text are not independent, hence the root.
    """
    agreement = evidence.lead / (evidence.lead + evidence.against) if evidence.lead else 0.0
    return (evidence.lead / math.sqrt(evidence.words) * agreement,)


def an_answer_features(evidence: WordEvidence) -> tuple[float, ...]:
    """Inputs of P(one of the three): lead over the others and share of known words, each also by length."""
    root = math.sqrt(evidence.words)
    return (
        1.0,
        min(max(evidence.lead_over_others / root, -6.0), 6.0),
        evidence.known_share,
        (1.0 - evidence.known_share) * root,
        math.log(evidence.words),
    )


def _logistic(weights: Sequence[float], features: Sequence[float]) -> float:
    return 1.0 / (1.0 + math.exp(-sum(w * x for w, x in zip(weights, features, strict=True))))
