"""From when on something counts as wrong: well beyond what happens by itself while all is well."""

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final, Self

from sms_foundation.core.config import Settings

_A_WHILE: Final = timedelta(minutes=15)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Ages, unless they say otherwise."""

    lease_over: timedelta = timedelta(minutes=3)
    """Somebody takes expired leases over every quarter of a lease."""
    work_overdue: timedelta = timedelta(minutes=10)
    sends_overdue: timedelta = timedelta(hours=1)
    """Sends wait for the rates of providers, which is nobody's fault for a while."""
    line_stuck: timedelta = timedelta(hours=2)
    """A message of unknown fate holds its line for UNKNOWN_GIVE_UP_S."""
    attempt_open: timedelta = _A_WHILE
    receipt_unmatched: timedelta = timedelta(hours=1)
    """A receipt looks for its message for half an hour."""
    poll_overdue: timedelta = timedelta(hours=1)
    signing_key: timedelta = timedelta(days=100)
    """It is to be replaced once a quarter."""
    key_ends: timedelta = timedelta(days=7)
    key_unused: timedelta = timedelta(days=30)
    clock_off: timedelta = timedelta(seconds=2)
    transaction: timedelta = timedelta(minutes=30)
    vacuum_quiet: timedelta = timedelta(hours=1)
    dead_rows: int = 100_000
    freeze_age: int = 1_000_000_000
    """Transactions; PostgreSQL itself becomes desperate at 1.6 billion and stops at 2.1."""

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Return the limits that go with these settings."""
        lease = timedelta(seconds=settings.work_lease_s)
        give_up = timedelta(seconds=settings.unknown_give_up_s)
        usual = cls()
        return replace(
            usual,
            lease_over=2 * lease + timedelta(minutes=1),
            line_stuck=max(usual.line_stuck, 2 * give_up),
            attempt_open=max(_A_WHILE, 3 * lease),
            poll_overdue=max(usual.poll_overdue, 3 * timedelta(seconds=settings.reconcile_interval_s)),
        )
