"""The backlog as Prometheus sees it: counted when it asks, and never older than it says."""

import structlog

from sms_foundation.core.clock import monotonic
from sms_foundation.core.db import Database, explain_outage
from sms_foundation.core.limited import Limited
from sms_foundation.core.work import queue
from sms_foundation.core.work.metrics import WORK_BACKLOG, WORK_BACKLOG_AGE_SECONDS, WORK_OLDEST_DUE_SECONDS

log = structlog.get_logger(__name__)

_PATIENCE_S = 2.0
# What was true so long ago must neither wake anybody nor start workers.
_LONGEST_SHOWN_S = 300.0


class BacklogGauges:
    """Keeps the gauges of the backlog up to date in one process."""

    def __init__(
        self, database: Database, *, patience_s: float = _PATIENCE_S, longest_shown_s: float = _LONGEST_SHOWN_S
    ) -> None:
        """`patience_s`: for how long somebody who asks waits. `longest_shown_s`: an older answer is shown no more."""
        self._database = database
        self._longest_shown_s = longest_shown_s
        self._counted_at = monotonic()
        self._count_within = Limited(self._count, limit_s=patience_s)

    async def refresh(self) -> None:
        """Count again, and wait for it a little; an answer that comes later is shown to whoever looks next.

        Never raises: without an answer the last one stays for a while, and its age tells.
        """
        try:
            await self._count_within()
        except Exception as error:  # noqa: BLE001  # metrics matter most when something is wrong
            log.warning("metrics.no_backlog", error=explain_outage(error))
        age_s = monotonic() - self._counted_at
        WORK_BACKLOG_AGE_SECONDS.set(age_s)
        if age_s > self._longest_shown_s:
            _show([])

    async def _count(self) -> None:
        async with self._database.connection() as connection:
            asked_at = monotonic()
            kinds = await queue.backlog(connection)
        self._counted_at = asked_at
        _show(kinds)


def _show(kinds: list[queue.Backlog]) -> None:
    WORK_BACKLOG.clear()
    WORK_OLDEST_DUE_SECONDS.clear()
    for each in kinds:
        for state in ("due", "scheduled", "leased", "dead"):
            WORK_BACKLOG.labels(each.kind, state).set(getattr(each, state))
        WORK_OLDEST_DUE_SECONDS.labels(each.kind).set(each.oldest_due_s)
