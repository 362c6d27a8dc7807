import hashlib
import hmac
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sms_foundation.providers.errors import NotAuthenticError
from sms_foundation.providers.vonage.signature import SignatureMethod, check_signature, sign

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
SECRET = "secret"
PAIRS = [("text", "a&b=c d"), ("msisdn", "14155550123"), ("timestamp", str(int(NOW.timestamp()))), ("empty", "")]
TEXT = st.text(st.characters(codec="utf-8"))  # as forms are decoded; broken bytes are tested through the adapter
METHODS: list[SignatureMethod] = ["md5hash", "md5", "sha1", "sha256", "sha512"]


def refusal(
    pairs: list[tuple[str, str]],
    *,
    secrets: tuple[str, ...] = (SECRET,),
    method: SignatureMethod = "sha256",
    now: datetime = NOW,
) -> str | None:
    """Return why the webhook is refused, None when it is authentic."""
    try:
        check_signature(pairs, secrets=secrets, method=method, now=now, tolerance_s=300)
    except NotAuthenticError as error:
        return error.reason
    return None


def signed(
    pairs: list[tuple[str, str]] = PAIRS, *, secret: str = SECRET, method: SignatureMethod = "sha256"
) -> list[tuple[str, str]]:
    return [*pairs, ("sig", sign(secret, method, pairs))]


class TestSign:
    """Expected values spelled out after Vonage's description of signing."""

    TEXT = f"&empty=&msisdn=14155550123&text=a_b_c d&timestamp={int(NOW.timestamp())}"

    @pytest.mark.parametrize("method", ["md5", "sha1", "sha256", "sha512"])
    def test_is_an_hmac_over_sorted_parameters(self, method: SignatureMethod) -> None:
        assert sign("secret", method, PAIRS) == hmac.new(b"secret", self.TEXT.encode(), method).hexdigest()

    def test_plain_md5_ends_with_the_secret(self) -> None:
        expected = hashlib.new("md5", (self.TEXT + "secret").encode(), usedforsecurity=False)

        assert sign("secret", "md5hash", PAIRS) == expected.hexdigest()

    @given(st.permutations(PAIRS))
    def test_order_does_not_count(self, pairs: list[tuple[str, str]]) -> None:
        assert sign("secret", "sha256", pairs) == sign("secret", "sha256", PAIRS)


class TestCheckSignature:
    @pytest.mark.parametrize("method", METHODS)
    def test_genuine_one_is_accepted(self, method: SignatureMethod) -> None:
        assert refusal(signed(method=method), method=method) is None

    @pytest.mark.parametrize("method", METHODS)
    def test_one_by_another_method_is_refused(self, method: SignatureMethod) -> None:
        other: SignatureMethod = "sha1" if method == "sha256" else "sha256"

        assert refusal(signed(method=method), method=other) == "invalid_signature"

    def test_capitals_are_accepted(self) -> None:
        assert refusal([*PAIRS, ("sig", sign("secret", "sha256", PAIRS).upper())]) is None

    @pytest.mark.parametrize("sig", [[], [("sig", "")], [("sig", "00"), ("sig", "00")]])
    def test_missing_or_repeated_one_is_refused(self, sig: list[tuple[str, str]]) -> None:
        assert refusal([*PAIRS, *sig]) == "missing_signature"

    def test_any_of_the_secrets_is_accepted(self) -> None:
        assert refusal(signed(secret="older"), secrets=("secret", "older")) is None
        assert refusal(signed(secret="oldest"), secrets=("secret", "older")) == "invalid_signature"

    def test_empty_secret_makes_nothing_authentic(self) -> None:
        assert refusal(signed(secret=""), secrets=("",)) == "invalid_signature"

    @pytest.mark.parametrize("seconds", [-300, 0, 300])
    def test_recent_one_is_accepted(self, seconds: int) -> None:
        assert refusal(signed(), now=NOW + timedelta(seconds=seconds)) is None

    @pytest.mark.parametrize("seconds", [-301, 301])
    def test_old_one_and_one_of_tomorrow_are_refused(self, seconds: int) -> None:
        assert refusal(signed(), now=NOW + timedelta(seconds=seconds)) == "stale_timestamp"

    @pytest.mark.parametrize("timestamp", ["", "soon", "-1", "1e9", "٣", "9" * 5000])
    def test_time_that_is_none_is_refused(self, timestamp: str) -> None:
        assert refusal(signed([("timestamp", timestamp)])) == "invalid_timestamp"

    def test_missing_time_is_refused(self) -> None:
        assert refusal(signed([("text", "Hola")])) == "invalid_timestamp"

    @given(st.lists(st.tuples(TEXT, TEXT)), TEXT)
    def test_whatever_else_comes_is_refused(self, pairs: list[tuple[str, str]], sig: str) -> None:
        assert refusal([*pairs, ("sig", sig)]) is not None

    @given(name=st.sampled_from(["text", "msisdn", "empty"]), value=TEXT)
    def test_changed_value_is_refused(self, name: str, value: str) -> None:
        """But for the three characters that the scheme takes for one."""
        genuine = signed()
        changed = [(key, value if key == name else old) for key, old in genuine]
        assume(value.translate(str.maketrans("&=", "__")) != dict(genuine)[name].translate(str.maketrans("&=", "__")))

        assert refusal(changed) == "invalid_signature"
