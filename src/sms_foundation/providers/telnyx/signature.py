"""Telnyx's signed webhooks: Ed25519 over the time and the raw body, with the account's public key.

Source: https://developers.telnyx.com/docs/messaging/messages/receiving-webhooks (webhook signing), November 2026.
"""

import base64
import binascii
from collections.abc import Iterable
from datetime import datetime
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from sms_foundation.providers.callback import check_recent
from sms_foundation.providers.errors import NotAuthenticError

SIGNATURE_HEADER: Final = b"telnyx-signature-ed25519"
TIMESTAMP_HEADER: Final = b"telnyx-timestamp"


def read_public_key(text: str) -> Ed25519PublicKey:
    """Read a public key as Telnyx shows it: base64 of 32 bytes. Raises ValueError when it is none."""
    try:
        return Ed25519PublicKey.from_public_bytes(base64.b64decode(text, validate=True))
    except ValueError:  # binascii.Error is one
        raise ValueError("must be the base64 of an Ed25519 public key") from None


def check_signature(
    signature: bytes,
    timestamp: bytes,
    body: bytes,
    *,
    keys: Iterable[Ed25519PublicKey],
    now: datetime,
    tolerance_s: float,
) -> None:
    """Return when `body` was signed with one of `keys`, not longer ago than `tolerance_s`. Raises NotAuthenticError."""
    if not signature or not timestamp:
        raise NotAuthenticError("missing_signature")
    try:
        given = base64.b64decode(signature, validate=True)
    except binascii.Error:
        raise NotAuthenticError("malformed_signature") from None
    if not any(_is_signed(key, given, timestamp + b"|" + body) for key in keys):
        raise NotAuthenticError("invalid_signature")
    check_recent(timestamp.decode("latin-1"), now=now, tolerance_s=tolerance_s)


def _is_signed(key: Ed25519PublicKey, signature: bytes, signed: bytes) -> bool:
    try:
        key.verify(signature, signed)
    except InvalidSignature:
        return False
    return True
