import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sms_foundation.core.segments import count_segments

EXAMPLES = [
    json.loads(line)
    for line in (Path(__file__).parents[1] / "fixtures/segmentation.jsonl").read_text(encoding="utf-8").splitlines()
]
GSM7_BASIC = (
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿"
    "abcdefghijklmnopqrstuvwxyzäöñüà"
)
GSM7_EXTENSION = "\f^{}\\[~]|€"


def count_by_greedy_packing(text: str) -> int:
    """The definition, character by character: fill a part, never cut a character, open the next."""
    is_gsm7 = set(text) <= set(GSM7_BASIC + GSM7_EXTENSION)
    if is_gsm7:
        widths, single, part = [2 if character in GSM7_EXTENSION else 1 for character in text], 160, 153
    else:
        widths, single, part = [2 if ord(character) > 0xFFFF else 1 for character in text], 70, 67
    if sum(widths) <= single:
        return 1
    parts, room = 1, part
    for width in widths:
        if width > room:
            parts, room = parts + 1, part
        room -= width
    return parts


class TestCountSegments:
    @pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example["id"])
    def test_published_example(self, example: dict[str, Any]) -> None:
        encoding, segments = count_segments(example["text"])

        assert encoding == example["encoding"]
        assert segments in example["accept_segments"]
        assert segments == example["segments"]

    def test_default_alphabet_has_127_characters_and_all_are_gsm7(self) -> None:
        assert len(set(GSM7_BASIC)) == 127
        assert count_segments(GSM7_BASIC) == ("GSM-7", 1)

    @pytest.mark.parametrize("character", list("\tçáíóúâêôãõ`\u00a0“”‘’–—…\x1b\x00\x0b\x7f"))
    def test_common_trap_is_not_gsm7(self, character: str) -> None:
        assert count_segments(f"a{character}") == ("UCS-2", 1)

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("x" * 160, ("GSM-7", 1)),
            ("x" * 161, ("GSM-7", 2)),
            ("x" * 307, ("GSM-7", 3)),
            ("€" * 80, ("GSM-7", 1)),
            ("€" * 81, ("GSM-7", 2)),
            ("x" * 152 + "€" + "x" * 151, ("GSM-7", 2)),
            ("x" * 152 + "€" + "x" * 152, ("GSM-7", 3)),
            ("ç" * 70, ("UCS-2", 1)),
            ("ç" * 71, ("UCS-2", 2)),
            ("ç" * 135, ("UCS-2", 3)),
            ("😀" * 35, ("UCS-2", 1)),
            ("😀" * 36, ("UCS-2", 2)),
            ("ç" * 66 + "😀" + "ç" * 65, ("UCS-2", 2)),
            ("ç" * 66 + "😀" + "ç" * 66, ("UCS-2", 3)),
        ],
    )
    def test_boundary(self, text: str, expected: tuple[str, int]) -> None:
        assert count_segments(text) == expected

    @given(st.text(st.sampled_from(GSM7_BASIC + GSM7_EXTENSION * 8), max_size=1200))
    def test_gsm7_agrees_with_the_definition(self, text: str) -> None:
        assert count_segments(text) == ("GSM-7", count_by_greedy_packing(text))

    @given(st.text(st.sampled_from("aç€😀🇧中"), max_size=600))
    def test_any_alphabet_agrees_with_the_definition(self, text: str) -> None:
        assert count_segments(text)[1] == count_by_greedy_packing(text)

    @given(st.text(st.sampled_from("a\ud83d\ude00é"), max_size=300))
    def test_lone_surrogates_are_units_like_any_other(self, text: str) -> None:
        _, segments = count_segments(text)

        assert segments >= 1

    @given(st.text(max_size=400))
    def test_a_prefix_never_costs_more(self, text: str) -> None:
        """Within one encoding; dropping the only character outside GSM-7 changes the whole arithmetic."""
        encoding, segments = count_segments(text)
        shorter_encoding, shorter_segments = count_segments(text[:-1])

        assert shorter_segments <= segments or shorter_encoding != encoding
