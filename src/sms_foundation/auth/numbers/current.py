"""The rules for numbers, kept in memory for seconds: every message asks, and they hardly ever change.

They are used for `FRESH_S`, then read again beside the messages that still use them, and never used longer than
`STALE_S` after they were read: so long after a change, and no longer, other instances may go by the old ones.
"""

import asyncio
from dataclasses import dataclass

from sms_foundation.auth.numbers import repository
from sms_foundation.auth.numbers.matching import RuleSet
from sms_foundation.core.clock import monotonic
from sms_foundation.core.db import Database

FRESH_S = 2.0
STALE_S = 4.0


@dataclass(frozen=True, slots=True)
class _Known:
    """Rules, and when they were asked for (monotonic)."""

    rules: RuleSet
    asked_at: float


class CurrentRules:
    """All rules for numbers, as of a few seconds ago."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: _Known | None = None
        self._refresh: asyncio.Task[RuleSet] | None = None
        self._tasks: set[asyncio.Task[RuleSet]] = set()

    async def get(self) -> RuleSet:
        """Return the rules. Raises an outage (`core.db.is_outage`) when they have to be read and cannot be."""
        known, now = self._known, monotonic()
        if known is not None and now - known.asked_at < FRESH_S:
            return known.rules
        if self._refresh is None:
            self._refresh = asyncio.create_task(self._read(now))
            self._tasks.add(self._refresh)
            self._refresh.add_done_callback(self._let_go)
        if known is not None and now - known.asked_at < STALE_S:
            return known.rules
        return await asyncio.shield(self._refresh)

    def forget(self) -> None:
        """Read anew: something was changed by this process, which need not wait for itself."""
        self._known = self._refresh = None

    async def close(self) -> None:
        """Give up what is being read."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _read(self, now: float) -> RuleSet:
        task = asyncio.current_task()
        try:
            async with self._database.connection() as connection:
                rules = RuleSet(await repository.read_all(connection))
            if self._refresh is task:  # nothing was forgotten meanwhile
                self._known = _Known(rules, now)
        finally:
            if self._refresh is task:
                self._refresh = None
        return rules

    def _let_go(self, task: asyncio.Task[RuleSet]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # whoever waits for it gets the error; where nobody does, the next message asks again
