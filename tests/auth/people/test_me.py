"""Who one is, and changing one's password."""

import httpx
import pytest

from sms_foundation.auth.people.schemas import MeAnswer
from sms_foundation.core.config import Settings
from sms_foundation.core.db import Database
from tests.support.access import bearer, make_client, make_key
from tests.support.api import refused
from tests.support.people import EMAIL, PASSWORD, log_in, refresh, register
from tests.support.service import Service, make_settings

NEW_PASSWORD = "five other words, rarely used"


async def change(
    api: httpx.AsyncClient, token: str, current: str = PASSWORD, new: str = NEW_PASSWORD, **headers: str
) -> httpx.Response:
    return await api.post("/users/me/password", json={"current": current, "new": new}, headers=bearer(token) | headers)


class TestMe:
    async def test_is_for_services_too(self, api: httpx.AsyncClient, database: Database) -> None:
        key = await make_key(database, await make_client(database, "reminder", roles=["viewer"]), is_test=True)
        response = await api.get("/users/me", headers=bearer(key))

        me = MeAnswer.model_validate_json(response.content, extra="forbid")
        assert (me.client_id, me.kind, me.email, me.roles, me.is_test) == (
            "reminder",
            "service",
            None,
            ["viewer"],
            True,
        )
        assert me.permissions == ["messages:read", "numbers:read"]
        assert me.credential == "key " + key.rpartition("_")[0]

    async def test_needs_credentials(self, api: httpx.AsyncClient) -> None:
        refused(await api.get("/users/me"), 401, "sms.unauthorized")


class TestMeOnADevelopersMachine:
    @pytest.fixture
    def settings(self) -> Settings:
        return make_settings()

    async def test_is_the_developer(self, service: Service) -> None:
        me = (await service.client.get("/users/me")).json()

        assert (me["client_id"], me["roles"], me["created_at"]) == ("local", [], None)
        assert "clients:manage" in me["permissions"]


class TestChangePassword:
    async def test_ends_all_other_log_ins(self, api: httpx.AsyncClient, database: Database) -> None:
        person, other = await register(api, database), (await log_in(api)).json()
        response = await change(api, person["access_token"])

        assert (response.status_code, response.content) == (204, b"")
        assert (await api.get("/users/me", headers=bearer(person["access_token"]))).status_code == 200
        assert (await refresh(api, person["refresh_token"])).status_code == 200
        assert (await api.get("/users/me", headers=bearer(other["access_token"]))).status_code == 401
        refused(await refresh(api, other["refresh_token"]), 401, "sms.unauthorized")
        refused(await log_in(api), 401, "sms.unauthorized")
        assert (await log_in(api, password=NEW_PASSWORD)).status_code == 200
        row = await database.pool.fetchrow("SELECT * FROM auth_audit_log WHERE action = 'person.password'")
        assert (row["actor"], row["target"]) == (person["client_id"], person["client_id"])

    async def test_needs_the_current_one(self, api: httpx.AsyncClient, database: Database) -> None:
        person = await register(api, database)

        refused(await change(api, person["access_token"], current="wrong password!"), 401, "sms.unauthorized")
        assert (await log_in(api)).status_code == 200

    @pytest.mark.parametrize("new", ["short", EMAIL, "x" * 129])
    async def test_to_one_that_is_not_good_enough_is_refused(
        self, api: httpx.AsyncClient, database: Database, new: str
    ) -> None:
        person = await register(api, database)

        refused(await change(api, person["access_token"], new=new), 400, "sms.validation_error", "new")

    async def test_can_be_repeated_with_an_idempotency_key(self, api: httpx.AsyncClient, database: Database) -> None:
        person = await register(api, database)
        answers = [await change(api, person["access_token"], **{"Idempotency-Key": "a-key"}) for _ in range(2)]

        assert [answer.status_code for answer in answers] == [204] * 2

    async def test_is_for_people(self, api: httpx.AsyncClient, database: Database) -> None:
        key = await make_key(database, await make_client(database, "reminder"))

        refused(await change(api, key), 403, "sms.forbidden")
