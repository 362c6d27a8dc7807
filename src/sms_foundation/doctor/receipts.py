"""Receipts that found no message, and messages about which a provider should have been asked by now."""

from datetime import timedelta
from typing import Final

from sms_foundation.doctor.context import Context
from sms_foundation.doctor.findings import Finding, Severity, Tally

# IS TRUE keeps the planner from the index of all events by message, in which those without one are one long range.
_PAGE: Final = """
SELECT e.id, (e.message_id IS NULL) IS TRUE AS is_unmatched, extract(epoch FROM now() - e.created_at)::float8 AS age_s,
       CASE WHEN (e.message_id IS NULL) IS TRUE THEN (
           SELECT m.id FROM sms_messages AS m
           WHERE m.provider_message_id = e.provider_message_id AND m.provider = e.provider) END AS message_id
FROM (SELECT * FROM sms_message_status_events WHERE id > $1 ORDER BY id LIMIT $2) AS e
ORDER BY e.id
"""
# Oldest first by its index, and no further than the limit: that there are many is all one needs to know then.
_OVERDUE: Final = """
SELECT id FROM sms_messages WHERE poll_at < now() - $1::interval ORDER BY poll_at LIMIT $2
"""
_MOST: Final = 1000


async def check_receipts(context: Context) -> list[Finding]:
    """Look at every receipt of the period that is old enough to have found its message."""
    lost, strangers, seen = Tally(), Tally(), 0
    ages: dict[str, int] = {}
    async for rows in context.reader.walk("receipts", _PAGE, (context.first_id,)):
        seen += len(rows)
        for row in rows:
            if not row["is_unmatched"] or row["age_s"] <= context.limits.receipt_unmatched.total_seconds():
                continue
            if row["message_id"] is not None:
                lost.add(row["id"])
                continue
            strangers.add(row["id"])
            age = _age(timedelta(seconds=row["age_s"]))
            ages[age] = ages.get(age, 0) + 1
    context.report.looked_at["receipts"] = seen
    return [
        *lost.finding(
            "receipts_not_applied",
            why="the message is here and so is its receipt, and the one does not know of the other",
            do="`sms-foundation reconcile --since 24h` asks the providers again; then see that a worker runs",
        ),
        *strangers.finding(
            "receipts_without_message",
            why="something else sends through the same account and reports to us; or messages of ours were lost",
            do="look one up at its provider: if we should have sent it, `sms-foundation reconcile --since 7d`; if not, "
            "give that other sender a status callback of its own",
            severity=Severity.NOTICE,
            details=ages,
        ),
        *await _overdue_polls(context),
    ]


def _age(age: timedelta) -> str:
    if age > timedelta(days=7):
        return "older than a week"
    return "older than a day" if age > timedelta(days=1) else "up to a day old"


async def _overdue_polls(context: Context) -> list[Finding]:
    overdue = Tally()
    for row in await context.reader.fetch(_OVERDUE, context.limits.poll_overdue, _MOST):
        overdue.add(row["id"])
    return overdue.finding(
        "statuses_not_asked_for",
        why="no receipt came for these, and the provider should have been asked long ago: what callers see is old"
        + (f" (the first {_MOST:,} are counted)" if overdue.count == _MOST else ""),
        do="see that a worker runs and that their providers are still configured (`sms-foundation providers`); "
        "`sms-foundation reconcile --since 7d` asks now",
    )
