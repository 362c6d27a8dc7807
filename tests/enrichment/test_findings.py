"""What findings leave in the database, whatever their order, batch or number of writers."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from sms_foundation.core.db import Database
from sms_foundation.core.work import queue
from sms_foundation.core.work.queue import Lane, Priority, Work
from sms_foundation.enrichment.findings import Finding, FindingStore, Lookup
from sms_foundation.enrichment.jobs import TELL_LANGUAGE
from sms_foundation.messaging import facts
from sms_foundation.messaging.facts import ReceivedMessage
from sms_foundation.messaging.jobs import MESSAGE_RECEIVED
from tests.support.service import TENANT_PHONE, Service

OTHER_PHONE = "+14155550124"


class Desk:
    """Lets texts arrive and writes findings about them."""

    def __init__(self, service: Service, database: Database) -> None:
        self._service = service
        self._database = database
        self.pool = database.pool
        self.work_left = 0
        self.store = self.new_store()
        self.texts = 0

    def new_store(self, *, tells_profiles: bool = True) -> FindingStore:
        """Return the writer of another process."""

        def on_work() -> None:
            self.work_left += 1

        return FindingStore(self._database, tells_profiles=tells_profiles, on_work=on_work)

    async def receive(self, *senders: str) -> list[tuple[Work, ReceivedMessage]]:
        """Let one text of each sender arrive, in this order; return them with their leased work."""
        sids = [f"SM{self.texts + place}" for place in range(len(senders))]
        self.texts += len(senders)
        for sid, sender in zip(sids, senders, strict=True):
            await self._service.text(sid, "made-up words", sender=sender)
        async with self._database.connection() as connection:
            leased = await queue.claim(
                connection,
                lanes=[Lane(MESSAGE_RECEIVED, Priority.NORMAL, 500)],
                limit=500,
                lease_token=uuid4(),
                lease=timedelta(minutes=1),
            )
            messages = await facts.load_messages(connection, [work.ref_id for work in leased])
        return sorted(((work, messages[work.ref_id]) for work in leased), key=lambda each: each[1].received_at)

    async def find(
        self,
        sender: str = TENANT_PHONE,
        *,
        tenant: str | None = None,
        language: str = "unknown",
        confidence: float = 0.0,
        lookup: Lookup | None = None,
        store: FindingStore | None = None,
    ) -> Finding:
        """Let a text arrive and save what was found out about it: a match, if `tenant` is given."""
        [received] = await self.receive(sender)
        finding = finding_of(received, tenant=tenant, language=language, confidence=confidence, lookup=lookup)
        await (store or self.store).save(finding)
        return finding

    async def language(self, phone: str = TENANT_PHONE) -> tuple[object, object]:
        conversation = await self._service.conversation(phone)
        return conversation["language_detected"], conversation["language_confidence"]

    async def tenant_language(self, tenant: str) -> tuple[str, float]:
        row = await self.pool.fetchrow(
            "SELECT language_detected, language_confidence::float8 FROM sms_tenants WHERE tenant_id = $1", tenant
        )
        return tuple(row)

    async def open_work(self, kind: str) -> int:
        return int(await self.pool.fetchval("SELECT count(*) FROM work WHERE kind = $1", kind))


def finding_of(
    received: tuple[Work, ReceivedMessage],
    *,
    tenant: str | None = None,
    language: str = "unknown",
    confidence: float = 0.0,
    lookup: Lookup | None = None,
) -> Finding:
    work, message = received
    lookup = lookup or (Lookup.UNKNOWN if tenant is None else Lookup.MATCHED)
    return Finding(work, message.conversation_id, lookup, tenant, message, language, confidence)


@pytest.fixture
async def desk(service: Service, database: Database) -> AsyncIterator[Desk]:
    desk = Desk(service, database)
    yield desk
    await desk.store.close()


class TestTenant:
    async def test_match_sets_the_tenant_and_ends_the_work(self, desk: Desk, service: Service) -> None:
        await desk.find(tenant="t-1")

        conversation = await service.conversation()
        assert (conversation["tenant_id"], conversation["tenant_lookup_status"]) == ("t-1", "matched")
        assert await desk.open_work(MESSAGE_RECEIVED) == 0

    async def test_unknown_number_is_noted(self, desk: Desk, service: Service) -> None:
        await desk.find()
        conversation = await service.conversation()
        assert (conversation["tenant_id"], conversation["tenant_lookup_status"]) == (None, "unknown")

    @pytest.mark.parametrize("lookup", [Lookup.UNKNOWN, Lookup.UNAVAILABLE, Lookup.NOT_ASKED])
    async def test_tenant_once_known_is_kept(self, desk: Desk, service: Service, lookup: Lookup) -> None:
        await desk.find(tenant="t-1")
        await desk.find(lookup=lookup)
        conversation = await service.conversation()
        assert (conversation["tenant_id"], conversation["tenant_lookup_status"]) == ("t-1", "matched")

    async def test_number_given_to_another_renter_follows_them(self, desk: Desk, service: Service) -> None:
        await desk.find(tenant="t-1")
        await desk.find(tenant="t-2")
        assert (await service.conversation())["tenant_id"] == "t-2"

    async def test_newest_text_decides_within_a_batch(self, desk: Desk, service: Service) -> None:
        first, second = await desk.receive(TENANT_PHONE, TENANT_PHONE)
        await asyncio.gather(
            desk.store.save(finding_of(second, tenant="t-new")), desk.store.save(finding_of(first, tenant="t-old"))
        )
        assert (await service.conversation())["tenant_id"] == "t-new"

    async def test_numbers_are_remembered_with_first_and_last_use(self, desk: Desk) -> None:
        first = await desk.find(TENANT_PHONE, tenant="t-1")
        await desk.find(OTHER_PHONE, tenant="t-1")
        again = await desk.find(TENANT_PHONE, tenant="t-1")
        await desk.store.save(first)  # once more, late

        rows = await desk.pool.fetch(
            "SELECT phone_number_canonical AS phone, first_matched_at, last_used_at FROM sms_tenant_numbers "
            "WHERE tenant_id = 't-1' ORDER BY last_used_at DESC"
        )
        assert [row["phone"] for row in rows] == [TENANT_PHONE, OTHER_PHONE]
        assert again.message is not None
        assert rows[0]["last_used_at"] == again.message.received_at
        assert rows[0]["first_matched_at"] < rows[1]["first_matched_at"]

    async def test_number_keeps_its_history_with_both_renters(self, desk: Desk) -> None:
        await desk.find(tenant="t-1")
        await desk.find(tenant="t-2")
        rows = await desk.pool.fetch(
            "SELECT tenant_id FROM sms_tenant_numbers WHERE phone_number_canonical = $1 ORDER BY last_used_at",
            TENANT_PHONE,
        )
        assert [row["tenant_id"] for row in rows] == ["t-1", "t-2"]

    async def test_lookup_without_a_text_counts_as_used_when_they_last_texted(self, desk: Desk) -> None:
        [(work, message)] = await desk.receive(TENANT_PHONE)
        await desk.store.save(Finding(work, message.conversation_id, Lookup.MATCHED, "t-1"))
        used_at = await desk.pool.fetchval("SELECT last_used_at FROM sms_tenant_numbers")
        assert used_at == message.received_at

    async def test_unavailable_keeps_the_language_and_leaves_the_work_open(self, desk: Desk, service: Service) -> None:
        await desk.find(lookup=Lookup.UNAVAILABLE, language="es", confidence=0.9)
        assert (await service.conversation())["tenant_lookup_status"] == "pending"
        assert await desk.language() == ("es", 0.9)
        assert await desk.open_work(MESSAGE_RECEIVED) == 1

    async def test_finding_of_a_lost_lease_leaves_the_row_to_its_new_holder(self, desk: Desk, service: Service) -> None:
        [(work, message)] = await desk.receive(TENANT_PHONE)
        holder = uuid4()
        await desk.pool.execute("UPDATE work SET lease_token = $1 WHERE id = $2", holder, work.id)

        await desk.store.save(finding_of((work, message), tenant="t-1", language="es", confidence=0.9))
        assert await desk.open_work(MESSAGE_RECEIVED) == 1
        taken_over = Work(work.id, work.kind, work.ref_id, 2, holder)
        await desk.store.save(finding_of((taken_over, message), tenant="t-1", language="es", confidence=0.9))

        assert await desk.open_work(MESSAGE_RECEIVED) == 0
        assert await desk.language() == ("es", 0.9)
        assert await desk.pool.fetchval("SELECT count(*) FROM sms_tenant_numbers") == 1


class TestLanguage:
    async def test_is_kept_per_message_and_per_conversation(self, desk: Desk, service: Service) -> None:
        await desk.find(language="es", confidence=0.97)
        await desk.find(language="unknown", confidence=0.0)
        await desk.find(language="en", confidence=0.6)

        conversation = await service.conversation()
        messages = conversation["messages"]
        assert isinstance(messages, list)
        assert [(each["language_detected"], each["language_confidence"]) for each in messages] == [
            ("en", 0.6),
            ("unknown", 0.0),
            ("es", 0.97),
        ]
        assert await desk.language() == ("es", 0.97)

    async def test_message_without_a_finding_has_none(self, desk: Desk, service: Service) -> None:
        await desk.receive(TENANT_PHONE)
        messages = (await service.conversation())["messages"]
        assert isinstance(messages, list)
        assert (messages[0]["language_detected"], messages[0]["language_confidence"]) == (None, None)

    async def test_follows_the_texts_of_a_tenant_to_their_other_conversations(self, desk: Desk) -> None:
        await desk.find(OTHER_PHONE, tenant="t-1")
        await desk.find(TENANT_PHONE, tenant="t-1", language="es", confidence=0.8)
        assert await desk.language(OTHER_PHONE) == ("es", 0.8)

        await desk.find(TENANT_PHONE, tenant="t-1", language="en", confidence=0.9)
        assert await desk.language(OTHER_PHONE) == ("en", 0.9)

    async def test_new_conversation_of_a_known_tenant_begins_with_their_language(self, desk: Desk) -> None:
        await desk.find(TENANT_PHONE, tenant="t-1", language="pt", confidence=0.9)
        await desk.find(OTHER_PHONE, tenant="t-1")
        assert await desk.language(OTHER_PHONE) == ("pt", 0.9)

    async def test_own_stronger_evidence_ends_the_reuse(self, desk: Desk) -> None:
        await desk.find(TENANT_PHONE, tenant="t-1", language="pt", confidence=0.8)
        await desk.find(OTHER_PHONE, tenant="t-1", language="en", confidence=0.7)
        assert await desk.language(OTHER_PHONE) == ("pt", 0.8)
        await desk.find(OTHER_PHONE, tenant="t-1", language="en", confidence=0.85)
        assert await desk.language(OTHER_PHONE) == ("en", 0.85)

        await desk.find(TENANT_PHONE, tenant="t-1", language="pt", confidence=0.95)
        assert await desk.language(OTHER_PHONE) == ("en", 0.85)

    async def test_other_tenants_are_left_alone(self, desk: Desk) -> None:
        await desk.find(OTHER_PHONE, tenant="t-2")
        await desk.find(TENANT_PHONE, tenant="t-1", language="es", confidence=0.9)
        assert await desk.language(OTHER_PHONE) == ("unknown", 0.0)

    async def test_language_known_before_the_match_becomes_the_tenants(self, desk: Desk) -> None:
        await desk.find(language="es", confidence=0.9)
        await desk.find(tenant="t-1")
        assert await desk.tenant_language("t-1") == ("es", 0.9)

    async def test_stronger_language_known_before_the_match_replaces_the_tenants(self, desk: Desk) -> None:
        await desk.find(OTHER_PHONE, tenant="t-1", language="en", confidence=0.7)
        await desk.find(TENANT_PHONE, language="es", confidence=0.9)
        await desk.find(TENANT_PHONE, tenant="t-1")
        assert await desk.tenant_language("t-1") == ("es", 0.9)

    async def test_old_certainty_of_a_newly_matched_number_does_not_beat_a_newer_text(self, desk: Desk) -> None:
        await desk.find(TENANT_PHONE, language="es", confidence=0.9)
        await desk.find(OTHER_PHONE, tenant="t-1", language="en", confidence=0.9)
        await desk.find(TENANT_PHONE, tenant="t-1")
        assert await desk.tenant_language("t-1") == ("en", 0.9)

    async def test_newer_of_two_quick_texts_decides_for_the_tenant_as_well(self, desk: Desk) -> None:
        first, second = await desk.receive(TENANT_PHONE, TENANT_PHONE)
        await desk.store.save(finding_of(first, tenant="t-1", language="es", confidence=0.99))
        await desk.store.save(finding_of(second, tenant="t-1", language="en", confidence=0.99))
        assert await desk.language() == ("en", 0.99)
        assert await desk.tenant_language("t-1") == ("en", 0.99)

    async def test_every_decision_is_logged_without_text_or_number(self, desk: Desk) -> None:
        with capture_logs() as lines:
            finding = await desk.find(tenant="t-1", language="es", confidence=0.9)

        assert finding.message is not None
        [decided] = [line for line in lines if line["event"] == "language.decided"]
        assert decided["reason"] == "first"
        assert (decided["language"], decided["confidence"]) == ("es", 0.9)
        assert (decided["detected"], decided["detected_confidence"]) == ("es", 0.9)
        assert (decided["phone"], decided["tenant_id"]) == ("***0123", "t-1")
        assert decided["message_id"] == str(finding.message.id)
        assert "4155550123" not in str(lines)
        assert "made-up" not in str(lines)

    async def test_reuse_of_a_tenants_language_is_logged(self, desk: Desk) -> None:
        await desk.find(TENANT_PHONE, tenant="t-1", language="pt", confidence=0.9)
        with capture_logs() as lines:
            await desk.find(OTHER_PHONE, tenant="t-1")
        reasons = [line["reason"] for line in lines if line["event"] == "language.decided"]
        assert reasons == ["taken_over", "undecided"]


class TestOrder:
    """However findings are batched, repeated and shuffled, the same holds in the end."""

    @given(data=st.data())
    @hypothesis_settings(max_examples=12)
    async def test_of_one_conversation_does_not_matter(self, desk: Desk, data: st.DataObject) -> None:
        recognised = data.draw(
            st.lists(
                st.tuples(st.sampled_from(["en", "es", "pt", "unknown"]), st.sampled_from([0.6, 0.8, 0.99])),
                min_size=1,
                max_size=5,
            )
        )
        phone, tenant = f"+1415{2_000_000 + desk.texts}", f"t-{desk.texts}"
        received = await desk.receive(*[phone] * len(recognised))
        findings = [
            finding_of(each, tenant=tenant, language=language, confidence=confidence)
            for each, (language, confidence) in zip(received, recognised, strict=True)
        ]
        await save_in_batches(desk.store, data.draw(st.permutations(findings + findings[:2])), data)

        best = max(
            (
                (confidence, seq, language)
                for seq, (language, confidence) in enumerate(recognised)
                if language != "unknown"
            ),
            default=(0.0, 0, "unknown"),
        )
        assert await desk.language(phone) == (best[2], best[0])
        assert await desk.tenant_language(tenant) == (best[2], best[0])

    @given(data=st.data())
    @hypothesis_settings(max_examples=12)
    async def test_of_a_tenants_conversations_does_not_matter_to_the_tenant(
        self, desk: Desk, data: st.DataObject
    ) -> None:
        tenant = f"t-{desk.texts}"
        phones = [f"+1415{3_000_000 + desk.texts + place}" for place in range(2)]
        recognised = data.draw(
            st.lists(
                st.tuples(
                    st.sampled_from(phones),
                    st.booleans(),  # is the number known to the Monitor already?
                    st.sampled_from(["en", "es", "unknown"]),
                    st.sampled_from([0.6, 0.99]),
                ),
                min_size=1,
                max_size=6,
            )
        )
        received = await desk.receive(*[phone for phone, *_ in recognised], *phones)
        findings = [
            finding_of(each, tenant=tenant if is_known else None, language=language, confidence=confidence)
            for each, (_, is_known, language, confidence) in zip(received, recognised, strict=False)
        ]
        await save_in_batches(desk.store, data.draw(st.permutations(findings)), data)
        # In the end both numbers are known, by texts that tell nothing.
        await save_in_batches(desk.store, [finding_of(each, tenant=tenant) for each in received[-2:]], data)

        best = max(
            (
                (confidence, seq, language)
                for seq, (_, _, language, confidence) in enumerate(recognised)
                if language != "unknown"
            ),
            default=(0.0, 0, "unknown"),
        )
        assert await desk.tenant_language(tenant) == (best[2], best[0])


async def save_in_batches(store: FindingStore, findings: Sequence[Finding], data: st.DataObject) -> None:
    left = list(findings)
    while left:
        size = data.draw(st.integers(1, len(left)))
        await asyncio.gather(*(store.save(finding) for finding in left[:size]))
        del left[:size]


class TestTelling:
    async def test_certain_language_of_a_known_tenant_is_to_be_told_once(self, desk: Desk) -> None:
        await desk.find(tenant="t-1", language="es", confidence=0.7)
        assert desk.work_left == 1
        await desk.find(tenant="t-1", language="es", confidence=0.99)
        rows = await desk.pool.fetch("SELECT w.ref_id, t.tenant_id FROM work w JOIN sms_tenants t ON t.id = w.ref_id")
        assert [row["tenant_id"] for row in rows] == ["t-1"]

    async def test_uncertain_language_is_not_told(self, desk: Desk) -> None:
        await desk.find(tenant="t-1", language="es", confidence=0.69)
        assert await desk.open_work(TELL_LANGUAGE) == 0
        assert desk.work_left == 0

    async def test_language_of_nobody_known_is_not_told(self, desk: Desk) -> None:
        await desk.find(language="es", confidence=0.99)
        assert await desk.open_work(TELL_LANGUAGE) == 0

    async def test_language_that_the_profile_has_is_not_told(self, desk: Desk) -> None:
        await desk.find(tenant="t-1")
        await desk.pool.execute("UPDATE sms_tenants SET language_told = 'es'")
        await desk.find(tenant="t-1", language="es", confidence=0.99)
        assert await desk.open_work(TELL_LANGUAGE) == 0
        await desk.find(tenant="t-1", language="en", confidence=0.99)
        assert await desk.open_work(TELL_LANGUAGE) == 1

    async def test_nothing_is_told_without_a_profile_service(self, desk: Desk) -> None:
        silent = desk.new_store(tells_profiles=False)
        await desk.find(tenant="t-1", language="es", confidence=0.99, store=silent)
        assert await desk.open_work(TELL_LANGUAGE) == 0


class TestConcurrency:
    async def test_processes_at_work_on_the_same_tenants_and_conversations_all_succeed(
        self, desk: Desk, service: Service
    ) -> None:
        phones = [f"+1415555{place:04}" for place in range(1000, 1012)]
        received = await desk.receive(*phones * 8)
        chance = random.Random(1)
        findings = [
            finding_of(
                (work, message),
                tenant=f"t-{int(message.phone[-2:]) % 3}",
                language=chance.choice(["en", "es", "pt", "unknown"]),
                confidence=chance.choice([0.6, 0.8, 0.99]),
            )
            for work, message in received
        ]
        stores = [desk.new_store() for _ in range(3)]
        sids = await desk.pool.fetch("SELECT provider_message_id FROM sms_messages")
        # Every process has every finding, in an order of its own; callbacks and texts come in meanwhile.
        await asyncio.gather(
            *(store.save(finding) for store in stores for finding in chance.sample(findings, len(findings))),
            *(service.status(row[0], "delivered") for row in sids[::4]),
            *(service.text(f"SMlate{place}", sender=phone) for place, phone in enumerate(phones)),
        )

        for tenant in ("t-0", "t-1", "t-2"):
            telling = [each for each in findings if each.tenant_id == tenant and each.language != "unknown"]
            best = max(telling, key=lambda each: (each.confidence, each.message and each.message.received_at))
            assert await desk.tenant_language(tenant) == (best.language, best.confidence)
        assert await desk.pool.fetchval("SELECT count(*) FROM sms_tenants") == 3
        assert await desk.pool.fetchval("SELECT count(*) FROM sms_tenant_numbers") == len(phones)
        assert await desk.pool.fetchval("SELECT count(*) FROM work WHERE state = 'leased'") == 0
        assert await desk.open_work(TELL_LANGUAGE) == 3

    async def test_finding_that_cannot_be_written_fails_alone(self, desk: Desk, service: Service) -> None:
        first, second = await desk.receive(TENANT_PHONE, OTHER_PHONE)
        results = await asyncio.gather(
            desk.store.save(finding_of(first, tenant="t-\0", language="es", confidence=0.9)),
            desk.store.save(finding_of(second, tenant="t-2", language="es", confidence=0.9)),
            return_exceptions=True,
        )
        assert [type(each).__name__ for each in results] == ["CharacterNotInRepertoireError", "NoneType"]
        assert (await service.conversation(TENANT_PHONE))["tenant_id"] is None
        assert (await service.conversation(OTHER_PHONE))["tenant_id"] == "t-2"
