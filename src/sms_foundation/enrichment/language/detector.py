"""The verdict: naive Bayes over word frequencies.

Every word adds its log frequency in each language, capped so that one odd word cannot outvote the rest; a word that no
list holds adds how likely its spelling is instead. The best of English, Spanish and Portuguese is the candidate, and
`confidence` decides whether it is answered. The other languages of the lexicon are only there to be told from the three
(docs/adr/0003-language-detector.md).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

from sms_foundation.enrichment.language.confidence import Language, WordEvidence, confidence
from sms_foundation.enrichment.language.lexicon import Lexicon
from sms_foundation.enrichment.language.tokens import words_of
from sms_foundation.enrichment.language.vocabulary import (
    ABBREVIATIONS,
    DECISIVE,
    has_no_language,
    is_only_a_name_or_address,
    is_sound,
)

ANSWERS: Final[tuple[Language, ...]] = ("en", "es", "pt")
ANSWER_FROM: Final = 0.6  # confidence below which the answer is "unknown"; belongs to the fitted weights

_ANSWER_COLUMNS: Final = range(len(ANSWERS))
_DATA_FILE: Final = Path(__file__).parent / "data" / "lexicon.gz"

# Log frequencies given to a word that a language's list does not hold. The lists of the answers end at 4e-8 (-17.0);
# those of the others, at 1e-6 (-13.8), are no full account of any language.
_UNSEEN: Final = -18.0
_UNSEEN_ELSEWHERE: Final = -16.5
_CAP: Final = 8.0  # most that one word may speak against a language
_DECISIVE: Final = -6.5
_DECISIVE_ELSEWHERE: Final = -11.0
_ABBREVIATION: Final = -7.5

_ELONGATED: Final = re.compile(r"(.)\1{2,}")


def detect(text: str) -> tuple[Language, float]:
    """The language of a text and how far to trust it, 0 to 1 in hundredths.

    "unknown" always comes with 0.0: other languages, digits, emoji, names, "ok", and what two languages share. Looks at
    the first 2,000 characters and 60 words only. Never raises for any string and keeps nothing between calls; the first
    call loads the lexicon, which takes some 30 ms.
    """
    evidence = weigh(text)
    if evidence is None:
        return "unknown", 0.0
    trust = round(confidence(evidence), 2)
    return (evidence.language, trust) if trust >= ANSWER_FROM else ("unknown", 0.0)


def weigh(text: str) -> WordEvidence | None:
    """Add up what a text's words say; None when none of them belongs to any language."""
    words = [word for word in words_of(text) if not is_sound(word)]
    if all(map(has_no_language, words)) or is_only_a_name_or_address(text):
        return None
    lexicon = _lexicon()
    rows = []
    known = [0] * len(ANSWERS)
    for word in words:
        scores, is_listed = _scores(word, lexicon)
        floor = max(scores) - _CAP
        rows.append([max(score, floor) for score in scores])
        if is_listed:
            for index in _ANSWER_COLUMNS:
                known[index] += scores[index] > _UNSEEN
    totals = [sum(column) for column in zip(*rows, strict=True)]
    best, second = sorted(_ANSWER_COLUMNS, key=totals.__getitem__, reverse=True)[:2]
    return WordEvidence(
        language=ANSWERS[best],
        words=len(words),
        lead=totals[best] - totals[second],
        against=sum(max(0.0, row[second] - row[best]) for row in rows),
        lead_over_others=totals[best] - max(totals[len(ANSWERS) :]),
        known_share=known[best] / len(words),
    )


@cache
def _lexicon() -> Lexicon:
    return Lexicon(_DATA_FILE, answers=ANSWERS, unseen=_UNSEEN, unseen_elsewhere=_UNSEEN_ELSEWHERE)


def _scores(word: str, lexicon: Lexicon) -> tuple[list[float], bool]:
    """Log probability of a word per language of the lexicon, and whether that comes from a list."""
    scores = _listed_scores(word, lexicon)
    if scores is None:
        plainer = filter(None, (_listed_scores(spelling, lexicon) for spelling in _plainer_spellings(word)))
        scores = max(plainer, key=lambda found: max(found[: len(ANSWERS)]), default=None)
    return (lexicon.spelling(word), False) if scores is None else (scores, True)


def _plainer_spellings(word: str) -> Iterator[str]:
    """Without an English 's; without letters held for effect ("holaaaa", "goooood")."""
    if word.endswith("'s"):
        yield word[:-2]
    if _ELONGATED.search(word):
        yield _ELONGATED.sub(r"\1", word)
        yield _ELONGATED.sub(r"\1\1", word)


def _listed_scores(word: str, lexicon: Lexicon) -> list[float] | None:
    """What the vocabulary and the lexicon say of a word; None when neither has it."""
    decisive = DECISIVE.get(word)
    if decisive:
        return [_DECISIVE if language in decisive else _DECISIVE_ELSEWHERE for language in lexicon.languages]
    scores = lexicon.word(word)
    for language in ABBREVIATIONS.get(word, ()):
        scores = scores or list(lexicon.unseen)
        index = lexicon.languages.index(language)
        scores[index] = max(scores[index], _ABBREVIATION)
    return scores
