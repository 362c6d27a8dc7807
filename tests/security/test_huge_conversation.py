"""A phone that sends tens of thousands of texts: what it costs those who read."""

import pytest

from sms_foundation.core.config import Settings
from sms_foundation.core.db import Connection, Database
from sms_foundation.messaging import history
from tests.support.service import TENANT_PHONE, Service, make_settings

MESSAGES = 20_000
_FILL = f"""
WITH c AS (
    INSERT INTO sms_conversations (id, phone_number_canonical, phone_number_original, message_count, last_message_at)
    VALUES ('00000000-0000-7000-8000-000000000000', $1, $1, {MESSAGES}, now()) RETURNING id
)
INSERT INTO sms_messages (id, conversation_id, conversation_seq, direction, provider, provider_message_id, from_number,
                          to_number, message_content, media, delivery_status)
SELECT ('00000000-0000-7000-8000-' || lpad(n::text, 12, '0'))::uuid, c.id, n, 'inbound', 'twilio', 'SM' || n, $1,
       '+15005550006', 'text ' || n, '[]', 'received'
FROM c, generate_series(1, {MESSAGES}) AS n
"""
_READ = """
SELECT sum(idx_tup_fetch + seq_tup_read)::bigint FROM pg_stat_xact_user_tables
WHERE relname IN ('sms_messages', 'sms_conversations')
"""


@pytest.fixture
def settings() -> Settings:
    return make_settings(work_in_process=False)


@pytest.fixture
async def huge(database: Database) -> Database:
    await database.pool.execute(_FILL, TENANT_PHONE)
    return database


async def rows_read(connection: Connection, *, before_seq: int | None = None, offset: int = 0, limit: int = 100) -> int:
    """Read a page; returns how many rows the database looked at for it."""
    before = await connection.fetchval(_READ) or 0
    await history.find_page(connection, phone=TENANT_PHONE, before_seq=before_seq, offset=offset, limit=limit)
    return int(await connection.fetchval(_READ)) - int(before)


class TestReading:
    @pytest.mark.parametrize("offset", [0, MESSAGES // 2, MESSAGES - 100, 10**12])
    async def test_a_page_looks_at_what_it_shows_however_deep_it_is(self, huge: Database, offset: int) -> None:
        async with huge.transaction() as connection:
            assert await rows_read(connection, offset=offset) <= 102

    async def test_a_cursor_leads_to_the_same_cost(self, huge: Database) -> None:
        async with huge.transaction() as connection:
            assert await rows_read(connection, before_seq=MESSAGES // 3) <= 102

    @pytest.mark.parametrize("limit", [101, 10**6, -1])
    async def test_nobody_gets_more_than_a_hundred_at_once(self, huge: Database, service: Service, limit: int) -> None:
        for path in (f"/conversations/{TENANT_PHONE}", "/conversations", "/v1/sms"):
            assert (await service.client.get(path, params={"limit": limit})).status_code == 400

    async def test_its_last_page_is_there(self, huge: Database, service: Service) -> None:
        page = await service.conversation(page=MESSAGES // 100, limit=100)

        assert [each["content"] for each in page["messages"]][-1] == "text 1"  # type: ignore[attr-defined]
