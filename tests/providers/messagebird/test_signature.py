import base64
import hmac
import json
from datetime import UTC, datetime
from hashlib import sha256

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sms_foundation.providers.errors import NotAuthenticError
from sms_foundation.providers.messagebird.signature import check_signature

KEY = "signing-key-" * 6
NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
AT = int(NOW.timestamp())
URL = "https://sms.example.com/webhook/messagebird/sms?ref=1&b=%20"
BODY = b'{"id": "1"}'


def token(*, key: str = KEY, algorithm: str = "HS256", without: str = "", **changes: object) -> bytes:
    claims = {
        "iss": "MessageBird",
        "nbf": AT - 1,
        "exp": AT + 59,
        "jti": "1",
        "url_hash": sha256(URL.encode()).hexdigest(),
        "payload_hash": sha256(BODY).hexdigest(),
        **changes,
    }
    claims.pop(without, None)
    return jwt.encode(claims, key, algorithm=algorithm).encode()


def refusal(
    given_token: bytes, *, keys: tuple[str, ...] = (KEY,), url: str = URL, body: bytes = BODY, leeway_s: float = 0
) -> str | None:
    """Return why the webhook is refused, None when it is authentic."""
    try:
        check_signature(given_token, keys=keys, urls=["http://localhost", url], body=body, now=NOW, leeway_s=leeway_s)
    except NotAuthenticError as error:
        return error.reason
    return None


class TestCheckSignature:
    @pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
    def test_each_hmac_is_accepted(self, algorithm: str) -> None:
        assert refusal(token(algorithm=algorithm)) is None

    def test_token_without_a_signature_is_refused(self) -> None:
        assert refusal(token(key="", algorithm="none")) == "unsupported_algorithm"
        assert refusal(token().rpartition(b".")[0] + b".") == "invalid_signature"

    def test_another_key_is_refused(self) -> None:
        assert refusal(token(key="another-key-" * 6)) == "invalid_signature"

    def test_any_of_the_keys_is_accepted(self) -> None:
        assert refusal(token(), keys=("another", KEY)) is None

    def test_empty_key_makes_nothing_authentic(self) -> None:
        head = token().rpartition(b".")[0]
        by_empty_key = base64.urlsafe_b64encode(hmac.digest(b"", head, "sha256")).rstrip(b"=")

        assert refusal(head + b"." + by_empty_key, keys=("",)) == "invalid_signature"

    def test_another_issuer_is_refused(self) -> None:
        assert refusal(token(iss="Somebody")) == "invalid_signature"
        assert refusal(token(without="iss")) == "invalid_signature"

    def test_another_url_is_refused(self) -> None:
        assert refusal(token(), url=URL + "&c=1") == "invalid_url"
        assert refusal(token(without="url_hash")) == "invalid_url"

    def test_another_body_is_refused(self) -> None:
        assert refusal(token(), body=b"{}") == "invalid_body"
        assert refusal(token(), body=b"") == "invalid_body"
        assert refusal(token(without="payload_hash")) == "invalid_body"

    def test_empty_body_needs_no_hash(self) -> None:
        assert refusal(token(without="payload_hash"), body=b"") is None
        assert refusal(token(payload_hash=sha256(b"").hexdigest()), body=b"") is None

    def test_time_counts_up_to_the_leeway(self) -> None:
        assert refusal(token(exp=AT)) is None
        assert refusal(token(exp=AT - 1)) == "stale_timestamp"
        assert refusal(token(exp=AT - 10), leeway_s=10) is None
        assert refusal(token(exp=AT - 11), leeway_s=10) == "stale_timestamp"
        assert refusal(token(nbf=AT + 1)) == "stale_timestamp"
        assert refusal(token(nbf=AT + 10), leeway_s=10) is None

    def test_token_that_never_expires_is_refused(self) -> None:
        assert refusal(token(without="exp")) == "stale_timestamp"
        header, _, signature = token().split(b".")
        for exp in (True, "9999999999", None, [1]):
            claims = base64.urlsafe_b64encode(json.dumps({"iss": "MessageBird", "exp": exp}).encode()).rstrip(b"=")
            signed = header + b"." + claims
            signature = base64.urlsafe_b64encode(hmac.digest(KEY.encode(), signed, "sha256")).rstrip(b"=")

            assert refusal(signed + b"." + signature) == "stale_timestamp"

    @given(st.binary(max_size=100) | st.from_regex(rb"[A-Za-z0-9_=.-]{0,200}", fullmatch=True))
    def test_whatever_else_comes_is_refused(self, given_token: bytes) -> None:
        assert refusal(given_token) is not None

    @given(st.data())
    def test_one_changed_bit_is_refused(self, data: st.DataObject) -> None:
        genuine = token()
        at = data.draw(st.integers(0, genuine.rindex(b".") - 1))
        flipped = genuine[at] ^ (1 << data.draw(st.integers(0, 7)))

        assert refusal(genuine[:at] + bytes([flipped]) + genuine[at + 1 :]) is not None
