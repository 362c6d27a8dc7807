"""A span for each statement that is run within a trace: what it does to which table, and how long that took.

By asyncpg's own hook. OpenTelemetry's instrumentation for asyncpg changes its classes for the whole process, was never
released but as a beta, and puts the text of each statement, up to 5 KB here, into every span.
"""

import re
import time
from functools import lru_cache
from typing import Protocol

from sms_foundation.core.tracing.context import trace
from sms_foundation.core.tracing.tracer import SpanKind, Tracer

# Not "FOR UPDATE", "FOR NO KEY UPDATE" and "ON CONFLICT DO UPDATE", which follow one of these.
_changes = re.compile(r"\b(INSERT INTO|(?<!FOR )(?<!KEY )(?<!DO )UPDATE|DELETE FROM)\s+(\w+)")
_sources = re.compile(r"\bFROM\s+(?!unnest\b|\()(\w+)")


class RanStatement(Protocol):
    """What asyncpg tells about a statement, `LoggedQuery`, but for its arguments: they are nobody's business."""

    @property
    def query(self) -> str:
        """The text, with placeholders."""

    @property
    def elapsed(self) -> float:
        """How long it took, in seconds."""

    @property
    def exception(self) -> BaseException | None:
        """What it failed with."""


class StatementSpans:
    """Makes the spans; `record` is for `Connection.add_query_logger`, which calls it in the caller's context."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def record(self, ran: RanStatement) -> None:
        """Make a span of what has just ended. Outside of a trace, where loops look for work, there is none."""
        parent = trace.get()
        if parent is None or not parent.is_sampled:
            return
        started_at_ns = time.time_ns() - round(ran.elapsed * 1e9)
        summary = summarize(ran.query)
        attributes = {"db.system.name": "postgresql", "db.query.summary": summary}
        span = self._tracer.start(summary, SpanKind.CLIENT, attributes, parent=parent, started_at_ns=started_at_ns)
        if ran.exception is not None:
            span.fail(type(ran.exception).__name__)
        span.end()


@lru_cache(maxsize=512)
def summarize(query: str) -> str:
    """Return what a statement does in a few words: the tables it changes, or else the first that it reads."""
    changes = dict.fromkeys(f"{verb.partition(' ')[0]} {table}" for verb, table in _changes.findall(query))
    if changes:
        return ", ".join(changes)
    if source := _sources.search(query):
        return f"SELECT {source[1]}"
    return query.split(maxsplit=1)[0].rstrip(";").upper()
