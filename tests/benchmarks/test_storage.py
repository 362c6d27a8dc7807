"""What is weighed is what production stores."""

import pytest

from benchmarks.storage import fill, per_message
from sms_foundation.core.db import Database


class TestFill:
    @pytest.mark.parametrize(
        ("sort", "events", "status"), [("text_received", 0, "received"), ("message_sent", 3, "delivered")]
    )
    async def test_leaves_messages_with_all_that_happened_to_them(
        self, database: Database, sort: str, events: int, status: str
    ) -> None:
        await fill(sort, database.url.dsn, 40)

        rows = await database.pool.fetch(
            "SELECT delivery_status, (SELECT count(*) FROM sms_message_status_events AS e WHERE e.message_id = m.id) "
            "FROM sms_messages AS m"
        )
        assert [tuple(row) for row in rows] == [(status, events)] * 40
        assert await database.pool.fetchval("SELECT count(*) FROM sms_conversations") == 2
        assert await database.pool.fetchval("SELECT count(*) FROM work") == 0


class TestPerMessage:
    def test_counts_what_has_grown(self) -> None:
        assert per_message({"a": (8, 8), "b": (16, 0)}, {"a": (108, 18), "b": (16, 0)}, 10) == {
            "bytes": 10,
            "index_bytes": 1,
            "a": 10,
        }
