"""Phone numbers and the other addresses a text can come from: one canonical form, search variants, masking.

An *address* is what a provider puts into From or To: an E.164 number, a short code, an alphanumeric sender or a
channel address such as `whatsapp:+14155550123`. Every function takes any text whatsoever and never raises.
"""

import re
from enum import StrEnum
from functools import lru_cache
from typing import Final, NewType
from urllib.parse import unquote

import phonenumbers

E164 = NewType("E164", str)
"""A number as ITU-T E.164 writes it: `+`, then 7 to 15 ASCII digits."""


class SenderType(StrEnum):
    """What kind of address a sender is; carriers and providers treat them differently."""

    LONG_CODE = "long_code"
    TOLL_FREE = "toll_free"
    SHORT_CODE = "short_code"
    ALPHANUMERIC = "alphanumeric"


_MAX_ADDRESS_LENGTH: Final = 128  # the address is a unique key, and PostgreSQL refuses keys of a few kilobytes
_unstorable: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]+")  # controls, and what UTF-8 cannot carry

_is_e164 = re.compile(r"\+[0-9]{7,15}").fullmatch
_is_short_code = re.compile(r"[0-9]{3,8}").fullmatch
_is_digits = re.compile(r"[0-9]+").fullmatch
_has_letter = re.compile(r"[^\W\d_]").search
_find_channel = re.compile(r"(?:whatsapp|rcs|messenger):", re.IGNORECASE | re.ASCII).match
_tel_scheme: Final = re.compile(r"\Atel:", re.IGNORECASE | re.ASCII)
_not_digits: Final = re.compile(r"[^0-9]+")
# A "+" in a query string reads as a space once decoded.
_is_number_with_lost_plus = re.compile(r" [1-9][0-9]{7,14}").fullmatch


def canonical_address(raw: str, default_region: str = "US") -> str:
    """Return the form under which the conversation with `raw` is filed; idempotent.

    A possible phone number in any spelling becomes E.164; one without country code belongs to `default_region` (two
    letters). `whatsapp:`, `rcs:` and `messenger:` stay in front, in lower case. Short codes (3 to 8 digits),
    alphanumeric senders and whatever else is no number keep the provider's spelling, without surrounding space and
    control characters, cut at 128 characters: always storable, as a key too.
    """
    if _is_e164(raw):  # nearly every webhook; spares the parser
        return raw
    channel, value = _split_channel(_clean(raw))
    if channel == "messenger:" or _is_short_code(value):  # Messenger's ids are digits but no phone numbers
        return channel + value
    if channel and _is_digits(value):  # bare digits on a channel are international, like WhatsApp's WaId
        return channel + (_find_possible_number(f"+{value}", default_region) or value)
    return channel + (_find_number(value, default_region) or value)


def spoken_address(value: str, default_region: str = "US") -> str:
    """Return the canonical address that a person or a URL means by `value`.

    On top of every spelling that `canonical_address` knows: percent-encoded once more than it should be (`%2B1415...`,
    `whatsapp%3A...`), and a `+` that was decoded to a space.
    """
    decoded = unquote(value) if "%" in value else value
    if _is_number_with_lost_plus(decoded):
        decoded = f"+{decoded[1:]}"
    return canonical_address(decoded, default_region)


def bare_number(address: str) -> str:
    """Return `address` without its channel prefix, which the outside services do not know."""
    return _split_channel(address)[1]


def is_phone_number(address: str) -> bool:
    """Tell whether a canonical address is an E.164 number, behind whatever channel prefix."""
    return _is_e164(bare_number(address)) is not None


def is_short_code(address: str) -> bool:
    """Tell whether a canonical address is a short code: 3 to 8 digits."""
    return _is_short_code(address) is not None


@lru_cache(maxsize=1024)  # an organisation has few senders, and each message asks
def sender_type(address: str) -> SenderType:
    """Return what kind of sender a canonical address is; behind a channel prefix it counts as the number it is."""
    number = bare_number(address)
    if _is_short_code(number):
        return SenderType.SHORT_CODE
    if not _is_e164(number):
        return SenderType.ALPHANUMERIC
    try:
        kind = phonenumbers.number_type(phonenumbers.parse(number))
    except phonenumbers.NumberParseException:  # a country code that nobody has
        return SenderType.LONG_CODE
    return SenderType.TOLL_FREE if kind == phonenumbers.PhoneNumberType.TOLL_FREE else SenderType.LONG_CODE


def country_of(address: str) -> str | None:
    """Return the ISO 3166 code of an E.164 number's country; None for all else, and where a code has several."""
    number = bare_number(address)
    if not _is_e164(number):
        return None
    try:
        return phonenumbers.region_code_for_number(phonenumbers.parse(number))
    except phonenumbers.NumberParseException:
        return None


def is_country(code: str) -> bool:
    """Tell whether numbers of a country with this ISO 3166 code are known."""
    return code in phonenumbers.SUPPORTED_REGIONS


def lookup_variants(raw: str, canonical: str) -> list[str]:
    """Return the spellings under which another system may know this address, most likely first, without repeats.

    `raw` as received, E.164, national number (country code stripped), digits only; all without channel prefix. Short
    codes and alphanumeric senders have only the first: their digits alone would be somebody else's number.
    """
    variants = [bare_number(_clean(raw))]
    number = bare_number(canonical)
    if _is_e164(number):
        variants += [number, _national_number(number), number[1:]]
    return [variant for variant in dict.fromkeys(variants) if variant]


def mask(address: str) -> str:
    """Return `address` fit for a log line: at most the last 4 characters and never more than half of them.

    The channel prefix stays. What cannot be printed on one line (controls, line breaks, direction marks) becomes `?`.
    """
    channel, value = _split_channel(address)
    shown = min(4, len(value) // 2)
    tail = value[len(value) - shown :]
    return f"{channel}***{''.join(each if each.isprintable() else '?' for each in tail)}"


def _clean(raw: str) -> str:
    return _unstorable.sub("", raw).strip()[:_MAX_ADDRESS_LENGTH].rstrip()


def _split_channel(address: str) -> tuple[str, str]:
    if (found := _find_channel(address)) is None:
        return "", address
    return found[0].lower(), address[found.end() :].strip()


def _find_number(value: str, default_region: str) -> E164 | None:
    number = _tel_scheme.sub("", value)
    if _has_letter(number):  # a sender's name; "1-800-FLOWERS" is left alone rather than dialled
        return None
    if number.startswith("00"):  # the international prefix nearly everywhere outside North America
        return _find_possible_number(f"+{number[2:]}", default_region)
    found = _find_possible_number(number, default_region)
    if found is None and _is_digits(number) and number[0] != "0":
        found = _find_possible_number(f"+{number}", default_region)
    return found


def _find_possible_number(value: str, default_region: str) -> E164 | None:
    try:
        parsed = phonenumbers.parse(value, default_region)
    except phonenumbers.NumberParseException:
        return None
    # "Possible" by length; numbers that can be dialled only within a town are not unique and do not count.
    if phonenumbers.is_possible_number_with_reason(parsed) != phonenumbers.ValidationResult.IS_POSSIBLE:
        return None
    number = phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)
    return E164(number) if _is_e164(number) else None


def _national_number(number: str) -> str:
    # No country code is the beginning of another, so the first that fits is it.
    for length in (1, 2, 3):
        if number[1] != "0" and int(number[1 : 1 + length]) in phonenumbers.COUNTRY_CODE_TO_REGION_CODE:
            return number[1 + length :]
    return ""
