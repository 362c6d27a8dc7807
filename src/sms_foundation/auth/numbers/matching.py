"""Which rule decides about a number. Pure."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from sms_foundation.core.phone import bare_number

_is_prefix = re.compile(r"\+[1-9][0-9]{0,14}").fullmatch
_is_short_code = re.compile(r"[0-9]{3,8}").fullmatch
_punctuation = str.maketrans("", "", " ().-/\u00a0")


@dataclass(frozen=True, slots=True)
class Decision:
    """May a number be texted, and by which rule; `prefix` None: no rule is about it."""

    is_allowed: bool
    prefix: str | None


class RuleSet:
    """All rules at one moment.

    The rule with the longest prefix decides. A number that none is about may be texted, unless there is a rule that
    allows something: then only what a rule allows may be. A rule for a short code is about nothing but that code.
    """

    def __init__(self, rules: Iterable[tuple[str, bool]]) -> None:
        """`rules` are prefixes as `parse_prefix` returns them, and whether they allow."""
        self._rules = dict(rules)
        self._lengths = sorted({len(prefix) for prefix in self._rules if prefix.startswith("+")}, reverse=True)
        self._otherwise = Decision(is_allowed=True not in self._rules.values(), prefix=None)

    def decide(self, address: str) -> Decision:
        """Return what the rules say about a canonical address; one behind a channel prefix counts as the number."""
        if not self._rules:
            return self._otherwise
        number = bare_number(address)
        lengths = self._lengths if number.startswith("+") else (len(number),)
        for length in lengths:
            prefix = number[:length]
            is_allowed = self._rules.get(prefix)
            if is_allowed is not None:
                return Decision(is_allowed, prefix)
        return self._otherwise


def parse_prefix(text: str) -> str:
    """Return a number, the beginning of numbers, or a short code as rules name it: `+1 (900)` is `+1900`.

    Raises ValueError for anything else.
    """
    prefix = text.translate(_punctuation)
    if _is_prefix(prefix) or _is_short_code(prefix):
        return prefix
    raise ValueError("must be + and 1 to 15 digits, such as +1900, or a short code of 3 to 8 digits")


def is_whole_number(prefix: str) -> bool:
    """Tell whether a rule may be about a single phone: then it is as private as the number."""
    return len(prefix.removeprefix("+")) >= 7
