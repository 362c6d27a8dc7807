"""How a key looks: recognisable, checked without asking anybody, and 256 bits that nobody can guess."""

import hashlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sms_foundation.auth.keys.format import (
    as_new_key,
    digest_of,
    generate_key,
    is_test_key,
    is_well_formed,
    prefix_of,
)
from tests.support.access import ADMIN_KEY

KEY = ADMIN_KEY


class TestGenerateKey:
    @pytest.mark.parametrize(("is_test", "kind"), [(False, "live"), (True, "test")])
    def test_has_kind_prefix_secret_and_checksum(self, is_test: bool, kind: str) -> None:
        key = generate_key(is_test=is_test)

        assert re.fullmatch(rf"sf_{kind}_[0-9A-Za-z]{{8}}_[0-9A-Za-z]{{49}}", key.text)
        assert is_well_formed(key.text)
        assert is_test_key(key.text) is is_test
        assert key.prefix == prefix_of(key.text) == key.text[: len(f"sf_{kind}_") + 8]
        assert key.digest == hashlib.sha256(key.text.encode()).digest()

    def test_never_makes_the_same_twice_and_uses_all_of_256_bits(self) -> None:
        keys = [generate_key(is_test=False).text for _ in range(500)]

        assert len(set(keys)) == len({prefix_of(key) for key in keys}) == 500
        numbers = [_secret(key) for key in keys]
        assert max(numbers) < 2**256
        for bit in range(256):  # each is set about half of the time; never fails by chance in a lifetime
            assert 150 < sum(number >> bit & 1 for number in numbers) < 350, bit

    def test_does_not_show_itself(self) -> None:
        key = generate_key(is_test=False)

        assert key.text not in repr(key)
        assert key.text not in str(key)
        assert repr(key.digest) not in repr(key)
        assert key.prefix in repr(key)


class TestIsWellFormed:
    @given(
        st.integers(0, len(KEY) - 1), st.sampled_from("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_")
    )
    def test_one_wrong_character_is_seen(self, at: int, character: str) -> None:
        mistyped = KEY[:at] + character + KEY[at + 1 :]

        assert is_well_formed(mistyped) == (mistyped == KEY)

    @given(st.integers(0, len(KEY) - 1))
    def test_a_key_cut_off_is_seen(self, length: int) -> None:
        assert not is_well_formed(KEY[:length])

    @given(st.integers(0, len(KEY) - 2))
    def test_two_characters_that_changed_places_are_seen(self, at: int) -> None:
        swapped = KEY[:at] + KEY[at + 1] + KEY[at] + KEY[at + 2 :]

        assert is_well_formed(swapped) == (swapped == KEY)

    @given(st.text(max_size=100))
    def test_nothing_else_is_a_key(self, text: str) -> None:
        assert not is_well_formed(text)

    @pytest.mark.parametrize("text", [KEY + "\n", " " + KEY, KEY.upper(), KEY.replace("live", "test"), KEY + KEY, ""])
    def test_almost_a_key_is_none(self, text: str) -> None:
        assert not is_well_formed(text)


class TestAsNewKey:
    def test_is_stored_like_one_that_was_made_here(self) -> None:
        key = as_new_key(KEY)

        assert (key.text, key.prefix, key.digest) == (KEY, prefix_of(KEY), digest_of(KEY))


def _secret(key: str) -> int:
    alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    number = 0
    for character in key.rpartition("_")[2][:43]:
        number = number * 62 + alphabet.index(character)
    return number
