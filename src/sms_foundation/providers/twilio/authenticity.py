"""Is this webhook Twilio's, and ours? The signature over what was sent, and the account it speaks for."""

from collections.abc import Collection, Sequence

from sms_foundation.providers.errors import NotAuthenticError
from sms_foundation.providers.form import Pairs
from sms_foundation.providers.twilio.signature import verify_signature
from sms_foundation.providers.twilio.webhook import account_sid

SIGNATURE_HEADER = b"x-twilio-signature"
# Announces another algorithm or key than the account's token. Source: twilio-python 9.13.0, request_validator.py.
SIGNATURE_SETTINGS_HEADER = b"x-twilio-webhooks-signature-settings"
_TOKEN_ALGORITHM = b"HMAC_SHA1"


class TwilioAuthenticator:
    """Checks webhooks against the configured tokens (current first, then previous), base URLs and accounts.

    `account_sids` empty: any account, since the signature proves knowledge of the token.
    """

    def __init__(
        self, *, auth_tokens: Sequence[str], base_urls: Sequence[str], account_sids: Collection[str] = ()
    ) -> None:
        self._candidates = [(token, as_signed(base)) for base in base_urls for token in auth_tokens]
        self._account_sids = account_sids

    def check(self, *, path_and_query: str, pairs: Pairs, signature: bytes, signature_settings: bytes = b"") -> None:
        """Return when the webhook is authentic. Raises NotAuthenticError.

        `path_and_query` as received, byte for byte: Twilio signed it that way. The host always comes from the settings.
        """
        if not signature:
            raise NotAuthenticError("missing_signature")
        if signature_settings and _algorithm(signature_settings) != _TOKEN_ALGORITHM:
            raise NotAuthenticError("unsupported_algorithm")
        given = signature.decode("latin-1")
        if not any(verify_signature(token, base + path_and_query, pairs, given) for token, base in self._candidates):
            raise NotAuthenticError("invalid_signature")
        if self._account_sids and account_sid(pairs) not in ("", *self._account_sids):
            raise NotAuthenticError("unknown_account")


def as_signed(base_url: str) -> str:
    """Leave out user and password, as Twilio does before it signs. Source: https://www.twilio.com/docs/usage/security"""
    scheme, _, rest = base_url.partition("://")
    authority, slash, path = rest.partition("/")
    return f"{scheme}://{authority.rpartition('@')[2]}{slash}{path}"


def _algorithm(signature_settings: bytes) -> bytes:
    """Return the algorithm named in `key=...,algorithm=...`; the account token's own when none is."""
    for part in signature_settings.split(b","):
        name, _, value = part.partition(b"=")
        if name.strip() == b"algorithm" and value.strip():
            return value.strip().upper()
    return _TOKEN_ALGORITHM
