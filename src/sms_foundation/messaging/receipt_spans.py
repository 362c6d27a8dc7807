"""A receipt as part of its message's trace: a provider's callback knows nothing of traces, the message does.

What comes by a callback costs no query of its own: the statement that applies it tells where its message stands.
"""

from uuid import UUID

import asyncpg
import structlog

from sms_foundation.core.db import Database, explain_outage
from sms_foundation.core.tracing.context import parse_traceparent, trace
from sms_foundation.core.tracing.tracer import SpanKind, Tracer
from sms_foundation.providers.base import MessageStatus, StatusReport, parse_status

log = structlog.get_logger(__name__)

_FIND_BY_EVENT = """
SELECT m.trace_context, e.provider, e.event_status
FROM sms_message_status_events AS e JOIN sms_messages AS m ON m.id = e.message_id
WHERE e.id = $1
"""


def record_applied(tracer: Tracer, trace_context: str | None, report: StatusReport, outcome: str) -> None:
    """Record a receipt that has found its message, linked to what is current: the callback, or the asking for it.

    `trace_context` is the message's; None for one of before it was kept.
    """
    _record(tracer, trace_context, report.provider, report.status, outcome)


async def record_matched(database: Database, event_id: UUID) -> None:
    """Record a receipt whose message was found later, linked to what is current: work that follows the callback."""
    if database.tracer is None:
        return
    row = await _find(database, event_id)
    if row is not None:
        _record(database.tracer, row["trace_context"], row["provider"], parse_status(row["event_status"]), "matched")


async def _find(database: Database, event_id: UUID) -> asyncpg.Record | None:
    try:
        async with database.connection() as connection:
            return await connection.fetchrow(_FIND_BY_EVENT, event_id)
    except Exception as error:  # noqa: BLE001  # the receipt is stored: a missing span is no reason to refuse it now
        log.warning("receipt.not_traced", error=explain_outage(error))
        return None


def _record(
    tracer: Tracer, trace_context: str | None, provider: str, status: MessageStatus | None, outcome: str
) -> None:
    parent = parse_traceparent(trace_context) if trace_context else None
    if parent is None:  # a message of before it was kept
        return
    word = "other" if status is None else status.value
    attributes = {"sms.provider": provider, "sms.receipt.status": word, "sms.receipt.outcome": outcome}
    current = trace.get()
    links = [] if current is None else [current]
    tracer.start(f"receipt {word}", SpanKind.INTERNAL, attributes, parent=parent, links=links).end()
