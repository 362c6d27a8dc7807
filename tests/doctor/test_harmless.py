"""A database that is looked over does not notice: nothing is written, every step is a bounded walk along an index."""

import asyncio
from typing import Any

import asyncpg
import orjson
import pytest

from sms_foundation.core.clock import utc_now
from sms_foundation.core.db import Database, DatabaseUrl
from sms_foundation.core.ids import NIL, new_id
from sms_foundation.doctor import access, conversations, messages, receipts, work
from sms_foundation.doctor.reading import Reader
from tests.doctor.examined import Patient
from tests.support.outbound import HttpProvider, accept, http_providers, phones, refusing, request, sending
from tests.support.service import Service, make_settings, running_service

_FILL = """
WITH conversation AS (
    INSERT INTO sms_conversations (id, phone_number_canonical, phone_number_original, message_count, last_message_at)
    SELECT gen_random_uuid(), '+1415' || n, '+1415' || n, 10, now() FROM generate_series($1::int, $2::int) AS n
    RETURNING id, phone_number_canonical
), message AS (
    INSERT INTO sms_messages (id, conversation_id, conversation_seq, direction, provider, provider_message_id,
                              from_number, to_number, message_content, delivery_status, ended_at)
    SELECT gen_random_uuid(), c.id, seq, 'outbound', 'twilio', c.id || '-' || seq, 'us', c.phone_number_canonical, 'x',
           'delivered', now()
    FROM conversation AS c, generate_series(1, 10) AS seq
    RETURNING id, provider_message_id
), attempt AS (
    INSERT INTO sms_send_attempts (message_id, number, provider, sender, reasons, outcome)
    SELECT id, 1, 'twilio', 'us', '{}', 'sent' FROM message
), job AS (
    INSERT INTO work (kind, ref_id, order_key, run_at)
    SELECT 'send_message', id, id, now() + interval '1 day' FROM message
)
INSERT INTO sms_message_status_events (id, message_id, provider, provider_message_id, event_status, raw_webhook_data)
SELECT gen_random_uuid(), message.id, 'twilio', message.provider_message_id, word, '{}'
FROM message, unnest(ARRAY['queued', 'sent', 'delivered']) AS word
"""

_MIDDLE = "80000000-0000-0000-0000-000000000000"
_STEP = 100
_STATEMENTS: dict[str, tuple[str, tuple[Any, ...]]] = {
    "messages": (messages._PAGE, (_MIDDLE, _STEP)),
    "all conversations": (conversations._ALL, (_MIDDLE, _STEP)),
    "work": (work._PAGE, (1000, _STEP)),
    "receipts": (receipts._PAGE, (_MIDDLE, _STEP)),
    "keys": (access._KEYS, (NIL, _STEP, "1 day", "1 day")),
}
_BIG = ("sms_messages", "sms_conversations", "sms_message_status_events", "sms_send_attempts", "work")


async def _explain(reader: Reader, statement: str, arguments: tuple[Any, ...]) -> dict[str, Any]:
    """Run a statement as the doctor does, with one plan for all arguments, and return how that went."""
    literals = ", ".join(str(each) if isinstance(each, int) else f"'{each}'" for each in arguments)
    async with reader.transaction() as connection:
        await connection.execute("SET LOCAL plan_cache_mode = force_generic_plan")
        await connection.execute(f"PREPARE step AS {statement}")
        try:
            text = await connection.fetchval(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE step({literals})")
        finally:
            await connection.execute("DEALLOCATE step")
    (plan,) = orjson.loads(text)
    return dict(plan["Plan"])


def _nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(node for child in plan.get("Plans", ()) for node in _nodes(child))]


def _buffers(plan: dict[str, Any]) -> int:
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


async def test_a_step_is_a_bounded_walk_along_an_index_however_large_the_table(
    patient: Patient, database: Database
) -> None:
    """Four times as many rows cost a step the same: what an index's height adds, and no more."""
    reader = Reader(database)
    await patient.run(_FILL, 1, 200)
    await patient.run("ANALYZE")
    small = {name: await _explain(reader, *each) for name, each in _STATEMENTS.items()}
    await patient.run(_FILL, 201, 800)
    await patient.run("ANALYZE")
    large = {name: await _explain(reader, *each) for name, each in _STATEMENTS.items()}

    for name, plan in [*small.items(), *large.items()]:
        walks = [node for node in _nodes(plan) if node.get("Relation Name") in _BIG]
        assert {node["Node Type"] for node in walks} <= {"Index Scan", "Index Only Scan", "Bitmap Heap Scan"}, name
        assert not any("Hash" in node["Node Type"] for node in _nodes(plan)), name
        assert max((node["Actual Rows"] for node in walks), default=0) <= _STEP, f"{name} walks further than its step"
    for name in _STATEMENTS:
        assert _buffers(large[name]) <= 1.3 * _buffers(small[name]) + 50, name


async def test_those_active_lately_are_walked_along_their_index(patient: Patient, database: Database) -> None:
    await patient.run(_FILL, 1, 1000)
    await patient.run("ANALYZE")
    end, begin = utc_now().replace(year=2100), utc_now().replace(year=2000)

    plan = await _explain(
        Reader(database), conversations._ACTIVE, (end.isoformat(), "f" * 8 + _MIDDLE[8:], _STEP, begin.isoformat())
    )

    (walk,) = (node for node in _nodes(plan) if node.get("Index Name") == "ix_sms_conversations_last_message_at")
    assert walk["Actual Rows"] == _STEP
    assert walk.get("Rows Removed by Filter", 0) == 0


async def test_nothing_can_be_written_and_nothing_is_tried_to(patient: Patient, database_url: DatabaseUrl) -> None:
    await patient.message(status="delivered")
    with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
        async with Reader(patient.database).transaction() as connection:
            await connection.execute("DELETE FROM work")
    name = await patient.run("SELECT current_database()")
    await patient.run(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    database = Database(database_url, patient.settings)
    await database.open()

    found = await Patient(database, patient.settings).examine()
    await database.close()

    assert found.names() == {"status_not_explained"}
    assert found.unchecked <= {"webhooks"}


class TestWalk:
    async def test_a_step_that_is_cut_off_is_made_again_smaller(self, database: Database) -> None:
        reader = Reader(database, statement_ms=250, first_step=200)
        slow = "SELECT n, pg_sleep(0.01)::text FROM generate_series($1::int + 1, 60) AS n LIMIT $2"

        seen = [row[0] async for rows in reader.walk("numbers", slow, (0,)) for row in rows]

        assert seen == list(range(1, 61))

    async def test_one_that_is_cut_off_at_its_smallest_says_so(self, database: Database) -> None:
        reader = Reader(database, statement_ms=50)

        with pytest.raises(asyncpg.QueryCanceledError):
            async for _ in reader.walk("numbers", "SELECT $1::int, pg_sleep($2::int)::text", (0,)):
                pass

    async def test_how_far_it_is_is_told_after_every_step(self, database: Database) -> None:
        lines: list[str] = []
        reader = Reader(database, lines.append, first_step=20)
        numbers = "SELECT n FROM generate_series($1::int + 1, 50) AS n LIMIT $2"

        _ = [rows async for rows in reader.walk("numbers", numbers, (0,))]

        assert lines[-1] == "numbers: 50 looked at"
        assert len(lines) > 1

    async def test_many_at_the_same_moment_are_all_seen(self, patient: Patient) -> None:
        """A batch is stored with one time for all: a step must not end in the middle of them and go on behind."""
        await patient.run(_FILL, 1, 600)
        await patient.run("UPDATE sms_conversations SET message_count = 11")

        found = await patient.examine(since=utc_now().replace(year=2000))

        assert found["message_count_wrong"].count == 600


async def test_a_busy_service_has_no_findings(database: Database, database_url: DatabaseUrl) -> None:
    """Texts, statuses and sends, some of which fail, while it is looked over again and again."""
    steady, moody = HttpProvider("steady"), HttpProvider("moody", answer=refusing("busy", 503))
    async with http_providers(steady, moody):
        entries = orjson.dumps([steady.entry, moody.entry]).decode()
        examined = Patient(database, make_settings(public_base_url=None, providers=entries))
        async with (
            running_service(make_settings(), database_url, database) as service,
            sending(database_url, [steady, moody]),
            asyncio.TaskGroup() as group,
        ):
            load = group.create_task(_load(service, database))
            while not load.done():
                found = await examined.examine()
                assert found.names() == set(), found.report.findings
    assert found.report.looked_at["messages"] > 0


async def _load(service: Service, database: Database) -> None:
    for number in range(40):
        sids = [f"SM{new_id().hex}" for _ in range(5)]
        await asyncio.gather(*(service.text(sid, sender=phone) for sid, phone in zip(sids, phones(5), strict=True)))
        await asyncio.gather(*(service.status(sid, "received") for sid in sids))
        await accept(database, *(request(phone, f"Hello {number}") for phone in phones(5)))
