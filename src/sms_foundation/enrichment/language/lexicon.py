"""The detector's word and spelling statistics, read from one compressed file.

File format, after gzip: one line of JSON (the header), then two tables of UTF-8 lines in byte order.

- Words: `word TAB cells`. A cell is two characters: the letter of a language's column and a level. Missing = unseen.
- N-grams of `^word$`: `n-gram TAB levels`, one level per language in the header's order.

A level is the position of a character in the header's `levels`; times `-step` it is a natural logarithm: of the word's
share of all words, or of the probability of the n-gram's last character after the others.

Nothing is parsed on loading: a lookup searches the few kilobytes between two neighbouring samples of the table, which
keeps a quarter of a million words at the size of their text and loading at the time of decompression.
"""

from __future__ import annotations

import gzip
import json
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path
from typing import Final

_SAMPLE_EVERY_BYTES: Final = 2048


class _Table:
    """Sorted `\\nkey TAB value` lines with a sparse index."""

    def __init__(self, lines: bytes) -> None:
        self._lines = lines
        self._keys: list[bytes] = []
        self._offsets: list[int] = []
        offset = lines.find(b"\n", 0, len(lines) - 1)  # the last line feed ends a line and begins none
        while offset != -1:
            self._keys.append(lines[offset + 1 : lines.index(b"\t", offset + 1)])
            self._offsets.append(offset)
            offset = lines.find(b"\n", offset + _SAMPLE_EVERY_BYTES, len(lines) - 1)
        self._offsets.append(len(lines))

    def find(self, key: bytes) -> bytes | None:
        """The value of `key`, which must hold neither a tab nor a line feed."""
        block = bisect_right(self._keys, key)
        if not block:
            return None
        start = self._lines.find(b"\n%b\t" % key, self._offsets[block - 1], self._offsets[block])
        if start == -1:
            return None
        start += len(key) + 2
        return self._lines[start : self._lines.index(b"\n", start)]


class Lexicon:
    """Logarithms of probabilities per language, in the order of `languages`, for words and for spellings."""

    def __init__(self, path: Path, *, answers: Sequence[str], unseen: float, unseen_elsewhere: float) -> None:
        """Read `path`, whose first columns must be `answers`.

        A language that does not list a word scores `unseen` for it, or `unseen_elsewhere` when it is not an answer.
        Raises OSError or ValueError when the file is missing or not such a file.
        """
        content = gzip.decompress(path.read_bytes())
        header_end = content.index(b"\n")
        header = json.loads(content[:header_end])
        words_end = header_end + int(header["words_bytes"])
        self.languages: tuple[str, ...] = tuple(header["languages"])
        if self.languages[: len(answers)] != tuple(answers):
            raise ValueError(f"{path.name} begins with {self.languages[: len(answers)]}, not with {tuple(answers)}")
        self.unseen: tuple[float, ...] = tuple(
            unseen if lang in answers else unseen_elsewhere for lang in self.languages
        )
        self._column = {ord(letter): index for index, letter in enumerate(header["columns"])}
        self._value = [0.0] * 128
        for index, letter in enumerate(header["levels"]):
            self._value[ord(letter)] = -index * float(header["step"])
        self._order = int(header["order"])
        self._words = _Table(content[header_end:words_end])
        self._ngrams = _Table(content[words_end:])

    def word(self, word: str) -> list[float] | None:
        """Log frequency of a lower-case word per language, `unseen` where it has none; None for an unknown word."""
        cells = self._words.find(_encode(word))
        if cells is None:
            return None
        scores = list(self.unseen)
        for i in range(0, len(cells), 2):
            scores[self._column[cells[i]]] = self._value[cells[i + 1]]
        return scores

    def spelling(self, word: str) -> list[float]:
        """Log probability per language that a lower-case word is spelled like this.

        Only differences between languages mean something: characters that no language has a row for add nothing.
        """
        text = f"^{word}$"
        totals = [0.0] * len(self.languages)
        for end in range(2, len(text) + 1):
            for index, level in enumerate(self._longest_row(text, end)):
                totals[index] += self._value[level]
        return totals

    def _longest_row(self, text: str, end: int) -> bytes:
        for start in range(max(0, end - self._order), end):
            row = self._ngrams.find(_encode(text[start:end]))
            if row is not None:
                return row
        return b""


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "replace")  # a lone surrogate becomes "?", which no key holds
