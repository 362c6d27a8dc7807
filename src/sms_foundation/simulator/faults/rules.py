"""What can go wrong, and for whom."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal


class FaultKind(StrEnum):
    """A kind of misbehaviour. "Before" and "after" are seen from accepting the message."""

    LATENCY = "latency"
    """Wait `latency_ms` before doing anything else."""
    RATE_LIMIT = "rate_limit"
    """Refuse with 429 (at Vonage: status 1), with Retry-After when `retry_after_s` is set."""
    RATE = "rate"
    """Refuse like `rate_limit` what exceeds `per_second` within any second."""
    SERVER_ERROR = "server_error"
    """Answer `status`, 500 to 599, in the provider's own error shape; accept the message first if `is_accepted`."""
    HANG_BEFORE = "hang_before"
    """Accept nothing, say nothing, and cut the connection after `hold_s`."""
    HANG_AFTER = "hang_after"
    """Accept the message, say nothing, and cut the connection after `hold_s`."""
    DROP_BEFORE = "drop_before"
    """Cut the connection at once, without accepting."""
    DROP_AFTER = "drop_after"
    """Accept the message, then cut the connection without an answer."""
    HTML = "html"
    """Answer with a gateway's HTML page and `status`; accept the message first if `is_accepted`."""
    TRUNCATED = "truncated"
    """Accept the message and answer with the first half of the JSON."""
    ACCOUNT_SUSPENDED = "account_suspended"
    """Refuse the credentials (Twilio: 401 with 20003)."""
    STOP = "stop"
    """Refuse because the phone opted out (Twilio: 21610)."""
    CARRIER_ERROR = "carrier_error"
    """Accept, but never reach the phone: a receipt with `error_code`."""
    LOST_RECEIPTS = "lost_receipts"
    LATE_RECEIPTS = "late_receipts"
    """Receipts come `delay_s` later."""
    DOUBLED_RECEIPTS = "doubled_receipts"
    """Receipts come `copies` times."""
    REORDERED_RECEIPTS = "reordered_receipts"
    """Receipts come in any order, each up to `delay_s` late."""


REQUEST_KINDS: Final = frozenset(
    {
        FaultKind.LATENCY,
        FaultKind.RATE_LIMIT,
        FaultKind.RATE,
        FaultKind.SERVER_ERROR,
        FaultKind.HANG_BEFORE,
        FaultKind.HANG_AFTER,
        FaultKind.DROP_BEFORE,
        FaultKind.DROP_AFTER,
        FaultKind.HTML,
        FaultKind.TRUNCATED,
        FaultKind.ACCOUNT_SUSPENDED,
        FaultKind.STOP,
    }
)
RECEIPT_KINDS: Final = frozenset(
    {
        FaultKind.LOST_RECEIPTS,
        FaultKind.LATE_RECEIPTS,
        FaultKind.DOUBLED_RECEIPTS,
        FaultKind.REORDERED_RECEIPTS,
    }
)

Operation = Literal["send", "read"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultRule:
    """One way to misbehave. Only the values that `kind` names matter."""

    kind: FaultKind
    provider: str | None = None
    """Such as `twilio`; None: all of them."""
    number: str | None = None
    """Only messages to this phone; None: everything."""
    share: float = 1.0
    """Part of what it applies to, 0 to 1, drawn at random."""
    count: int | None = None
    """Strikes until the rule is spent; None: no end."""
    after_s: float = 0
    """Begins so long after it was set."""
    for_s: float | None = None
    """Lasts so long from then on; None: until it is ended."""
    on: Literal["sends", "reads", "all"] = "sends"
    """Requests it applies to: those that send, those that fetch, list, change or delete, or all."""
    latency_ms: float = 1_000
    retry_after_s: int | None = None
    per_second: int = 50
    status: int = 503
    is_accepted: bool = False
    hold_s: float = 30
    delay_s: float = 5
    copies: int = 2
    error_code: int = 30003

    def applies_to(self, operation: Operation) -> bool:
        return self.on == "all" or self.on == f"{operation}s"
