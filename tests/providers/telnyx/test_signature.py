import base64
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from sms_foundation.providers.errors import NotAuthenticError
from sms_foundation.providers.telnyx.signature import check_signature

PRIVATE_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
TIMESTAMP = str(int(NOW.timestamp())).encode()
BODY = b'{"data": {}}'


def signed(timestamp: bytes = TIMESTAMP, body: bytes = BODY) -> bytes:
    return base64.b64encode(PRIVATE_KEY.sign(timestamp + b"|" + body))


def refusal(
    signature: bytes, *, timestamp: bytes = TIMESTAMP, body: bytes = BODY, now: datetime = NOW, keys: int = 1
) -> str | None:
    """Return why the webhook is refused, None when it is authentic."""
    try:
        check_signature(signature, timestamp, body, keys=[PRIVATE_KEY.public_key()] * keys, now=now, tolerance_s=300)
    except NotAuthenticError as error:
        return error.reason
    return None


class TestCheckSignature:
    def test_genuine_one_is_accepted(self) -> None:
        assert refusal(signed()) is None

    def test_changed_body_or_time_is_refused(self) -> None:
        assert refusal(signed(), body=BODY + b" ") == "invalid_signature"
        assert refusal(signed(), timestamp=TIMESTAMP + b"0") == "invalid_signature"

    def test_missing_header_is_told_from_a_wrong_one(self) -> None:
        assert refusal(b"") == "missing_signature"
        assert refusal(signed(), timestamp=b"") == "missing_signature"
        assert refusal(b"AAAA") == "invalid_signature"
        assert refusal(b"%%%%") == "malformed_signature"

    def test_nothing_is_authentic_without_a_key(self) -> None:
        assert refusal(signed(), keys=0) == "invalid_signature"

    @pytest.mark.parametrize(("seconds", "reason"), [(300, None), (-300, None), (301, "stale_timestamp")])
    def test_time_counts_in_both_directions(self, seconds: int, reason: str | None) -> None:
        assert refusal(signed(), now=NOW + timedelta(seconds=seconds)) == reason

    def test_signed_time_that_is_none_is_refused(self) -> None:
        assert refusal(signed(timestamp=b"soon"), timestamp=b"soon") == "invalid_timestamp"

    @given(st.binary(), st.binary(), st.binary())
    def test_whatever_else_comes_is_refused(self, signature: bytes, timestamp: bytes, body: bytes) -> None:
        assert refusal(signature, timestamp=timestamp, body=body) is not None
