"""Plain GSM-7 characters in place of typographic ones that would make a whole text UCS-2, and dearer.

A word processor's quotes, dashes and spaces are replaced, what is invisible is dropped; no letter is taken for another,
accented ones least of all.

Source: https://www.twilio.com/docs/messaging/services/smart-encoding-char-list, and the same list as code in
TwilioDevEd/message-segment-calculator, src/libs/SmartEncodingMap.ts (November 2026). Different here, on purpose:

- a space of whatever width becomes one space; that code has two, and seven for a tab;
- the single angle quotes (swapped there), the double low line and the vertical commas become what they look like;
- combining marks stay: they belong to the letter before them, which would turn from a decomposed "ê" into "e^";
- all of full-width ASCII is replaced, and more hyphens and invisible characters than are listed there.
"""

from dataclasses import dataclass
from typing import Final

from sms_foundation.core.segments import Encoding, count_segments, ucs2_characters

# The replacement, and the code points it replaces: hexadecimal, because most of them cannot be told apart by eye.
_REPLACED: Final = {
    '"': "AB BB 2BA 2EE 201C-201F 275D 275E 301D 301E",
    "'": "60 B4 2B9 2BB-2BD 2C8 2CA 2CB 2018 2019 201B 275B 275C FF40",
    "/": "F7 2044 2215 29F8",
    "\\": "29F5 29F9 FE68",
    "_": "2017",
    "|": "2223 239C 239F 23B8 23B9 23D0",
    "-": "2010-2015 2022 2043 2212 23BC 23BD FE63",
    "@": "FE6B",
    "$": "FE69",
    "!": "1C3 FE15 FE57",
    "#": "FE5F",
    "%": "FE6A",
    "&": "FE60",
    ",": "201A 3001 FE10 FE11 FE50 FE51 FF64",
    "(": "2768 276A 27EE 2985 FE59",
    ")": "2769 276B 27EF 2986 FE5A",
    "*": "204E 2217 229B 2722-2725 2731-2733 273A-273D 2743 2749-274B 29C6 FE61",
    "+": "2D6 FE62",
    ".": "3002 FE52 FF61",
    ":": "2D0 2F8 2982 A789 FE13",
    ";": "204F FE14 FE54",
    "<": "2039 FE64",
    "=": "A78A FE66",
    ">": "203A FE65",
    "?": "FE16 FE56",
    "^": "2C6",
    "{": "2774 FE5B",
    "}": "2775 FE5C",
    "~": "2DC 2F7 223C",
    "...": "2026",
    "!!": "203C",
    "1/4": "BC",
    "1/2": "BD",
    "3/4": "BE",
    " ": "9 80 8D 90 9B 9F A0 2000-200A 2028 2029 202F 205F 3000",
    # Controls, soft hyphen, joiners, marks of direction (a phone number copied from a contact brings two), variation
    # selectors, byte order mark.
    "": "0 3 4 10-14 17 19 AD 200B-200F 202A-202E 2060-2064 2066-2069 FE0E FE0F FEFF",
}
_SMALL_CAPITALS: Final = dict(zip("ᴀʙᴄᴅᴇꜰɢʜɪᴊᴋʟᴍɴᴏᴘʀꜱᴛᴜᴠʏᴢ", "ABCDEFGHIJKLMNOPRSTUVYZ", strict=True))
_FULL_WIDTH_OFFSET: Final = 0xFF01 - ord("!")


def _code_points(ranges: str) -> list[int]:
    points: list[int] = []
    for each in ranges.split():
        first, _, last = each.partition("-")
        points.extend(range(int(first, 16), int(last or first, 16) + 1))
    return points


def _table() -> dict[int, str]:
    full_width = {code + _FULL_WIDTH_OFFSET: chr(code) for code in range(ord("!"), ord("~") + 1)}
    small_capitals = {ord(small): capital for small, capital in _SMALL_CAPITALS.items()}
    listed = {code: replacement for replacement, ranges in _REPLACED.items() for code in _code_points(ranges)}
    return full_width | small_capitals | listed


_TABLE: Final = _table()


@dataclass(frozen=True, slots=True)
class ForcingCharacter:
    """One code point because of which a text is UCS-2, how often it is there, and what GSM-7 has in its place."""

    character: str
    count: int
    replacement: str | None


@dataclass(frozen=True, slots=True)
class Preview:
    """What a text would be billed as, why, and what smart encoding would make of it."""

    encoding: Encoding
    segments: int
    forcing: tuple[ForcingCharacter, ...]
    body_after: str
    encoding_after: Encoding
    segments_after: int


def gsm7_replacement(character: str) -> str | None:
    """Return what GSM-7 has in place of one `character`: 0 to 3 characters, "" where nothing would be missed.

    None: it has nothing, or needs nothing because `character` is GSM-7 already.
    """
    return _TABLE.get(ord(character))


def smart_encode(text: str) -> str:
    """Return `text` with everything replaced that GSM-7 has a replacement for, if that makes it GSM-7; else unchanged.

    All or nothing: one emoji keeps the text in UCS-2, and its quotes would be spoilt for no gain. It is also left alone
    where it would come to more segments, which only many ellipses and fractions can do. Idempotent.
    """
    encoding, segments = count_segments(text)
    if encoding == "GSM-7":
        return text
    replaced = text.translate(_TABLE)
    encoding_after, segments_after = count_segments(replaced)
    return replaced if encoding_after == "GSM-7" and segments_after <= segments else text


def preview(text: str) -> Preview:
    """Return how `text` would be sent as it is, and after `smart_encode`."""
    encoding, segments = count_segments(text)
    body_after = smart_encode(text)
    encoding_after, segments_after = count_segments(body_after)
    return Preview(
        encoding=encoding,
        segments=segments,
        forcing=tuple(
            ForcingCharacter(character, len(positions), gsm7_replacement(character))
            for character, positions in ucs2_characters(text)
        ),
        body_after=body_after,
        encoding_after=encoding_after,
        segments_after=segments_after,
    )
