"""Which language a conversation and a tenant are spoken to in: pure rules, independent of the order of evidence.

Evidence is ordered by (confidence, seq): a newer text wins when it is at least as certain as what decided before. That
order is total, so applying evidence late, twice or shuffled ends in the same language.
"""

from dataclasses import dataclass
from enum import StrEnum

UNKNOWN = "unknown"
# Certain enough to tell the tenant's profile. Source: the callers' requirement.
MIN_CONFIDENCE_TO_TELL = 0.7


@dataclass(frozen=True, slots=True, order=True)
class Evidence:
    """A recognised language: how sure (0..1), from which message of the conversation (0: taken over), which one."""

    confidence: float
    seq: int
    language: str


NO_EVIDENCE = Evidence(0.0, 0, UNKNOWN)


class Reason(StrEnum):
    """Why a language was kept or changed."""

    UNDECIDED = "undecided"  # the text told nothing
    WEAKER = "weaker"  # what is known is more certain, or newer
    CONFIRMED = "confirmed"  # the same language, from stronger or newer evidence
    FIRST = "first"  # nothing was known
    CHANGED = "changed"  # another language, at least as certain
    TAKEN_OVER = "taken_over"  # nothing of its own: the tenant's language from another conversation


@dataclass(frozen=True, slots=True)
class Decision:
    """What holds from now on, and why."""

    evidence: Evidence
    reason: Reason

    @property
    def is_changed(self) -> bool:
        """The language itself is another one than before."""
        return self.reason in (Reason.FIRST, Reason.CHANGED, Reason.TAKEN_OVER)


def weigh(known: Evidence, new: Evidence) -> Decision:
    """Decide between what is known and new evidence. "unknown" never replaces a language. Idempotent."""
    if new.language == UNKNOWN:
        return Decision(known, Reason.UNDECIDED)
    if known.language == UNKNOWN:
        return Decision(new, Reason.FIRST)
    if (new.confidence, new.seq) <= (known.confidence, known.seq):
        return Decision(known, Reason.WEAKER)
    return Decision(new, Reason.CONFIRMED if new.language == known.language else Reason.CHANGED)


def take_over(known: Evidence, tenant: Evidence) -> Decision:
    """Give a conversation without evidence of its own the language its tenant uses elsewhere (as seq 0).

    Its own next text of at least that confidence decides again, since every message's seq is above 0.
    """
    if tenant.language == UNKNOWN or known.seq > 0:
        return Decision(known, Reason.UNDECIDED)
    taken = Evidence(tenant.confidence, 0, tenant.language)
    if taken == known:
        return Decision(known, Reason.WEAKER)
    return Decision(taken, Reason.CONFIRMED if taken.language == known.language else Reason.TAKEN_OVER)
