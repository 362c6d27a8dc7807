import pytest

from sms_foundation.enrichment.language.vocabulary import has_no_language, is_only_a_name_or_address, is_sound


class TestIsSound:
    @pytest.mark.parametrize(
        "word", ["ok", "okay", "kkk", "jajaja", "ajaja", "hahaha", "hehe", "rsrs", "hmm", "lol", "wow", "aaaa"]
    )
    def test_laughter_and_hesitation_are_sounds(self, word: str) -> None:
        assert is_sound(word)

    @pytest.mark.parametrize("word", ["no", "ya", "oi", "he", "ha", "hi", "rs232", "okra", "si", "e", "ay"])
    def test_words_are_not(self, word: str) -> None:
        assert not is_sound(word)


class TestHasNoLanguage:
    @pytest.mark.parametrize("word", ["no", "nooo", "stop", "help", "zelle", "hotel", "qwerty", "a"])
    def test_words_that_say_nothing_alone(self, word: str) -> None:
        assert has_no_language(word)

    @pytest.mark.parametrize("word", ["si", "yes", "não", "nothing", "nosotros"])
    def test_words_that_say_something(self, word: str) -> None:
        assert not has_no_language(word)


class TestIsOnlyANameOrAddress:
    @pytest.mark.parametrize(
        "text",
        [
            "Maria",
            "Rosa Perez",
            "Juan Carlos Ramirez",
            "90 State St",
            "45 elm ave.",
            "45 Elm Ave, New Haven CT",
            "123 Main St Apt 4B",
            "Hartford, CT",
            "Bridgeport CT 06604",
            " 1208 Grand Ave ",
        ],
    )
    def test_names_and_addresses(self, text: str) -> None:
        assert is_only_a_name_or_address(text)

    @pytest.mark.parametrize(
        "text",
        [
            "maria",
            "MARIA CALLED",
            "Maria llegó",
            "Maria called me",
            "Gracias",
            "Yes, OK",
            "Call ME",
            "Not OK",
            "Casa DE",
            "3 cars on my street",
            "123 Main St is flooded",
            "5 people came this way",
            "Hello Mr Perez",
            "",
            "x" * 100000,
        ],
    )
    def test_everything_else(self, text: str) -> None:
        assert not is_only_a_name_or_address(text)
