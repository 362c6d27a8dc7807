"""After an erasing nothing of the person is left anywhere, and nothing that comes late brings them back."""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from sms_foundation.auth.numbers import service as number_rules
from sms_foundation.auth.principal import COMMAND_LINE
from sms_foundation.core.db import Database, DatabaseUrl
from sms_foundation.core.ids import NIL
from sms_foundation.core.schema import metadata
from sms_foundation.core.work import queue
from sms_foundation.core.work.queue import Lane, Priority, Work
from sms_foundation.enrichment.findings import Finding, FindingStore, Lookup
from sms_foundation.messaging.delivery import match_receipt
from sms_foundation.messaging.facts import ReceivedMessage, load_messages
from sms_foundation.messaging.jobs import MESSAGE_RECEIVED
from sms_foundation.messaging.opt_outs import record_opt_outs_of
from sms_foundation.messaging.outbound import store
from sms_foundation.messaging.outbound.policy import SendingPolicy
from sms_foundation.messaging.outbound.results import sent
from sms_foundation.messaging.personal_data import STRETCH
from sms_foundation.privacy.decisions import DECISIONS, Decision
from sms_foundation.privacy.erasing import Erasing, Survey, survey
from sms_foundation.privacy.export import Export
from sms_foundation.privacy.subject import find_subject
from sms_foundation.providers.base import MessageStatus, SendReceipt
from tests.core.test_db_pooler import pooler_for, through
from tests.support.one_person import NAME, OTHER, PERSON, KilledError, Listening, World
from tests.support.outbound import HttpProvider, Taken, expire_leases, statuses, work_rows
from tests.support.processes import eventually
from tests.support.service import make_settings

# What may still tell the number afterwards: the law wants opt-outs honoured.
KEPT = {"sms_opt_outs": {"4155550123"}}

# Columns of a tombstone that say nothing about a person, for each of which somebody has thought about it. All others
# are empty after an erasing; one that is on neither list fails a test.
STAYS = {
    "sms_conversations": "id message_count last_message_at created_at updated_at",
    "sms_messages": "id conversation_id conversation_seq direction provider provider_message_id num_segments encoding "
    "delivery_status error_code client_id is_test priority requested_sender requested_provider send_at expires_at "
    "content_retention redact_at requeued_at sent_at ended_at price_micros price_currency poll_at created_at "
    "updated_at",
    "sms_message_status_events": "id message_id provider provider_message_id event_status error_code created_at",
}
EMPTIED = {
    "sms_conversations": "phone_number_canonical phone_number_original tenant_id tenant_lookup_status workflow_type "
    "workflow_id conversation_status language_detected language_confidence language_seq",
    "sms_messages": "from_number to_number message_content media error_message language_detected language_confidence "
    "raw_webhook_data idempotency_key request_digest metadata trace_context request_id",
    "sms_message_status_events": "error_message raw_webhook_data",
}


async def add_history(database: Database, count: int, phone: str = PERSON) -> None:
    """Store a long conversation."""
    await database.pool.execute(
        """
        WITH conversation AS (
            INSERT INTO sms_conversations (id, phone_number_canonical, phone_number_original, message_count)
            VALUES (gen_random_uuid(), $2, $2, $1) RETURNING id)
        INSERT INTO sms_messages (id, conversation_id, conversation_seq, direction, provider, provider_message_id,
                                  from_number, to_number, message_content, delivery_status, raw_webhook_data)
        SELECT gen_random_uuid(), conversation.id, n, 'inbound', 'gone', 'SMhistory' || n, $2, '+15005550006',
               'pineapple ' || n, 'received', jsonb_build_object('From', $2::text)
        FROM conversation, generate_series(1, $1::int) AS n
        """,
        count,
        phone,
    )


async def look(world: World) -> Survey:
    """Return what `erase` shows before it asks."""
    return await survey(world.database, find_subject(PERSON, "US"), lambda _done, _total: None)


async def open_work(database: Database) -> list[asyncpg.Record]:
    """Return the work that is about something, not what recurs."""
    return [row for row in await work_rows(database) if row["ref_id"] != NIL]


class TestEverything:
    async def test_the_person_is_everywhere_before(self, person: World) -> None:
        assert set(await person.traces()) == {
            name for name, what in DECISIONS.items() if what in (Decision.TOMBSTONE, Decision.DELETED, Decision.KEPT)
        }

    async def test_leaves_nothing_of_the_person_in_any_table(self, person: World) -> None:
        await person.erase()

        assert await person.traces() == KEPT

    async def test_leaves_another_person_as_they_were(self, person: World) -> None:
        await person.live(OTHER)

        def of_other(rows: dict[str, list[str]]) -> dict[str, list[str]]:
            named = {table: sorted(row for row in of if "4155550199" in row) for table, of in rows.items()}
            return {table: of for table, of in named.items() if of}

        before = of_other(await person.rows())
        await person.erase()

        assert of_other(await person.rows()) == before
        assert len(before) >= 9

    def test_every_table_is_decided_about(self) -> None:
        assert set(DECISIONS) == set(metadata.tables)

    @pytest.mark.parametrize("table", STAYS)
    def test_every_column_of_a_tombstone_is_decided_about(self, table: str) -> None:
        assert {*STAYS[table].split(), *EMPTIED[table].split()} == {column.name for column in metadata.tables[table].c}

    @pytest.mark.parametrize("table", STAYS)
    async def test_what_is_personal_in_a_tombstone_was_there_and_is_empty(self, person: World, table: str) -> None:
        columns = EMPTIED[table].split()

        async def filled() -> set[str]:
            rows = await person.database.pool.fetch(f"SELECT * FROM {table}")
            empty = (None, "", "[]", "unknown", "erased", 0)
            values = {name: {row[name] for row in rows} for name in columns}
            return {
                name
                for name, found in values.items()
                if any(value not in empty and not str(value).startswith(("erased:", "+1500555")) for value in found)
            }

        assert await filled() == set(columns)
        await person.erase()
        assert await filled() == set()

    async def test_ids_counts_and_prices_stay_for_the_books(self, person: World) -> None:
        await person.database.pool.execute(
            "UPDATE sms_messages SET price_micros = 7900, price_currency = 'USD' WHERE sent_at IS NOT NULL"
        )
        before = await person.messages()
        await person.erase()
        after = await person.messages()

        for column in STAYS["sms_messages"].split():
            if column not in ("delivery_status", "ended_at", "updated_at", "redact_at"):
                assert [row[column] for row in after] == [row[column] for row in before]
        conversations = await person.database.pool.fetch("SELECT message_count FROM sms_conversations ORDER BY 1")
        assert [row[0] for row in conversations] == [1, 6]

    async def test_is_written_down_with_no_more_than_the_last_digits(self, person: World) -> None:
        await person.erase()
        log = await person.database.pool.fetch(
            "SELECT actor, target_kind, target, details FROM auth_audit_log WHERE action = 'privacy.erase' ORDER BY id"
        )

        assert [tuple(row)[:3] for row in log] == [("command-line", "number", "***0123")] * 2
        assert ['"stage": "begun"' in log[0]["details"], '"stage": "finished"' in log[1]["details"]] == [True, True]
        assert all("REQUEST-17" in row["details"] for row in log)
        assert '"messages": 7' in log[1]["details"]

    async def test_any_spelling_and_channel_of_the_number_means_the_same_person(self, person: World) -> None:
        await person.erase("whatsapp:(415) 555-0123")

        assert await person.traces() == KEPT

    async def test_twice_is_as_good_as_once(self, person: World) -> None:
        await person.erase()
        rows = await person.rows()
        again = await person.erase()

        assert (again.messages, again.conversations) == (0, 0)
        del rows["auth_audit_log"]
        assert {table: found for table, found in (await person.rows()).items() if table in rows} == rows


class TestWhatStays:
    async def test_opt_outs_are_kept(self, person: World) -> None:
        await person.erase()

        assert await person.database.pool.fetchval(
            "SELECT count(*) FROM sms_opt_outs WHERE phone_number_canonical = $1", PERSON
        )

    async def test_a_stop_that_nobody_has_read_yet_is_taken_at_its_word(self, world: World) -> None:
        await world.text("SM1", "STOP")
        await world.erase()

        rows = await world.database.pool.fetch("SELECT phone_number_canonical, sender FROM sms_opt_outs")
        assert [row[0] for row in rows] == [PERSON]

    async def test_a_rule_that_denies_the_number_stays_without_its_note(self, person: World) -> None:
        await person.database.pool.execute("UPDATE auth_number_rules SET is_allowed = false")
        await person.erase()

        rules = await person.database.pool.fetch("SELECT prefix, is_allowed, note FROM auth_number_rules")
        assert [tuple(row) for row in rules] == [(PERSON, False, "")]

    async def test_a_note_is_erased_also_of_somebody_of_whom_there_is_nothing_else(self, world: World) -> None:
        async with world.database.transaction() as connection:
            await number_rules.set_rule(connection, COMMAND_LINE, prefix=PERSON, is_allowed=False, note=NAME)
        assert not (await look(world)).is_nothing
        await world.erase()

        assert await world.traces() == {"auth_number_rules": {"4155550123"}}
        assert (await look(world)).is_nothing

    async def test_what_was_used_of_limits_is_erased_also_of_somebody_never_texted(self, world: World) -> None:
        await world.database.pool.execute("INSERT INTO rate_cells VALUES ($1, now())", f"number:{PERSON}:1000/1h")
        assert not (await look(world)).is_nothing
        await world.erase()

        assert await world.traces() == {}
        assert (await look(world)).is_nothing

    async def test_a_tenant_who_has_another_number_stays(self, person: World) -> None:
        await person.database.pool.execute(
            "INSERT INTO sms_tenant_numbers (tenant_id, phone_number_canonical, last_used_at) "
            "VALUES ('tenant-77', $1, now())",
            OTHER,
        )
        await person.erase()

        assert await person.database.pool.fetchval("SELECT count(*) FROM sms_tenants") == 1
        numbers = await person.database.pool.fetch("SELECT phone_number_canonical FROM sms_tenant_numbers")
        assert [row[0] for row in numbers] == [OTHER]


class TestWhatIsBeingSent:
    async def test_what_is_not_sent_yet_is_canceled_and_never_sent(self, person: World) -> None:
        handed = len(person.provider.handed)
        erased = await person.erase()
        await person.send_off()

        assert erased.canceled == 3  # in a moment, next week, and what nobody took
        assert len(person.provider.handed) == handed
        assert (await statuses(person.database))["canceled"] == 3
        assert {row["kind"] for row in await open_work(person.database)} == {"receipt_unmatched"}

    async def test_a_call_under_way_is_waited_for(self, world: World) -> None:
        called, may_answer = asyncio.Event(), asyncio.Event()

        async def answer_later(provider: HttpProvider, message: Taken) -> bytes | None:
            called.set()
            await may_answer.wait()
            return await taking(provider, message)

        taking, world.provider.answer = world.provider.answer, answer_later
        id_ = await world.send("pineapple")
        sending = asyncio.create_task(world.send_off())
        await called.wait()
        listening = Listening()
        erasing = asyncio.create_task(world.erase(listener=listening.listener))

        async def is_waiting() -> bool:
            return bool(listening.waited_for)

        await eventually(is_waiting, "the call is waited for")
        assert not erasing.done()
        may_answer.set()
        await asyncio.gather(sending, erasing)

        assert await world.traces() == {}
        (row,) = await world.messages()
        assert (row["id"], row["delivery_status"], row["provider_message_id"]) == (id_, "sending", "twilio-1")

    async def test_a_process_that_hung_through_it_all_brings_nothing_back(self, world: World) -> None:
        id_ = await world.send("pineapple")
        (work,) = await world.sender.claim()
        await world.sender.begin(work)
        async with world.database.connection() as connection:
            message = (await store.load(connection, [id_]))[id_]
        await expire_leases(world.database)
        await world.erase()
        receipt = SendReceipt(
            provider_message_id="late-1",
            event_status="failed",
            status=MessageStatus.FAILED,
            error_code="x",
            error_message=f"no way to {PERSON}",
            raw='{"to": "+14155550123"}',
        )
        await world.sender.dispatcher.record(sent(work, message, 1, receipt, SendingPolicy()))

        assert await world.traces() == {}
        (row,) = await world.messages()
        assert (row["delivery_status"], row["provider_message_id"]) == ("failed", "late-1")

    async def test_an_erased_message_cannot_be_tried_again(self, world: World) -> None:
        id_ = await world.send("refuse: pineapple")
        await world.send_off()
        await world.erase()
        response = await world.service.client.post(f"/v1/sms/{id_}/retry", json={})

        assert (response.status_code, response.json()["error"]["code"]) == (409, "sms.conflict")
        assert await open_work(world.database) == []


class TestWhatComesLate:
    async def test_a_repeated_webhook_is_still_a_repetition(self, person: World) -> None:
        await person.erase()
        await person.text("SM1", "I like pineapple")

        assert await person.traces() == KEPT

    async def test_a_late_receipt_moves_the_tombstone_and_tells_nothing(self, person: World) -> None:
        (id_,) = [row["id"] for row in await person.messages() if row["delivery_status"] == "delivered"]
        await person.erase()
        await person.tell(id_, "read", ErrorCode="1", ErrorMessage=f"{PERSON} has read it")

        assert await person.traces() == KEPT
        (row,) = [row for row in await person.messages() if row["id"] == id_]
        assert row["delivery_status"] == "read"

    async def test_a_receipt_that_knows_the_message_by_our_name_only_tells_nothing(self, world: World) -> None:
        id_ = await world.send("pineapple")
        (work,) = await world.sender.claim()
        await world.sender.begin(work)  # and then the process dies
        await expire_leases(world.database)
        await world.erase()
        path = f"/webhook/twilio/status?ref={id_.hex}.1"
        for sid in ("SMfirst", "SMsecond"):  # settles it; and one of another attempt
            pairs = [("MessageSid", sid), ("MessageStatus", "sent"), ("To", PERSON), ("From", "+15005550006")]
            response = await world.service.post_signed(path, pairs)
            assert response.status_code < 300, response.text

        assert await world.traces() == {}
        events = await world.database.pool.fetch("SELECT message_id FROM sms_message_status_events")
        assert {row[0] for row in events} == {id_}

    async def test_a_receipt_that_came_before_its_message_was_known_tells_nothing(self, world: World) -> None:
        """It waits as nobody's until the answer to the call, from a process that hung through it all, comes."""
        await world.send("pineapple")
        (work,) = await world.sender.claim()
        await world.sender.begin(work)
        async with world.database.connection() as connection:
            message = (await store.load(connection, [work.ref_id]))[work.ref_id]
        await expire_leases(world.database)
        await world.erase()
        await world.report("late-1", "undelivered", ErrorCode="30003", ErrorMessage=f"no way to {PERSON[1:]}")
        await world.database.pool.execute("UPDATE sms_messages SET provider = 'twilio'")
        receipt = SendReceipt(provider_message_id="late-1", event_status="sent", status=MessageStatus.SENT, raw="{}")
        await world.sender.dispatcher.record(sent(work, message, 1, receipt, SendingPolicy()))
        assert set(await world.traces()) == {"sms_message_status_events"}
        (event,) = await world.database.pool.fetch("SELECT id FROM sms_message_status_events WHERE message_id IS NULL")
        async with world.database.transaction() as connection:
            assert await match_receipt(connection, event["id"])

        assert await world.traces() == {}
        (row,) = await world.messages()
        assert (row["delivery_status"], row["error_code"], row["error_message"]) == ("undelivered", "30003", None)

    async def test_texts_that_the_provider_lists_again_are_known(self, person: World) -> None:
        await person.erase()
        known = await person.database.pool.fetch(
            "SELECT provider_message_id FROM sms_messages WHERE direction = 'inbound' ORDER BY 1"
        )

        assert [row[0] for row in known] == ["SM1", "SM2"]

    async def test_a_tenant_found_out_late_is_not_written_down(self, person: World) -> None:
        database = person.database
        async with database.connection() as connection:
            found = await queue.claim(
                connection,
                lanes=[Lane(MESSAGE_RECEIVED, Priority.NORMAL, 10)],
                limit=10,
                lease_token=uuid4(),
                lease=timedelta(minutes=1),
            )
            messages = await load_messages(connection, [work.ref_id for work in found])
        await person.erase()
        findings = FindingStore(database, tells_profiles=False, on_work=lambda: None)
        for work in found:
            await findings.save(_match(work, messages[work.ref_id]))
        await findings.close()

        assert found
        assert await person.traces() == KEPT
        assert {row["language_detected"] for row in await person.messages()} == {None}

    async def test_an_opt_out_reported_late_is_not_filed_under_a_tombstone(self, person: World) -> None:
        await person.erase()
        async with person.database.connection() as connection:
            await record_opt_outs_of(connection, [row["id"] for row in await person.messages()])

        assert await person.database.pool.fetchval("SELECT count(*) FROM sms_opt_outs") == 1

    async def test_who_texts_again_begins_a_new_conversation(self, person: World) -> None:
        await person.erase()
        await person.text("SM9", "hello again")
        await person.send("and hello to you")
        page = await person.service.conversation(PERSON)

        assert page["message_count"] == 2
        assert page["tenant_id"] is None


def _match(work: Work, message: ReceivedMessage) -> Finding:
    return Finding(work, message.conversation_id, Lookup.MATCHED, "tenant-77", message, "es", 0.9)


class MortalDatabase(Database):
    """Kills whoever takes a connection more than `lives` times."""

    lives = 0

    def connection(self) -> Any:
        if not self.lives:
            raise KilledError
        self.lives -= 1
        return super().connection()


class TestLongConversations:
    async def test_go_stretch_by_stretch(self, world: World) -> None:
        await add_history(world.database, 2 * STRETCH + 1)
        listening = Listening()
        erased = await world.erase(listener=listening.listener)

        assert erased.messages == 2 * STRETCH + 1
        total = 2 * STRETCH + 1
        assert listening.done == [(STRETCH, total), (2 * STRETCH, total), (total, total)]
        assert await world.traces() == {}

    async def test_killed_anywhere_the_next_run_finishes_it(self, person: World, database_url: DatabaseUrl) -> None:
        await person.database.pool.execute("DELETE FROM work WHERE kind = 'receipt_unmatched'")
        mortal = MortalDatabase(database_url, make_settings())
        await mortal.open()
        subject = find_subject(PERSON, "US")
        runs = 0
        try:
            while True:
                runs += 1
                mortal.lives = runs
                try:
                    await Erasing(mortal, person.reconciliation, subject, Listening().listener).run(reference=None)
                except KilledError:
                    continue
                break
        finally:
            await mortal.close()

        assert runs >= 8
        assert await person.traces() == KEPT
        names = await person.database.pool.fetch("SELECT phone_number_canonical, id FROM sms_conversations")
        assert all(name == f"erased:{id_}" for name, id_ in names)

    async def test_what_was_left_half_erased_is_finished_with_what_came_since(self, world: World) -> None:
        await add_history(world.database, 2 * STRETCH)

        with pytest.raises(KilledError):
            await world.erase(listener=Listening(dies_at="progress").listener)
        await world.text("SMnew", "pineapple")
        erased = await world.erase()

        assert (erased.conversations, erased.messages) == (1, STRETCH + 1)
        assert await world.traces() == {}


class TestTransactionPooler:
    async def test_nothing_assumes_a_session(self, person: World, database_url: DatabaseUrl) -> None:
        async with pooler_for(database_url) as pooler:
            database = Database(through(pooler, database_url), make_settings())
            await database.open()
            try:
                subject, listening = find_subject(PERSON, "US"), Listening()
                pieces: list[bytes] = []
                await Export(database, subject, pieces.append, lambda _done, _total: None).run(reference=None)
                await Erasing(database, person.reconciliation, subject, listening.listener).run(reference=None)
            finally:
                await database.close()

        assert b"unmatched_receipts" in pieces[-2]
        assert await person.traces() == KEPT


class TestProviders:
    async def test_that_cannot_forget_are_named_for_each_message(self, person: World) -> None:
        listening = Listening()
        erased = await person.erase(listener=listening.listener)

        rows = await person.messages()
        there = {row["id"] for row in rows if row["provider_message_id"] is not None}
        assert {id_ for id_, _ in listening.not_forgotten} == there
        assert {reason for _, reason in listening.not_forgotten} == {"this provider cannot be asked to"}
        assert erased.not_forgotten_by_provider == len(there) == 3

    async def test_that_are_configured_no_more_are_named_too(self, world: World) -> None:
        await add_history(world.database, 1)
        listening = Listening()
        await world.erase(listener=listening.listener)

        reason = "this provider is not configured here; the service asks if it can"
        assert [each for _, each in listening.not_forgotten] == [reason]
        assert await world.database.pool.fetchval("SELECT redact_at <= now() FROM sms_messages")

    async def test_are_named_before_the_message_is_erased_or_nothing_could_name_it_any_more(self, world: World) -> None:
        id_ = await world.send("pineapple")
        await world.send_off()
        dying, listening = Listening(dies_at="not_forgotten"), Listening()
        with pytest.raises(KilledError):
            await world.erase(listener=dying.listener)
        assert PERSON in str(await world.messages())
        await world.erase(listener=listening.listener)

        assert [each for each, _ in dying.not_forgotten + listening.not_forgotten] == [id_, id_]

    async def test_that_may_have_it_or_not_are_named_too(self, world: World) -> None:
        id_ = await world.send("pineapple")
        (work,) = await world.sender.claim()
        await world.sender.begin(work)  # and then the process dies
        await expire_leases(world.database)
        listening = Listening()
        erased = await world.erase(listener=listening.listener)

        assert listening.not_forgotten == [
            (id_, "nobody knows whether it got there; the service asks once that turns out")
        ]
        assert (erased.forgotten_by_provider, erased.not_forgotten_by_provider) == (0, 1)
        assert (await statuses(world.database)) == {"unknown": 1}

    async def test_that_are_simulated_here_are_not_believed(self, world: World) -> None:
        """Whoever erases on a laptop would hear from the simulator that it has no such message, or none any more."""
        await world.text("SM1", "pineapple")
        await world.send("pineapple")  # nobody has heard of it
        listening = Listening()
        erasing = Erasing(
            world.database,
            world.reconciliation,
            find_subject(PERSON, "US"),
            listening.listener,
            simulated=["twilio"],
        )
        erased = await erasing.run(reference=None)

        reason = "this provider is simulated here; the service asks if it can"
        assert [each for _, each in listening.not_forgotten] == [reason]
        assert erased.forgotten_by_provider == 0
        assert [row["redact_at"] is not None for row in await world.messages()] == [True, False]
