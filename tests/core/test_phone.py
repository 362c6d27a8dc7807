import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sms_foundation.core.phone import (
    SenderType,
    bare_number,
    canonical_address,
    country_of,
    is_phone_number,
    is_short_code,
    lookup_variants,
    mask,
    sender_type,
    spoken_address,
)

US_NUMBER = "+14155550123"

any_text = st.text(st.characters(), max_size=60) | st.text(st.characters(categories=["Cs", "Cc", "Nd", "Zs"]))
number_like = st.text(st.sampled_from(string.digits + "+-. ()%:x\x00\ud800"), max_size=40)
addressed = st.builds(
    "{}{}{}".format, st.sampled_from(["whatsapp:", "RCS:", "messenger:", "tel:", "sip:", " "]), number_like, any_text
)
addresses = any_text | number_like | addressed


class TestCanonicalAddress:
    @pytest.mark.parametrize(
        "spelling",
        [
            US_NUMBER,
            "14155550123",
            "4155550123",
            "(415) 555-0123",
            "415.555.0123",
            " +1 415 555 0123\n",
            "tel:+1-415-555-0123",
            "+1415\x005550123",
            "＋１４１５５５５０１２３",
            "0014155550123",
            "011 1 415 555 0123",
        ],
    )
    def test_every_spelling_is_one_conversation(self, spelling: str) -> None:
        assert canonical_address(spelling) == US_NUMBER

    @pytest.mark.parametrize(
        ("raw", "region", "expected"),
        [
            ("612 345 678", "ES", "+34612345678"),
            ("0034 612 345 678", "US", "+34612345678"),
            ("34612345678", "US", "+34612345678"),
            ("(11) 91234-5678", "BR", "+5511912345678"),
            ("+39 06 1234 5678", "US", "+390612345678"),
            ("14155550123", "nowhere", "+14155550123"),
        ],
    )
    def test_national_spellings_belong_to_the_default_region(self, raw: str, region: str, expected: str) -> None:
        assert canonical_address(raw, region) == expected

    @pytest.mark.parametrize(
        ("raw", "expected"),
        [
            ("whatsapp:+14155550123", "whatsapp:+14155550123"),
            ("WhatsApp: +1 (415) 555-0123 ", "whatsapp:+14155550123"),
            ("whatsapp:5511912345678", "whatsapp:+5511912345678"),
            ("whatsapp:6123456789", "whatsapp:+6123456789"),
            ("rcs:+34612345678", "rcs:+34612345678"),
            ("rcs:acme_agent", "rcs:acme_agent"),
            ("messenger:4155550123", "messenger:4155550123"),
            ("whatsapp:", "whatsapp:"),
        ],
    )
    def test_channel_stays_in_front(self, raw: str, expected: str) -> None:
        assert canonical_address(raw) == expected

    @pytest.mark.parametrize(
        "raw", ["729", "72345", "87654321", "MyBank", "ACME 24", "1-800-FLOWERS", "555-0123", "+1", ""]
    )
    def test_what_is_no_number_keeps_the_providers_form(self, raw: str) -> None:
        assert canonical_address(f" {raw}\t") == raw

    @pytest.mark.parametrize("raw", ["+" + "9" * 16, "+1415555O123", "+123456", "sip:alice@example.com", "٣" * 9])
    def test_almost_a_number_is_none(self, raw: str) -> None:
        assert canonical_address(raw) == raw

    @given(st.from_regex(r"\+[0-9]{7,15}", fullmatch=True))
    def test_e164_is_its_own_form(self, number: str) -> None:
        assert canonical_address(number) == number

    @given(addresses, st.sampled_from(["US", "ES", "BR", "DE", ""]))
    @example("whatsapp:" + "a" * 128, "US")
    @example("a" * 127 + " b", "US")
    def test_idempotent(self, raw: str, region: str) -> None:
        once = canonical_address(raw, region)

        assert canonical_address(once, region) == once

    @given(addresses)
    def test_always_storable_as_a_key(self, raw: str) -> None:
        address = canonical_address(raw)

        assert len(address) <= 128
        assert "\x00" not in address
        assert address.encode() == address.encode("utf-8", "strict")


class TestSpokenAddress:
    @pytest.mark.parametrize(
        "value",
        [
            US_NUMBER,
            "%2B14155550123",
            "%2b1%20415%20555%200123",
            " 14155550123",
            "14155550123",
            "(415) 555-0123",
            "415.555.0123",
            "4155550123",
            "001 415 555 0123",
            "tel:+14155550123",
        ],
    )
    def test_every_spelling_means_the_number(self, value: str) -> None:
        assert spoken_address(value) == US_NUMBER

    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            ("0034 612 345 678", "+34612345678"),
            (" 34612345678", "+34612345678"),
            ("%2B34612345678", "+34612345678"),
            ("612345678", "+34612345678"),
            ("whatsapp:+14155550123", "whatsapp:+14155550123"),
            ("whatsapp%3A%2B14155550123", "whatsapp:+14155550123"),
            ("whatsapp: 14155550123", "whatsapp:+14155550123"),
            ("72345", "72345"),
            ("MyBank", "MyBank"),
            ("My%20Bank", "My Bank"),
            ("100%", "100%"),
        ],
    )
    def test_other_addresses(self, value: str, expected: str) -> None:
        assert spoken_address(value, "ES") == expected

    @given(addresses.filter(lambda raw: "%" not in raw))
    def test_finds_what_canonical_address_filed(self, raw: str) -> None:
        address = canonical_address(raw)

        assert spoken_address(address) == address

    @given(addresses)
    def test_never_raises(self, value: str) -> None:
        assert isinstance(spoken_address(value), str)


class TestBareNumber:
    @pytest.mark.parametrize(
        ("address", "expected"),
        [("whatsapp:+14155550123", US_NUMBER), ("rcs:acme", "acme"), (US_NUMBER, US_NUMBER), ("sip:a", "sip:a")],
    )
    def test_drops_the_channel(self, address: str, expected: str) -> None:
        assert bare_number(address) == expected


class TestIsPhoneNumber:
    @pytest.mark.parametrize("address", [US_NUMBER, "whatsapp:+14155550123", "rcs:+34612345678"])
    def test_number_on_any_channel(self, address: str) -> None:
        assert is_phone_number(address)

    @pytest.mark.parametrize("address", ["72345", "MyBank", "rcs:acme", "messenger:4155550123", "14155550123", ""])
    def test_other_address(self, address: str) -> None:
        assert not is_phone_number(address)


class TestLookupVariants:
    @pytest.mark.parametrize(
        ("raw", "expected"),
        [
            (US_NUMBER, [US_NUMBER, "4155550123", "14155550123"]),
            ("(415) 555-0123", ["(415) 555-0123", US_NUMBER, "4155550123", "14155550123"]),
            ("4155550123", ["4155550123", US_NUMBER, "14155550123"]),
            ("whatsapp:+34612345678", ["+34612345678", "612345678", "34612345678"]),
            ("+390612345678", ["+390612345678", "0612345678", "390612345678"]),
            ("+351912345678", ["+351912345678", "912345678", "351912345678"]),
            ("72345", ["72345"]),
            ("ACME 24", ["ACME 24"]),
            ("+9999999999", ["+9999999999", "9999999999"]),
            ("+0141555501", ["+0141555501", "0141555501"]),
            ("whatsapp:", []),
            ("", []),
        ],
    )
    def test_raw_then_e164_then_national_then_digits(self, raw: str, expected: list[str]) -> None:
        assert lookup_variants(raw, canonical_address(raw)) == expected

    @given(addresses)
    def test_distinct_non_empty_and_encodable(self, raw: str) -> None:
        variants = lookup_variants(raw, canonical_address(raw))

        assert len(set(variants)) == len(variants) <= 4
        assert all(variant and variant.encode() for variant in variants)


class TestMask:
    @pytest.mark.parametrize(
        ("address", "expected"),
        [
            (US_NUMBER, "***0123"),
            ("whatsapp:+14155550123", "whatsapp:***0123"),
            ("72345", "***45"),
            ("MyBank", "***ank"),
            ("1", "***"),
            ("", "***"),
            ("+1415555\n\x1b0", "***5??0"),
        ],
    )
    def test_shows_only_the_end(self, address: str, expected: str) -> None:
        assert mask(address) == expected

    @given(addresses)
    def test_never_more_than_four_or_half_and_one_printable_line(self, address: str) -> None:
        shown = mask(address).partition("***")[2]

        assert len(shown) <= min(4, len(bare_number(address)) // 2)
        assert mask(address).isprintable()


class TestSenderType:
    @pytest.mark.parametrize(
        ("sender", "kind"),
        [
            (US_NUMBER, SenderType.LONG_CODE),
            ("+18005550199", SenderType.TOLL_FREE),
            ("+4930123456", SenderType.LONG_CODE),
            ("+99912345678", SenderType.LONG_CODE),  # a country code that nobody has
            ("12345", SenderType.SHORT_CODE),
            ("Property", SenderType.ALPHANUMERIC),
            (f"whatsapp:{US_NUMBER}", SenderType.LONG_CODE),
        ],
    )
    def test_tells_what_carriers_treat_differently(self, sender: str, kind: SenderType) -> None:
        assert sender_type(sender) is kind

    @given(addresses)
    def test_never_raises(self, sender: str) -> None:
        assert sender_type(canonical_address(sender)) in SenderType


class TestCountryOf:
    @pytest.mark.parametrize(
        ("number", "country"),
        [(US_NUMBER, "US"), ("+4930123456", "DE"), ("+99912345678", None), ("12345", None), ("Property", None)],
    )
    def test_names_the_country_of_a_number_and_of_nothing_else(self, number: str, country: str | None) -> None:
        assert country_of(number) == country

    @given(addresses)
    def test_never_raises(self, number: str) -> None:
        found = country_of(canonical_address(number))
        assert found is None or len(found) in (2, 3)


class TestIsShortCode:
    @pytest.mark.parametrize(
        ("address", "is_one"), [("123", True), ("12345678", True), ("12", False), ("123456789", False), ("abc", False)]
    )
    def test_is_three_to_eight_digits(self, address: str, is_one: bool) -> None:
        assert is_short_code(address) is is_one
