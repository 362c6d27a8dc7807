"""Passwords: which are good enough, and argon2id, which is slow and takes 64 MiB, so only few at a time."""

import asyncio
import unicodedata
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeVar

from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher

from sms_foundation.core.batching import OverloadedError
from sms_foundation.core.saturation import Use

T = TypeVar("T")

MIN_LENGTH: Final = 12
MAX_LENGTH: Final = 128
_AT_ONCE = 2
_MOST_WAITING = 32  # about 2 s of work
# Of no password anybody has. It is compared with where there is nobody, so that an address without an account takes as
# long as one with a wrong password. A test holds its parameters against those in use.
_NOBODY = "$argon2id$v=19$m=65536,t=3,p=4$Qx6PhlpWjkitY/H/EDXlbQ$AB1+EuzY48AI1tBD8d3euuOwHlCLIYeT+CoiWEgS19U"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a password is right. `new_hash`: what to store instead, where the parameters have changed since."""

    is_right: bool
    new_hash: str | None = field(default=None, repr=False)


class Passwords:
    """Hashes and compares passwords beside the event loop. Raises OverloadedError when too many wait."""

    def __init__(self) -> None:
        self._hashing = PasswordHash((Argon2Hasher(),))
        self._room = asyncio.Semaphore(_AT_ONCE)
        self._waiting = 0
        self._errors = Counter(full=0)

    def use(self) -> Use:
        """Tell how many are compared at the moment, and how many wait."""
        return Use(_AT_ONCE, min(self._waiting, _AT_ONCE), max(self._waiting - _AT_ONCE, 0), self._errors)

    async def hash(self, password: str) -> str:
        """Return the argon2id hash of a password."""
        return await self._run(lambda: self._hashing.hash(_normal(password)))

    async def verify(self, password: str, stored: str | None) -> Verdict:
        """Compare with a stored hash. None, where nobody has one: takes as long, and is wrong."""
        is_right, new_hash = await self._run(
            lambda: self._hashing.verify_and_update(_normal(password), stored or _NOBODY)
        )
        return Verdict(is_right and stored is not None, new_hash)

    async def _run(self, work: Callable[[], T]) -> T:
        if self._waiting >= _MOST_WAITING:
            self._errors["full"] += 1
            raise OverloadedError("too many people are logging in", retry_after_s=3)
        self._waiting += 1
        try:
            async with self._room:
                return await asyncio.to_thread(work)
        finally:
            self._waiting -= 1


def check_password(password: str, *, email: str) -> None:
    """Raise ValueError that says what is wrong with a new password, for people."""
    length = len(_normal(password))
    if not MIN_LENGTH <= length <= MAX_LENGTH:
        raise ValueError(f"must have {MIN_LENGTH} to {MAX_LENGTH} characters")
    if _normal(password).strip().lower() == email:
        raise ValueError("must not be the address")


def _normal(password: str) -> str:
    """Return the one spelling of what looks the same: keyboards differ in how they compose an é."""
    return unicodedata.normalize("NFKC", password)
