"""An export holds everything that is stored about the person, nothing about anybody else, and is one JSON object."""

from typing import Any

import orjson
import pytest

from sms_foundation.core.db import Database
from sms_foundation.core.schema import metadata
from sms_foundation.messaging.personal_data import STRETCH
from sms_foundation.privacy.export import Export
from sms_foundation.privacy.subject import find_subject
from tests.privacy.test_erasing import add_history
from tests.support.one_person import NAME, OTHER, PERSON, TRACES, World

# The table behind each list, and the columns that are not shown: a digest that means nothing to anybody, and ids that
# say where in the tree the row stands.
LISTS = {
    "conversations": ("sms_conversations", set()),
    "messages": ("sms_messages", {"request_digest"}),
    "events": ("sms_message_status_events", {"message_id"}),
    "attempts": ("sms_send_attempts", {"message_id"}),
    "unmatched_receipts": ("sms_message_status_events", set()),
    "opt_outs": ("sms_opt_outs", set()),
    "number_rules": ("auth_number_rules", set()),
    "tenants": ("sms_tenants", set()),
    "tenant_numbers": ("sms_tenant_numbers", set()),
}


async def export(database: Database, phone: str = PERSON, *, writes: list[bytes] | None = None) -> dict[str, Any]:
    """Return what is exported about somebody; `writes` gets the pieces."""
    pieces: list[bytes] = [] if writes is None else writes
    await Export(database, find_subject(phone, "US"), pieces.append, lambda _done, _total: None).run(reference="R-17")
    return dict(orjson.loads(b"".join(pieces)))


def all_of(found: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """Return the rows of one of LISTS, wherever in the object they stand."""
    if name in ("events", "attempts"):
        return [row for message in all_of(found, "messages") for row in message[name]]
    if name == "messages":
        return [row for conversation in found["conversations"] for row in conversation["messages"]]
    return list(found[name])


class TestExport:
    async def test_begins_with_what_it_is(self, person: World) -> None:
        found = await export(person.database)

        assert list(found) == [
            "format", "version", "exported_at", "number", "opt_outs", "number_rules", "tenants", "tenant_numbers",
            "conversations", "unmatched_receipts",
        ]  # fmt: skip
        assert (found["format"], found["version"]) == ("sms-foundation/personal-data", 1)
        assert found["number"] == PERSON
        assert found["exported_at"].endswith("+00:00")

    async def test_holds_every_trace_of_the_person(self, person: World) -> None:
        text = orjson.dumps(await export(person.database)).decode()

        assert {trace for trace in TRACES if trace in text} == set(TRACES) - {"555-0123"}, "nobody wrote it so"
        assert NAME in text

    @pytest.mark.parametrize("name", LISTS)
    async def test_every_column_is_in_it(self, person: World, name: str) -> None:
        table, hidden = LISTS[name]
        rows = all_of(await export(person.database), name)

        assert rows
        within = {"conversations": {"messages"}, "messages": {"events", "attempts"}}.get(name, set())
        for row in rows:
            assert set(row) - within == {column.name for column in metadata.tables[table].c} - hidden

    async def test_holds_every_row_and_message_in_order(self, person: World) -> None:
        found = await export(person.database)

        assert [each["phone_number_canonical"] for each in found["conversations"]] == [PERSON, f"whatsapp:{PERSON}"]
        assert [each["conversation_seq"] for each in found["conversations"][0]["messages"]] == [1, 2, 3, 4, 5, 6]
        for name, table in (("messages", "sms_messages"), ("attempts", "sms_send_attempts")):
            count = await person.database.pool.fetchval(f"SELECT count(*) FROM {table}")
            assert len(all_of(found, name)) == count
        events = await person.database.pool.fetchval("SELECT count(*) FROM sms_message_status_events")
        assert len(all_of(found, "events")) + len(found["unmatched_receipts"]) == events

    async def test_holds_nothing_of_anybody_else(self, person: World) -> None:
        await person.live(OTHER)

        assert "4155550199" not in orjson.dumps(await export(person.database)).decode()

    async def test_of_a_long_conversation_is_written_stretch_by_stretch(self, world: World) -> None:
        await add_history(world.database, 2 * STRETCH + 1)
        writes: list[bytes] = []
        found = await export(world.database, writes=writes)

        assert [each["conversation_seq"] for each in all_of(found, "messages")] == list(range(1, 2 * STRETCH + 2))
        assert max(piece.count(b'"conversation_seq"') for piece in writes) == STRETCH

    async def test_of_somebody_unknown_is_empty(self, world: World) -> None:
        found = await export(world.database)

        assert all(found[name] == [] for name in list(found)[4:])

    async def test_is_empty_again_after_an_erasing_but_for_what_is_kept(self, person: World) -> None:
        await person.erase()
        found = await export(person.database)

        assert {name for name in list(found)[4:] if found[name]} == {"opt_outs"}

    async def test_is_written_down_with_no_more_than_the_last_digits(self, person: World) -> None:
        await export(person.database)
        (row,) = await person.database.pool.fetch("SELECT * FROM auth_audit_log WHERE action = 'privacy.export'")

        assert (row["actor"], row["target_kind"], row["target"]) == ("command-line", "number", "***0123")
        assert orjson.loads(row["details"])["reference"] == "R-17"
        assert "4155550123" not in str(row)
