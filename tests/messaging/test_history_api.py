"""The history API over HTTP: every field, every way to page, every spelling, and everything hostile."""

import asyncio
import base64
import re
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import orjson
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import BaseModel

from sms_foundation.auth.keys.format import generate_key
from sms_foundation.core.config import Settings
from sms_foundation.core.db import Database, DatabaseUrl
from sms_foundation.core.ids import new_id
from sms_foundation.core.web.errors import ErrorEnvelope
from sms_foundation.core.web.pagination import encode_cursor
from sms_foundation.messaging.schemas import (
    ConversationList,
    ConversationPage,
    ConversationSummary,
    MessageDetail,
    MessageSummary,
)
from tests.support.access import make_client, make_key
from tests.support.api import Document, Json, refused
from tests.support.service import SMS_PATH, TENANT_PHONE, Service, make_settings, running_service, text_form

SUMMARY_FIELDS = set(
    "id phone_number_canonical phone_number_original tenant_id tenant_lookup_status workflow_type workflow_id "
    "conversation_status language_detected language_confidence last_message_at message_count created_at "
    "content_hidden".split()
)
MESSAGE_FIELDS = set(
    "id direction from_number to_number message_content content provider twilio_sid delivery_status error_code "
    "error_message num_segments media is_test language_detected language_confidence created_at timestamp "
    "request_id trace_id".split()
)


@pytest.fixture
def settings() -> Settings:
    """Nothing happens in the background: what is read is what the test has written."""
    return make_settings(work_in_process=False)


@pytest.fixture
def api(service: Service) -> httpx.AsyncClient:
    return service.client


def read(response: httpx.Response, model: type[BaseModel]) -> Json:
    """Return the body of a 200 that has exactly the fields of `model`, each of its exact JSON type."""
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json"
    model.model_validate_json(response.content, strict=True, extra="forbid")
    return dict(response.json())


async def add_conversation(database: Database, phone: str, **columns: object) -> UUID:
    """Insert a conversation without messages; columns not given have their defaults."""
    row = {"id": new_id(), "phone_number_canonical": phone, "phone_number_original": phone, **columns}
    places = ", ".join(f"${place}" for place in range(1, len(row) + 1))
    await database.pool.execute(f"INSERT INTO sms_conversations ({', '.join(row)}) VALUES ({places})", *row.values())
    return UUID(str(row["id"]))


async def add_messages(database: Database, phone: str, count: int) -> list[str]:
    """Insert a conversation with `count` messages; return their SIDs, newest first."""
    id_ = await add_conversation(database, phone, message_count=count, last_message_at=datetime.now(UTC))
    sids = [f"SM-{phone}-{seq}" for seq in range(1, count + 1)]
    await database.pool.execute(
        "INSERT INTO sms_messages (id, conversation_id, conversation_seq, direction, provider, provider_message_id, "
        "from_number, to_number, message_content, delivery_status) SELECT gen_random_uuid(), $1, seq, 'inbound', "
        "'twilio', sid, $2, '', sid, 'received' FROM unnest($3::text[]) WITH ORDINALITY AS t(sid, seq)",
        id_,
        phone,
        sids,
    )
    return sids[::-1]


def sids_of(page: Mapping[str, Any]) -> list[str]:
    return [message["twilio_sid"] for message in page["messages"]]


class TestReadConversation:
    async def test_has_every_field_by_name_and_type(self, service: Service, api: httpx.AsyncClient) -> None:
        text = await service.text("SM1", "Hola", sender="+1 (415) 555-0123")
        page = read(await api.get("/conversations/+14155550123"), ConversationPage)

        assert set(page) == SUMMARY_FIELDS | {"messages", "page", "limit", "offset", "total", "next_cursor"}
        [message] = page["messages"]
        assert set(message) == MESSAGE_FIELDS
        id_, created_at = page.pop("id"), page.pop("created_at")
        message_id, received_at = message.pop("id"), message.pop("created_at")
        assert re.fullmatch("[0-9a-f]{32}", message.pop("trace_id"))
        del page["messages"]
        assert page == {
            "phone_number_canonical": "+14155550123",
            "phone_number_original": "+1 (415) 555-0123",
            "tenant_id": None,
            "tenant_lookup_status": "pending",
            "workflow_type": None,
            "workflow_id": None,
            "conversation_status": "active",
            "language_detected": "unknown",
            "language_confidence": 0.0,
            "last_message_at": received_at,
            "message_count": 1,
            "page": 1,
            "limit": 20,
            "offset": 0,
            "total": 1,
            "next_cursor": None,
            "content_hidden": False,
        }
        assert message == {
            "direction": "inbound",
            "from_number": "+1 (415) 555-0123",
            "to_number": "+15005550006",
            "message_content": "Hola",
            "content": "Hola",
            "provider": "twilio",
            "twilio_sid": "SM1",
            "delivery_status": "received",
            "error_code": None,
            "error_message": None,
            "num_segments": 1,
            "media": [],
            "is_test": False,
            "language_detected": None,
            "language_confidence": None,
            "timestamp": received_at,
            "request_id": text.headers["x-request-id"],
        }
        assert created_at == received_at
        assert UUID(id_).version == UUID(message_id).version == 7
        assert received_at.endswith("Z")
        assert abs(datetime.now(UTC) - datetime.fromisoformat(received_at)) < timedelta(minutes=1)

    async def test_shows_what_was_found_out_and_what_became_of_the_message(
        self, service: Service, api: httpx.AsyncClient, database: Database
    ) -> None:
        media = {"MediaUrl0": "https://m/0", "MediaContentType0": "image/png", "MediaUrl1": "https://m/1"}
        pairs = {**dict(text_form("SM1", "")), "NumMedia": "2", **media}
        await service.post_signed(SMS_PATH, list(pairs.items()))
        await database.pool.execute(
            "UPDATE sms_conversations SET tenant_id = 't-1', tenant_lookup_status = 'matched', workflow_type = 'w', "
            "workflow_id = '7', language_detected = 'pt', language_confidence = 0.97"
        )
        await database.pool.execute(
            "UPDATE sms_messages SET delivery_status = 'undelivered', error_code = '30003', error_message = 'gone', "
            "num_segments = 3, language_detected = 'pt', language_confidence = 0.5"
        )
        page = read(await api.get(f"/conversations/{TENANT_PHONE}"), ConversationPage)
        [message] = page["messages"]
        assert (page["tenant_id"], page["tenant_lookup_status"]) == ("t-1", "matched")
        assert (page["workflow_type"], page["workflow_id"]) == ("w", "7")
        assert (page["language_detected"], page["language_confidence"]) == ("pt", 0.97)
        assert (message["delivery_status"], message["error_code"], message["error_message"]) == (
            "undelivered",
            "30003",
            "gone",
        )
        assert (message["num_segments"], message["language_detected"], message["language_confidence"]) == (3, "pt", 0.5)
        assert message["media"] == [
            {"url": "https://m/0", "content_type": "image/png"},
            {"url": "https://m/1", "content_type": ""},
        ]

    async def test_any_spelling_of_the_number_finds_it(self, service: Service, api: httpx.AsyncClient) -> None:
        for spelling in [
            "%2B14155550123",
            "+14155550123",
            "%2014155550123",
            "%252B14155550123",
            "14155550123",
            "4155550123",
            "(415)%20555-0123",
            "415-555-0123",
            "415.555.0123",
            "+1%20415%20555%200123",
            "+1-415-555-0123",
            "0014155550123",
            "tel:+14155550123",
            "%EF%BC%8B14155550123",
        ]:
            await service.text("SM1")
            page = read(await api.get(f"/conversations/{spelling}"), ConversationPage)
            assert page["phone_number_canonical"] == "+14155550123", spelling
            patched = await api.patch(f"/conversations/{spelling}", json={"workflow_id": "1"})
            assert read(patched, ConversationSummary)["workflow_id"] == "1"

    async def test_other_addresses_are_found_as_well(self, service: Service, api: httpx.AsyncClient) -> None:
        for sender, spelling in [
            ("12345", "12345"),
            ("MYBANK", "MYBANK"),
            ("Müller & Co", "M%C3%BCller%20%26%20Co"),
            ("whatsapp:+14155550123", "whatsapp%3A%2B14155550123"),
            ("whatsapp:+14155550123", "WhatsApp:14155550123"),
            ("rcs:my_agent", "rcs:my_agent"),
        ]:
            await service.text(f"SM-{sender}", sender=sender)
            page = read(await api.get(f"/conversations/{spelling}"), ConversationPage)
            assert (page["phone_number_canonical"], sids_of(page)) == (sender, [f"SM-{sender}"])

    async def test_unknown_number_is_404(self, api: httpx.AsyncClient) -> None:
        refused(await api.get("/conversations/+14155550199"), 404, "sms.not_found")
        refused(await api.patch("/conversations/+14155550199", json={"workflow_id": "1"}), 404, "sms.not_found")

    async def test_conversation_without_messages_is_200_and_empty(
        self, api: httpx.AsyncClient, database: Database
    ) -> None:
        await add_conversation(database, TENANT_PHONE)
        for query in ({}, {"page": 3}, {"offset": 50}, {"cursor": encode_cursor(5)}):
            page = read(await api.get(f"/conversations/{TENANT_PHONE}", params=query), ConversationPage)
            assert (page["messages"], page["total"], page["last_message_at"]) == ([], 0, None)
            assert page["next_cursor"] is None

    async def test_wrong_parameter_is_400_and_named(self, service: Service, api: httpx.AsyncClient) -> None:
        for field, value in [
            ("limit", "0"),
            ("limit", "101"),
            ("limit", "abc"),
            ("limit", ""),
            ("limit", "-1"),
            ("limit", "1.5"),
            ("limit", "9" * 30),
            ("page", "0"),
            ("page", "x"),
            ("page", "9" * 30),
            ("offset", "-1"),
            ("offset", "9" * 30),
            ("cursor", "x" * 257),
        ]:
            await service.text("SM1")
            response = await api.get(f"/conversations/{TENANT_PHONE}", params={field: value})
            refused(response, 400, "sms.validation_error", field)
            if field in ("limit", "cursor"):
                refused(await api.get("/conversations", params={field: value}), 400, "sms.validation_error", field)

    async def test_largest_numbers_that_are_allowed_are_an_empty_page(
        self, service: Service, api: httpx.AsyncClient
    ) -> None:
        await service.text("SM1")
        for query in ({"page": 10**9, "limit": 100}, {"offset": 10**12}):
            page = read(await api.get(f"/conversations/{TENANT_PHONE}", params=query), ConversationPage)
            assert (page["messages"], page["total"], page["next_cursor"]) == ([], 1, None)

    async def test_cursor_that_is_not_ours_is_400(self, service: Service, api: httpx.AsyncClient) -> None:
        for parts in [(0,), (-5,), (-(2**63),), (2**63,), (2**64 - 1,), (1.5,), (True,), (None,), ("1",), (1, 1), ()]:
            await service.text("SM1")
            response = await api.get(f"/conversations/{TENANT_PHONE}", params={"cursor": encode_cursor(*parts)})
            assert "cursor" in refused(response, 400, "sms.validation_error")["message"]

    @given(
        st.one_of(st.text(max_size=60), st.binary(max_size=40).map(lambda raw: base64.urlsafe_b64encode(raw).decode()))
    )
    @hypothesis_settings(max_examples=40)
    async def test_no_cursor_whatsoever_is_a_500(self, api: httpx.AsyncClient, cursor: str) -> None:
        cursor = cursor.encode("utf-8", "replace").decode()
        for path in ("/conversations", f"/conversations/{TENANT_PHONE}"):
            assert (await api.get(path, params={"cursor": cursor})).status_code in (400, 404)


class TestPaging:
    async def walk(self, api: httpx.AsyncClient, phone: str, limit: int) -> list[list[str]]:
        """Follow the cursors from the newest message to the oldest."""
        pages: list[list[str]] = []
        cursor = None
        for _ in range(100):
            query = {"limit": limit} if cursor is None else {"limit": limit, "cursor": cursor}
            page = read(await api.get(f"/conversations/{phone}", params=query), ConversationPage)
            pages.append(sids_of(page))
            cursor = page["next_cursor"]
            if cursor is None:
                return pages
        raise AssertionError("the cursors lead nowhere")

    @given(count=st.integers(0, 23), limit=st.integers(1, 12))
    @hypothesis_settings(max_examples=20)
    async def test_by_cursor_by_page_and_by_offset_gives_the_same_messages(
        self, api: httpx.AsyncClient, database: Database, count: int, limit: int
    ) -> None:
        phone = f"+1415555{await database.pool.fetchval('SELECT 1000 + count(*) FROM sms_conversations')}"
        newest_first = await add_messages(database, phone, count)
        expected = [newest_first[start : start + limit] for start in range(0, count, limit)] or [[]]

        assert await self.walk(api, phone, limit) == expected
        for number, sids in enumerate([*expected, []], start=1):
            for query in ({"page": number}, {"offset": (number - 1) * limit}):
                answer = await api.get(f"/conversations/{phone}", params={"limit": limit, **query})
                page = read(answer, ConversationPage)
                assert sids_of(page) == sids
                assert (page["page"], page["offset"], page["total"]) == (number, (number - 1) * limit, count)
                assert page["limit"] == limit

    async def test_offset_need_not_be_a_multiple_of_the_limit(self, api: httpx.AsyncClient, database: Database) -> None:
        sids = await add_messages(database, TENANT_PHONE, 10)
        page = read(await api.get(f"/conversations/{TENANT_PHONE}?offset=3&limit=4&page=9"), ConversationPage)
        assert (sids_of(page), page["offset"], page["page"]) == (sids[3:7], 3, 1)
        following = {"cursor": page["next_cursor"], "limit": 4, "page": 1, "offset": 0}
        page = read(await api.get(f"/conversations/{TENANT_PHONE}", params=following), ConversationPage)
        assert (sids_of(page), page["offset"], page["page"]) == (sids[7:], 7, 2)

    async def test_by_cursor_misses_and_repeats_nothing_while_texts_arrive(
        self, service: Service, api: httpx.AsyncClient
    ) -> None:
        for place in range(12):
            await service.text(f"SM{place}")
        seen: list[str] = []
        query: Json = {"limit": 3}
        for late in range(4):
            page = read(await api.get(f"/conversations/{TENANT_PHONE}", params=query), ConversationPage)
            seen += sids_of(page)
            query["cursor"] = page["next_cursor"]
            assert page["total"] == 12 + late
            assert page["offset"] == len(seen) - 3 + late  # newer ones that came meanwhile are skipped as well
            await service.text(f"SMlate{late}")
        assert seen == [f"SM{place}" for place in reversed(range(12))]
        assert query["cursor"] is None

    async def test_newest_come_first_whoever_stored_them_at_once(
        self, service: Service, api: httpx.AsyncClient
    ) -> None:
        await asyncio.gather(*(service.text(f"SM{place}") for place in range(30)))
        await service.text("SMlast")
        pages = await self.walk(api, TENANT_PHONE, 7)
        sids = [sid for page in pages for sid in page]
        assert sids[0] == "SMlast"
        assert sorted(sids[1:]) == sorted(f"SM{place}" for place in range(30))


class TestListConversations:
    @pytest.fixture
    async def phones(self, database: Database) -> list[str]:
        """Twelve conversations, most recently active first; some at the very same time."""
        now = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
        phones = [f"+1415555{1000 + place}" for place in range(12)]
        for place, phone in enumerate(phones):
            await add_conversation(
                database,
                phone,
                last_message_at=now - timedelta(hours=place // 2),
                tenant_id=None if place % 3 == 0 else f"t-{place % 3}",
                language_detected=("en", "es", "pt", "unknown")[place % 4],
                workflow_type="collections" if place < 6 else None,
                workflow_id=f"case-{place % 2}",
                conversation_status="closed" if place % 5 == 0 else "active",
            )
        return phones

    async def walk(self, api: httpx.AsyncClient, limit: int, **filters: object) -> list[str]:
        query: Json = {"limit": limit, **filters}
        seen: list[str] = []
        for _ in range(100):
            body = read(await api.get("/conversations", params=query), ConversationList)
            assert body["limit"] == limit
            seen += [each["phone_number_canonical"] for each in body["conversations"]]
            query["cursor"] = body["next_cursor"]
            if query["cursor"] is None:
                return seen
            assert len(body["conversations"]) == limit
        raise AssertionError("the cursors lead nowhere")

    async def test_has_every_field(self, service: Service, api: httpx.AsyncClient) -> None:
        await service.text("SM1")
        body = read(await api.get("/conversations"), ConversationList)
        assert set(body) == {"conversations", "limit", "next_cursor"}
        [conversation] = body["conversations"]
        assert set(conversation) == SUMMARY_FIELDS
        page = await service.conversation()
        assert conversation == {name: page[name] for name in SUMMARY_FIELDS}

    async def test_is_200_and_empty_when_there_are_none(self, api: httpx.AsyncClient) -> None:
        body = read(await api.get("/conversations"), ConversationList)
        assert body == {"conversations": [], "limit": 20, "next_cursor": None}

    async def test_walk_by_cursor_finds_each_once_most_recent_first(
        self, api: httpx.AsyncClient, phones: list[str], database: Database
    ) -> None:
        for limit in [1, 2, 5, 12, 100]:
            rows = await database.pool.fetch(
                "SELECT phone_number_canonical FROM sms_conversations ORDER BY last_message_at DESC, id DESC"
            )
            assert await self.walk(api, limit) == [row[0] for row in rows]
            assert sorted(row[0] for row in rows) == phones

    @pytest.mark.parametrize("limit", [1, 2, 3, 20])
    async def test_conversations_without_a_message_come_first_and_are_paged_like_others(
        self, api: httpx.AsyncClient, phones: list[str], database: Database, limit: int
    ) -> None:
        silent = [f"+1415556{1000 + place}" for place in range(3)]
        for phone in silent:
            await add_conversation(database, phone)
        seen = await self.walk(api, limit)
        assert seen[:3] == silent[::-1]
        assert sorted(seen[3:]) == phones

    async def test_filters_each_and_combined(self, api: httpx.AsyncClient, phones: list[str]) -> None:
        for filters, places in [
            ({"tenant_id": "t-1"}, {1, 4, 7, 10}),
            ({"tenant_id": "nobody"}, set()),
            ({"tenant_id": ""}, set()),
            ({"language": "es"}, {1, 5, 9}),
            ({"language": "unknown"}, {3, 7, 11}),
            ({"workflow_type": "collections"}, {0, 1, 2, 3, 4, 5}),
            ({"workflow_id": "case-1"}, {1, 3, 5, 7, 9, 11}),
            ({"conversation_status": "closed"}, {0, 5, 10}),
            ({"since": "2026-11-20T11:00:00Z"}, {0, 1, 2, 3}),
            ({"since": "2026-11-20T12:00:00+01:00"}, {0, 1, 2, 3}),
            ({"since": "2026-11-20T12:00:00.000001Z"}, set()),
            ({"unknown_tenant": "true"}, {0, 3, 6, 9}),
            ({"unknown_tenant": "false"}, {1, 2, 4, 5, 7, 8, 10, 11}),
            ({"unknown_tenant": "true", "language": "en"}, {0}),
            ({"tenant_id": "t-1", "unknown_tenant": "true"}, set()),
            ({"workflow_type": "collections", "workflow_id": "case-1", "language": "es"}, {1, 5}),
            (
                {
                    "tenant_id": "t-2",
                    "language": "es",
                    "workflow_type": "collections",
                    "workflow_id": "case-1",
                    "conversation_status": "closed",
                    "since": "2026-11-20T10:00:00Z",
                    "unknown_tenant": "false",
                },
                {5},
            ),
        ]:
            for limit in (1, 20):
                assert set(await self.walk(api, limit, **filters)) == {phones[place] for place in places}

    async def test_wrong_filter_is_400_and_named(self, api: httpx.AsyncClient) -> None:
        for field, value in [
            ("since", "2026-11-20T12:00:00"),
            ("since", "2026-11-20"),
            ("since", "yesterday"),
            ("since", "0001-01-01T00:00:00+14:00"),
            ("since", "9999-12-31T23:59:59-14:00"),
            ("language", "fr"),
            ("unknown_tenant", "perhaps"),
            ("tenant_id", "\0"),
            ("workflow_type", "a\0b"),
            ("workflow_id", "\0"),
            ("conversation_status", "\0"),
            ("tenant_id", "x" * 201),
        ]:
            refused(await api.get("/conversations", params={field: value}), 400, "sms.validation_error", field)

    async def test_first_and_last_day_of_the_calendar_are_times(
        self, api: httpx.AsyncClient, phones: list[str]
    ) -> None:
        assert len(await self.walk(api, 20, since="0001-01-01T00:00:00Z")) == 12
        assert await self.walk(api, 20, since="9999-12-31T23:59:59.999999Z") == []

    async def test_cursor_that_is_not_ours_is_400(self, api: httpx.AsyncClient) -> None:
        for parts in [
            ("nope", str(uuid4())),
            ("2026-11-20T12:00:00+00:00", "nope"),
            ("0001-01-01T00:00:00+14:00", str(uuid4())),
            ("9999-12-31T23:59:59-14:00", str(uuid4())),
            ("2026-11-20T12:00:00", str(uuid4())),
            ("2026-11-20T12:00:00\x00", str(uuid4())),
            ("2026-11-20T12:00:00+00:00",),
            (1, str(uuid4())),
            (5,),
        ]:
            response = await api.get("/conversations", params={"cursor": encode_cursor(*parts)})
            assert "cursor" in refused(response, 400, "sms.validation_error")["message"]


class TestPatchConversation:
    @pytest.fixture(autouse=True)
    async def _filed_conversation(self, service: Service, api: httpx.AsyncClient) -> None:
        await service.text("SM1")
        response = await self.patch(api, {"workflow_type": "collections", "workflow_id": "case-1"})
        assert response.status_code == 200

    async def patch(self, api: httpx.AsyncClient, body: object) -> httpx.Response:
        return await api.patch(f"/conversations/{TENANT_PHONE}", json=body)

    async def filed(self, service: Service) -> tuple[object, object, object]:
        conversation = await service.conversation()
        return conversation["workflow_type"], conversation["workflow_id"], conversation["conversation_status"]

    async def test_sets_what_is_named_and_leaves_the_rest(self, service: Service, api: httpx.AsyncClient) -> None:
        before = await service.conversation()
        answer = read(await self.patch(api, {"conversation_status": "closed"}), ConversationSummary)
        assert await self.filed(service) == ("collections", "case-1", "closed")
        after = await service.conversation()
        assert after == {**before, "conversation_status": "closed"}
        assert answer == {name: after[name] for name in SUMMARY_FIELDS}

        await self.patch(api, {"workflow_id": " case-2 "})
        assert await self.filed(service) == ("collections", "case-2", "closed")

    async def test_null_clears_and_can_be_repeated(self, service: Service, api: httpx.AsyncClient) -> None:
        for _ in range(2):
            answer = read(await self.patch(api, {"workflow_type": None, "workflow_id": None}), ConversationSummary)
            assert (answer["workflow_type"], answer["workflow_id"]) == (None, None)
        assert await self.filed(service) == (None, None, "active")

    async def test_next_text_leaves_what_was_set(self, service: Service, api: httpx.AsyncClient) -> None:
        await self.patch(api, {"conversation_status": "closed"})
        await service.text("SM2")
        assert await self.filed(service) == ("collections", "case-1", "closed")

    async def test_wrong_content_is_400_named_and_changes_nothing(
        self, service: Service, api: httpx.AsyncClient
    ) -> None:
        for body, field in [
            ({}, "body"),
            ([], "body"),
            (None, "body"),
            ("workflow_id", "body"),
            ({"tenant_id": "t-1"}, "tenant_id"),
            ({"workflow_id": "1", "language_detected": "en"}, "language_detected"),
            ({"workflow_type": ""}, "workflow_type"),
            ({"workflow_type": "   "}, "workflow_type"),
            ({"workflow_type": 5}, "workflow_type"),
            ({"workflow_id": "x" * 201}, "workflow_id"),
            ({"workflow_id": "a\nb"}, "workflow_id"),
            ({"workflow_id": "a\0b"}, "workflow_id"),
            ({"conversation_status": None}, "conversation_status"),
            ({"conversation_status": ""}, "conversation_status"),
            ({"conversation_status": "Very Closed"}, "conversation_status"),
            ({"conversation_status": "x" * 33}, "conversation_status"),
            ({"a\0b": 1}, "a\0b"),
        ]:
            refused(await self.patch(api, body), 400, "sms.validation_error", field)
            assert await self.filed(service) == ("collections", "case-1", "active")

    async def test_malformed_json_is_422(self, service: Service, api: httpx.AsyncClient) -> None:
        for raw in [b"{", b"workflow_id=1", b'{"workflow_id": "1"', b"\xff\xfe"]:
            response = await api.patch(
                f"/conversations/{TENANT_PHONE}", content=raw, headers={"Content-Type": "application/json"}
            )
            refused(response, 422, "sms.malformed_request")
            assert await self.filed(service) == ("collections", "case-1", "active")

    async def test_no_bytes_are_a_500(self, service: Service, api: httpx.AsyncClient) -> None:
        for raw in [
            b'{"workflow_type": "\\ud800"}',
            b'{"\\ud800": 1}',
            b'{"workflow_type": "a\\u0000"}',
            b'{"workflow_type": "\xff"}',
            b'{"workflow_type": 1e999}',
            b'{"workflow_type": NaN}',
            b"[" * 100_000,
            b'{"workflow_type": ' + b"9" * 5000 + b"}",
            b"",
        ]:
            response = await api.patch(
                f"/conversations/{TENANT_PHONE}", content=raw, headers={"Content-Type": "application/json"}
            )
            assert response.status_code in (400, 413, 422)
            ErrorEnvelope.model_validate_json(response.content)
            assert await self.filed(service) == ("collections", "case-1", "active")

    @given(
        st.dictionaries(
            st.sampled_from(["workflow_type", "workflow_id", "conversation_status", "other"]),
            st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=20), st.lists(st.none(), max_size=1)),
        )
    )
    @hypothesis_settings(max_examples=40)
    async def test_what_is_accepted_is_what_is_shown(
        self, service: Service, api: httpx.AsyncClient, body: dict[str, object]
    ) -> None:
        before = await self.filed(service)
        response = await self.patch(api, body)
        assert response.status_code in (200, 400), response.text
        wanted = dict(zip(("workflow_type", "workflow_id", "conversation_status"), before, strict=True))
        if response.status_code == 200:
            wanted |= {name: value.strip() if isinstance(value, str) else value for name, value in body.items()}
        assert await self.filed(service) == tuple(wanted.values())


class TestReadMessage:
    async def test_shows_one_message_by_our_id_and_by_its_sid(self, service: Service, api: httpx.AsyncClient) -> None:
        await service.text("SM1", "Hola")
        await service.text("SM2", "Olá")
        by_sid = read(await api.get("/messages/SM1"), MessageDetail)
        by_id = read(await api.get(f"/messages/{by_sid['id']}"), MessageDetail)

        assert by_sid == by_id
        assert set(by_sid) == MESSAGE_FIELDS | set(
            "conversation_id phone_number_canonical tenant_id updated_at status_events raw_webhook_data "
            "content_hidden".split()
        )
        conversation = await service.conversation()
        messages = conversation["messages"]
        assert isinstance(messages, list)
        assert {name: by_id[name] for name in MESSAGE_FIELDS} == messages[1]
        assert (by_id["conversation_id"], by_id["phone_number_canonical"]) == (conversation["id"], TENANT_PHONE)
        assert by_id["status_events"] == []

    async def test_shows_every_status_callback_in_order(self, service: Service, api: httpx.AsyncClient) -> None:
        await service.text("SM1")
        await service.status("SM1", "sent")
        await service.status("SM1", "undelivered", ErrorCode="30003", ErrorMessage="gone")
        await service.status("SM1", "sent")
        await service.text("SM2")
        await service.status("SM2", "delivered")

        detail = read(await api.get("/messages/SM1"), MessageDetail)
        events = [(each["event_status"], each["error_code"], each["error_message"]) for each in detail["status_events"]]
        assert events == [("sent", None, None), ("undelivered", "30003", "gone")]
        assert detail["status_events"][1]["raw_webhook_data"]["ErrorMessage"] == "gone"
        assert detail["status_events"][1]["raw_webhook_data"]["MessageStatus"] == "undelivered"

    async def test_shows_the_payload_as_it_was_sent(self, service: Service, api: httpx.AsyncClient) -> None:
        extra = [
            ("Twice", "a"),
            ("Twice", ""),
            ("Twice", "a"),
            ("Bytes", "\udcff\udcfe"),
            ("Nul", "a\0b"),
            ("Emoji", "👍"),
        ]
        pairs = [
            ("MessageSid", "SM1"),
            ("AccountSid", "AC" + "5e" * 16),
            ("From", TENANT_PHONE),
            ("Body", "a\0b"),
            *extra,
        ]
        assert (await service.post_signed(SMS_PATH, pairs)).status_code == 200

        detail = read(await api.get("/messages/SM1"), MessageDetail)
        nul = {"base64": base64.b64encode(b"a\0b").decode()}
        assert detail["raw_webhook_data"] == {
            "MessageSid": "SM1",
            "AccountSid": "AC" + "5e" * 16,
            "From": TENANT_PHONE,
            "Body": nul,
            "Twice": ["a", "", "a"],
            "Bytes": {"base64": base64.b64encode(b"\xff\xfe").decode()},
            "Nul": nul,
            "Emoji": "👍",
        }
        assert detail["content"] == "a\ufffdb"

    async def test_message_without_a_payload_has_null(self, api: httpx.AsyncClient, database: Database) -> None:
        [sid] = await add_messages(database, TENANT_PHONE, 1)
        assert read(await api.get(f"/messages/{sid}"), MessageDetail)["raw_webhook_data"] is None

    async def test_our_id_comes_before_a_sid_that_looks_like_it(self, service: Service, api: httpx.AsyncClient) -> None:
        await service.text("SM1", "first")
        id_ = read(await api.get("/messages/SM1"), MessageDetail)["id"]
        # As Twilio's ids are no longer than 34 characters: without the dashes.
        ours, lone = UUID(id_).hex, uuid4().hex
        await service.text(ours, "impostor")
        await service.text(lone, "sid in the form of a UUID")
        for name in (id_, ours):
            assert read(await api.get(f"/messages/{name}"), MessageDetail)["content"] == "first"
        assert read(await api.get(f"/messages/{lone}"), MessageDetail)["content"] == "sid in the form of a UUID"

    async def test_unknown_id_is_404(self, api: httpx.AsyncClient) -> None:
        for id_ in [
            "SM-nobody",
            "0190a7f0-0000-7000-8000-000000000000",
            "%F0%9F%98%80",
            "%FF",
            "%25ED%25A0%2580",
            "x" * 128,
        ]:
            refused(await api.get(f"/messages/{id_}"), 404, "sms.not_found")

    async def test_impossible_id_is_400(self, api: httpx.AsyncClient) -> None:
        for id_ in ["%00", "SM1%00", "x" * 129]:
            refused(await api.get(f"/messages/{id_}"), 400, "sms.validation_error", "id")


class TestPaths:
    async def test_odd_number_is_a_4xx_in_the_envelope(self, api: httpx.AsyncClient) -> None:
        for method in ["GET", "PATCH"]:
            for number in [
                "%00",
                "%2500",
                "%FF",
                "%ED%A0%80",
                "%20",
                "😀",
                "%F0%9F%98%80",
                "1" * 400,
                "9" * 5000,
                "%25" * 50,
                "+",
                "--",
                "a%2Fb",
            ]:
                response = await api.request(method, f"/conversations/{number}", json={"workflow_id": "1"})
                assert response.status_code in (400, 404)
                ErrorEnvelope.model_validate_json(response.content)

    async def test_no_such_route_is_404(self, api: httpx.AsyncClient) -> None:
        for path in ["/conversations/", "/conversations/+1/x", "/messages", "/messages/", "/nothing"]:
            refused(await api.get(path), 404, "sms.not_found")

    async def test_other_methods_are_405(self, api: httpx.AsyncClient) -> None:
        for method, path in [
            ("POST", "/conversations"),
            ("DELETE", f"/conversations/{TENANT_PHONE}"),
            ("PUT", "/messages/SM1"),
        ]:
            refused(await api.request(method, path), 405, "sms.method_not_allowed")

    @given(st.text(min_size=1, max_size=30).filter(lambda text: text not in (".", "..")))
    @hypothesis_settings(max_examples=60)
    async def test_no_number_whatsoever_is_a_500(self, api: httpx.AsyncClient, number: str) -> None:
        quoted = "".join(f"%{byte:02X}" for byte in number.encode("utf-8", "surrogatepass"))
        for path in (f"/conversations/{quoted}", f"/messages/{quoted}"):
            assert (await api.get(path)).status_code in (400, 404)


INTERNAL_ROUTES = [
    ("GET", "/conversations"),
    ("GET", f"/conversations/{TENANT_PHONE}"),
    ("GET", f"/conversations/{TENANT_PHONE}?limit=0"),
    ("PATCH", f"/conversations/{TENANT_PHONE}"),
    ("GET", "/messages/SM1"),
]


class TestAccess:
    @pytest.fixture
    async def guarded(self, database_url: DatabaseUrl, database: Database) -> AsyncIterator[Service]:
        settings = make_settings(work_in_process=False, open_access=False, failure_limit="off")
        async with running_service(settings, database_url, database) as service:
            yield service

    async def test_is_refused_without_the_right_key(self, guarded: Service, database: Database) -> None:
        key = (await make_key(database, await make_client(database))).encode()
        for method, path in INTERNAL_ROUTES:
            for header in (
                None,
                b"Bearer wrong",
                b"Bearer ",
                b"Bearer",
                b"",
                b"Bearer " + key + b"x",
                b"Bearer " + key[:-1],
                b"Bearer " + key.swapcase(),
                b"Bearer " + generate_key(is_test=False).text.encode(),
                b"Basic " + key,
                key,
                b"Bearer \xff\xfe",
            ):
                headers = {} if header is None else {b"Authorization": header}
                response = await guarded.client.request(method, path, headers=headers, json={"workflow_id": "1"})
                refused(response, 401, "sms.unauthorized")
                assert response.headers["www-authenticate"] == "Bearer"

    async def test_right_key_opens_every_internal_route(self, guarded: Service, database: Database) -> None:
        await guarded.text("SM1")
        headers = {"Authorization": "bearer " + await make_key(database, await make_client(database))}
        for method, path in INTERNAL_ROUTES:
            response = await guarded.client.request(method, path, headers=headers, json={"workflow_id": "1"})
            assert response.status_code == (400 if "limit=0" in path else 200), (path, response.text)

    async def test_without_a_key_nothing_is_learnt_about_numbers_or_parameters(self, guarded: Service) -> None:
        await guarded.text("SM1")
        known = await guarded.client.get(f"/conversations/{TENANT_PHONE}")
        unknown = await guarded.client.get("/conversations/+14155550199?limit=0")
        assert known.json()["error"]["message"] == unknown.json()["error"]["message"]

    @pytest.mark.parametrize("app_env", ["development", "staging"])
    async def test_outside_a_developers_machine_every_call_needs_a_key(
        self, database_url: DatabaseUrl, database: Database, app_env: str
    ) -> None:
        settings = make_settings(app_env=app_env, twilio_auth_token="t", work_in_process=False)
        async with running_service(settings, database_url, database) as service:
            for method, path in INTERNAL_ROUTES:
                for headers in ({}, {"Authorization": "Bearer "}, {"Authorization": "Bearer None"}):
                    response = await service.client.request(method, path, headers=headers, json={"workflow_id": "1"})
                    refused(response, 401, "sms.unauthorized")

    @pytest.mark.parametrize("app_env", ["local", "test"])
    async def test_on_a_developers_machine_calls_from_there_need_none(
        self, database_url: DatabaseUrl, database: Database, app_env: str
    ) -> None:
        settings = make_settings(app_env=app_env, work_in_process=False)
        async with running_service(settings, database_url, database) as service:
            assert (await service.client.get("/conversations")).status_code == 200


# Of every route that asks who calls.
REFUSALS = {401, 403, 429}
HISTORY = {
    ("get", "/conversations"): {400, 503},
    ("get", "/conversations/{phone_number}"): {400, 404, 503},
    ("patch", "/conversations/{phone_number}"): {400, 404, 409, 413, 422, 503},
    ("get", "/messages/{id}"): {400, 404, 503},
}
SENDING = {
    ("post", "/v1/sms/send"): {400, 413, 422, 502, 503},
    ("post", "/v1/sms/send/batch"): {400, 409, 413, 422, 503},
    ("post", "/v1/sms/preview"): {400, 409, 413, 422, 503},
    ("get", "/v1/sms"): {400, 503},
    ("get", "/v1/sms/{request_id}"): {400, 404, 503},
    ("patch", "/v1/sms/{request_id}"): {400, 404, 409, 413, 422, 503},
    ("post", "/v1/sms/{request_id}/cancel"): {400, 404, 409, 422, 503},
    ("post", "/v1/sms/{request_id}/retry"): {400, 404, 409, 413, 422, 503},
    ("post", "/sms/send"): {400, 409, 413, 422, 502, 503},
    ("post", "/api/sms"): {400, 409, 413, 422, 502, 503},
    ("post", "/messages/send"): {400, 409, 413, 422, 502, 503},
}
ACCEPTED = {"/v1/sms/send", "/v1/sms/send/batch", "/sms/send", "/api/sms", "/messages/send"}
"""Paths that answer 202 instead of 200."""
WEBHOOKS = {
    ("post", "/webhook/twilio/sms"): {400, 403, 413, 415, 503},
    ("post", "/webhook/twilio/status"): {400, 403, 413, 415, 503},
}


class TestOpenApi:
    @pytest.fixture
    async def document(self, api: httpx.AsyncClient) -> Document:
        return Document((await api.get("/openapi.json")).json())

    async def test_every_response_is_as_documented(
        self, service: Service, api: httpx.AsyncClient, document: Document
    ) -> None:
        await service.text("SM1", NumMedia="1", MediaUrl0="https://m/0", Twice="1")
        await service.status("SM1", "undelivered", ErrorCode="30003")
        for method, template, path, status in [
            ("get", "/conversations", "/conversations?limit=1", 200),
            ("get", "/conversations", "/conversations?limit=0", 400),
            ("get", "/conversations/{phone_number}", f"/conversations/{TENANT_PHONE}", 200),
            ("get", "/conversations/{phone_number}", f"/conversations/{TENANT_PHONE}?limit=0", 400),
            ("get", "/conversations/{phone_number}", "/conversations/+14155550199", 404),
            ("patch", "/conversations/{phone_number}", f"/conversations/{TENANT_PHONE}", 200),
            ("patch", "/conversations/{phone_number}", "/conversations/+14155550199", 404),
            ("get", "/messages/{id}", "/messages/SM1", 200),
            ("get", "/messages/{id}", "/messages/SM2", 404),
        ]:
            body = {"json": {"workflow_id": "1"}} if method == "patch" else {}
            response = await api.request(method, path, **body)  # type: ignore[arg-type]
            assert response.status_code == status
            document.check(response.json(), document.response(method, template, status))

    async def test_every_answer_about_sending_is_as_documented(
        self, service: Service, api: httpx.AsyncClient, document: Document
    ) -> None:
        await service.text("SM1", NumMedia="1", MediaUrl0="https://m/0")
        later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
        message = {"to": TENANT_PHONE, "message": "“Hi”", "metadata": {"case": "1"}, "send_at": later}
        first = (await api.post("/v1/sms/send", json=message)).json()["request_id"]
        failed = (await api.post("/v1/sms/send", json=message)).json()["request_id"]
        await service.database.pool.execute(
            "UPDATE sms_messages SET delivery_status = 'failed', price_micros = 7900, price_currency = 'USD', "
            "error_code = '30003', error_message = 'gone' WHERE id = $1",
            UUID(failed),
        )
        await service.database.pool.execute(
            "INSERT INTO sms_send_attempts (message_id, number, provider, sender, reasons, outcome, latency_ms) VALUES "
            "($1, 1, 'twilio', '+15005550006', $2, 'refused', 5)",
            UUID(failed),
            '{"reasons": {"twilio": "chosen"}, "weights": {"twilio": 100}}',
        )
        one = "/v1/sms/{request_id}"
        for method, template, path, body, status in [
            ("post", "/v1/sms/send", "/v1/sms/send", message, 202),
            ("post", "/v1/sms/send", "/v1/sms/send", {}, 400),
            ("post", "/v1/sms/send/batch", "/v1/sms/send/batch", {"messages": [message, {}]}, 202),
            ("post", "/v1/sms/send/batch", "/v1/sms/send/batch", {"messages": []}, 400),
            ("post", "/v1/sms/preview", "/v1/sms/preview", {"message": "“Hi” 🙂"}, 200),
            ("get", "/v1/sms", "/v1/sms?limit=2", None, 200),
            ("get", "/v1/sms", "/v1/sms", None, 200),
            ("get", "/v1/sms", "/v1/sms?limit=0", None, 400),
            ("get", one, f"/v1/sms/{failed}", None, 200),
            ("get", one, f"/v1/sms/{new_id()}", None, 404),
            ("patch", one, f"/v1/sms/{first}", {"send_at": later}, 200),
            ("patch", one, f"/v1/sms/{failed}", {"send_at": later}, 409),
            ("post", f"{one}/cancel", f"/v1/sms/{first}/cancel", None, 200),
            ("post", f"{one}/cancel", f"/v1/sms/{failed}/cancel", None, 409),
            ("get", one, f"/v1/sms/{first}", None, 200),
            ("get", "/messages/{id}", f"/messages/{first}", None, 200),
            ("get", "/conversations/{phone_number}", f"/conversations/{TENANT_PHONE}", None, 200),
            ("post", f"{one}/retry", f"/v1/sms/{failed}/retry", None, 200),
            ("post", f"{one}/retry", f"/v1/sms/{failed}/retry", {"was_not_sent": True}, 409),
            ("post", "/sms/send", "/sms/send", {"to": TENANT_PHONE, "body": "Hi"}, 202),
            ("post", "/api/sms", "/api/sms", {"phone": TENANT_PHONE, "text": "Hi"}, 202),
            ("post", "/messages/send", "/messages/send", {}, 400),
        ]:
            response = (
                await api.request(method, path, json=body) if body is not None else await api.request(method, path)
            )
            assert response.status_code == status, (path, response.text)
            document.check(response.json(), document.response(method, template, status), path)

    async def test_checker_notices_what_is_not_documented(self, document: Document) -> None:
        schema = document.response("get", "/conversations", 200)
        for wrong in (
            {},
            {"conversations": [], "limit": "1", "next_cursor": None},
            {"conversations": [{}], "limit": 1},
        ):
            with pytest.raises(AssertionError):
                document.check(wrong, schema)

    async def test_every_route_documents_its_errors_with_the_envelope(self, document: Document) -> None:
        for operation, own_errors in {**HISTORY, **SENDING, **WEBHOOKS}.items():
            method, path = operation
            errors = own_errors if operation in WEBHOOKS else own_errors | REFUSALS
            documented = document.paths[path][method]["responses"]
            assert {int(status) for status in documented} == {202 if path in ACCEPTED else 200} | errors, operation
            for status in errors:
                schema = document.response(method, path, status)
                assert schema == {"$ref": "#/components/schemas/ErrorEnvelope"}
                assert documented[str(status)]["description"]

    async def test_parameters_and_access_are_described(self, document: Document) -> None:
        for operation in {**HISTORY, **SENDING}:
            method, path = operation
            described = document.paths[path][method]
            assert described["summary"]
            assert described["description"]
            assert described["security"] == [{"credentials": []}]
            assert document.security_schemes["credentials"]["scheme"] == "bearer"
            names = [parameter["name"] for parameter in described.get("parameters", ())]
            assert len(names) == len(set(names))
            for parameter in described.get("parameters", ()):
                assert parameter["description"], parameter["name"]
                assert parameter["schema"]

    async def test_every_parameter_of_a_page_is_there(self, document: Document) -> None:
        def names(path: str) -> set[str]:
            return {each["name"] for each in document.paths[path]["get"]["parameters"]}

        assert names("/conversations/{phone_number}") == {"phone_number", "limit", "page", "offset", "cursor"}
        assert names("/conversations") == set(
            "limit cursor tenant_id language workflow_type workflow_id conversation_status since unknown_tenant".split()
        )
        assert names("/v1/sms") == set(
            "limit cursor status provider direction client_id is_test number since until".split()
        )

    async def test_every_field_is_described_and_has_an_example_or_a_closed_type(self, document: Document) -> None:
        for name, schema in document.schemas.items():
            if "properties" not in schema or name.startswith("Error"):
                continue
            for field, shape in schema["properties"].items():
                variants = [document.resolve(each) for each in shape.get("anyOf", [shape])]
                is_closed = all(
                    "enum" in each or "format" in each or each.get("type") in ("array", "null") for each in variants
                )
                assert shape.get("description"), f"{name}.{field}"
                assert is_closed or shape.get("examples"), f"{name}.{field}"

    async def test_examples_fit_their_own_schemas(self, document: Document) -> None:
        for name, schema in document.schemas.items():
            for field, shape in schema.get("properties", {}).items():
                for example in shape.get("examples", ()):
                    document.check(example, shape, f"{name}.{field}")

    async def test_nothing_of_the_frameworks_own_errors_is_left(self, api: httpx.AsyncClient) -> None:
        text = (await api.get("/openapi.json")).text
        assert "HTTPValidationError" not in text
        assert "#/components/schemas/ValidationError" not in text
        references = {each.split('"')[0] for each in text.split("#/components/schemas/")[1:]}
        assert references <= set(orjson.loads(text)["components"]["schemas"])

    async def test_documentation_pages_answer(self, api: httpx.AsyncClient) -> None:
        for path in ["/docs", "/redoc"]:
            response = await api.get(path)
            assert (response.status_code, response.headers["content-type"]) == (200, "text/html; charset=utf-8")
            assert "/openapi.json" in response.text

    async def test_message_schema_names_every_field_of_the_page(self, document: Document) -> None:
        assert set(document.schemas[MessageSummary.__name__]["properties"]) == MESSAGE_FIELDS
        assert set(document.schemas[ConversationSummary.__name__]["properties"]) == SUMMARY_FIELDS
