"""Vonage's signed webhooks: a digest over the parameters, sent along as the parameter `sig`.

Of a value, `&` and `=` count as `_`, so one signature fits several texts that differ in these three characters alone:
the scheme's weakness, not ours.

Source: https://developer.vonage.com/en/getting-started/concepts/signing-messages and the official Python client
(`check_signature`), November 2026.
"""

import hmac
from collections.abc import Iterable
from datetime import datetime
from hashlib import md5
from typing import Final, Literal

from sms_foundation.providers.callback import check_recent
from sms_foundation.providers.errors import NotAuthenticError
from sms_foundation.providers.form import Pairs

SIGNATURE_FIELD: Final = "sig"
_TIMESTAMP_FIELD: Final = "timestamp"

# As the account's settings call them; "md5hash" is the one that is no HMAC.
SignatureMethod = Literal["md5hash", "md5", "sha1", "sha256", "sha512"]


def sign(secret: str, method: SignatureMethod, pairs: Pairs) -> str:
    """Return the signature of `pairs` (once decoded, in any order) in hexadecimal; a `sig` among them does not count.

    Bytes that were not UTF-8 must arrive as `surrogateescape`.
    """
    parameters = sorted((name, value) for name, value in pairs if name != SIGNATURE_FIELD)
    text = "".join(f"&{name}={value.translate(_AS_SIGNED)}" for name, value in parameters)
    signed = text.encode("utf-8", "surrogateescape")
    if method == "md5hash":
        return md5(signed + secret.encode(), usedforsecurity=False).hexdigest()
    return hmac.digest(secret.encode(), signed, method).hex()


def check_signature(
    pairs: Pairs, *, secrets: Iterable[str], method: SignatureMethod, now: datetime, tolerance_s: float
) -> None:
    """Return when `pairs` were signed with one of `secrets`, not longer ago than `tolerance_s`.

    An empty secret makes nothing authentic. Raises NotAuthenticError.
    """
    signatures = [value for name, value in pairs if name == SIGNATURE_FIELD]
    if len(signatures) != 1 or not signatures[0]:
        raise NotAuthenticError("missing_signature")
    given = signatures[0].lower().encode("utf-8", "surrogateescape")  # documented in capitals as well
    if not any(hmac.compare_digest(sign(secret, method, pairs).encode(), given) for secret in secrets if secret):
        raise NotAuthenticError("invalid_signature")
    timestamp = next((value for name, value in pairs if name == _TIMESTAMP_FIELD), "")
    check_recent(timestamp, now=now, tolerance_s=tolerance_s)


_AS_SIGNED: Final = str.maketrans("&=", "__")
