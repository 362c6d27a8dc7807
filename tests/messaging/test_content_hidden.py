"""What messages say, and whole numbers, are for those who may read content; the rest is for all who may read."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from sms_foundation.access_rules import RULES
from sms_foundation.auth.permissions import BUILT_IN_ROLES, Permission
from sms_foundation.core.config import LOCAL_PHONE_NUMBER, Settings
from sms_foundation.core.db import Database
from sms_foundation.core.ids import new_id
from tests.support.access import bearer, make_client, make_key
from tests.support.api import Document, Json, refused
from tests.support.service import Service, make_settings

SENDER, RECIPIENT = "+14155550123", "+14155550188"
TEXT, REPLY, QUOTED, LABEL = "No hay agua", "The plumber comes", "cannot deliver: blocked words", "case-4711"
MEDIA = "https://media.example.com/ME1"
HIDDEN = [TEXT, REPLY, QUOTED, MEDIA, LABEL, SENDER[1:], RECIPIENT[1:], LOCAL_PHONE_NUMBER[1:]]


@pytest.fixture
def settings() -> Settings:
    """Everybody needs a key, and nothing happens in the background."""
    return make_settings(work_in_process=False, open_access=False)


@dataclass(frozen=True)
class Callers:
    """Headers of callers with different permissions."""

    viewer: dict[str, str]
    operator: dict[str, str]
    confined: dict[str, str]
    """A key of an operator that is confined to messages:read."""


@dataclass(frozen=True)
class Stored:
    """What there is to be read."""

    inbound: str
    outbound: str


@pytest.fixture
async def callers(database: Database) -> Callers:
    viewer = await make_client(database, "viewer", roles=["viewer"])
    operator = await make_client(database, "operator", roles=["operator"])
    return Callers(
        bearer(await make_key(database, viewer)),
        bearer(await make_key(database, operator)),
        bearer(await make_key(database, operator, scopes=["messages:read"])),
    )


@pytest.fixture
async def stored(service: Service, callers: Callers, database: Database) -> Stored:
    """A text with a picture and one sent, each with a status that quotes it, and an attempt that a provider refused."""
    await service.text("SM1", TEXT, sender=SENDER, NumMedia="1", MediaUrl0=MEDIA, MediaContentType0="image/jpeg")
    sent = await service.client.post(
        "/v1/sms/send",
        json={"to": RECIPIENT, "message": REPLY, "media_urls": [MEDIA], "metadata": {"case": LABEL}},
        headers=callers.operator,
    )
    outbound = sent.json()["request_id"]
    await database.pool.execute(
        "UPDATE sms_messages SET provider = 'twilio', provider_message_id = 'SM2', delivery_status = 'sent', "
        "from_number = $2 WHERE id = $1",
        outbound,
        LOCAL_PHONE_NUMBER,
    )
    await database.pool.execute(
        "INSERT INTO sms_send_attempts (message_id, number, provider, sender, reasons, outcome, error_kind, "
        "error_code, error_message, started_at, finished_at) "
        'VALUES ($1, 1, \'twilio\', $2, \'{"reasons": {"twilio": "chosen"}, "weights": {"twilio": 100}}\', '
        "'refused', 'content', '30007', $3, now(), now())",
        outbound,
        LOCAL_PHONE_NUMBER,
        QUOTED,
    )
    for sid in ("SM1", "SM2"):
        await service.status(sid, "undelivered", ErrorCode="30007", ErrorMessage=QUOTED, To=RECIPIENT)
    inbound = await database.pool.fetchval("SELECT id FROM sms_messages WHERE direction = 'inbound'")
    return Stored(str(inbound), outbound)


@pytest.fixture
async def document(service: Service) -> Document:
    return Document((await service.client.get("/openapi.json")).json())


def answers_of(stored: Stored) -> dict[str, list[str]]:
    """Requests for every route that shows something to those who may read messages, by its template."""
    return {
        "/v1/sms": ["/v1/sms", f"/v1/sms?number={SENDER[1:]}", "/v1/sms?direction=outbound&limit=1"],
        "/v1/sms/{request_id}": [f"/v1/sms/{stored.inbound}", f"/v1/sms/{stored.outbound}"],
        "/conversations": ["/conversations", "/conversations?limit=1"],
        "/conversations/{phone_number}": [f"/conversations/{SENDER}", f"/conversations/{RECIPIENT}?limit=1"],
        "/messages/{id}": ["/messages/SM1", "/messages/SM2", f"/messages/{stored.outbound}"],
        "/v1/number-rules": ["/v1/number-rules"],
    }


def values_of(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every value of a JSON document with the name it has."""
    if isinstance(value, dict):
        for key, each in value.items():
            yield from values_of(each, key)
    elif isinstance(value, list):
        for each in value:
            yield from values_of(each, name)
    else:
        yield name, value


async def read(client: httpx.AsyncClient, path: str, headers: dict[str, str]) -> httpx.Response:
    response = await client.get(path, headers=headers)
    assert response.status_code == 200, response.text
    return response


class TestHidden:
    @pytest.mark.parametrize("who", ["viewer", "confined"])
    async def test_no_answer_holds_any_of_it(
        self, service: Service, callers: Callers, stored: Stored, database: Database, who: str
    ) -> None:
        await database.pool.execute(
            "INSERT INTO auth_number_rules (id, prefix, is_allowed, created_by) VALUES ($1, $2, true, 'tests')",
            new_id(),
            RECIPIENT,
        )
        headers = getattr(callers, who)
        for paths in answers_of(stored).values():
            for path in paths:
                if who == "confined" and path.startswith("/v1/number-rules"):
                    continue
                response = await read(service.client, path, headers)
                assert [each for each in HIDDEN if each in response.text] == [], path

    async def test_every_route_a_viewer_may_read_is_among_those(self, stored: Stored) -> None:
        readable = {
            path
            for (method, path), rule in RULES.items()
            if method == "GET" and isinstance(rule, Permission) and rule in BUILT_IN_ROLES["viewer"]
        }
        assert readable == set(answers_of(stored))

    async def test_numbers_keep_their_last_four_digits_and_the_rest_says_what_happened(
        self, service: Service, callers: Callers, stored: Stored
    ) -> None:
        page: Json = (await read(service.client, f"/conversations/{SENDER}", callers.viewer)).json()
        assert page["content_hidden"] is True
        assert page["phone_number_canonical"] == page["phone_number_original"] == "***0123"
        [message] = page["messages"]
        assert (message["from_number"], message["to_number"]) == ("***0123", "***" + LOCAL_PHONE_NUMBER[-4:])
        assert message["message_content"] is message["content"] is message["error_message"] is None
        assert message["media"] == []
        assert (message["twilio_sid"], message["error_code"]) == ("SM1", "30007")

    async def test_a_message_keeps_its_history_without_the_providers_words(
        self, service: Service, callers: Callers, stored: Stored
    ) -> None:
        shown: Json = (await read(service.client, f"/v1/sms/{stored.outbound}", callers.viewer)).json()
        assert shown["content_hidden"] is True
        assert (shown["message"], shown["media_urls"]) == (None, [])
        assert shown["metadata"] is None
        [attempt] = shown["attempts"]
        assert (attempt["sender"], attempt["error_code"], attempt["error_message"]) == (
            "***" + LOCAL_PHONE_NUMBER[-4:],
            "30007",
            None,
        )
        assert attempt["reasons"] == {"twilio": "chosen"}
        assert [each["event_status"] for each in shown["events"]] == ["accepted", "undelivered"]
        detail: Json = (await read(service.client, "/messages/SM2", callers.viewer)).json()
        assert detail["raw_webhook_data"] is None
        assert [each["raw_webhook_data"] for each in detail["status_events"]] == [None]

    async def test_number_in_path_or_filter_finds_the_same_as_for_everybody(
        self, service: Service, callers: Callers, stored: Stored
    ) -> None:
        for path in (f"/conversations/{SENDER}", f"/v1/sms?number={SENDER[1:]}"):
            ids = [
                [value for name, value in values_of((await read(service.client, path, each)).json()) if name == "id"]
                for each in (callers.viewer, callers.operator)
            ]
            assert ids[0] == ids[1]

    async def test_changes_are_answered_without_it_as_well(
        self, service: Service, stored: Stored, database: Database
    ) -> None:
        client = await make_client(database, "dispatch", roles=[])
        await database.pool.execute(
            "INSERT INTO auth_roles (name, permissions) VALUES ('mover', $1)",
            ["messages:control", "conversations:write"],
        )
        await database.pool.execute("UPDATE auth_clients SET roles = '{mover}' WHERE id = $1", client)
        headers = bearer(await make_key(database, client))
        await database.pool.execute(
            "UPDATE sms_messages SET delivery_status = 'accepted', provider_message_id = NULL WHERE id = $1",
            stored.outbound,
        )
        for method, path, body in [
            ("PATCH", f"/conversations/{SENDER}", {"workflow_id": "1"}),
            ("POST", f"/v1/sms/{stored.outbound}/cancel", None),
        ]:
            response = await service.client.request(method, path, json=body, headers=headers)
            assert response.status_code == 200, response.text
            assert response.json()["content_hidden"] is True
            assert [each for each in HIDDEN if each in response.text] == []

    async def test_a_repetition_shows_no_more_than_its_caller_may_see(
        self, service: Service, callers: Callers, stored: Stored, database: Database
    ) -> None:
        key = {"Idempotency-Key": "same"}
        body = {"workflow_id": "1"}
        path = f"/conversations/{SENDER}"
        full = await service.client.patch(path, json=body, headers=callers.operator | key)
        assert SENDER in full.text
        confined = bearer(await make_key(database, "operator", scopes=["conversations:write"]))
        hidden = await service.client.patch(path, json=body, headers=confined | key)
        refused(hidden, 422, "sms.idempotency_conflict")
        assert SENDER not in hidden.text

    async def test_answers_are_as_the_document_says(
        self, service: Service, callers: Callers, stored: Stored, document: Document
    ) -> None:
        for template, paths in answers_of(stored).items():
            for path in paths:
                answer = (await read(service.client, path, callers.viewer)).json()
                document.check(answer, document.response("get", template, 200), path)


class TestShown:
    async def test_operator_sees_all_of_it(self, service: Service, callers: Callers, stored: Stored) -> None:
        seen = ""
        for paths in answers_of(stored).values():
            for path in paths:
                response = await read(service.client, path, callers.operator)
                seen += response.text
                flags = [value for name, value in values_of(response.json()) if name == "content_hidden"]
                assert not any(flags), path
                assert "***" not in response.text
        assert [each for each in HIDDEN if each not in seen] == []
