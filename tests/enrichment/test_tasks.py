"""Enrichment end to end: texts in by webhook, lookups and language updates over HTTP, the results in the API."""

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from structlog.testing import capture_logs

from sms_foundation.core.db import Database, DatabaseUrl
from sms_foundation.core.ids import NIL, new_id
from sms_foundation.core.work import queue
from sms_foundation.core.work.queue import Lane, Priority, Work
from sms_foundation.core.work.runner import Again, Done, Retry, Settled
from sms_foundation.enrichment.jobs import LOOK_UP_CONVERSATION, RECONCILE, TELL_LANGUAGE
from sms_foundation.enrichment.tasks import enqueue_lookups, recurring_work
from sms_foundation.messaging.jobs import MESSAGE_RECEIVED
from tests.enrichment.conftest import Workshop, open_workshop
from tests.loopback import LoopbackServer, Received, reply
from tests.support.monitor import RunningMonitor, running_monitor
from tests.support.service import TENANT_PHONE, Service, make_settings, running_service

SPANISH = "Hola, no hay agua caliente en mi apartamento"
ENGLISH = "Hello, there is no hot water in my apartment"
PORTUGUESE = "Olá, não tem água quente no meu apartamento"
OTHER_PHONE = "+14155550124"


async def lease_all(database: Database, kind: str) -> list[Work]:
    """Claim the due rows of a kind as a process of its own, which then does nothing."""
    async with database.connection() as connection:
        return await queue.claim(
            connection,
            lanes=[Lane(kind, Priority.NORMAL, 500)],
            limit=500,
            lease_token=uuid4(),
            lease=timedelta(minutes=1),
        )


def answers(body: bytes, *, status: int = 200) -> LoopbackServer:
    """Return a service that says the same to everybody."""

    async def answer(_: Received) -> bytes:
        return reply(status, body)

    return LoopbackServer(answer)


class TestEnrichMessage:
    async def test_known_sender_gets_tenant_and_language_without_anybody_asking(
        self, database_url: DatabaseUrl, database: Database
    ) -> None:
        async with running_monitor(api_key="monitor-key") as monitor:
            await monitor.add_tenant("t-1", "4155550123")
            settings = make_settings(
                monitor_api_url=monitor.url, monitor_api_key="monitor-key", tenant_profile_api_url=monitor.url
            )
            async with running_service(settings, database_url, database) as service:
                await service.text("SM1", SPANISH)
                await service.finish_work()

                conversation = await service.conversation()
                assert (conversation["tenant_id"], conversation["tenant_lookup_status"]) == ("t-1", "matched")
                assert conversation["language_detected"] == "es"
                assert float(str(conversation["language_confidence"])) >= 0.9
                assert await monitor.language("t-1") == ("es", 1)
            # The spellings in their order, up to the one that was typed in.
            assert monitor.lookups == ["+14155550123", "4155550123"]

    async def test_language_is_recognised_per_text_and_kept_per_conversation(
        self, service: Service, workshop: Workshop
    ) -> None:
        for place, body in enumerate([SPANISH, "ok", "👍 12345", "Sí"]):
            await service.text(f"SM{place}", body)
        await workshop.finish()

        conversation = await service.conversation()
        messages = conversation["messages"]
        assert isinstance(messages, list)
        assert [each["language_detected"] for each in messages] == ["es", "unknown", "unknown", "es"]
        assert conversation["language_detected"] == "es"

    async def test_single_word_decides(self, service: Service, workshop: Workshop) -> None:
        expected = {"+14155551001": ("Yes", "en"), "+14155551002": ("Sí", "es"), "+14155551003": ("Sim", "pt")}
        for phone, (word, _) in expected.items():
            await service.text(f"SM{phone}", word, sender=phone)
        await workshop.finish()
        for phone, (_, language) in expected.items():
            assert (await service.conversation(phone))["language_detected"] == language

    async def test_unknown_number_is_looked_up_again_with_its_next_text(
        self, service: Service, workshop: Workshop, monitor: RunningMonitor
    ) -> None:
        await service.text("SM1", "Hello")
        await workshop.finish()
        conversation = await service.conversation()
        assert (conversation["tenant_id"], conversation["tenant_lookup_status"]) == (None, "unknown")
        assert monitor.lookups == ["+14155550123", "4155550123", "14155550123"]

        await monitor.add_tenant("t-late", "14155550123")
        await service.text("SM2", "Hello?")
        await workshop.finish()
        assert (await service.conversation())["tenant_id"] == "t-late"

    async def test_tenant_has_all_their_numbers_and_the_last_used_one(
        self, service: Service, workshop: Workshop, monitor: RunningMonitor, database: Database
    ) -> None:
        await monitor.add_tenant("t-1", TENANT_PHONE, OTHER_PHONE)
        for place, sender in enumerate([TENANT_PHONE, OTHER_PHONE, TENANT_PHONE]):
            await service.text(f"SM{place}", sender=sender)
            await workshop.finish()

        rows = await database.pool.fetch(
            "SELECT phone_number_canonical AS phone, first_matched_at, last_used_at FROM sms_tenant_numbers "
            "WHERE tenant_id = 't-1' ORDER BY last_used_at DESC"
        )
        assert [row["phone"] for row in rows] == [TENANT_PHONE, OTHER_PHONE]
        assert rows[0]["first_matched_at"] < rows[1]["first_matched_at"]
        newest = await database.pool.fetchval("SELECT max(created_at) FROM sms_messages")
        assert rows[0]["last_used_at"] == newest

    async def test_sender_that_is_no_phone_number_is_not_looked_up(
        self, service: Service, workshop: Workshop, monitor: RunningMonitor
    ) -> None:
        for sender in ["12345", "MYBANK", "messenger:1234567890123"]:
            await service.text(f"SM-{sender}", SPANISH, sender=sender)
            await workshop.finish()

            conversation = await service.conversation(sender)
            assert monitor.lookups == []
            assert conversation["tenant_id"] is None
            assert conversation["language_detected"] == "es"

    async def test_whatsapp_sender_is_looked_up_by_number(
        self, service: Service, workshop: Workshop, monitor: RunningMonitor
    ) -> None:
        await monitor.add_tenant("t-1", TENANT_PHONE)
        await service.text("SM1", sender=f"whatsapp:{TENANT_PHONE}")
        await workshop.finish()
        assert monitor.lookups == [TENANT_PHONE]
        assert (await service.conversation(f"whatsapp:{TENANT_PHONE}"))["tenant_id"] == "t-1"

    async def test_works_without_a_monitor(self, service: Service, database: Database) -> None:
        async with open_workshop(database, None) as workshop:
            workshop.runner.start()
            await service.text("SM1", SPANISH)
            await workshop.finish()
        assert (await service.conversation())["language_detected"] == "es"

    async def test_work_about_a_message_that_is_gone_is_done(self, workshop: Workshop) -> None:
        work = Work(1, MESSAGE_RECEIVED, new_id(), 1, uuid4())
        assert await workshop.enrichment.enrich_message(work) == Done()

    async def test_decision_is_logged_without_text_or_number(self, service: Service, workshop: Workshop) -> None:
        with capture_logs() as lines:
            await service.text("SM1", SPANISH)
            await workshop.finish()
        assert [line["reason"] for line in lines if line["event"] == "language.decided"] == ["first"]
        assert "agua" not in str(lines)
        assert "4155550123" not in str(lines)

    async def test_text_of_a_crashed_process_is_enriched_once(
        self, service: Service, database: Database, monitor: RunningMonitor
    ) -> None:
        await monitor.add_tenant("t-1", TENANT_PHONE)
        await service.text("SM1", SPANISH)
        [lost] = await lease_all(database, MESSAGE_RECEIVED)
        await database.pool.execute("UPDATE work SET lease_until = now() - interval '1 second' WHERE state = 'leased'")

        async with open_workshop(database, monitor.url) as survivor, open_workshop(database, monitor.url) as other:
            survivor.runner.start()
            other.runner.start()
            await survivor.finish()
            # The dead one was only slow, and comes back with the same finding.
            assert await other.enrichment.enrich_message(lost) == Settled()
            await survivor.finish()

        conversation = await service.conversation()
        assert (conversation["total"], conversation["tenant_id"]) == (1, "t-1")
        assert conversation["language_detected"] == "es"
        assert await database.pool.fetchval("SELECT count(*) FROM sms_tenant_numbers") == 1
        assert monitor.puts == ["t-1"]

    async def test_two_processes_share_the_texts_of_few_people(
        self, service: Service, database: Database, monitor: RunningMonitor
    ) -> None:
        phones = [f"+1415555{number}" for number in range(1000, 1006)]
        await monitor.add_tenant("t-1", *phones[:3])
        await monitor.add_tenant("t-2", *phones[3:])
        await asyncio.gather(
            *(
                service.text(f"SM{place}-{phone}", body, sender=phone)
                for place, body in enumerate([SPANISH, "ok", ENGLISH, "Sim", PORTUGUESE])
                for phone in phones
            )
        )
        async with open_workshop(database, monitor.url) as one, open_workshop(database, monitor.url) as two:
            one.runner.start()
            two.runner.start()
            await one.finish()

        for phone in phones:
            conversation = await service.conversation(phone)
            assert conversation["total"] == 5
            assert conversation["tenant_id"] == ("t-1" if phone in phones[:3] else "t-2")
        assert await database.pool.fetchval("SELECT count(*) FROM sms_messages WHERE language_detected IS NULL") == 0
        assert await database.pool.fetchval("SELECT count(*) FROM work WHERE ref_id <> $1", NIL) == 0
        for tenant in ("t-1", "t-2"):
            held = await database.pool.fetchval(
                "SELECT language_detected FROM sms_tenants WHERE tenant_id = $1", tenant
            )
            assert (await monitor.language(tenant))[0] == held


class TestOutage:
    @pytest.mark.parametrize(
        "plan",
        [
            {"kind": "status", "status": 503},
            {"kind": "status", "status": 429},
            {"kind": "malformed_json"},
            {"kind": "hang", "hang_s": 0.05},
        ],
        ids=lambda plan: str(plan.get("status", plan["kind"])),
    )
    async def test_of_the_monitor_keeps_the_language_and_is_made_up_for(
        self, service: Service, workshop: Workshop, monitor: RunningMonitor, database: Database, plan: dict[str, object]
    ) -> None:
        await monitor.add_tenant("t-1", TENANT_PHONE)
        await monitor.misbehave(share=1, **plan)
        assert (await service.text("SM1", SPANISH)).status_code == 200
        await workshop.until_put_off()

        conversation = await service.conversation()
        assert (conversation["total"], conversation["tenant_id"]) == (1, None)
        assert (conversation["language_detected"], conversation["tenant_lookup_status"]) == ("es", "pending")
        row = await database.pool.fetchrow(
            "SELECT attempts, last_error, run_at - now() AS wait FROM work WHERE kind = $1", MESSAGE_RECEIVED
        )
        assert row["attempts"] == 1
        assert row["last_error"] == "the Collections Monitor is unavailable"
        assert timedelta(0) < row["wait"] <= timedelta(seconds=2)

        await monitor.misbehave()
        await workshop.try_again_now()
        await workshop.finish()
        conversation = await service.conversation()
        assert (conversation["tenant_id"], conversation["total"]) == ("t-1", 1)
        assert await monitor.language("t-1") == ("es", 1)

    async def test_of_the_monitor_is_never_a_reason_to_give_up(
        self, service: Service, database: Database, monitor: RunningMonitor
    ) -> None:
        await monitor.misbehave(share=1)
        await service.text("SM1", SPANISH)
        async with open_workshop(database, monitor.url, max_attempts=1) as workshop:
            workshop.runner.start()
            for _ in range(3):
                await workshop.until_put_off()
                await workshop.try_again_now()
            await workshop.until_put_off()
        assert await database.pool.fetchval("SELECT state FROM work WHERE kind = $1", MESSAGE_RECEIVED) == "due"

    async def test_that_ends_within_the_retries_is_not_noticed(
        self, service: Service, workshop: Workshop, monitor: RunningMonitor, database: Database
    ) -> None:
        await monitor.add_tenant("t-1", TENANT_PHONE)
        await monitor.misbehave(share=1, remaining=1)
        await service.text("SM1", "ok")
        await workshop.finish()
        assert (await service.conversation())["tenant_id"] == "t-1"

    async def test_retry_after_is_respected(
        self, service: Service, database: Database, monitor: RunningMonitor
    ) -> None:
        await monitor.misbehave(share=1, status=429, retry_after_s=120)
        await service.text("SM1", SPANISH)
        [work] = await lease_all(database, MESSAGE_RECEIVED)
        async with open_workshop(database, monitor.url) as workshop:
            outcome = await workshop.enrichment.enrich_message(work)
        assert isinstance(outcome, Retry)
        assert outcome.delay == timedelta(seconds=120)
        assert outcome.is_outage

    async def test_nonsense_is_no_answer(self, service: Service, database: Database) -> None:
        nonsense = [b"<html>hello</html>", b'{"tenant": 1}', b"[1]", b'{"tenant_id": {"a": 1}}', b'{"tenant_id": true}']
        for place, body in enumerate(nonsense):
            phone = f"+1415555{1000 + place}"
            async with answers(body) as server, open_workshop(database, server.base_url) as workshop:
                workshop.runner.start()
                await service.text(f"SM{place}", SPANISH, sender=phone)
                await workshop.until_put_off()
            conversation = await service.conversation(phone)
            assert (conversation["tenant_id"], conversation["tenant_lookup_status"]) == (None, "pending"), body
            assert conversation["language_detected"] == "es"

    async def test_empty_answer_means_nobody(self, service: Service, database: Database) -> None:
        for place, body in enumerate([b"", b"{}", b'{"tenant_id": null}', b'{"tenant_id": ""}']):
            phone = f"+1415555{1000 + place}"
            async with answers(body) as server, open_workshop(database, server.base_url) as workshop:
                workshop.runner.start()
                await service.text(f"SM{place}", SPANISH, sender=phone)
                await workshop.finish()
            assert (await service.conversation(phone))["tenant_lookup_status"] == "unknown", body


class TestTellLanguage:
    @pytest.fixture(autouse=True)
    async def _known_tenant(self, monitor: RunningMonitor) -> None:
        await monitor.add_tenant("t-1", TENANT_PHONE, OTHER_PHONE)

    async def test_tells_each_change_exactly_once(
        self, service: Service, workshop: Workshop, monitor: RunningMonitor
    ) -> None:
        for place, body in enumerate([SPANISH, SPANISH, "ok", ENGLISH, ENGLISH, PORTUGUESE]):
            await service.text(f"SM{place}", body)
            await workshop.finish()
        assert monitor.puts == ["t-1"] * 3
        assert await monitor.language("t-1") == ("pt", 3)

    async def test_many_texts_at_once_are_one_change(
        self, service: Service, workshop: Workshop, monitor: RunningMonitor
    ) -> None:
        await asyncio.gather(
            *(
                service.text(f"SM{place}-{phone}", SPANISH, sender=phone)
                for place in range(10)
                for phone in (TENANT_PHONE, OTHER_PHONE)
            )
        )
        await workshop.finish()
        assert monitor.puts == ["t-1"]

    async def test_says_nothing_below_the_threshold_or_to_strangers(
        self, service: Service, workshop: Workshop, monitor: RunningMonitor
    ) -> None:
        await service.text("SM1", "come")  # English with a confidence of 0.6
        await service.text("SM2", SPANISH, sender="+14155550177")
        await workshop.finish()
        conversation = await service.conversation()
        assert (conversation["language_detected"], conversation["language_confidence"]) == ("en", 0.6)
        assert monitor.puts == []

    async def test_tells_the_language_of_a_number_once_it_is_matched(
        self, service: Service, workshop: Workshop, monitor: RunningMonitor
    ) -> None:
        stranger = "+14155550177"
        await service.text("SM1", SPANISH, sender=stranger)
        await workshop.finish()
        await monitor.add_tenant("t-late", stranger)
        await service.text("SM2", "ok", sender=stranger)
        await workshop.finish()
        assert await monitor.language("t-late") == ("es", 1)

    async def test_is_repeated_while_the_profile_service_fails(
        self, service: Service, database: Database, monitor: RunningMonitor
    ) -> None:
        async with (
            answers(b"", status=503) as broken,
            open_workshop(database, monitor.url, profile_url=broken.base_url, max_attempts=1) as workshop,
        ):
            workshop.runner.start()
            await service.text("SM1", SPANISH)
            await workshop.until_put_off()
            await workshop.try_again_now()
            await workshop.until_put_off()
            assert len(broken.received) >= 4
            assert {(each.method, each.target) for each in broken.received} == {("PUT", "/tenants/t-1/language")}
            assert {each.body for each in broken.received} == {b'{"language":"es"}'}

        assert await database.pool.fetchval("SELECT state FROM work WHERE kind = $1", TELL_LANGUAGE) == "due"
        async with open_workshop(database, monitor.url) as workshop:
            workshop.runner.start()
            await workshop.try_again_now()
            await workshop.finish()
        assert await monitor.language("t-1") == ("es", 1)

    async def test_refused_update_is_put_aside_and_can_be_replayed(
        self, service: Service, database: Database, monitor: RunningMonitor
    ) -> None:
        async with (
            answers(b"", status=404) as refusing,
            open_workshop(database, monitor.url, profile_url=refusing.base_url, max_attempts=1) as workshop,
        ):
            workshop.runner.start()
            await service.text("SM1", SPANISH)
            await workshop.finish()
            assert len(refusing.received) == 1

        async with open_workshop(database, monitor.url) as workshop, database.connection() as connection:
            [dead] = await queue.list_dead(connection, kind=TELL_LANGUAGE)
            assert dead.last_error == "refused with status 404"
            assert await queue.replay_dead(connection) == 1
            workshop.runner.start()
            await workshop.finish()
        assert await monitor.language("t-1") == ("es", 1)

    async def test_change_while_a_put_is_under_way_is_told_afterwards(
        self, service: Service, workshop: Workshop, monitor: RunningMonitor
    ) -> None:
        with monitor.holding_puts():
            await service.text("SM1", SPANISH)
            await asyncio.wait_for(monitor.has_put.wait(), 10)
            await service.text("SM2", ENGLISH)
            await workshop.until_none("SELECT 1 FROM work WHERE kind = $1", MESSAGE_RECEIVED)
        await workshop.finish()
        assert monitor.puts == ["t-1", "t-1"]
        assert await monitor.language("t-1") == ("en", 2)

    async def test_repeating_the_work_tells_nothing_twice(
        self, service: Service, workshop: Workshop, monitor: RunningMonitor, database: Database
    ) -> None:
        await service.text("SM1", SPANISH)
        await workshop.finish()
        tenant = await database.pool.fetchval("SELECT id FROM sms_tenants")
        assert await workshop.enrichment.tell_language(Work(1, TELL_LANGUAGE, tenant, 1, uuid4())) == Done()
        assert await workshop.enrichment.tell_language(Work(1, TELL_LANGUAGE, new_id(), 1, uuid4())) == Done()
        assert monitor.puts == ["t-1"]

    async def test_told_language_survives_a_crash_before_the_row_was_finished(
        self, service: Service, database: Database, monitor: RunningMonitor
    ) -> None:
        async with open_workshop(database, monitor.url) as workshop:
            await service.text("SM1", SPANISH)
            [message] = await lease_all(database, MESSAGE_RECEIVED)
            await workshop.enrichment.enrich_message(message)
            [tell] = await lease_all(database, TELL_LANGUAGE)
            await database.pool.execute(
                "UPDATE work SET lease_until = now() - interval '1 second' WHERE state = 'leased'"
            )
            # The process that died had reached the profile service, but not the database.
            await workshop.enrichment.tell_language(Work(tell.id, tell.kind, tell.ref_id, 1, uuid4()))
            workshop.runner.start()
            await workshop.finish()
        assert await monitor.language("t-1") == ("es", 1)


class TestReconcile:
    async def receive_strangers(self, service: Service, workshop: Workshop, count: int) -> list[str]:
        phones = [f"+1415555{1000 + place}" for place in range(count)]
        for place, phone in enumerate(phones):
            await service.text(f"SM{place}", SPANISH, sender=phone)
        await workshop.finish()
        return phones

    async def test_matches_numbers_that_the_monitor_has_learned_since(
        self, service: Service, workshop: Workshop, monitor: RunningMonitor, database: Database
    ) -> None:
        phones = await self.receive_strangers(service, workshop, 3)
        await monitor.add_tenant("t-late", phones[1])
        assert await enqueue_lookups(database, active_within=None) == 3
        workshop.runner.wake()
        await workshop.finish()

        tenants = [(await service.conversation(phone))["tenant_id"] for phone in phones]
        assert tenants == [None, "t-late", None]
        assert await monitor.language("t-late") == ("es", 1)
        used = await database.pool.fetchrow("SELECT tenant_id, phone_number_canonical FROM sms_tenant_numbers")
        assert tuple(used) == ("t-late", phones[1])

    async def test_run_many_times_at_once_duplicates_nothing(
        self, service: Service, monitor: RunningMonitor, database: Database
    ) -> None:
        async with open_workshop(database, monitor.url) as workshop:
            workshop.runner.start()
            phones = await self.receive_strangers(service, workshop, 4)
        await asyncio.gather(*(enqueue_lookups(database, active_within=None) for _ in range(8)))
        assert await enqueue_lookups(database, active_within=None) == 4
        rows = await database.pool.fetch("SELECT kind, count(*) FROM work WHERE ref_id <> $1 GROUP BY kind", NIL)
        assert [tuple(row) for row in rows] == [(LOOK_UP_CONVERSATION, 4)]

        for phone in phones:
            await monitor.add_tenant(f"t-{phone[-4:]}", phone)
        async with open_workshop(database, monitor.url) as one, open_workshop(database, monitor.url) as two:
            one.runner.start()
            two.runner.start()
            await asyncio.gather(*(enqueue_lookups(database, active_within=None) for _ in range(4)))
            await one.finish()
            assert await enqueue_lookups(database, active_within=None) == 0
        assert await database.pool.fetchval("SELECT count(*) FROM sms_tenant_numbers") == 4
        assert await database.pool.fetchval("SELECT count(*) FROM sms_messages") == 4
        assert sorted(monitor.puts) == [f"t-{phone[-4:]}" for phone in phones]

    async def test_walks_through_more_than_one_batch(self, database: Database) -> None:
        await database.pool.execute(
            "INSERT INTO sms_conversations (id, phone_number_canonical, phone_number_original, last_message_at) "
            "SELECT gen_random_uuid(), '+1' || n, '+1' || n, now() - n % 7 * interval '1 minute' "
            "FROM generate_series(4155000000, 4155001100) AS n"
        )
        assert await enqueue_lookups(database, active_within=timedelta(days=1)) == 1101
        assert await database.pool.fetchval("SELECT count(DISTINCT ref_id) FROM work") == 1101

    async def test_leaves_alone_who_is_matched_or_silent(self, database: Database) -> None:
        await database.pool.execute(
            "INSERT INTO sms_conversations (id, phone_number_canonical, phone_number_original, tenant_id, "
            "last_message_at) VALUES (gen_random_uuid(), '+14155550001', '', 't-1', now()), "
            "(gen_random_uuid(), '+14155550002', '', NULL, now() - interval '2 days'), "
            "(gen_random_uuid(), '+14155550003', '', NULL, NULL)"
        )
        assert await enqueue_lookups(database, active_within=timedelta(days=1)) == 0
        assert await enqueue_lookups(database, active_within=timedelta(days=3)) == 1

    async def test_outage_leaves_the_lookup_for_later(
        self, service: Service, workshop: Workshop, monitor: RunningMonitor, database: Database
    ) -> None:
        [phone] = await self.receive_strangers(service, workshop, 1)
        await monitor.add_tenant("t-late", phone)
        await monitor.misbehave(share=1)
        await enqueue_lookups(database, active_within=None)
        await workshop.until_put_off()
        assert (await service.conversation(phone))["tenant_lookup_status"] == "unknown"

        await monitor.misbehave()
        await workshop.try_again_now()
        await workshop.finish()
        assert (await service.conversation(phone))["tenant_id"] == "t-late"

    async def test_match_made_meanwhile_is_not_looked_up_again(
        self, service: Service, workshop: Workshop, monitor: RunningMonitor, database: Database
    ) -> None:
        await self.receive_strangers(service, workshop, 1)
        await database.pool.execute("UPDATE sms_conversations SET tenant_id = 't-1'")
        id_ = await database.pool.fetchval("SELECT id FROM sms_conversations")
        asked = len(monitor.lookups)
        for ref_id in (id_, new_id()):
            work = Work(1, LOOK_UP_CONVERSATION, ref_id, 1, uuid4())
            assert await workshop.enrichment.look_up_conversation(work) == Done()
        assert len(monitor.lookups) == asked

    async def test_is_scheduled_once_by_any_number_of_processes(
        self, database_url: DatabaseUrl, database: Database, monitor: RunningMonitor
    ) -> None:
        settings = make_settings(monitor_api_url=monitor.url, reconcile_interval_s=300)
        async with running_service(settings, database_url, database), running_service(settings, database_url, database):
            for _ in range(400):
                waits = await database.pool.fetch(
                    "SELECT run_at - now() FROM work WHERE kind = $1 AND state = 'due'", RECONCILE
                )
                if waits and waits[0][0] > timedelta(seconds=200):
                    break
                await asyncio.sleep(0.02)
            rows = await database.pool.fetch(
                "SELECT attempts, unique_key, run_at - now() AS wait FROM work WHERE kind = $1", RECONCILE
            )
        assert [(row["attempts"], row["unique_key"]) for row in rows] == [(0, RECONCILE)]
        assert timedelta(seconds=200) < rows[0]["wait"] <= timedelta(seconds=300)

    async def test_scheduled_run_looks_up_the_recently_active_and_comes_again(
        self, service: Service, workshop: Workshop, database: Database
    ) -> None:
        await self.receive_strangers(service, workshop, 2)
        await database.pool.execute(
            "UPDATE sms_conversations SET last_message_at = $1 WHERE phone_number_canonical = '+14155551000'",
            datetime.now(UTC) - timedelta(days=31),
        )
        async with database.transaction() as connection:
            await queue.enqueue(connection, [recurring_work()])
            await queue.enqueue(connection, [recurring_work()])
        [work] = await lease_all(database, RECONCILE)

        for _ in range(2):
            assert await workshop.enrichment.reconcile(work) == Again(timedelta(hours=1))
        phones = await database.pool.fetch(
            "SELECT phone_number_canonical FROM work JOIN sms_conversations AS c ON c.id = ref_id WHERE kind = $1",
            LOOK_UP_CONVERSATION,
        )
        assert [row[0] for row in phones] == ["+14155551001"]
