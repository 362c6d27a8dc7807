import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twilio.request_validator import RequestValidator

from sms_foundation.providers.twilio import sign, verify_signature

VECTORS = [
    json.loads(line)
    for line in (Path(__file__).parents[2] / "fixtures/signature_vectors.jsonl").read_text("utf-8").splitlines()
]
# Where the SDKs disagree with each other: what this service does.
OUR_CHOICE = {
    "pub-node-special-quote": False,  # the URL is signed byte for byte, never in another encoding of its query
    "pub-node-creds": True,
    "pub-node-user-only": True,
    "pub-node-creds-port": True,
    "pub-java-double-slash-443": True,
}

TOKEN = "12345"
URL = "https://sms.example.com/webhook/twilio/sms"
PAIRS = [("MessageSid", "SM1"), ("From", "+14155550123"), ("Body", "Hello"), ("ToCity", "")]

# Short alphabets, so that names repeat and are beginnings of one another.
names = st.one_of(st.text("AaZz1.", max_size=4), st.text(st.characters(exclude_categories=["Cs"]), max_size=4))
values = st.one_of(st.text("ab ", max_size=2), st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
forms = st.lists(st.tuples(names, values), max_size=12)
# No empty query: the Python SDK loses its "?", see TestSdkDifferences.
urls = st.sampled_from(
    [
        "https://example.com/sms",
        "https://example.com:8443/sms?a=1&b=%2F+x",
        "https://example.com:443/sms?a=1&b=%2F+x",
        "https://example.com/sms?a=1&b=%2F+x",
        "http://example.com/sms?q=it's%20%e1",
        "http://example.com:80//sms",
        "http://example.com//sms",
        "https://example.com",
    ]
)


class MultiDict:
    """The multi-valued mapping that Twilio's validator asks for."""

    def __init__(self, pairs: list[tuple[str, str]]) -> None:
        self._pairs = pairs

    def __len__(self) -> int:
        return len(self._pairs)

    def __iter__(self) -> Any:
        return iter([name for name, _ in self._pairs])

    def getall(self, name: str) -> list[str]:
        return [value for each, value in self._pairs if each == name]


class TestPublishedVectors:
    def test_all_of_them_are_here(self) -> None:
        assert len(VECTORS) == 33
        assert OUR_CHOICE.keys() == {each["id"] for each in VECTORS if each["expect"] == "either"}

    @pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["id"])
    def test_has_the_published_outcome(self, vector: dict[str, Any]) -> None:
        expected = OUR_CHOICE.get(vector["id"], vector["expect"] == "accept")

        assert verify_signature(vector["auth_token"], vector["url"], vector["params"], vector["signature"]) is expected


class TestAgreementWithTheSdk:
    @given(forms, urls)
    def test_signs_the_same(self, pairs: list[tuple[str, str]], url: str) -> None:
        assert sign(TOKEN, url, pairs) == RequestValidator(TOKEN).compute_signature(url, MultiDict(pairs))

    @given(forms, urls, urls)
    def test_accepts_for_a_url_what_the_sdk_accepts(
        self, pairs: list[tuple[str, str]], signed_url: str, url: str
    ) -> None:
        signature = RequestValidator(TOKEN).compute_signature(signed_url, MultiDict(pairs))

        assert verify_signature(TOKEN, url, pairs, signature) is RequestValidator(TOKEN).validate(
            url, MultiDict(pairs), signature
        )

    @given(forms, st.lists(st.tuples(names, values), max_size=1), st.integers(0, 12))
    def test_accepts_for_a_form_what_the_sdk_accepts(
        self, signed: list[tuple[str, str]], extra: list[tuple[str, str]], missing: int
    ) -> None:
        received = [*extra, *signed[:missing], *signed[missing + 1 :]]
        signature = RequestValidator(TOKEN).compute_signature(URL, MultiDict(signed))

        assert verify_signature(TOKEN, URL, received, signature) is RequestValidator(TOKEN).validate(
            URL, MultiDict(received), signature
        )

    @given(forms, st.data())
    def test_order_on_the_wire_does_not_matter(self, pairs: list[tuple[str, str]], data: st.DataObject) -> None:
        shuffled = data.draw(st.permutations(pairs))

        assert verify_signature(TOKEN, URL, shuffled, sign(TOKEN, URL, pairs))


class TestSdkDifferences:
    """What this service does where the SDKs differ, or the Python SDK goes wrong."""

    def test_all_values_of_a_repeated_name_are_signed(self) -> None:
        pairs = [*PAIRS, ("Digits", "2"), ("Digits", "1"), ("Digits", "2")]

        assert verify_signature(TOKEN, URL, pairs, sign(TOKEN, URL, pairs))
        assert not verify_signature(TOKEN, URL, dict(pairs).items(), sign(TOKEN, URL, pairs))

    def test_unsigned_extra_from_is_refused_wherever_it_stands(self) -> None:
        signature = sign(TOKEN, URL, PAIRS)

        assert not verify_signature(TOKEN, URL, [*PAIRS, ("From", "+19995550123")], signature)
        assert not verify_signature(TOKEN, URL, [("From", "+19995550123"), *PAIRS], signature)

    @pytest.mark.parametrize(
        ("signed_url", "url"),
        [
            ("https://sms.example.com/sms", "https://SMS.example.com/sms"),
            ("https://sms.example.com/", "https://sms.example.com"),
            ("https://sms.example.com/sms", "https://sms.example.com/sms/"),
            ("https://sms.example.com/sms", "https://sms.example.com/sms?"),
            ("https://sms.example.com/sms", "http://sms.example.com/sms"),
            ("https://sms.example.com/sms?a=it's", "https://sms.example.com/sms?a=it%27s"),
            ("https://sms.example.com/sms?a=%2f", "https://sms.example.com/sms?a=%2F"),
            ("https://sms.example.com/sms?a=1&b=2", "https://sms.example.com/sms?b=2&a=1"),
            ("https://sms.example.com/sms?a=b+c", "https://sms.example.com/sms?a=b%20c"),
            ("https://sms.example.com:8443/sms", "https://sms.example.com/sms"),
            ("https://sms.example.com:8443/sms", "https://sms.example.com:8444/sms"),
            ("https://sms.example.com:80/sms", "https://sms.example.com/sms"),
        ],
    )
    def test_another_spelling_of_the_url_is_another_url(self, signed_url: str, url: str) -> None:
        assert not verify_signature(TOKEN, url, PAIRS, sign(TOKEN, signed_url, PAIRS))

    @pytest.mark.parametrize(
        ("signed_url", "url"),
        [
            ("https://sms.example.com/sms", "https://sms.example.com:8443/sms"),
            ("https://sms.example.com:8443/sms", "https://sms.example.com:8443/sms"),
            ("https://sms.example.com:443/sms", "https://sms.example.com/sms"),
            ("http://sms.example.com:80/sms?a=1", "http://sms.example.com/sms?a=1"),
            ("https://sms.example.com/sms?", "https://sms.example.com:8443/sms?"),
            ("https://sms.example.com/sms?", "https://sms.example.com/sms?"),
            ("https://[2001:db8::1]/sms", "https://[2001:db8::1]:8443/sms"),
            ("https://[2001:db8::1]:443/sms", "https://[2001:db8::1]/sms"),
            ("https://user:pass@sms.example.com/sms", "https://user:pass@sms.example.com:8443/sms"),
            ("https://user:pass@sms.example.com:443/sms", "https://user:pass@sms.example.com/sms"),
        ],
    )
    def test_the_port_may_be_signed_or_left_out(self, signed_url: str, url: str) -> None:
        assert verify_signature(TOKEN, url, PAIRS, sign(TOKEN, signed_url, PAIRS))

    @pytest.mark.parametrize("signature", ["é", "\udcff\ud800", "😀" * 7, "\0", "=" * 100_000])
    def test_signature_that_is_no_base64_is_refused(self, signature: str) -> None:
        assert not verify_signature(TOKEN, URL, PAIRS, signature)

    def test_text_moved_between_fields_keeps_its_signature_as_in_every_sdk(self) -> None:
        signed = [("Body", "hi"), ("FromCity", "X")]

        assert verify_signature(TOKEN, URL, [("Body", "hiFromCityX")], sign(TOKEN, URL, signed))


class TestVerifySignature:
    @pytest.mark.parametrize(("token", "signature"), [("", sign("", URL, PAIRS)), (TOKEN, ""), ("", "")])
    def test_empty_token_or_signature_is_never_valid(self, token: str, signature: str) -> None:
        assert not verify_signature(token, URL, PAIRS, signature)

    def test_blank_values_are_signed_with_their_name(self) -> None:
        signature = sign(TOKEN, URL, PAIRS)

        assert not verify_signature(TOKEN, URL, [pair for pair in PAIRS if pair[1]], signature)

    @pytest.mark.parametrize("body", [" Hello", "Hello ", "hello", "Hello\n", "Hell\u00f3", "Hello\0"])
    def test_body_that_differs_a_little_is_refused(self, body: str) -> None:
        changed = [(name, body if name == "Body" else value) for name, value in PAIRS]

        assert not verify_signature(TOKEN, URL, changed, sign(TOKEN, URL, PAIRS))

    def test_unicode_is_not_normalised(self) -> None:
        assert not verify_signature(TOKEN, URL, [("Body", "e\u0301")], sign(TOKEN, URL, [("Body", "\u00e9")]))

    def test_bytes_that_were_not_utf8_are_signed_as_they_were(self) -> None:
        pairs = [("Body", b"caf\xe9".decode("utf-8", "surrogateescape"))]

        assert verify_signature(TOKEN, URL, pairs, sign(TOKEN, URL, pairs))
        assert not verify_signature(TOKEN, URL, [("Body", "caf\ufffd")], sign(TOKEN, URL, pairs))

    @given(
        *[st.text(st.characters(), max_size=30)] * 2,
        st.lists(st.tuples(st.text(st.characters()), st.text(st.characters()))),
        st.text(st.characters()),
    )
    def test_never_raises_and_never_accepts_by_chance(
        self, token: str, url: str, pairs: list[tuple[str, str]], signature: str
    ) -> None:
        assert verify_signature(token, url, pairs, signature) is False

    @pytest.mark.parametrize(
        "url",
        [
            "",
            "https://",
            "https://[::1",
            "https://host:port/",
            "https://host:99999/",
            "https://\u2100.com/",
            "x" * 100_000,
        ],
    )
    def test_broken_url_is_refused_or_signed_as_it_stands(self, url: str) -> None:
        assert not verify_signature(TOKEN, url, PAIRS, "AAAA")
        assert verify_signature(TOKEN, url, PAIRS, sign(TOKEN, url, PAIRS))

    @given(st.lists(st.tuples(st.binary(max_size=8), st.binary(max_size=8)), min_size=1, max_size=6))
    def test_any_bytes_of_a_form_can_be_signed_and_verified(self, form: list[tuple[bytes, bytes]]) -> None:
        pairs = [(n.decode("utf-8", "surrogateescape"), v.decode("utf-8", "surrogateescape")) for n, v in form]

        assert verify_signature(TOKEN, URL, pairs, sign(TOKEN, URL, pairs))
        assert not verify_signature(TOKEN + "x", URL, pairs, sign(TOKEN, URL, pairs))
