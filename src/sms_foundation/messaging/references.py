"""The name we give to one attempt at one message; it goes to the provider and comes back in callbacks and look-ups."""

import re
from uuid import UUID

_read = re.compile(r"([0-9a-f]{32})\.([0-9]{1,5})").fullmatch


def make_reference(message_id: UUID, number: int) -> str:
    """Return the reference of attempt `number` (from 1): at most 38 characters of [0-9a-f.]."""
    return f"{message_id.hex}.{number}"


def message_of(reference: str | None) -> UUID | None:
    """Return the message that a reference is about; None for one that is not ours."""
    found = _read(reference) if reference else None
    return UUID(hex=found[1]) if found else None
