"""Passwords: how they are stored, and that comparing costs the same for everybody and never too much at once."""

import asyncio
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pwdlib.hashers.argon2 import Argon2Hasher

from sms_foundation.auth.people import passwords as module
from sms_foundation.auth.people.emails import canonical_email, find_email
from sms_foundation.auth.people.passwords import Passwords, Verdict, check_password
from sms_foundation.auth.people.secret_texts import SecretKind, find_digest, generate_secret
from sms_foundation.core.batching import OverloadedError

PASSWORD = "four words are enough"


class TestPasswords:
    async def test_are_stored_as_argon2id_each_in_its_own_way(self) -> None:
        passwords = Passwords()
        one, other = await passwords.hash(PASSWORD), await passwords.hash(PASSWORD)

        assert one.startswith("$argon2id$v=19$m=65536,")
        assert one != other
        assert await passwords.verify(PASSWORD, one) == Verdict(is_right=True)
        assert await passwords.verify("another one entirely", one) == Verdict(is_right=False)

    async def test_of_nobody_are_wrong_and_cost_the_same(self) -> None:
        """The hash that stands in for nobody's has the parameters of everybody's."""
        assert await Passwords().verify(PASSWORD, None) == Verdict(is_right=False)
        assert not Argon2Hasher().check_needs_rehash(module._NOBODY)

    async def test_with_parameters_of_the_past_get_a_new_hash_when_they_are_right(self) -> None:
        passwords = Passwords()
        old = Argon2Hasher(time_cost=1, memory_cost=8192, parallelism=1).hash(PASSWORD)
        right, wrong = await passwords.verify(PASSWORD, old), await passwords.verify("another one entirely", old)

        assert right.is_right
        assert right.new_hash is not None
        assert await passwords.verify(PASSWORD, right.new_hash) == Verdict(is_right=True)
        assert wrong == Verdict(is_right=False)

    async def test_no_more_than_two_are_hashed_at_once_and_the_loop_goes_on(self) -> None:
        passwords = Passwords()
        at_once: list[int] = []
        running = 0
        lock = threading.Lock()

        class Counting:
            def hash(self, password: str) -> str:
                nonlocal running
                with lock:
                    running += 1
                    at_once.append(running)
                hashed = Argon2Hasher(time_cost=1, memory_cost=8192, parallelism=1).hash(password)
                with lock:
                    running -= 1
                return hashed

        hashing: Any = Counting()
        passwords._hashing = hashing
        await asyncio.gather(*(passwords.hash(PASSWORD) for _ in range(12)))

        assert len(at_once) == 12
        assert max(at_once) <= 2

    async def test_too_many_at_once_are_sent_away(self) -> None:
        passwords = Passwords()
        results = await asyncio.gather(
            *(passwords.verify(PASSWORD, None) for _ in range(module._MOST_WAITING + 5)), return_exceptions=True
        )

        assert [type(each) for each in results].count(OverloadedError) == 5

    def test_never_show(self) -> None:
        assert "s3cr3t" not in repr(Verdict(is_right=True, new_hash="s3cr3t"))


class TestCheckPassword:
    @given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=0, max_size=11))
    def test_what_is_short_however_it_is_composed_is_refused_or_grows(self, password: str) -> None:
        try:
            check_password(password, email="ana@example.com")
        except ValueError as error:
            assert "12 to 128" in str(error)  # noqa: PT017  # longer spellings of the same letters are fine


class TestEmails:
    @given(st.text(max_size=40))
    def test_have_one_spelling(self, text: str) -> None:
        found = find_email(text)
        assert found is None or canonical_email(found) == found

    @pytest.mark.parametrize("text", ["", "@", "a@", "@b", "a b@c", "a@b c", "a@b@c", "a\n@b", "a@" + "b" * 300])
    def test_what_is_none_is_refused(self, text: str) -> None:
        assert find_email(text) is None


class TestSecretTexts:
    def test_hold_256_random_bits_behind_what_they_are(self) -> None:
        secrets = {generate_secret(SecretKind.REFRESH).text for _ in range(100)}

        assert len(secrets) == 100
        assert all(each.startswith("sf_refresh_") and len(each) == 11 + 43 for each in secrets)

    def test_are_found_by_their_digest_and_their_kind(self) -> None:
        made = generate_secret(SecretKind.INVITATION)

        assert find_digest(SecretKind.INVITATION, made.text) == made.digest
        assert find_digest(SecretKind.REFRESH, made.text) is None
        assert find_digest(SecretKind.INVITATION, made.text + "\n") is None

    def test_never_show(self) -> None:
        made = generate_secret(SecretKind.INVITATION)

        assert made.text not in repr(made)
