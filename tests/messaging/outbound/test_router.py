"""The sending API over HTTP: what is accepted, what is refused and how it is said, and what hostile bytes come to."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import orjson
import pytest
import structlog
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from sms_foundation.auth.keys.format import generate_key
from sms_foundation.core.config import LOCAL_PHONE_NUMBER, Settings
from sms_foundation.core.db import Database, DatabaseUrl, parse_database_url
from sms_foundation.core.segments import count_segments
from sms_foundation.messaging.outbound.schemas import BatchAnswer, PreviewAnswer, SendAnswer
from tests.support.access import bearer, make_client, make_key
from tests.support.api import Json, refused
from tests.support.service import TENANT_PHONE, Service, make_settings, running_service
from tests.support.tcp_gate import TcpGate
from tests.support.twilio_account import TwilioAccount, refusal, running_account

HELLO: Json = {"to": TENANT_PHONE, "message": "Hello"}
REFUSED_JSON = [
    b"",
    b"{",
    b"\xff\xfe",
    b"Hello",
    b"[" * 100_000,
    b'{"to": "\xff"}',
    b"\xef\xbb\xbf{}",
    b'{"to": "\\ud8"}',
]


@pytest.fixture
def settings() -> Settings:
    """Nothing is sent, unless a test says so: what is read is what was accepted."""
    return make_settings(work_in_process=False)


@pytest.fixture
def api(service: Service) -> httpx.AsyncClient:
    return service.client


@pytest.fixture
async def account() -> AsyncIterator[TwilioAccount]:
    async with running_account() as account:
        yield account


@pytest.fixture
async def sending(account: TwilioAccount, database_url: DatabaseUrl, database: Database) -> AsyncIterator[Service]:
    """A service that sends, through `account`."""
    settings = make_settings(providers=account.providers)
    async with running_service(settings, database_url, database) as service:
        yield service


def accepted(response: httpx.Response) -> Json:
    assert response.status_code == 202, response.text
    assert response.headers["content-type"] == "application/json"
    SendAnswer.model_validate_json(response.content, strict=True, extra="forbid")
    return dict(response.json())


async def count(database: Database) -> int:
    return int(await database.pool.fetchval("SELECT count(*) FROM sms_messages"))


async def headers_of(database: Database, client: str) -> dict[str, str]:
    """The credentials of a new client with this name."""
    return bearer(await make_key(database, await make_client(database, client)))


async def send(api: httpx.AsyncClient, headers: dict[str, str] | None = None, **changes: object) -> httpx.Response:
    return await api.post("/v1/sms/send", json=HELLO | changes, headers=headers)


class TestSend:
    async def test_answers_with_all_that_is_known_by_now(self, api: httpx.AsyncClient, database: Database) -> None:
        answer = accepted(await send(api, message="¡Hola! 🙂"))
        row = await database.pool.fetchrow("SELECT * FROM sms_messages")
        assert answer == {
            "request_id": str(row["id"]),
            "id": str(row["id"]),
            "status": "accepted",
            "created_at": row["created_at"].isoformat().replace("+00:00", "Z"),
            "accepted_at": row["created_at"].isoformat().replace("+00:00", "Z"),
            "conversation_id": str(row["conversation_id"]),
            "twilio_sid": None,
            "num_segments": 1,
            "encoding": "UCS-2",
            "is_test": False,
        }
        assert (row["message_content"], row["client_id"], row["delivery_status"]) == (
            "¡Hola! 🙂",
            "local",
            "accepted",
        )

    async def test_every_field_is_taken_over(self, api: httpx.AsyncClient, database: Database) -> None:
        conversation_id = accepted(await send(api))["conversation_id"]
        send_at = (datetime.now(UTC) + timedelta(hours=1)).replace(microsecond=0)
        body = {
            "to": "(415) 555-0123",
            "body": "Hi",
            "sender_id": LOCAL_PHONE_NUMBER,
            "metadata": {"case": "4711"},
            "idempotency_key": "k",
            "conversation_id": conversation_id,
            "send_at": (send_at.astimezone(datetime.fromisoformat("2026-01-01T00:00:00-05:00").tzinfo)).isoformat(),
            "validity_s": 60,
            "priority": "urgent",
            "media_urls": ["https://example.com/1.png"],
            "provider": "twilio",
            "content_retention": "hash",
        }
        message = (await api.post("/v1/sms/send", json=body)).json()["request_id"]
        shown = (await api.get(f"/v1/sms/{message}")).json()
        expected = {
            "to_number": TENANT_PHONE,
            "message": "Hi",
            "from_number": LOCAL_PHONE_NUMBER,
            "metadata": {"case": "4711"},
            "conversation_id": conversation_id,
            "send_at": send_at.isoformat().replace("+00:00", "Z"),
            "expires_at": (send_at + timedelta(seconds=60)).isoformat().replace("+00:00", "Z"),
            "priority": "urgent",
            "media_urls": ["https://example.com/1.png"],
        }
        assert {name: shown[name] for name in expected} == expected
        row = await database.pool.fetchrow("SELECT * FROM sms_messages WHERE idempotency_key = 'k'")
        assert (row["requested_provider"], row["content_retention"]) == ("twilio", "hash")

    async def test_everything_wrong_in_body_and_headers_is_named_in_one_400(
        self, api: httpx.AsyncClient, database: Database
    ) -> None:
        response = await api.post(
            "/v1/sms/send",
            json={
                "to": "nobody",
                "body": "",
                "priority": "high",
                "colour": "red",
                "expires_at": "2020-01-01T00:00:00Z",
            },
            headers={"Idempotency-Key": "not a key"},
        )
        error = refused(response, 400, "sms.validation_error")
        named = {each["field"]: each["message"] for each in error["details"]["fields"]}
        assert set(named) == {"to", "body", "priority", "colour", "expires_at", "Idempotency-Key"}
        assert named["to"] == "is not a phone number; write it as +14155550123"
        assert all(field in error["message"] for field in named)
        assert await count(database) == 0

    async def test_what_is_no_json_is_422(self, api: httpx.AsyncClient) -> None:
        for raw in REFUSED_JSON:
            for path in ("/v1/sms/send", "/v1/sms/send/batch", "/v1/sms/preview"):
                refused(await api.post(path, content=raw), 422, "sms.malformed_request")

    async def test_half_a_surrogate_pair_is_valid_json_and_a_wrong_text(self, api: httpx.AsyncClient) -> None:
        raw = b'{"to": "+14155550123", "message": "Hi \\ud83d"}'
        refused(await api.post("/v1/sms/send", content=raw), 400, "sms.validation_error", "message")

    async def test_body_larger_than_any_message_is_413(self, api: httpx.AsyncClient, database: Database) -> None:
        longest = {
            **HELLO,
            "message": "🙂" * 1600,
            "metadata": {f"{number:064d}": "ß" * 500 for number in range(50)},
            "media_urls": [f"https://{number}.example.com/{'a' * 1900}" for number in range(10)],
        }
        accepted(await api.post("/v1/sms/send", content=json.dumps(longest)))
        refused(await api.post("/v1/sms/send", content=b" " * 2**20), 413, "sms.payload_too_large")
        assert await count(database) == 1

    async def test_conversation_must_be_the_recipients(self, api: httpx.AsyncClient) -> None:
        conversation = accepted(await send(api))["conversation_id"]
        accepted(await send(api, conversation_id=conversation))
        other = await send(api, to="+14155550199", conversation_id=conversation)
        refused(other, 400, "sms.validation_error", "conversation_id")
        unknown = await send(api, conversation_id="01a1f942-d8ca-72d7-8729-30bcf12788d0")
        refused(unknown, 400, "sms.validation_error", "conversation_id")

    async def test_conversation_and_key_that_do_not_fit_are_named_together(self, api: httpx.AsyncClient) -> None:
        response = await send(
            api,
            {"Idempotency-Key": "other"},
            idempotency_key="k",
            conversation_id="01a1f942-d8ca-72d7-8729-30bcf12788d0",
        )
        refused(response, 400, "sms.validation_error", "idempotency_key", "conversation_id")

    async def test_database_that_is_gone_is_503_and_nothing_is_accepted(
        self, settings: Settings, database_url: DatabaseUrl, database: Database
    ) -> None:
        async with TcpGate(database_url) as gate:
            await gate.open()
            changed = settings.model_copy(update={"database_connect_timeout_s": 1.0, "webhook_timeout_s": 2.0})
            async with running_service(changed, parse_database_url(gate.url), database) as service:
                accepted(await send(service.client))
                await gate.close()
                refused(await send(service.client), 503, "sms.unavailable")
                batch = await service.client.post("/v1/sms/send/batch", json={"messages": [HELLO] * 3})
                refused(batch, 503, "sms.unavailable")
                await gate.open()
        assert await count(database) == 1

    async def test_poisoned_message_is_500_and_harms_nobody(self, api: httpx.AsyncClient, database: Database) -> None:
        await database.pool.execute("ALTER TABLE sms_messages ADD CHECK (message_content <> 'poison')")
        contents = [*(f"good {number}" for number in range(20)), "poison"]
        with structlog.testing.capture_logs():
            answers = await asyncio.gather(*(send(api, message=content) for content in contents))
        assert [answer.status_code for answer in answers] == [202] * 20 + [500]
        refused(answers[-1], 500, "sms.internal_error")
        assert await count(database) == 20

    async def test_smart_encoding_is_a_setting(self, database_url: DatabaseUrl, database: Database) -> None:
        settings = make_settings(work_in_process=False, smart_encoding=True)
        async with running_service(settings, database_url, database) as service:
            answer = accepted(await send(service.client, message="“Hi” – there"))
        assert answer["encoding"] == "GSM-7"
        assert await database.pool.fetchval("SELECT message_content FROM sms_messages") == '"Hi" - there'

    async def test_default_region_is_a_setting(self, database_url: DatabaseUrl, database: Database) -> None:
        settings = make_settings(work_in_process=False, default_region="GB")
        async with running_service(settings, database_url, database) as service:
            accepted(await send(service.client, to="020 7946 0018"))
        assert await database.pool.fetchval("SELECT to_number FROM sms_messages") == "+442079460018"

    async def test_short_codes_where_a_provider_sends_to_them(self, sending: Service, api: httpx.AsyncClient) -> None:
        assert accepted(await send(api, to="12345"))["status"] == "accepted"  # the simulator's providers do
        refused(await send(sending.client, to="12345"), 400, "sms.validation_error", "to")

    async def test_conversation_shows_what_went_out_between_what_came_in(
        self, service: Service, api: httpx.AsyncClient
    ) -> None:
        await service.text("SM1", "one")
        sent = accepted(await send(api, message="two"))
        await service.text("SM2", "three")
        page = await service.conversation()
        shown: Any = page["messages"]
        assert [(each["direction"], each["content"]) for each in shown] == [
            ("inbound", "three"),
            ("outbound", "two"),
            ("inbound", "one"),
        ]
        assert (page["id"], page["total"]) == (sent["conversation_id"], 3)
        assert (shown[1]["id"], shown[1]["delivery_status"], shown[1]["twilio_sid"]) == (sent["id"], "accepted", None)
        seqs = await service.database.pool.fetch("SELECT conversation_seq FROM sms_messages ORDER BY 1")
        assert [row[0] for row in seqs] == [1, 2, 3]


class TestAccess:
    @pytest.fixture
    def settings(self) -> Settings:
        return make_settings(work_in_process=False, open_access=False)

    async def test_every_route_asks_for_credentials(self, api: httpx.AsyncClient, database: Database) -> None:
        id_ = "01a1f942-d8ca-72d7-8729-30bcf12788d0"
        for method, path in [
            ("POST", "/v1/sms/send"),
            ("POST", "/v1/sms/send/batch"),
            ("POST", "/v1/sms/preview"),
            ("GET", "/v1/sms"),
            ("GET", f"/v1/sms/{id_}"),
            ("PATCH", f"/v1/sms/{id_}"),
            ("POST", f"/v1/sms/{id_}/cancel"),
            ("POST", f"/v1/sms/{id_}/retry"),
            ("POST", "/sms/send"),
            ("POST", "/api/sms"),
            ("POST", "/messages/send"),
        ]:
            for headers in ({}, {"Authorization": "Bearer wrong"}, bearer(generate_key(is_test=False).text)):
                response = await api.request(method, path, json=HELLO, headers=headers)
                refused(response, 401, "sms.unauthorized")
        assert await count(database) == 0
        accepted(await send(api, await headers_of(database, "rent")))


class TestIdempotency:
    async def test_repetition_returns_the_first_response_and_says_so(
        self, api: httpx.AsyncClient, database: Database
    ) -> None:
        for key in ({"headers": {"Idempotency-Key": "in-header"}}, {"idempotency_key": "in-body"}):
            first, again = await send(api, **key), await send(api, **key)  # type: ignore[arg-type]
            assert "x-idempotent-replayed" not in first.headers
            assert again.headers["x-idempotent-replayed"] == "true"
            assert accepted(first) == accepted(again)
        assert await count(database) == 2

    async def test_header_and_body_are_the_same_key(self, api: httpx.AsyncClient, database: Database) -> None:
        first = accepted(await send(api, {"Idempotency-Key": "k"}))
        assert accepted(await send(api, {"Idempotency-Key": "k"}, idempotency_key="k")) == first
        assert accepted(await send(api, idempotency_key="k")) == first
        refused(
            await send(api, {"Idempotency-Key": "j"}, idempotency_key="k"),
            400,
            "sms.validation_error",
            "idempotency_key",
        )
        assert await count(database) == 1

    async def test_another_body_is_a_conflict(self, api: httpx.AsyncClient, database: Database) -> None:
        accepted(await send(api, idempotency_key="k"))
        for change in ({"message": "Other"}, {"to": "+14155550199"}, {"priority": "bulk"}):
            refused(await send(api, idempotency_key="k", **change), 422, "sms.idempotency_conflict")
        assert await count(database) == 1

    async def test_older_spellings_of_the_same_message_are_the_same(self, api: httpx.AsyncClient) -> None:
        key = {"Idempotency-Key": "k"}
        first = accepted(await send(api, key))
        old = await api.post("/sms/send", json={"to": TENANT_PHONE, "body": "Hello"}, headers=key)
        assert (old.json()["id"], old.headers["x-idempotent-replayed"]) == (first["id"], "true")

    async def test_ten_at_once_create_one_message(
        self, api: httpx.AsyncClient, settings: Settings, database_url: DatabaseUrl, database: Database
    ) -> None:
        async with running_service(settings, database_url, database) as second:
            answers = await asyncio.gather(
                *(send(client, idempotency_key="k") for client in (api, second.client) for _ in range(5))
            )
        assert len({orjson.dumps(accepted(answer)) for answer in answers}) == 1
        assert sorted("x-idempotent-replayed" in answer.headers for answer in answers) == [False] + [True] * 9
        assert await count(database) == 1

    async def test_keys_are_a_clients_own(self, api: httpx.AsyncClient, database: Database) -> None:
        rent, maintenance = [await headers_of(database, client) for client in ("rent", "maintenance")]
        for client in ({}, rent, maintenance):
            assert "x-idempotent-replayed" not in (await send(api, client, idempotency_key="k")).headers
        assert "x-idempotent-replayed" in (await send(api, rent, idempotency_key="k")).headers
        clients = await database.pool.fetch("SELECT client_id FROM sms_messages ORDER BY 1")
        assert [row[0] for row in clients] == ["local", "maintenance", "rent"]

    async def test_repetition_after_the_message_went_out_sends_nothing(
        self, sending: Service, account: TwilioAccount
    ) -> None:
        first = accepted(await send(sending.client, idempotency_key="k"))
        await sending.finish_work("send_message")
        again = await send(sending.client, idempotency_key="k")
        assert again.headers["x-idempotent-replayed"] == "true"
        assert accepted(again) == first  # though its provider counted two segments since
        assert (await sending.client.get(f"/v1/sms/{first['id']}")).json()["num_segments"] == 2
        assert len(account.sent) == 1

    async def test_repetition_that_comes_too_late_for_a_new_message_is_still_one(
        self, api: httpx.AsyncClient, database: Database
    ) -> None:
        body = HELLO | {"expires_at": (datetime.now(UTC) + timedelta(seconds=1)).isoformat()}
        keyed = {**body, "idempotency_key": "k"}
        first = accepted(await api.post("/v1/sms/send", json=keyed))
        batch = (await api.post("/v1/sms/send/batch", json={"messages": [{**body, "idempotency_key": "b"}]})).json()
        await asyncio.sleep(1.1)
        again = await api.post("/v1/sms/send", json=keyed)
        assert accepted(again) == first
        refused(await api.post("/v1/sms/send", json={**keyed, "message": "Other"}), 422, "sms.idempotency_conflict")
        refused(await api.post("/v1/sms/send", json=body), 400, "sms.validation_error", "expires_at")
        refused(
            await api.post("/v1/sms/send", json=body, headers={"Idempotency-Key": "new"}),
            400,
            "sms.validation_error",
            "expires_at",
        )
        late = [{**body, "idempotency_key": "b"}, body]
        results = (await api.post("/v1/sms/send/batch", json={"messages": late})).json()["results"]
        assert (results[0]["sms"], results[0]["is_replay"]) == (batch["results"][0]["sms"], True)
        assert results[1]["error"]["details"]["fields"][0]["field"] == "expires_at"
        assert await count(database) == 2


class TestBatch:
    async def batch(self, api: httpx.AsyncClient, *messages: object) -> Json:
        response = await api.post("/v1/sms/send/batch", json={"messages": messages})
        assert response.status_code == 202, response.text
        BatchAnswer.model_validate_json(response.content, strict=True, extra="forbid")
        return dict(response.json())

    async def test_a_thousand_have_a_result_each_in_order(self, api: httpx.AsyncClient, database: Database) -> None:
        wanted = [HELLO | {"message": str(number), "to": f"+1415555{number % 300:04d}"} for number in range(1000)]
        answer = await self.batch(api, *wanted)
        assert (answer["accepted"], answer["refused"]) == (1000, 0)
        contents = dict(await database.pool.fetch("SELECT id::text, message_content FROM sms_messages"))
        assert [contents[each["sms"]["id"]] for each in answer["results"]] == [each["message"] for each in wanted]
        assert [each["index"] for each in answer["results"]] == list(range(1000))
        assert await database.pool.fetchval("SELECT count(DISTINCT xmin::text) FROM sms_messages") == 1

    async def test_wrong_ones_are_told_and_harm_nobody(self, api: httpx.AsyncClient, database: Database) -> None:
        conversation = accepted(await send(api))["conversation_id"]
        answer = await self.batch(
            api,
            HELLO,
            {"to": "nobody", "message": "", "colour": "red"},
            None,
            5,
            "Hello",
            [],
            {},
            HELLO | {"conversation_id": "01a1f942-d8ca-72d7-8729-30bcf12788d0"},
            HELLO | {"conversation_id": conversation},
            HELLO | {"metadata": {"a": None}},
            HELLO,
        )
        assert (answer["accepted"], answer["refused"]) == (3, 8)
        assert [each["status"] for each in answer["results"]] == [202, *[400] * 7, 202, 400, 202]
        named = [
            each["error"] and [field["field"] for field in each["error"]["details"]["fields"]]
            for each in answer["results"]
        ]
        assert named[1] == ["to", "message", "colour"]
        assert named[6:8] == [["to", "message"], ["conversation_id"]]
        assert named[9] == ["metadata.a"]
        assert await count(database) == 4

    async def test_half_a_surrogate_pair_is_one_messages_mistake(
        self, api: httpx.AsyncClient, database: Database
    ) -> None:
        messages = [HELLO, HELLO | {"message": "\ud83d"}, HELLO | {"media_urls": ["https://\udc00"]}, HELLO]
        response = await api.post("/v1/sms/send/batch", content=json.dumps({"messages": messages}))
        assert [each["status"] for each in response.json()["results"]] == [202, 400, 400, 202]
        assert await count(database) == 2

    async def test_keys_repeated_inside_make_one_message(self, api: httpx.AsyncClient, database: Database) -> None:
        keyed = HELLO | {"idempotency_key": "k"}
        answer = await self.batch(api, keyed, keyed, keyed | {"message": "Other"}, HELLO)
        results = answer["results"]
        assert [each["status"] for each in results] == [202, 202, 422, 202]
        assert [each["is_replay"] for each in results] == [False, True, False, False]
        assert results[0]["sms"] == results[1]["sms"]
        assert results[2]["error"]["code"] == "sms.idempotency_conflict"
        again = await self.batch(api, keyed)
        assert (again["results"][0]["sms"], again["results"][0]["is_replay"]) == (results[0]["sms"], True)
        assert await count(database) == 2

    async def test_database_that_refuses_one_stores_none(self, api: httpx.AsyncClient, database: Database) -> None:
        await database.pool.execute("ALTER TABLE sms_messages ADD CHECK (message_content <> 'poison')")
        messages = [HELLO, HELLO | {"message": "poison"}]
        with structlog.testing.capture_logs():
            response = await api.post("/v1/sms/send/batch", json={"messages": messages})
        refused(response, 500, "sms.internal_error")
        assert await count(database) == 0

    async def test_one_to_a_thousand(self, api: httpx.AsyncClient, database: Database) -> None:
        wrong: object
        for wrong in ({}, {"messages": []}, {"messages": [HELLO] * 1001}, {"messages": HELLO}):
            refused(await api.post("/v1/sms/send/batch", json=wrong), 400, "sms.validation_error", "messages")
        assert await count(database) == 0

    async def test_key_for_all_of_them_makes_them_once(self, api: httpx.AsyncClient, database: Database) -> None:
        batch = {"messages": [HELLO, HELLO, {"to": "nobody", "message": "?"}]}
        first, again = [
            await api.post("/v1/sms/send/batch", json=batch, headers={"Idempotency-Key": "k"}) for _ in range(2)
        ]
        assert first.status_code == again.status_code == 202
        assert again.content == first.content
        assert again.headers["x-idempotent-replayed"] == "true"
        assert await count(database) == 2
        other = await api.post("/v1/sms/send/batch", json={"messages": [HELLO]}, headers={"Idempotency-Key": "k"})
        refused(other, 422, "sms.idempotency_conflict")
        assert await count(database) == 2

    async def test_client_is_that_of_the_request(self, api: httpx.AsyncClient, database: Database) -> None:
        rent = await headers_of(database, "rent")
        await api.post("/v1/sms/send/batch", json={"messages": [HELLO]}, headers=rent | {"X-Client-ID": "another"})
        assert await database.pool.fetchval("SELECT client_id FROM sms_messages") == "rent"

    async def test_all_of_them_are_sent_in_order(self, sending: Service, account: TwilioAccount) -> None:
        await self.batch(sending.client, *(HELLO | {"message": str(number)} for number in range(10)))
        await sending.finish_work("send_message")
        assert [form["Body"] for form in account.sent] == [str(number) for number in range(10)]


class TestPreferWait:
    async def test_waits_for_the_providers_id(self, sending: Service) -> None:
        response = await send(sending.client, {"Prefer": "wait=10"})
        answer = accepted(response)
        assert answer["twilio_sid"] == f"SM{1:032d}"
        assert (answer["status"], answer["num_segments"]) == ("sending", 2)
        assert response.headers["preference-applied"] == "wait=10"

    async def test_every_way_to_write_it(self, sending: Service) -> None:
        for header in ("respond-async, wait=10", "wait = 10", 'wait="10"', "WAIT=10; x=y"):
            assert accepted(await send(sending.client, {"Prefer": header}))["twilio_sid"] is not None

    async def test_anything_else_does_not_wait(self, api: httpx.AsyncClient) -> None:
        for header in ("", "wait", "wait=", "wait=soon", "wait=-1", "wait=0", "await=10", "xwait=9"):
            response = await send(api, {"Prefer": header})
            assert accepted(response)["twilio_sid"] is None
            assert "preference-applied" not in response.headers

    async def test_refusal_is_a_400_that_says_why(self, sending: Service, account: TwilioAccount) -> None:
        account.answers.append(refusal(21211, 400))
        error = refused(await send(sending.client, {"Prefer": "wait=10"}), 400, "sms.refused")
        assert error["details"] == {"category": "invalid_recipient", "status_code": 400, "provider_code": "21211"}

    async def test_repetition_of_a_refused_message_is_told_the_same(
        self, sending: Service, account: TwilioAccount
    ) -> None:
        account.answers.append(refusal(21211, 400))
        for _ in range(2):
            response = await send(sending.client, {"Prefer": "wait=10"}, idempotency_key="k")
            refused(response, 400, "sms.refused")
        assert len(account.sent) == 1

    async def test_exhausted_retries_are_a_502(
        self, sending: Service, account: TwilioAccount, database: Database
    ) -> None:
        """Five failures would take half a minute; they are written down as if they had been."""
        later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
        message = accepted(await send(sending.client, send_at=later, idempotency_key="k"))
        await database.pool.execute(
            "INSERT INTO sms_send_attempts (message_id, number, provider, sender, reasons, outcome) "
            "SELECT id, number, 'twilio', $1, $2, 'failed' FROM sms_messages, generate_series(1, 5) AS number",
            LOCAL_PHONE_NUMBER,
            '{"reasons": {}, "weights": {}}',
        )
        account.answers.append(refusal(20429, 429))
        await sending.client.patch(f"/v1/sms/{message['id']}", json={"send_at": "2020-01-01T00:00:00Z"})
        response = await send(sending.client, {"Prefer": "wait=10"}, send_at=later, idempotency_key="k")
        error = refused(response, 502, "sms.external_failed")
        assert error["details"] == {"category": "rate_limited", "status_code": 429, "provider_code": "20429"}

    async def test_time_that_is_over_is_an_ordinary_answer(self, sending: Service, account: TwilioAccount) -> None:
        account.is_open.clear()
        answer = accepted(await send(sending.client, {"Prefer": "wait=1"}))
        assert answer["twilio_sid"] is None
        assert answer["status"] in ("accepted", "sending")
        account.is_open.set()
        await sending.finish_work("send_message")
        assert len(account.sent) == 1


class TestPreview:
    async def test_shows_both_encodings_and_what_forces_the_dearer_one(
        self, api: httpx.AsyncClient, database: Database
    ) -> None:
        text = "“Hi” … “you”" + "x" * 80
        response = await api.post("/v1/sms/preview", json={"message": text})
        PreviewAnswer.model_validate_json(response.content, strict=True, extra="forbid")
        assert response.json() == {
            "encoding": "UCS-2",
            "num_segments": 2,
            "forcing_ucs2": [
                {"character": "“", "code_point": "U+201C", "count": 2, "replacement": '"'},
                {"character": "”", "code_point": "U+201D", "count": 2, "replacement": '"'},
                {"character": "…", "code_point": "U+2026", "count": 1, "replacement": "..."},
            ],
            "message_after": '"Hi" ... "you"' + "x" * 80,
            "encoding_after": "GSM-7",
            "num_segments_after": 1,
        }
        assert await count(database) == 0

    async def test_what_has_no_replacement_says_so(self, api: httpx.AsyncClient) -> None:
        shown = (await api.post("/v1/sms/preview", json={"body": "“🙂”"})).json()
        assert [each["replacement"] for each in shown["forcing_ucs2"]] == ['"', None, '"']
        assert (shown["message_after"], shown["encoding_after"]) == ("“🙂”", "UCS-2")

    @given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=1600))
    @hypothesis_settings(max_examples=50)
    async def test_any_text_is_counted_like_a_message(self, api: httpx.AsyncClient, text: str) -> None:
        shown = (await api.post("/v1/sms/preview", json={"message": text})).json()
        assert (shown["encoding"], shown["num_segments"]) == count_segments(text)
        assert (shown["encoding_after"], shown["num_segments_after"]) == count_segments(shown["message_after"])

    async def test_wrong_text_is_named(self, api: httpx.AsyncClient) -> None:
        wrong: object
        for wrong in ({}, {"message": None}, {"message": "x" * 1601}, {"message": 5}):
            refused(await api.post("/v1/sms/preview", json=wrong), 400, "sms.validation_error", "message")


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.sampled_from(
    "to message body sender_id metadata idempotency_key conversation_id send_at expires_at validity_s priority "
    "media_urls provider content_retention messages phone text phone_number was_not_sent".split()
)
BODIES = st.dictionaries(FIELDS, JSON_VALUES, max_size=6).map(
    lambda value: {"to": TENANT_PHONE, "message": "Hi"} | value
)
PATHS = [
    ("POST", "/v1/sms/send"),
    ("POST", "/v1/sms/send/batch"),
    ("POST", "/v1/sms/preview"),
    ("PATCH", "/v1/sms/01a1f942-d8ca-72d7-8729-30bcf12788d0"),
    ("POST", "/v1/sms/01a1f942-d8ca-72d7-8729-30bcf12788d0/retry"),
    ("POST", "/sms/send"),
    ("POST", "/api/sms"),
    ("POST", "/messages/send"),
]


class TestHostileRequests:
    @given(body=BODIES | st.lists(BODIES, max_size=3).map(lambda each: {"messages": each}) | JSON_VALUES)
    @hypothesis_settings(max_examples=60)
    async def test_no_json_is_a_500(self, api: httpx.AsyncClient, body: object) -> None:
        raw = json.dumps(body).encode()
        for method, path in PATHS:
            response = await api.request(method, path, content=raw, headers={"Content-Type": "application/json"})
            assert response.status_code in (200, 202, 400, 404, 422), (path, response.text)

    @given(raw=st.binary(max_size=60) | BODIES.map(lambda body: json.dumps(body).encode()[:-3]))
    @hypothesis_settings(max_examples=40)
    async def test_no_bytes_are_a_500(self, api: httpx.AsyncClient, raw: bytes) -> None:
        for method, path in PATHS:
            response = await api.request(method, path, content=raw, headers={"Content-Type": "application/json"})
            assert response.status_code in (200, 400, 404, 422), (path, response.text)

    async def test_no_header_is_a_500(self, api: httpx.AsyncClient) -> None:
        for value in (b"\xff", b"a\tb", b"", b"a" * 300, b"\xe2\x80\x9c"):
            response = await api.post("/v1/sms/send", json=HELLO, headers=[(b"Idempotency-Key", value)])
            refused(response, 400, "sms.validation_error", "Idempotency-Key")
            for name in (b"Authorization", b"X-API-Key"):
                refused(await api.post("/v1/sms/send", json=HELLO, headers=[(name, value)]), 401, "sms.unauthorized")
            accepted(await api.post("/v1/sms/send", json=HELLO, headers=[(b"Prefer", value)]))


class TestLogs:
    async def test_hold_no_text_and_no_number(
        self, sending: Service, account: TwilioAccount, database: Database, capsys: pytest.CaptureFixture[str]
    ) -> None:
        await database.pool.execute("ALTER TABLE sms_messages ADD CHECK (message_content <> 'Zanzibar poison')")
        account.answers.append(refusal(21211, 400))
        capsys.readouterr()
        with structlog.testing.capture_logs() as logs:
            api = sending.client
            await send(api, {"Prefer": "wait=10"}, message="Zanzibar one", metadata={"Zanzibar": "1"})
            await send(api, {"Prefer": "wait=10"}, message="Zanzibar two")
            await send(api, message="Zanzibar poison")
            await send(api, message="Zanzibar\x00", to="14155550123x")
            await api.post("/v1/sms/send/batch", json={"messages": [HELLO | {"message": "Zanzibar three"}]})
            await api.post("/sms/send", json={"to": TENANT_PHONE, "body": "Zanzibar four"})
            await api.get("/v1/sms", params={"number": TENANT_PHONE})
            await sending.finish_work("send_message")
        assert {each.get("route") for each in logs} >= {"/v1/sms/send", "/v1/sms/send/batch", "/v1/sms", "/sms/send"}
        routed = [each for each in logs if each.get("route") == "/v1/sms/send"]
        assert len({each["message_id"] for each in routed if "message_id" in each}) == 2
        written = repr([{key: value for key, value in each.items() if key != "exc_info"} for each in logs])
        assert "Zanzibar" not in written
        assert "4155550123" not in written
