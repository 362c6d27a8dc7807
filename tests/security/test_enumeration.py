"""What a stranger, or somebody with few permissions, can find out by asking."""

import re

import httpx
import pytest

from sms_foundation.access_rules import RULES
from sms_foundation.auth.gate import Access
from sms_foundation.core.config import Settings
from sms_foundation.core.ids import new_id
from tests.support.access import bearer, make_client, make_key
from tests.support.people import PASSWORD, register
from tests.support.service import TENANT_PHONE, Service, make_settings


@pytest.fixture
def settings() -> Settings:
    return make_settings(open_access=False, operations_networks="none")


def same(response: httpx.Response) -> tuple[int, str, list[str]]:
    """What a stranger sees of an answer, without what is new each time."""
    body = re.sub(r'"(timestamp|request_id)":"[^"]*"', "", response.text)
    volatile = {"x-request-id", "date"}
    return response.status_code, body, sorted(f"{k}: {v}" for k, v in response.headers.items() if k not in volatile)


class TestStrangers:
    async def test_hear_the_same_about_what_is_there_and_what_is_not(self, service: Service) -> None:
        await service.text("SM1")
        key = await make_key(service.database, await make_client(service.database, "rent"))
        made = (await service.client.get("/v1/keys", headers=bearer(key))).json()["keys"][0]["id"]
        for there, nowhere in (
            (f"/conversations/{TENANT_PHONE}", "/conversations/+14155550177"),
            ("/messages/SM1", "/messages/SM2"),
            (f"/v1/keys/{made}", f"/v1/keys/{new_id()}"),
            ("/v1/clients/rent", "/v1/clients/lent"),
        ):
            answers = [same(await service.client.get(path)) for path in (there, nowhere)]
            assert answers[0] == answers[1]
            assert answers[0][0] == 401

    async def test_hear_the_same_from_every_route_that_asks_for_somebody(self, service: Service) -> None:
        answers = set()
        for (method, path), rule in RULES.items():
            if rule is not Access.OPEN:
                response = await service.client.request(method, re.sub(r"\{\w+\}", "x", path))
                answers.add(str(same(response)))

        assert len(answers) == 1, answers

    async def test_cannot_tell_accounts_by_logging_in(self, service: Service) -> None:
        await register(service.client, service.database)
        tries = [
            ("ana@example.com", "wrong words, quite many"),
            ("bob@example.com", PASSWORD),
            ("no address", PASSWORD),
        ]
        answers = {
            str(same(await service.client.post("/auth/login", json={"email": email, "password": password})))
            for email, password in tries
        }

        assert len(answers) == 1, answers

    async def test_cannot_tell_clients_or_keys_by_asking_for_tokens(self, service: Service) -> None:
        key = await make_key(service.database, await make_client(service.database, "rent"))
        other = await make_key(service.database, await make_client(service.database, "repairs"))
        answers = {
            str(same(await service.client.post("/auth/token", data={"grant_type": "client_credentials", **form})))
            for form in (
                {"client_id": "rent", "client_secret": other},
                {"client_id": "nobody", "client_secret": key},
                {"client_id": "rent", "client_secret": key[:-1] + ("a" if key[-1] != "a" else "b")},
                {"client_id": "nobody", "client_secret": "nothing"},
            )
        }

        assert len(answers) == 1, answers


class TestViewers:
    async def test_who_walks_through_numbers_is_stopped_by_the_clients_limit(self, service: Service) -> None:
        client = await make_client(service.database, "curious", roles=["viewer"], limit="25/1h")
        headers = bearer(await make_key(service.database, client))

        statuses = [
            (await service.client.get(f"/conversations/+1415555{last:04d}", headers=headers)).status_code
            for last in range(40)
        ]

        assert statuses == [404] * 25 + [429] * 15

    async def test_numbers_are_masked_in_every_list(self, service: Service) -> None:
        await service.text("SM1")
        headers = bearer(await make_key(service.database, await make_client(service.database, roles=["viewer"])))
        for path in ("/conversations", "/v1/sms", f"/conversations/{TENANT_PHONE}", "/messages/SM1"):
            response = await service.client.get(path, headers=headers)
            assert response.status_code == 200
            assert TENANT_PHONE[1:] not in response.text
