"""The secrets people carry, `sf_invite_...` and `sf_refresh_...`: 256 random bits each, stored as their SHA-256."""

import re
import secrets
from dataclasses import dataclass, field
from enum import StrEnum

from sms_foundation.auth.keys.format import digest_of

_RANDOM_PART = "[A-Za-z0-9_-]{43}"


class SecretKind(StrEnum):
    """What a secret begins with: people and scanners see what it is."""

    INVITATION = "sf_invite_"
    REFRESH = "sf_refresh_"


@dataclass(frozen=True, slots=True)
class NewSecret:
    """A secret just made: `text` is for its owner, once; `digest` is what is stored."""

    text: str = field(repr=False)
    digest: bytes = field(repr=False)


def generate_secret(kind: SecretKind) -> NewSecret:
    """Make a secret of 256 random bits."""
    text = kind + secrets.token_urlsafe(32)
    return NewSecret(text, digest_of(text))


def find_digest(kind: SecretKind, text: str) -> bytes | None:
    """Return what is stored for a secret; None for what cannot be one."""
    return digest_of(text) if re.fullmatch(kind + _RANDOM_PART, text) else None
