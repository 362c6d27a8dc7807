"""Who does not want to be texted: phones that texted STOP, until they text START.

Source: https://www.twilio.com/docs/messaging/tutorials/advanced-opt-out (default keywords, read November 2026).
"""

from typing import Final

STOP_WORDS: Final = frozenset({"stop", "unsubscribe", "end", "quit", "stopall", "revoke", "optout", "cancel"})
START_WORDS: Final = frozenset({"start", "unstop", "yes"})


class OptOuts:
    """Pairs of a phone and the organisation's number it stopped; a keyword counts only when it is the whole text."""

    def __init__(self) -> None:
        self._pairs: set[tuple[str, str]] = set()

    def hear(self, phone: str, own_number: str, body: str) -> None:
        """Take note of what `phone` texted to `own_number`. Idempotent."""
        word = body.strip().lower()
        if word in STOP_WORDS:
            self._pairs.add((phone, own_number))
        elif word in START_WORDS:
            self._pairs.discard((phone, own_number))

    def has(self, phone: str, own_number: str) -> bool:
        return bool(self._pairs) and (phone, own_number) in self._pairs
