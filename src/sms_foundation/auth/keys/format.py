"""How an API key looks: `sf_live_k3J9x2Qa_<43 characters of secret><6 of checksum>`.

All but the last part is the prefix, which may be shown anywhere. The secret is 256 random bits; the
checksum tells a mistyped or cut-off key from a wrong one without asking anybody, and lets scanners find leaked ones.
"""

import hashlib
import re
import secrets
import zlib
from dataclasses import dataclass, field

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_ID_LENGTH = 8
_SECRET_LENGTH = 43  # 62^43 > 2^256 > 62^42
_CHECKSUM_LENGTH = 6  # 62^6 > 2^32
_is_key = re.compile(
    rf"sf_(?:live|test)_[0-9A-Za-z]{{{_ID_LENGTH}}}_[0-9A-Za-z]{{{_SECRET_LENGTH + _CHECKSUM_LENGTH}}}"
).fullmatch


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key just made: `text` is for its owner, once; `prefix` and `digest` are what is stored."""

    text: str = field(repr=False)
    prefix: str
    digest: bytes = field(repr=False)


def generate_key(*, is_test: bool) -> NewKey:
    """Make a key of 256 random bits."""
    identifier = "".join(secrets.choice(_ALPHABET) for _ in range(_ID_LENGTH))
    prefix = f"sf_{'test' if is_test else 'live'}_{identifier}"
    start = f"{prefix}_{_base62(secrets.randbits(256), _SECRET_LENGTH)}"
    return as_new_key(start + _checksum(start))


def as_new_key(text: str) -> NewKey:
    """Return a well-formed key that was made elsewhere, as one to be stored."""
    return NewKey(text, prefix_of(text), digest_of(text))


def is_well_formed(text: str) -> bool:
    """Tell whether `text` looks like a key and its checksum is right; says nothing about whether it is one."""
    return _is_key(text) is not None and text[-_CHECKSUM_LENGTH:] == _checksum(text[:-_CHECKSUM_LENGTH])


def prefix_of(text: str) -> str:
    """Return the visible part of a well-formed key."""
    return text.rpartition("_")[0]


def is_test_key(text: str) -> bool:
    """Tell whether a well-formed key is one for tests."""
    return text.startswith("sf_test_")


def digest_of(text: str) -> bytes:
    """Return what stands in the database for a secret: its SHA-256. Slow hashes are for what people can remember."""
    return hashlib.sha256(text.encode()).digest()


def _checksum(text: str) -> str:
    return _base62(zlib.crc32(text.encode()), _CHECKSUM_LENGTH)


def _base62(number: int, length: int) -> str:
    digits = []
    for _ in range(length):
        number, digit = divmod(number, 62)
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))
