"""Older callers: each path with the field names it has always had."""

from uuid import UUID

import httpx
import pytest

from sms_foundation.core.config import Settings
from sms_foundation.core.db import Database, DatabaseUrl
from tests.support.access import bearer, make_client, make_key
from tests.support.api import Json, refused
from tests.support.service import TENANT_PHONE, Service, make_settings, running_service
from tests.support.twilio_account import refusal, running_account

PATHS = ["/sms/send", "/api/sms", "/messages/send"]
SPELLINGS = [
    ("to", "body"),
    ("phone_number", "message"),
    ("phone", "text"),
    ("to", "message"),
    ("phone_number", "text"),
]


@pytest.fixture
def settings() -> Settings:
    """Nothing is sent, unless a test says so."""
    return make_settings(work_in_process=False)


@pytest.fixture
def api(service: Service) -> httpx.AsyncClient:
    return service.client


def accepted(response: httpx.Response) -> Json:
    assert response.status_code == 202, response.text
    answer: Json = response.json()
    assert set(answer) == {"id", "message_id", "twilio_sid", "conversation_id"}
    assert answer["id"] == answer["message_id"]
    return answer


async def contents(database: Database) -> list[tuple[str, str]]:
    rows = await database.pool.fetch("SELECT to_number, message_content FROM sms_messages ORDER BY id")
    return [(row[0], row[1]) for row in rows]


class TestSend:
    async def test_every_spelling_is_accepted(self, api: httpx.AsyncClient, database: Database) -> None:
        for path in PATHS:
            for to, text in SPELLINGS:
                answer = accepted(await api.post(path, json={to: "(415) 555-0123", text: f"{to} {text}"}))
                assert answer["twilio_sid"] is None
                conversation = await service_conversation(api)
                assert answer["conversation_id"] == conversation["id"]
                assert answer["id"] == conversation["messages"][0]["id"]
        assert await contents(database) == [(TENANT_PHONE, f"{to} {text}") for to, text in SPELLINGS] * len(PATHS)

    async def test_empty_text_and_bad_number_are_named_at_once_as_they_were_given(
        self, api: httpx.AsyncClient, database: Database
    ) -> None:
        for path in PATHS:
            for to, text in SPELLINGS:
                response = await api.post(path, json={to: "nobody", text: " \n"})
                refused(response, 400, "sms.validation_error", to, text)
                refused(await api.post(path, json={to: TENANT_PHONE, text: ""}), 400, "sms.validation_error", text)
                refused(await api.post(path, json={to: "12", text: "Hi"}), 400, "sms.validation_error", to)
                refused(await api.post(path, json={to: None, text: 5}), 400, "sms.validation_error", to, text)
                refused(
                    await api.post(path, json={to: TENANT_PHONE, text: "x" * 1601}), 400, "sms.validation_error", text
                )
            refused(await api.post(path, json={}), 400, "sms.validation_error", "to", "body")
            refused(await api.post(path, content=b"{"), 422, "sms.malformed_request")
            refused(await api.post(path, content=b" " * 2**20), 413, "sms.payload_too_large")
        assert await contents(database) == []

    async def test_conversation_must_be_the_recipients(self, api: httpx.AsyncClient) -> None:
        for path in PATHS:
            hello = {"to": TENANT_PHONE, "body": "Hi"}
            conversation = accepted(await api.post(path, json=hello))["conversation_id"]
            again = accepted(await api.post(path, json=hello | {"conversation_id": conversation}))
            assert again["conversation_id"] == conversation
            accepted(await api.post(path, json=hello | {"conversation_id": None}))
            for wrong in ("7", 7, "01a1f942-d8ca-72d7-8729-30bcf12788d0"):
                response = await api.post(path, json=hello | {"conversation_id": wrong})
                refused(response, 400, "sms.validation_error", "conversation_id")
            other = {"to": "+14155550199", "body": "Hi", "conversation_id": conversation}
            refused(await api.post(path, json=other), 400, "sms.validation_error", "conversation_id")

    async def test_unknown_fields_are_ignored(self, api: httpx.AsyncClient, database: Database) -> None:
        for path in PATHS:
            body = {"to": TENANT_PHONE, "body": "Hi", "from": "x", "priority": "no such", "send_at": 5}
            accepted(await api.post(path, json=body))
        assert await contents(database) == [(TENANT_PHONE, "Hi")] * len(PATHS)


class TestSameUseCase:
    async def test_keys_and_clients_are_known_here_too(self, api: httpx.AsyncClient, database: Database) -> None:
        hello = {"to": TENANT_PHONE, "body": "Hi"}
        rent = bearer(await make_key(database, await make_client(database, "rent")))
        headers = {"Idempotency-Key": "k", **rent}
        first = accepted(await api.post("/sms/send", json=hello, headers=headers))
        again = await api.post("/api/sms", json={"phone": TENANT_PHONE, "text": "Hi"}, headers=headers)
        assert accepted(again) == first
        assert again.headers["x-idempotent-replayed"] == "true"
        other = await api.post("/sms/send", json=hello | {"body": "Other"}, headers=headers)
        refused(other, 422, "sms.idempotency_conflict")
        wrong = await api.post("/sms/send", json={"to": "x", "body": "Hi"}, headers={"Idempotency-Key": "?"})
        assert {each["field"] for each in refused(wrong, 400, "sms.validation_error")["details"]["fields"]} == {
            "to",
            "Idempotency-Key",
        }
        assert await database.pool.fetchval("SELECT client_id FROM sms_messages") == "rent"

    async def test_caller_may_wait_for_the_provider_and_read_the_message(
        self, database_url: DatabaseUrl, database: Database
    ) -> None:
        hello = {"phone": TENANT_PHONE, "text": "Hi"}
        async with (
            running_account() as account,
            running_service(make_settings(providers=account.providers), database_url, database) as service,
        ):
            answer = accepted(await service.client.post("/api/sms", json=hello, headers={"Prefer": "wait=10"}))
            assert answer["twilio_sid"] == f"SM{1:032d}"
            for name in (answer["id"], answer["twilio_sid"]):
                shown = (await service.client.get(f"/messages/{name}")).json()
                assert (shown["id"], shown["content"], shown["direction"]) == (answer["id"], "Hi", "outbound")
                assert shown["twilio_sid"] == answer["twilio_sid"]
            account.answers.append(refusal(21211, 400))
            refused(
                await service.client.post("/sms/send", json=hello, headers={"Prefer": "wait=10"}), 400, "sms.refused"
            )

    async def test_same_message_as_the_new_path_makes(self, api: httpx.AsyncClient, database: Database) -> None:
        accepted(await api.post("/sms/send", json={"to": TENANT_PHONE, "body": "Hi"}))
        await api.post("/v1/sms/send", json={"to": TENANT_PHONE, "message": "Hi"})
        old, new = await database.pool.fetch(
            "SELECT delivery_status, priority, client_id, request_digest, content_retention, num_segments, encoding, "
            "expires_at - created_at > interval '23 hours' FROM sms_messages ORDER BY id"
        )
        assert old == new


async def service_conversation(api: httpx.AsyncClient) -> Json:
    page: Json = (await api.get(f"/conversations/{TENANT_PHONE}")).json()
    assert UUID(page["id"])
    return page
