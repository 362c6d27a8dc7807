"""The numbers that something happens to when a test message is sent to them; docs/providers.md shows the same table.

The first two mean what they do at Twilio with test credentials; the others are from the same range, which nobody has.
Source: https://www.twilio.com/docs/iam/test-credentials (November 2026). The codes are Twilio's:
https://www.twilio.com/docs/api/errors.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from sms_foundation.providers.base import MessageStatus
from sms_foundation.providers.errors import ErrorKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Fate:
    """What becomes of messages to a number: `status`, unless the call ends in an error of `kind`.

    `failures`: only the first calls for a message end so. `code`, `text`: what is said about it.
    """

    status: MessageStatus = MessageStatus.DELIVERED
    kind: ErrorKind | None = None
    failures: float = math.inf
    code: str | None = None
    text: str | None = None

    def fails(self, attempt: int) -> bool:
        """Tell whether call number `attempt` (from 1) for a message ends in an error."""
        return self.kind is not None and attempt <= self.failures


_USUAL: Final = Fate()

FATES: Final[Mapping[str, Fate]] = {
    "+15005550001": Fate(kind=ErrorKind.INVALID_RECIPIENT, code="21211", text="Invalid 'To' phone number"),
    "+15005550004": Fate(kind=ErrorKind.OPTED_OUT, code="21610", text="Attempt to send to unsubscribed recipient"),
    "+15005550011": Fate(status=MessageStatus.SENT),
    "+15005550012": Fate(status=MessageStatus.UNDELIVERED, code="30003", text="Unreachable destination handset"),
    "+15005550013": Fate(kind=ErrorKind.UNAVAILABLE, failures=2, code="20503", text="Service unavailable"),
    "+15005550014": Fate(kind=ErrorKind.UNAVAILABLE, code="20503", text="Service unavailable"),
    "+15005550015": Fate(kind=ErrorKind.UNKNOWN_OUTCOME, text="No answer came"),
}


def fate_of(recipient: str) -> Fate:
    """Return what becomes of messages to `recipient`: delivered at once, unless it is one of `FATES`."""
    return FATES.get(recipient, _USUAL)
