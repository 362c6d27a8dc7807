"""Phone numbers that look real and belong to nobody here, and what an address says about itself.

Source: 555-0100 to 555-0199 are set aside for fiction in every North American area code (ATIS-0300115,
https://www.nationalnanpa.com/number_resource_info/555_numbers.html). Spain, Portugal, Brazil and Mexico reserve none;
the blocks below are valid mobile numbers at the far end of their plans. The simulator never sends to any of them.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from sms_foundation.core.errors import ValidationError

Country = Literal["US", "MX", "ES", "BR", "PT"]

COUNTRIES: tuple[Country, ...] = ("US", "MX", "ES", "BR", "PT")

CALLING_CODES: Mapping[Country, str] = MappingProxyType({"US": "1", "MX": "52", "ES": "34", "BR": "55", "PT": "351"})

US_AREAS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "512": ("AUSTIN", "TX"), "305": ("MIAMI", "FL"), "212": ("NEW YORK", "NY"), "213": ("LOS ANGELES", "CA"),
        "312": ("CHICAGO", "IL"), "713": ("HOUSTON", "TX"), "602": ("PHOENIX", "AZ"), "215": ("PHILADELPHIA", "PA"),
        "210": ("SAN ANTONIO", "TX"), "619": ("SAN DIEGO", "CA"), "214": ("DALLAS", "TX"), "408": ("SAN JOSE", "CA"),
        "904": ("JACKSONVILLE", "FL"), "614": ("COLUMBUS", "OH"), "415": ("SAN FRANCISCO", "CA"),
        "317": ("INDIANAPOLIS", "IN"), "206": ("SEATTLE", "WA"), "303": ("DENVER", "CO"), "202": ("WASHINGTON", "DC"),
        "617": ("BOSTON", "MA"), "915": ("EL PASO", "TX"), "615": ("NASHVILLE", "TN"), "313": ("DETROIT", "MI"),
        "503": ("PORTLAND", "OR"), "702": ("LAS VEGAS", "NV"), "901": ("MEMPHIS", "TN"), "502": ("LOUISVILLE", "KY"),
        "410": ("BALTIMORE", "MD"), "414": ("MILWAUKEE", "WI"), "505": ("ALBUQUERQUE", "NM"), "520": ("TUCSON", "AZ"),
        "559": ("FRESNO", "CA"), "916": ("SACRAMENTO", "CA"), "404": ("ATLANTA", "GA"), "816": ("KANSAS CITY", "MO"),
        "919": ("RALEIGH", "NC"), "407": ("ORLANDO", "FL"), "813": ("TAMPA", "FL"), "504": ("NEW ORLEANS", "LA"),
        "786": ("MIAMI", "FL"), "973": ("NEWARK", "NJ"), "203": ("BRIDGEPORT", "CT"), "401": ("PROVIDENCE", "RI"),
        "508": ("WORCESTER", "MA"), "954": ("FORT LAUDERDALE", "FL"), "718": ("BROOKLYN", "NY"),
        "704": ("CHARLOTTE", "NC"), "626": ("PASADENA", "CA"), "801": ("SALT LAKE CITY", "UT"), "956": ("LAREDO", "TX"),
    }
)  # fmt: skip
"""Area code -> (city, state) as Twilio writes them in FromCity and FromState."""

_MOBILE_BLOCKS: Mapping[str, str] = MappingProxyType(
    {"MX": "+525555", "ES": "+34600", "BR": "+5511900", "PT": "+351910"}
)
_BLOCK_SIZE = 1_000_000
_FICTION_SIZE = 100

_E164 = re.compile(r"\+[1-9][0-9]{6,14}")
_LOST_PLUS = re.compile(r" [1-9][0-9]{7,14}")  # "+" in a query string reads as a space once decoded
_SHORT_CODE = re.compile(r"[0-9]{3,8}")
_ALPHANUMERIC = re.compile(r"(?=.*[A-Za-z])[A-Za-z0-9 &_+.-]{1,11}")
_CHANNEL = re.compile(r"(whatsapp|rcs|messenger):(.{1,200})")
_WRITTEN_BETWEEN_DIGITS = str.maketrans("", "", " -().\u00a0")


def numbers_in(country: Country) -> int:
    """Return how many different numbers `fictional_number` has for `country`."""
    return len(US_AREAS) * _FICTION_SIZE if country == "US" else _BLOCK_SIZE


def fictional_number(country: Country, index: int) -> str:
    """Return the E.164 number with this place (0 ... `numbers_in(country)` - 1) in the country's block.

    Neighbouring US places lie in different area codes. Raises ValueError for a place outside the block.
    """
    if not 0 <= index < numbers_in(country):
        raise ValueError(f"{country} has places 0 to {numbers_in(country) - 1}, not {index}")
    if country == "US":
        line, area = divmod(index, len(US_AREAS))
        return f"+1{list(US_AREAS)[area]}55501{line:02d}"
    return f"{_MOBILE_BLOCKS[country]}{index:06d}"


def parse_address(text: str) -> str:
    """Return an address as Twilio writes it in From and To.

    Accepts E.164 (blanks, dots, dashes and brackets between the digits are dropped), short codes of 3 to 8 digits,
    alphanumeric senders of at most 11 characters, and `whatsapp:`, `rcs:` or `messenger:` addresses.
    Raises ValidationError for anything else.
    """
    text = f"+{text[1:]}" if _LOST_PLUS.fullmatch(text) else text.strip()
    if channel := _CHANNEL.fullmatch(text):
        prefix, rest = channel.groups()
        return f"{prefix}:{rest.translate(_WRITTEN_BETWEEN_DIGITS) if rest.startswith('+') else rest}"
    number = text.translate(_WRITTEN_BETWEEN_DIGITS)
    if _E164.fullmatch(number) or _SHORT_CODE.fullmatch(number):
        return number
    if _ALPHANUMERIC.fullmatch(text):
        return text
    raise ValidationError(
        "not an address: write +15125550142, a short code of 3 to 8 digits, an alphanumeric sender of at most "
        "11 characters, or whatsapp:+15125550142"
    )


def channel_of(address: str) -> str | None:
    """Return `whatsapp`, `rcs` or `messenger` for such an address, None for SMS and MMS."""
    match = _CHANNEL.fullmatch(address)
    return match.group(1) if match else None


@dataclass(frozen=True, slots=True)
class Place:
    """What Twilio knows about where an address is; every part may be blank."""

    city: str = ""
    state: str = ""
    country: str = ""


def place_of(address: str) -> Place:
    """Return the place Twilio would send with `address`; blank where it would not know."""
    if address.startswith("+1"):
        city, state = US_AREAS.get(address[2:5], ("", ""))
        return Place(city, state, "US")
    for country, code in CALLING_CODES.items():
        if address.startswith("+" + code):
            return Place(country=country)
    return Place()
