"""How many parts a text is billed as: GSM-7 or UCS-2, exactly as the carriers cut it.

Source: 3GPP TS 23.038 (default alphabet and extension table) and TS 23.040 (a six-octet header in every part of a long
text); https://www.twilio.com/docs/glossary/what-is-gsm-7-character-encoding and TwilioDevEd's sms-segments-calculator
1.3.0, which never cuts an escape pair or a surrogate pair in two.
"""

import re
from typing import Final, Literal, NamedTuple

Encoding = Literal["GSM-7", "UCS-2"]

_BASIC: Final = (
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_EXTENSION: Final = "\f^{}\\[~]|€"  # each is sent as ESC and one more septet
_ESC: Final = "\x1b"

_outside_gsm7: Final = re.compile(f"[^{re.escape(_BASIC + _EXTENSION)}]")
_has_character_outside_gsm7 = _outside_gsm7.search
_has_extension_character = re.compile(f"[{re.escape(_EXTENSION)}]").search
_AS_SEPTETS: Final = str.maketrans({character: _ESC + character for character in _EXTENSION})

_GSM7_SINGLE, _GSM7_PART = 160, 153  # septets
_UCS2_SINGLE, _UCS2_PART = 70, 67  # 16-bit units


class Ucs2Character(NamedTuple):
    """A code point that GSM-7 does not have, and where in a text it is: indices from 0, ascending, at least one."""

    character: str
    positions: tuple[int, ...]


def count_segments(text: str) -> tuple[Encoding, int]:
    """Return the encoding `text` is sent in and its number of segments (at least 1, also for an empty text).

    Characters count as they stand: nothing is normalised or transliterated. A pair (extension character, emoji) that
    would straddle two parts moves to the second as a whole. Never raises: a lone surrogate is one unit of UCS-2.
    """
    if _has_character_outside_gsm7(text):
        return "UCS-2", _count_ucs2(text)
    septets = text.translate(_AS_SEPTETS) if _has_extension_character(text) else text
    return "GSM-7", _count_gsm7(septets)


def ucs2_characters(text: str) -> list[Ucs2Character]:
    """Return what makes `text` UCS-2, in order of first appearance; empty for a text in GSM-7.

    Code points, not what a reader takes for one character: a family emoji is several people and the joiners between.
    """
    positions: dict[str, list[int]] = {}
    for found in _outside_gsm7.finditer(text):
        positions.setdefault(found[0], []).append(found.start())
    return [Ucs2Character(character, tuple(where)) for character, where in positions.items()]


def _count_gsm7(septets: str) -> int:
    if len(septets) <= _GSM7_SINGLE:
        return 1
    parts, start = 0, 0
    while start < len(septets):
        start += _GSM7_PART
        if septets[start - 1 : start] == _ESC:
            start -= 1
        parts += 1
    return parts


def _count_ucs2(text: str) -> int:
    units = text.encode("utf-16-be", "surrogatepass")
    length = len(units) // 2
    if length <= _UCS2_SINGLE:
        return 1
    parts, start = 0, 0
    while start < length:
        start += _UCS2_PART
        if start < length and _is_high_surrogate(units, start - 1) and _is_low_surrogate(units, start):
            start -= 1
        parts += 1
    return parts


def _is_high_surrogate(units: bytes, index: int) -> bool:
    return 0xD8 <= units[2 * index] <= 0xDB


def _is_low_surrogate(units: bytes, index: int) -> bool:
    return 0xDC <= units[2 * index] <= 0xDF
