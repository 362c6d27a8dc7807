import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sms_foundation.core.segments import Ucs2Character, count_segments, ucs2_characters
from sms_foundation.core.smart_encoding import (
    ForcingCharacter,
    Preview,
    gsm7_replacement,
    preview,
    smart_encode,
)

NO_GSM7 = "😀中çя\u0301\ud800"
REPLACEABLE = "“”‘’–—…½«»•\u00a0\u2009\t\u200b\ufeff\u202a！Ａ｀"
TEXTS = st.text(st.sampled_from("ab €\n" + REPLACEABLE), max_size=200) | st.text(
    st.sampled_from("ab €\n" + REPLACEABLE + NO_GSM7), max_size=200
)
EVERY_CHARACTER = [chr(code) for code in range(0x10000)]  # of the basic plane


class TestGsm7Replacement:
    @pytest.mark.parametrize(
        ("characters", "replacement"),
        [
            ("“”„‟«»＂〝〞❝❞ʺˮ", '"'),
            ("‘’‛´`ʹʻʼʽˈˊˋ＇❛❜", "'"),
            ("‐–—―•⁃－﹣", "-"),
            ("\u2011\u2012\u2212", "-"),  # no-break hyphen, figure dash, minus
            ("…", "..."),
            ("‼", "!!"),
            ("¼", "1/4"),
            ("½", "1/2"),
            ("¾", "3/4"),
            ("÷⁄∕／", "/"),
            ("‹", "<"),
            ("›", ">"),
            ("‚，、", ","),
            ("\u00a0\u2000\u2001\u2003\u2007\u2009\u202f\u3000\t\u2028", " "),
            ("\u200b\u200c\u200d\u2060\ufeff\u00ad\u0000", ""),
            ("\u202a\u202c\u2066\u2069", ""),
        ],
    )
    def test_typography(self, characters: str, replacement: str) -> None:
        assert {gsm7_replacement(each) for each in characters} == {replacement}

    def test_full_width_ascii(self) -> None:
        printable = "".join(map(chr, range(0x21, 0x7F)))
        full_width = "".join(chr(ord(each) + 0xFEE0) for each in printable)

        assert "".join(gsm7_replacement(each) or "" for each in full_width) == printable.replace("`", "'")

    @pytest.mark.parametrize("character", "áíóúçâêôãõÀőșłÁ中я😀\u0301\u0302\u0303\u0326")
    def test_letters_and_their_accents_are_nobodys_guess(self, character: str) -> None:
        assert gsm7_replacement(character) is None

    def test_gsm7_itself_needs_none(self) -> None:
        assert {gsm7_replacement(each) for each in EVERY_CHARACTER if not ucs2_characters(each)} == {None}

    def test_every_one_is_gsm7_and_short(self) -> None:
        replacements = {each: found for each in EVERY_CHARACTER if (found := gsm7_replacement(each)) is not None}

        assert len(replacements) > 300
        assert all(len(found) <= 3 and count_segments(found) == ("GSM-7", 1) for found in replacements.values())

    def test_no_space_grows_and_nothing_visible_vanishes(self) -> None:
        for character in EVERY_CHARACTER:
            if unicodedata.category(character) in {"Zs", "Zl", "Zp"} and character not in " \u1680":
                assert gsm7_replacement(character) == " "
            if gsm7_replacement(character) == "":
                assert unicodedata.category(character) in {"Cc", "Cf", "Mn"}


class TestSmartEncode:
    def test_makes_a_typographic_text_gsm7(self) -> None:
        assert smart_encode("“It’s 5\u00a0o’clock” – come… ½\u200b") == "\"It's 5 o'clock\" - come... 1/2"

    def test_composed_accents_of_gsm7_stay(self) -> None:
        assert smart_encode("“é è à ñ ü”") == '"é è à ñ ü"'

    @pytest.mark.parametrize("text", ["“Hi” 😀", "«ça va»", "e\u0302 …", "سلام\u200cها"])
    def test_leaves_a_text_alone_that_stays_ucs2(self, text: str) -> None:
        assert smart_encode(text) == text

    def test_leaves_a_text_alone_that_would_cost_more(self) -> None:
        assert count_segments("…" * 70) == ("UCS-2", 1)
        assert count_segments("." * 210) == ("GSM-7", 2)
        assert smart_encode("…" * 70) == "…" * 70
        assert smart_encode("…" * 53) == "." * 159

    @given(TEXTS)
    def test_is_idempotent(self, text: str) -> None:
        assert smart_encode(smart_encode(text)) == smart_encode(text)

    @given(TEXTS)
    @example("…" * 70)
    @example("^" * 69 + "“")
    def test_never_costs_more(self, text: str) -> None:
        assert count_segments(smart_encode(text))[1] <= count_segments(text)[1]

    @given(TEXTS)
    def test_gives_gsm7_or_the_text_itself(self, text: str) -> None:
        encoded = smart_encode(text)

        assert encoded == text or not ucs2_characters(encoded)

    @given(TEXTS)
    def test_keeps_the_text_only_for_want_of_a_replacement_or_for_the_price(self, text: str) -> None:
        if smart_encode(text) != text or not ucs2_characters(text):
            return
        replacements = {found.character: found.replacement for found in preview(text).forcing}
        if None not in replacements.values():
            replaced = "".join(replacements.get(each) or ("" if each in replacements else each) for each in text)
            assert count_segments(replaced)[1] > count_segments(text)[1]


class TestUcs2Characters:
    def test_are_listed_once_in_order_of_first_appearance(self) -> None:
        assert ucs2_characters("a“b😀”“c") == [
            Ucs2Character("“", (1, 5)),
            Ucs2Character("😀", (3,)),
            Ucs2Character("”", (4,)),
        ]

    def test_gsm7_has_none(self) -> None:
        assert ucs2_characters("Hello {world} €5 à la Ω\r\n") == []

    @given(st.text(st.sampled_from("aé€" + REPLACEABLE + NO_GSM7)))
    def test_are_there_exactly_in_ucs2_and_where_they_say(self, text: str) -> None:
        found = ucs2_characters(text)

        assert (count_segments(text)[0] == "UCS-2") == bool(found)
        assert all(text[position] == character for character, positions in found for position in positions)
        without = "".join(each for each in text if each not in {character for character, _ in found})
        assert len(without) + sum(len(positions) for _, positions in found) == len(text)
        assert count_segments(without)[0] == "GSM-7"


class TestPreview:
    def test_tells_what_forces_ucs2_and_what_smart_encoding_saves(self) -> None:
        text = "“" + "x" * 150 + "”…”"

        assert preview(text) == Preview(
            encoding="UCS-2",
            segments=3,
            forcing=(ForcingCharacter("“", 1, '"'), ForcingCharacter("”", 2, '"'), ForcingCharacter("…", 1, "...")),
            body_after='"' + "x" * 150 + '"..."',
            encoding_after="GSM-7",
            segments_after=1,
        )

    def test_tells_what_cannot_be_replaced(self) -> None:
        assert preview("’😀") == Preview(
            encoding="UCS-2",
            segments=1,
            forcing=(ForcingCharacter("’", 1, "'"), ForcingCharacter("😀", 1, None)),
            body_after="’😀",
            encoding_after="UCS-2",
            segments_after=1,
        )

    def test_plain_text_is_what_it_is(self) -> None:
        assert preview("hello") == Preview("GSM-7", 1, (), "hello", "GSM-7", 1)
