"""What checks answer with: findings, each with what to do about it, and what could not be checked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

_EXAMPLES = 5


class Severity(StrEnum):
    """Whether somebody has to do something about it."""

    WRONG = "wrong"
    NOTICE = "notice"  # worth knowing; all is well all the same


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One sort of thing that was found, `count` times.

    `examples` are ids, kids, prefixes and names of ours: never a phone number, content or secret. `why`: why it
    matters; `do`: a command that exists, or what to change where. `details`: the same count, told apart.
    """

    name: str
    why: str
    do: str
    count: int = 1
    examples: tuple[str, ...] = ()
    severity: Severity = Severity.WRONG
    details: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Unchecked:
    """A check that could not be made, and why."""

    name: str
    reason: str


class Tally:
    """Counts one sort of thing over a long walk and remembers the first few."""

    def __init__(self) -> None:
        self.count = 0
        self._examples: list[str] = []

    def add(self, example: object) -> None:
        self.count += 1
        if len(self._examples) < _EXAMPLES:
            self._examples.append(str(example))

    def finding(
        self,
        name: str,
        *,
        why: str,
        do: str,
        severity: Severity = Severity.WRONG,
        details: Mapping[str, int] | None = None,
    ) -> list[Finding]:
        """Return a finding of what was counted; none when that is nothing."""
        if not self.count:
            return []
        return [
            Finding(
                name=name,
                why=why,
                do=do,
                count=self.count,
                examples=tuple(self._examples),
                severity=severity,
                details=details or {},
            )
        ]


def few(examples: Sequence[object]) -> tuple[str, ...]:
    """Return the first few as text."""
    return tuple(str(each) for each in examples[:_EXAMPLES])


@dataclass(slots=True)
class Report:
    """Everything one examination came to. `looked_at`: how many rows of what."""

    findings: list[Finding] = field(default_factory=list)
    unchecked: list[Unchecked] = field(default_factory=list)
    looked_at: dict[str, int] = field(default_factory=dict)

    @property
    def exit_status(self) -> int:
        """1: something is wrong; 2: nothing is known to be, and not all could be checked; 0: all well."""
        if any(each.severity is Severity.WRONG for each in self.findings):
            return 1
        return 2 if self.unchecked else 0
