"""Which delivery status may follow which: one table, one pure function, and the same rule for SQL.

Providers promise no order, so a status is applied only if it leads further: ranks rise, ends stay ends.
Source: https://www.twilio.com/docs/messaging/guides/outbound-message-status-in-status-callbacks (November 2026).
Whether `delivered` may turn into `undelivered` is not documented there; here the first end wins.
"""

from sms_foundation.providers.base import MessageStatus

RANKS: dict[MessageStatus, int] = {
    MessageStatus.RECEIVING: 0,
    MessageStatus.RECEIVED: 1,
    # Whatever a provider reports about a message of unknown fate settles it.
    MessageStatus.UNKNOWN: 1,
    MessageStatus.ACCEPTED: 2,
    MessageStatus.SCHEDULED: 2,
    MessageStatus.QUEUED: 3,
    MessageStatus.SENDING: 4,
    MessageStatus.SENT: 5,
    MessageStatus.PARTIALLY_DELIVERED: 6,
    MessageStatus.DELIVERED: 7,
    MessageStatus.UNDELIVERED: 7,
    MessageStatus.FAILED: 7,
    MessageStatus.EXPIRED: 7,
    MessageStatus.CANCELED: 7,
    MessageStatus.READ: 8,
}
# Nothing follows these, not even `read`.
ENDS = frozenset({MessageStatus.UNDELIVERED, MessageStatus.FAILED, MessageStatus.EXPIRED, MessageStatus.CANCELED})

# No receipt is awaited any more; only `read` may follow `delivered`.
FINAL = ENDS | {MessageStatus.DELIVERED, MessageStatus.READ}


def next_status(current: MessageStatus, reported: MessageStatus | None) -> MessageStatus:
    """Return the status after `reported` arrives: `reported` if it leads further, else `current`.

    A status nobody knows (None) changes nothing. Applying the same report twice equals applying it once.
    """
    if reported is None or current in ENDS or RANKS[reported] <= RANKS[current]:
        return current
    return reported


def _sql_rank(column: str) -> str:
    cases = " ".join(f"WHEN '{status}' THEN {rank}" for status, rank in RANKS.items())
    return f"(CASE {column} {cases} END)"


def sql_leads_further(current: str, reported: str) -> str:
    """Return the SQL condition under which `next_status` would apply the column `reported` to the column `current`.

    NULL or an unknown word in `reported` makes it false.
    """
    ends = ", ".join(f"'{status}'" for status in sorted(ENDS))
    return f"({current} NOT IN ({ends}) AND coalesce({_sql_rank(reported)} > {_sql_rank(current)}, false))"
