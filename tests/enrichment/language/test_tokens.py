import pytest

from sms_foundation.enrichment.language.tokens import MOST_WORDS, words_of


class TestWordsOf:
    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("¿Cuándo vienen?", ["¿", "cuándo", "vienen"]),
            ("DON’T go", ["don't", "go"]),
            ("o`clock", ["o'clock"]),
            ("apt 4B at 9am, 2moro", ["apt", "at"]),
            ("see https://example.com/hola and www.example.org", ["see", "and"]),
            ("mail ana@example.com now", ["mail", "now"]),
            ("foto: IMG_1.jpg lista", ["foto", "lista"]),
            ("@maria hola #agua", ["hola", "agua"]),
            ("fish &amp; chips", ["fish", "chips"]),
            ("caf\u0065\u0301", ["café"]),
            ("snake_case", ["snake", "case"]),
            ("", []),
        ],
    )
    def test_words_are_lower_case_and_free_of_what_is_not_language(self, text: str, words: list[str]) -> None:
        assert words_of(text) == words

    def test_the_number_of_words_is_bounded(self) -> None:
        assert len(words_of("si " * 10_000)) == MOST_WORDS

    def test_a_word_longer_than_any_in_a_dictionary_is_left_out(self) -> None:
        assert words_of("a" * 31 + " casa") == ["casa"]
