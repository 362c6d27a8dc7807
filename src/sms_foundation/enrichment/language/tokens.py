"""The words of a text message, in the form the lexicon knows them."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

LONGEST_TEXT: Final = 2_000  # characters looked at: more than ten SMS segments; the rest cannot change the verdict
MOST_WORDS: Final = 80
_LONGEST_WORD: Final = 30  # the lexicon has none longer

_NOT_LANGUAGE: Final = re.compile(
    r"""https?://\S+ | www\.\S+ | \S+@\S+\.\S+ | (?<!\w)@\w+ | &\w+;
    | \S+\.(?:com|org|net|edu|gov|info|app|html?|php|jpe?g|png|gif|pdf|docx?|heic|mp[34]|mov)\b\S*""",
    re.VERBOSE | re.IGNORECASE,
)
_WORD: Final = re.compile(r"[^\W_]+(?:'[^\W_]+)*")
_DIGIT: Final = re.compile(r"\d")


def words_of(text: str) -> list[str]:
    """Lower-case, composed words without links, addresses, file names, mentions, and anything with a digit in it.

    At most `MOST_WORDS`, from the first `LONGEST_TEXT` characters. An apostrophe is part of a word and always straight.
    """
    text = unicodedata.normalize("NFC", text[:LONGEST_TEXT]).replace("’", "'").replace("`", "'").replace("´", "'")
    words = _WORD.findall(_NOT_LANGUAGE.sub(" ", text).lower())
    return [word for word in words[: 2 * MOST_WORDS] if len(word) <= _LONGEST_WORD and not _DIGIT.search(word)][
        :MOST_WORDS
    ]
