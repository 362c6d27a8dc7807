"""Spans of statements, on a real database."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from sms_foundation.core.config import Settings
from sms_foundation.core.db import Database, DatabaseUrl
from sms_foundation.core.tracing.context import Origin, resume, trace
from sms_foundation.core.tracing.statements import summarize
from sms_foundation.core.tracing.tracer import SpanKind, Tracer, span
from sms_foundation.core.work import queue
from sms_foundation.messaging import delivery, ingest
from sms_foundation.messaging.outbound import accept, store
from tests.support.collector import Collector

SECRET = "Hola, mi clave es 4711"


class TestSummarize:
    @pytest.mark.parametrize(
        ("query", "summary"),
        [
            ("SELECT 1", "SELECT"),
            ("BEGIN;", "BEGIN"),
            ("COMMIT;", "COMMIT"),
            ("SET LOCAL synchronous_commit = off", "SET"),
            ("\nSELECT a FROM sms_messages AS m WHERE m.id = $1 FOR NO KEY UPDATE", "SELECT sms_messages"),
            ("SELECT * FROM unnest($1::int[]) AS t(a) JOIN x ON true, (SELECT FROM y) AS z", "SELECT y"),
            ("DELETE FROM work WHERE id = $1", "DELETE work"),
            (ingest._STORE, "INSERT sms_conversations, INSERT sms_messages, INSERT work"),
            (accept._ACCEPT, "INSERT sms_conversations, INSERT sms_messages, INSERT work"),
            (delivery._APPLY, "UPDATE sms_messages, INSERT sms_message_status_events, INSERT work"),
            (queue._CLAIM, "UPDATE work"),
            (store._BEGIN, "UPDATE sms_messages, INSERT sms_send_attempts"),
        ],
    )
    def test_says_which_tables_are_changed_or_else_read(self, query: str, summary: str) -> None:
        assert summarize(query) == summary


@pytest.fixture
async def traced(database_url: DatabaseUrl, settings: Settings, tracer: Tracer) -> AsyncIterator[Database]:
    database = Database(database_url, settings, tracer)
    await database.open()
    yield database
    await database.close()


class TestStatementSpans:
    async def test_are_children_of_what_runs_them_without_text_or_arguments(
        self, traced: Database, tracer: Tracer, collector: Collector
    ) -> None:
        with span(tracer, "it", SpanKind.INTERNAL, {}, parent=None) as current:
            async with traced.transaction() as connection:
                await connection.fetch("SELECT pg_sleep(0.01) FROM sms_messages WHERE message_content = $1", SECRET)
                await connection.fetchval("SELECT pg_sleep(0.01)::text FROM alembic_version WHERE $1 <> ''", SECRET)

        arrived = await collector.one("SELECT alembic_version")
        assert (arrived.kind, arrived.parent_id) == ("client", current.context.span_id)
        assert arrived.attributes == {
            "db.system.name": "postgresql",
            "db.query.summary": "SELECT alembic_version",
        }
        assert arrived.took_s >= 0.01
        await collector.one("COMMIT")
        assert not any(SECRET.encode() in body for body in collector.bodies)

    async def test_that_fail_say_with_what_type(self, traced: Database, tracer: Tracer, collector: Collector) -> None:
        with span(tracer, "it", SpanKind.INTERNAL, {}, parent=None):
            async with traced.connection() as connection:
                with pytest.raises(asyncpg.UndefinedTableError):
                    await connection.fetch("SELECT FROM nowhere WHERE $1 = 1", 1)

        arrived = await collector.one("SELECT nowhere")
        assert (arrived.has_failed, arrived.attributes["error.type"]) == (True, "UndefinedTableError")

    async def test_outside_of_what_is_recorded_there_are_none(
        self, traced: Database, tracer: Tracer, collector: Collector
    ) -> None:
        async with traced.connection() as connection:
            trace.set(None)
            await connection.fetch("SELECT FROM sms_messages")
            resume(Origin(f"00-{'a' * 32}-{'b' * 16}-00"))
            await connection.fetch("SELECT FROM sms_messages")
        tracer.start("the last one", SpanKind.INTERNAL, {}, parent=None).end()

        await collector.one("the last one")
        assert [each.name for each in collector.spans] == ["the last one"]
