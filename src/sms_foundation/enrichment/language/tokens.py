"""The words of a text message, in the form the lexicon knows them."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

LONGEST_TEXT: Final = 2_000  # characters looked at: more than ten SMS segments; the rest cannot change the verdict
MOST_WORDS: Final = 60
_LONGEST_WORD: Final = 30  # the lexicon has none longer

# Every pattern begins with something fixed and is tried on one run of characters, so that no text takes long.
_LINK: Final = re.compile(r"(?:https?://|www\.).*")
_FILE_OR_HOST: Final = re.compile(
    r"[^.]\.(?:com|org|net|edu|gov|info|app|html?|php|jpe?g|png|gif|pdf|docx?|heic|mp[34]|mov)\b"
)
_ENTITY: Final = re.compile(r"&[a-z]{2,6};")
_WORD: Final = re.compile(r"[^\W_]+(?:'[^\W_]+)*|[¿¡]")
_DIGIT: Final = re.compile(r"\d")
_STRAIGHT_APOSTROPHE: Final = str.maketrans("’`´", "'''")


def words_of(text: str) -> list[str]:
    """Lower-case, composed words without links, addresses, file names, mentions, and anything with a digit in it.

    At most `MOST_WORDS`, from the first `LONGEST_TEXT` characters. An apostrophe is part of a word and always straight;
    "¿" and "¡", with which only Spanish opens a sentence, are words of their own.
    """
    text = unicodedata.normalize("NFC", text[:LONGEST_TEXT]).lower().translate(_STRAIGHT_APOSTROPHE)
    words: list[str] = []
    for run in text.split():
        run = _ENTITY.sub(" ", _LINK.sub("", run))
        if "@" not in run and not _FILE_OR_HOST.search(run):
            words += [word for word in _WORD.findall(run) if len(word) <= _LONGEST_WORD and not _DIGIT.search(word)]
        if len(words) >= MOST_WORDS:
            break
    return words[:MOST_WORDS]
