"""A JSON object that came from outside: every look into it has a type, and a wrong type counts as absent."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Final, Self

import orjson

from sms_foundation.providers.base import Price

# No message costs as much; beyond that a column would not hold it.
_HIGHEST_PRICE: Final = Decimal(1_000_000)


@dataclass(frozen=True, slots=True)
class JsonObject:
    """Read-only. Paths are dotted, numbers index lists: `messages.0.message-id`. No string it returns holds NUL."""

    fields: Mapping[str, object]

    def value(self, path: str) -> object:
        """Return whatever stands at `path`, None when nothing does. A key that itself holds dots is found as well."""
        if path in self.fields:
            return self.fields[path]
        found: object = self.fields
        for name in path.split("."):
            if isinstance(found, Mapping):
                found = found.get(name)
            elif isinstance(found, list) and name.isascii() and name.isdigit() and len(name) < 6:
                found = found[int(name)] if int(name) < len(found) else None
            else:
                return None
        return found

    def text(self, path: str) -> str:
        """Return a string, a whole number spelled as one, or "": blanks at the ends are left out."""
        value = self.value(path)
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        return storable(value).strip() if isinstance(value, str) else ""

    def exact_text(self, path: str) -> str | None:
        """Return a string as it stands, None for anything else."""
        value = self.value(path)
        return storable(value) if isinstance(value, str) else None

    def whole_number(self, path: str) -> int | None:
        """Return a whole number, also one written as a string; None for anything else or beyond nine digits."""
        text = self.text(path)
        digits = text.removeprefix("-")
        return int(text) if digits.isascii() and digits.isdigit() and len(digits) <= 9 else None

    def child(self, path: str) -> Self:
        """Return the object at `path`, an empty one when there is none."""
        value = self.value(path)
        return type(self)(value if isinstance(value, Mapping) else {})

    def children(self, path: str) -> list[Self] | None:
        """Return the objects of the list at `path`, None when it is no list of objects."""
        value = self.value(path)
        if not isinstance(value, list) or not all(isinstance(each, Mapping) for each in value):
            return None
        return [type(self)(each) for each in value]

    def raw(self) -> str:
        """Return all of it as JSON that PostgreSQL can store: NUL becomes U+FFFD. "{}" when it is nested absurdly."""
        try:
            text = orjson.dumps(dict(self.fields)).decode()
        except orjson.JSONEncodeError:  # more than 254 levels, which no provider means
            return "{}"
        return orjson.dumps(_without_nul(self.fields)).decode() if "\\u0000" in text else text


def storable(text: str) -> str:
    """Return `text` as PostgreSQL can store it; JSON itself allows NUL."""
    return text.replace("\0", "\ufffd") if "\0" in text else text


def read_price(amount: object, currency: str) -> Price | None:
    """Read an amount (string or number; providers write what they charge as a negative one) as a price.

    None when either is missing or no such thing.
    """
    if isinstance(amount, bool) or not isinstance(amount, str | int | float):
        return None
    if not (len(currency) == 3 and currency.isascii() and currency.isalpha()):
        return None
    try:
        value = Decimal(str(amount).strip()).copy_abs()  # abs() would overflow for 1e9999999
    except InvalidOperation:
        return None
    if not value.is_finite() or value > _HIGHEST_PRICE:
        return None
    return Price(micros=int((value * 1_000_000).to_integral_value()), currency=currency.upper())


def _without_nul(value: object) -> object:
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, Mapping):
        return {storable(name): _without_nul(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_without_nul(each) for each in value]
    return value
