import pytest
from hypothesis import given
from hypothesis import strategies as st
from twilio.request_validator import HMAC_SHA1, get_signature_algorithm

from sms_foundation.providers.errors import NotAuthenticError
from sms_foundation.providers.twilio.authenticity import TwilioAuthenticator
from sms_foundation.providers.twilio.signature import sign

BASE = "https://sms.example.com"
PATH = "/webhook/twilio/sms"
ACCOUNT = "AC" + "1" * 32
PAIRS = [("MessageSid", "SM1"), ("AccountSid", ACCOUNT), ("ToCity", "")]


def signed(by: str = "current", url: str = BASE + PATH, pairs: list[tuple[str, str]] = PAIRS) -> bytes:
    return sign(by, url, pairs).encode()


def refusal(
    *,
    signature: bytes,
    settings: bytes = b"",
    pairs: list[tuple[str, str]] = PAIRS,
    path_and_query: str = PATH,
    tokens: tuple[str, ...] = ("current",),
    base_urls: tuple[str, ...] = (BASE,),
    accounts: frozenset[str] = frozenset(),
) -> str | None:
    """Return why the webhook is refused, None when it is authentic."""
    authenticator = TwilioAuthenticator(auth_tokens=tokens, base_urls=base_urls, account_sids=accounts)
    try:
        authenticator.check(
            path_and_query=path_and_query, pairs=pairs, signature=signature, signature_settings=settings
        )
    except NotAuthenticError as error:
        return error.reason
    return None


class TestTokens:
    def test_current_and_previous_are_accepted_during_a_rotation(self) -> None:
        tokens = ("current", "previous")

        assert refusal(signature=signed("current"), tokens=tokens) is None
        assert refusal(signature=signed("previous"), tokens=tokens) is None
        assert refusal(signature=signed("older"), tokens=tokens) == "invalid_signature"

    def test_previous_is_refused_once_it_is_removed(self) -> None:
        assert refusal(signature=signed("previous"), tokens=("current",)) == "invalid_signature"

    @pytest.mark.parametrize("tokens", [(), ("",)])
    def test_nothing_is_authentic_without_a_token(self, tokens: tuple[str, ...]) -> None:
        assert refusal(signature=signed(""), tokens=tokens) == "invalid_signature"


class TestSignature:
    def test_missing_one_is_told_from_a_wrong_one(self) -> None:
        assert refusal(signature=b"") == "missing_signature"
        assert refusal(signature=b"AAAA") == "invalid_signature"

    @given(st.binary(min_size=1))
    def test_any_bytes_in_the_header_are_only_a_wrong_signature(self, signature: bytes) -> None:
        assert refusal(signature=signature) == "invalid_signature"


class TestUrl:
    @pytest.mark.parametrize("base", ["http://localhost:8000", "http://127.0.0.1:8000"])
    def test_each_base_url_is_accepted(self, base: str) -> None:
        base_urls = ("http://localhost:8000", "http://127.0.0.1:8000")

        assert refusal(signature=signed(url=base + PATH), base_urls=base_urls) is None
        assert refusal(signature=signed(url=f"{BASE}{PATH}"), base_urls=base_urls) == "invalid_signature"

    def test_base_url_may_have_a_path_of_its_own(self) -> None:
        base = f"{BASE}/behind/a/gateway"

        assert refusal(signature=signed(url=base + PATH), base_urls=(base,)) is None

    @pytest.mark.parametrize("port", ["", ":8443"])
    def test_user_and_password_of_the_base_url_are_not_signed(self, port: str) -> None:
        base_urls = (f"https://user:p@ss@sms.example.com{port}",)

        assert refusal(signature=signed(url=f"https://sms.example.com{port}{PATH}"), base_urls=base_urls) is None

    @pytest.mark.parametrize(
        "query", ["a=1&b=2", "b=2&a=1", "a=%2f%2F+x%20y", "a=it's|\"<>^`{}", "?", "%zz", "a=\udcff"]
    )
    def test_query_is_signed_byte_for_byte(self, query: str) -> None:
        path_and_query = f"{PATH}?{query}"
        signature = signed(url=BASE + path_and_query)

        assert refusal(signature=signature, path_and_query=path_and_query) is None
        assert refusal(signature=signature, path_and_query=f"{path_and_query}x") == "invalid_signature"
        assert refusal(signature=signature) == "invalid_signature"


class TestAccount:
    def test_configured_ones_are_accepted(self) -> None:
        assert refusal(signature=signed(), accounts=frozenset({ACCOUNT, "AC2"})) is None

    def test_another_is_refused_although_its_signature_is_right(self) -> None:
        assert refusal(signature=signed(), accounts=frozenset({"AC2"})) == "unknown_account"

    def test_any_is_accepted_when_none_is_configured(self) -> None:
        assert refusal(signature=signed(), accounts=frozenset()) is None

    def test_forged_webhook_does_not_tell_which_accounts_are_known(self) -> None:
        assert refusal(signature=b"AAAA", accounts=frozenset({"AC2"})) == "invalid_signature"

    def test_webhook_that_names_none_is_judged_by_its_signature(self) -> None:
        pairs = [("MessageSid", "SM1")]

        assert refusal(signature=signed(pairs=pairs), pairs=pairs, accounts=frozenset({ACCOUNT})) is None


class TestSignatureSettings:
    @pytest.mark.parametrize("settings", [b"", b"key=k1,algorithm=HMAC_SHA1", b" algorithm = hmac_sha1 ", b"key=k1"])
    def test_the_account_tokens_own_algorithm_is_checked_as_usual(self, settings: bytes) -> None:
        assert refusal(signature=signed(), settings=settings) is None
        assert refusal(signature=b"AAAA", settings=settings) == "invalid_signature"

    @pytest.mark.parametrize(
        "settings",
        [
            b"key=k1,algorithm=HMAC_SHA256",
            b"key=HMAC_SHA1,algorithm=HMAC_SHA256",
            b"algorithm=HMAC_SHA1024",
            b"algorithm=none",
            b"algorithm=\xff",
        ],
    )
    def test_any_other_is_refused_even_with_a_right_signature(self, settings: bytes) -> None:
        assert refusal(signature=signed(), settings=settings) == "unsupported_algorithm"

    @given(
        st.lists(
            st.tuples(
                st.sampled_from(["key", "algorithm", " algorithm ", "a"]),
                st.sampled_from(["=", "", "=="]),
                st.sampled_from(["HMAC_SHA1", "hmac_sha1", "HMAC_SHA256", " ", "", " HMAC_SHA1 ", "none"]),
            ),
            max_size=4,
        )
    )
    def test_is_read_as_the_sdk_reads_it(self, parts: list[tuple[str, str, str]]) -> None:
        settings = ",".join(map("".join, parts))
        is_sha1 = get_signature_algorithm(settings).upper() == HMAC_SHA1

        assert refusal(signature=signed(), settings=settings.encode()) == (None if is_sha1 else "unsupported_algorithm")
