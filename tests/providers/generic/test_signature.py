import base64
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sms_foundation.providers.base import WebhookRequest
from sms_foundation.providers.errors import NotAuthenticError
from sms_foundation.providers.generic.config import BearerAuthConfig, HmacAuthConfig
from sms_foundation.providers.generic.signature import check_signature

BODY = b'{"id": 1}'
DIGEST = hmac.digest(b"current", BODY, "sha256")


def refusal(value: bytes | None, auth: HmacAuthConfig | BearerAuthConfig | None) -> str | None:
    """Return why a webhook with `value` in its header is refused, None when it is authentic."""
    headers = {} if value is None or auth is None else {auth.header.lower().encode(): value}
    try:
        check_signature(WebhookRequest("POST", "/", headers, BODY), auth)
    except NotAuthenticError as error:
        return error.reason
    return None


def by_hmac(**changes: object) -> HmacAuthConfig:
    return HmacAuthConfig.model_validate({"header": "X-Signature", "secret": "current", **changes})


def by_token(**changes: object) -> BearerAuthConfig:
    return BearerAuthConfig.model_validate({"token": "current", **changes})


class TestHmac:
    def test_hex_in_either_case_is_accepted(self) -> None:
        assert refusal(DIGEST.hex().encode(), by_hmac()) is None
        assert refusal(DIGEST.hex().upper().encode(), by_hmac()) is None

    def test_base64_is_accepted_when_configured(self) -> None:
        assert refusal(base64.b64encode(DIGEST), by_hmac(encoding="base64")) is None
        assert refusal(base64.b64encode(DIGEST), by_hmac()) == "invalid_signature"

    def test_prefix_is_part_of_it(self) -> None:
        assert refusal(b"sha256=" + DIGEST.hex().encode(), by_hmac(prefix="sha256=")) is None
        assert refusal(DIGEST.hex().encode(), by_hmac(prefix="sha256=")) == "invalid_signature"

    def test_previous_secret_is_accepted_until_it_is_removed(self) -> None:
        value = DIGEST.hex().encode()

        assert refusal(value, by_hmac(secret="new", secret_previous="current")) is None
        assert refusal(value, by_hmac(secret="new")) == "invalid_signature"

    def test_empty_previous_secret_makes_nothing_authentic(self) -> None:
        by_nothing = hmac.digest(b"", BODY, "sha256").hex().encode()

        assert refusal(by_nothing, by_hmac(secret_previous="")) == "invalid_signature"

    def test_missing_one_is_told_from_a_wrong_one(self) -> None:
        assert refusal(None, by_hmac()) == "missing_signature"
        assert refusal(b"", by_hmac()) == "missing_signature"

    @given(st.binary())
    def test_whatever_else_comes_is_refused(self, value: bytes) -> None:
        assert refusal(value, by_hmac()) is not None


class TestBearer:
    @pytest.mark.parametrize("value", [b"Bearer current", b"bearer current"])
    def test_token_is_accepted(self, value: bytes) -> None:
        assert refusal(value, by_token()) is None

    @pytest.mark.parametrize("value", [b"current", b"Basic current", b"Bearer", b"Bearer  current", b"Bearer currentl"])
    def test_anything_else_is_refused(self, value: bytes) -> None:
        assert refusal(value, by_token()) == "invalid_signature"

    def test_own_header_holds_the_bare_token(self) -> None:
        assert refusal(b"current", by_token(header="X-Token")) is None
        assert refusal(b"Bearer current", by_token(header="X-Token")) == "invalid_signature"

    def test_previous_token_is_accepted_until_it_is_removed(self) -> None:
        assert refusal(b"Bearer current", by_token(token="new", token_previous="current")) is None
        assert refusal(b"Bearer current", by_token(token="new")) == "invalid_signature"

    def test_missing_header_is_told_from_a_wrong_one(self) -> None:
        assert refusal(None, by_token()) == "missing_signature"


class TestNothingConfigured:
    def test_nothing_is_authentic(self) -> None:
        assert refusal(b"anything", None) == "no_secret"
