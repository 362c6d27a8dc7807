"""Why credentials are refused. The caller never learns which part was wrong; metrics and logs do."""

from collections.abc import Mapping
from enum import StrEnum

from sms_foundation.core.errors import SmsFoundationError


class Reason(StrEnum):
    """Label of `auth_failures_total`; static."""

    MISSING = "missing"
    MALFORMED = "malformed"
    CHECKSUM = "checksum"
    UNKNOWN_KEY = "unknown_key"
    EXPIRED_KEY = "expired_key"
    REVOKED_KEY = "revoked_key"
    WRONG_NETWORK = "wrong_network"
    CLIENT_DISABLED = "client_disabled"
    WRONG_ALGORITHM = "wrong_algorithm"
    UNKNOWN_SIGNER = "unknown_signer"
    WRONG_SIGNATURE = "wrong_signature"
    WRONG_ISSUER = "wrong_issuer"
    WRONG_AUDIENCE = "wrong_audience"
    EXPIRED_TOKEN = "expired_token"  # noqa: S105  # a label
    NOT_YET_VALID = "not_yet_valid"
    WRONG_CLAIMS = "wrong_claims"
    UNKNOWN_SUBJECT = "unknown_subject"
    SESSION_ENDED = "session_ended"
    REFRESH_REUSED = "refresh_reused"
    UNKNOWN_REFRESH = "unknown_refresh"
    EXPIRED_REFRESH = "expired_refresh"
    UNKNOWN_PERSON = "unknown_person"
    WRONG_PASSWORD = "wrong_password"  # noqa: S105  # a label
    UNKNOWN_INVITATION = "unknown_invitation"
    EXPIRED_INVITATION = "expired_invitation"
    USED_INVITATION = "used_invitation"
    NOT_PERMITTED = "not_permitted"
    BLOCKED_ADDRESS = "blocked_address"
    TOO_MANY_LOGINS = "too_many_logins"


class RefusedError(Exception):
    """These credentials are not accepted. Becomes a 401 at the edge, the same for every `reason`."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason = reason


Headers = tuple[tuple[bytes, bytes], ...]


class RateLimitedError(SmsFoundationError):
    """Too much of something; `retry_after_s` says when there is room again, `headers` are for the answer."""

    status = 429
    code = "sms.rate_limited"

    def __init__(
        self,
        message: str,
        *,
        retry_after_s: int,
        headers: Headers = (),
        details: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(message, retry_after_s=retry_after_s, details=details)
        self.headers = headers
