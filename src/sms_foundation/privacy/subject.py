"""Whose data: a number in any spelling, and the addresses under which its owner may have written."""

from dataclasses import dataclass

from sms_foundation.core.errors import StartupError
from sms_foundation.core.phone import bare_number, canonical_address, is_phone_number, mask, spoken_address

_CHANNELS = ("", "whatsapp:", "rcs:")


@dataclass(frozen=True, slots=True)
class Subject:
    """A person as we know them. `number` is E.164, or the provider's form of whatever is no phone number."""

    number: str
    addresses: tuple[str, ...]

    @property
    def masked(self) -> str:
        """The number as logs may hold it."""
        return mask(self.number)

    @property
    def digits(self) -> str | None:
        """The number without its plus; None where it is too short to be told from other numbers in a text."""
        return self.number[1:] if is_phone_number(self.number) else None


def find_subject(spelling: str, default_region: str) -> Subject:
    """Return whom `spelling` means: a phone number stands for its owner on every channel. Raises StartupError."""
    address = spoken_address(spelling, default_region)
    if not address:
        raise StartupError("that is no phone number; write it as +14155550123")
    if not is_phone_number(address):
        return Subject(address, (address,))
    number = bare_number(address)
    return Subject(number, tuple(canonical_address(channel + number) for channel in _CHANNELS))
