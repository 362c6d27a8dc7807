"""The data file as shipped, and the reader on a small file of the same format."""

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sms_foundation.enrichment.language import lexicon as module
from sms_foundation.enrichment.language.lexicon import Lexicon

SHIPPED = Path(module.__file__).parent / "data" / "lexicon.gz"
LETTERS = st.text(st.characters(categories=["Ll"], max_codepoint=0x24F), min_size=1, max_size=12)


def write(path: Path, words: dict[str, str], ngrams: dict[str, str]) -> Path:
    tables = ["".join(f"\n{k}\t{t[k]}" for k in sorted(t, key=str.encode)) + "\n" for t in (words, ngrams)]
    header = {"format": 1, "languages": ["en", "es", "fr"], "columns": "Esf", "levels": "#$%&", "step": 0.5, "order": 3}
    header["words_bytes"] = len(tables[0].encode())
    path.write_bytes(gzip.compress(json.dumps(header).encode() + "".join(tables).encode()))
    return path


def read(path: Path) -> Lexicon:
    return Lexicon(path, answers=("en", "es"), unseen=-9.0, unseen_elsewhere=-7.0)


@pytest.fixture(scope="module")
def shipped() -> Lexicon:
    return Lexicon(SHIPPED, answers=("en", "es", "pt"), unseen=-18.0, unseen_elsewhere=-16.5)


class TestWord:
    def test_levels_are_read_into_their_columns(self, tmp_path: Path) -> None:
        lexicon = read(write(tmp_path / "l.gz", {"sol": "s$f&"}, {}))
        assert lexicon.word("sol") == [-9.0, -0.5, -1.5]

    def test_a_word_that_only_begins_or_ends_like_a_listed_one_is_unknown(self, tmp_path: Path) -> None:
        lexicon = read(write(tmp_path / "l.gz", {"girasol": "s$"}, {}))
        assert [lexicon.word(word) for word in ("sol", "gira", "girasoles", "")] == [None] * 4

    @settings(max_examples=50)
    @given(st.sets(LETTERS, min_size=1, max_size=400), LETTERS)
    def test_exactly_the_listed_words_are_found(
        self, tmp_path_factory: pytest.TempPathFactory, words: set[str], other: str
    ) -> None:
        lexicon = read(write(tmp_path_factory.mktemp("l") / "l.gz", dict.fromkeys(words, "E#"), {}))
        assert all(lexicon.word(word) == [0.0, -9.0, -7.0] for word in words)
        assert (lexicon.word(other) is not None) == (other in words)

    def test_first_and_last_word_of_the_shipped_file_are_found(self, shipped: Lexicon) -> None:
        lines = gzip.decompress(SHIPPED.read_bytes()).split(b"\n\n")[0].split(b"\n")[1:]
        assert all(shipped.word(line.split(b"\t")[0].decode()) for line in (lines[0], lines[-1]))

    def test_bare_spellings_are_listed(self, shipped: Lexicon) -> None:
        bare, accented = shipped.word("calefaccion"), shipped.word("calefacción")
        assert bare is not None
        assert accented is not None
        assert bare[1] < accented[1]

    def test_a_lone_surrogate_is_unknown(self, shipped: Lexicon) -> None:
        assert shipped.word("\ud800") is None


class TestSpelling:
    def test_the_longest_row_counts(self, tmp_path: Path) -> None:
        ngrams = {"a": "###", "b": "###", "$": "###", "^a": "$$$", "^ab": "&#%", "b$": "###"}
        lexicon = read(write(tmp_path / "l.gz", {}, ngrams))
        assert lexicon.spelling("ab") == [-2.0, -0.5, -1.5]

    def test_unknown_characters_favour_nobody(self, shipped: Lexicon) -> None:
        row = shipped.spelling("привет")
        assert max(row) - min(row) < 3.0

    @pytest.mark.parametrize(
        ("word", "language"), [("desconectamiento", "es"), ("desligamentozão", "pt"), ("rebuildingly", "en")]
    )
    def test_an_unlisted_word_is_spelled_like_its_language(self, shipped: Lexicon, word: str, language: str) -> None:
        assert shipped.word(word) is None
        row = shipped.spelling(word)
        assert shipped.languages[row.index(max(row[:3]))] == language


class TestLexicon:
    def test_other_answers_than_the_files_first_columns_are_refused(self) -> None:
        with pytest.raises(ValueError, match="begins with"):
            Lexicon(SHIPPED, answers=("es", "en"), unseen=-1.0, unseen_elsewhere=-1.0)

    def test_a_missing_file_is_an_os_error(self, tmp_path: Path) -> None:
        with pytest.raises(OSError, match=r"none\.gz"):
            read(tmp_path / "none.gz")

    def test_the_attribution_is_shipped_beside_the_data(self) -> None:
        attribution = (SHIPPED.parent / "ATTRIBUTION.md").read_text("utf-8")
        assert "Attribution-ShareAlike 4.0" in attribution
        assert "SUBTLEX" in attribution
