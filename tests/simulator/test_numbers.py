import phonenumbers
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sms_foundation.core.errors import ValidationError
from sms_foundation.simulator.numbers import (
    COUNTRIES,
    Country,
    Place,
    fictional_number,
    numbers_in,
    parse_address,
    place_of,
)


class TestFictionalNumber:
    @given(st.sampled_from(COUNTRIES), st.data())
    def test_every_place_is_a_valid_number_of_its_country(self, country: Country, data: st.DataObject) -> None:
        number = phonenumbers.parse(fictional_number(country, data.draw(st.integers(0, numbers_in(country) - 1))))
        assert phonenumbers.is_valid_number(number)
        assert phonenumbers.region_code_for_number(number) == country

    def test_american_ones_are_those_set_aside_for_fiction_and_all_different(self) -> None:
        numbers = [fictional_number("US", place) for place in range(numbers_in("US"))]
        assert len(set(numbers)) == len(numbers)
        assert all(number[5:10] == "55501" for number in numbers)

    def test_a_place_outside_the_block_is_refused(self) -> None:
        with pytest.raises(ValueError, match="places"):
            fictional_number("US", numbers_in("US"))


class TestParseAddress:
    @pytest.mark.parametrize(
        ("written", "address"),
        [
            ("+15125550142", "+15125550142"),
            (" 15125550142", "+15125550142"),
            ("+1 (512) 555-0142", "+15125550142"),
            ("24273", "24273"),
            ("MAPLECOURT", "MAPLECOURT"),
            ("whatsapp:+1 512 555 0142", "whatsapp:+15125550142"),
            ("rcs:+15125550142", "rcs:+15125550142"),
            ("messenger:1234567890", "messenger:1234567890"),
        ],
    )
    def test_every_kind_of_sender_is_accepted(self, written: str, address: str) -> None:
        assert parse_address(written) == address

    @pytest.mark.parametrize("text", ["", "12", "+", "+0123456789", "+1512555014२", "a sender far too long", "sip:a@b"])
    def test_anything_else_is_refused(self, text: str) -> None:
        with pytest.raises(ValidationError):
            parse_address(text)


class TestPlaceOf:
    def test_only_what_twilio_would_know_is_filled(self) -> None:
        assert place_of("+13055550100") == Place("MIAMI", "FL", "US")
        assert place_of("+15005550006") == Place(country="US")
        assert place_of("+34600000001") == Place(country="ES")
        assert place_of("24273") == Place()
