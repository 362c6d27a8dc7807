"""Invitations and what comes of them: accounts, and new passwords for those who have lost theirs."""

import asyncio
from datetime import UTC, datetime, timedelta

import httpx
import pytest
import time_machine
from prometheus_client import REGISTRY

from sms_foundation.auth.people.schemas import InvitationList, LoginAnswer, NewInvitationOut
from sms_foundation.core.db import Database
from tests.support.access import bearer, make_client, make_key
from tests.support.api import Json, refused
from tests.support.people import EMAIL, PASSWORD, invite, log_in, refresh, register
from tests.support.service import Service

NEW_PASSWORD = "five other words, rarely used"
Headers = dict[str, str]


@pytest.fixture
async def admin(service: Service, database: Database) -> Headers:
    return bearer(await make_key(database, "boss"))


@pytest.fixture
async def manager(service: Service, database: Database) -> Headers:
    """Manages clients, and sees messages; nothing else."""
    await database.pool.execute(
        "INSERT INTO auth_roles (name, permissions) VALUES ('manager', '{clients:manage,messages:read,numbers:read}')"
    )
    return bearer(await make_key(database, await make_client(database, "manager", roles=["manager"])))


async def ask(api: httpx.AsyncClient, headers: Headers, **body: object) -> httpx.Response:
    return await api.post("/v1/invitations", json={"email": EMAIL, "roles": ["viewer"]} | body, headers=headers)


def made(response: httpx.Response) -> Json:
    assert response.status_code == 201, response.text
    NewInvitationOut.model_validate_json(response.content, extra="forbid")
    return dict(response.json())


async def accept(api: httpx.AsyncClient, invitation: str, password: str = PASSWORD, **more: object) -> httpx.Response:
    return await api.post("/auth/register", json={"invitation": invitation, "password": password, **more})


async def roles_of(database: Database, email: str = EMAIL) -> list[str]:
    return list(await database.pool.fetchval("SELECT roles FROM auth_clients WHERE email = $1", email))


class TestCreate:
    async def test_shows_the_secret_once_and_stores_its_digest(
        self, api: httpx.AsyncClient, admin: Headers, database: Database
    ) -> None:
        answer = made(await ask(api, admin, email=" Ana@Example.com "))
        listed = (await api.get("/v1/invitations", headers=admin)).json()

        assert answer["invitation"].startswith("sf_invite_")
        assert (answer["email"], answer["roles"], answer["state"], answer["is_reset"], answer["created_by"]) == (
            EMAIL,
            ["viewer"],
            "open",
            False,
            "boss",
        )
        span = datetime.fromisoformat(answer["expires_at"]) - datetime.fromisoformat(answer["created_at"])
        assert span == timedelta(hours=72)
        InvitationList.model_validate(listed, extra="forbid")
        assert listed["invitations"] == [
            {name: value for name, value in answer.items() if name not in ("invitation", "is_reset")}
        ]
        stored = str(await database.pool.fetchval("SELECT json_agg(i)::text FROM auth_invitations AS i"))
        assert answer["invitation"] not in stored

    async def test_is_in_the_audit_log_without_the_address(
        self, api: httpx.AsyncClient, admin: Headers, database: Database
    ) -> None:
        answer = made(await ask(api, admin))
        row = await database.pool.fetchrow("SELECT * FROM auth_audit_log")

        assert (row["actor"], row["action"], row["target"]) == ("boss", "invitation.create", answer["id"])
        assert EMAIL not in row["details"]

    async def test_repeated_with_an_idempotency_key_is_one(
        self, api: httpx.AsyncClient, admin: Headers, database: Database
    ) -> None:
        first, again = [await ask(api, admin | {"Idempotency-Key": "a-key"}) for _ in range(2)]

        assert again.json() == made(first)
        assert await database.pool.fetchval("SELECT count(*) FROM auth_invitations") == 1

    @pytest.mark.parametrize(
        ("body", "field"),
        [
            ({"email": "ana"}, "email"),
            ({"email": "ana@"}, "email"),
            ({"email": "a na@example.com"}, "email"),
            ({"email": "ana\x00@example.com"}, "email"),
            ({"email": "a" * 300 + "@example.com"}, "email"),
            ({"roles": []}, "roles"),
            ({"roles": None}, "roles"),
            ({"roles": ["no-such-role"]}, "roles"),
        ],
        ids=str,
    )
    async def test_of_what_is_wrong_names_the_field(
        self, api: httpx.AsyncClient, admin: Headers, body: Json, field: str
    ) -> None:
        refused(await ask(api, admin, **body), 400, "sms.validation_error", field)

    async def test_to_more_than_one_may_oneself_is_refused(
        self, api: httpx.AsyncClient, manager: Headers, database: Database
    ) -> None:
        made(await ask(api, manager))
        for roles in (["admin"], ["operator"], ["viewer", "operator"]):
            refused(await ask(api, manager, roles=roles), 403, "sms.forbidden")

        assert await database.pool.fetchval("SELECT count(*) FROM auth_invitations") == 1

    async def test_for_an_account_that_may_more_is_refused(
        self, api: httpx.AsyncClient, manager: Headers, database: Database
    ) -> None:
        """Whoever holds an invitation can take the account over."""
        await register(api, database, roles=["operator"])

        refused(await ask(api, manager), 403, "sms.forbidden")
        refused(await ask(api, manager, roles=None), 403, "sms.forbidden")

    async def test_for_a_disabled_account_is_refused(
        self, api: httpx.AsyncClient, admin: Headers, database: Database
    ) -> None:
        await register(api, database)
        await database.pool.execute("UPDATE auth_clients SET disabled_at = now() WHERE email IS NOT NULL")

        refused(await ask(api, admin), 409, "sms.conflict")

    async def test_is_for_those_who_manage_clients(self, api: httpx.AsyncClient, database: Database) -> None:
        operator = bearer(await make_key(database, await make_client(database, "operator", roles=["operator"])))

        refused(await ask(api, operator), 403, "sms.forbidden")
        refused(await api.get("/v1/invitations", headers=operator), 403, "sms.forbidden")


class TestList:
    async def test_goes_on_with_a_cursor_newest_first(self, api: httpx.AsyncClient, admin: Headers) -> None:
        ids = [made(await ask(api, admin, email=f"{number}@example.com"))["id"] for number in range(5)]
        seen: list[str] = []
        cursor = None
        while True:
            params = {"limit": 2} | ({"cursor": cursor} if cursor else {})
            page = (await api.get("/v1/invitations", headers=admin, params=params)).json()
            seen += [each["id"] for each in page["invitations"]]
            cursor = page["next_cursor"]
            if cursor is None:
                break

        assert seen == ids[::-1]

    async def test_says_what_became_of_them(self, api: httpx.AsyncClient, admin: Headers) -> None:
        used, revoked, _ = [made(await ask(api, admin, email=f"{number}@example.com")) for number in range(3)]
        await accept(api, used["invitation"])
        await api.delete(f"/v1/invitations/{revoked['id']}", headers=admin)
        states = [each["state"] for each in (await api.get("/v1/invitations", headers=admin)).json()["invitations"]]
        with time_machine.travel(datetime.now(UTC) + timedelta(hours=73)):
            later = [each["state"] for each in (await api.get("/v1/invitations", headers=admin)).json()["invitations"]]

        assert states == ["open", "revoked", "used"]
        assert later == ["expired", "revoked", "used"]

    @pytest.mark.parametrize("cursor", ["x", "WzFd", "WyJ4Il0"])
    async def test_a_cursor_of_somebody_elses_is_refused(
        self, api: httpx.AsyncClient, admin: Headers, cursor: str
    ) -> None:
        response = await api.get("/v1/invitations", headers=admin, params={"cursor": cursor})
        refused(response, 400, "sms.validation_error", "cursor")


class TestRevoke:
    async def test_makes_it_useless(self, api: httpx.AsyncClient, admin: Headers, database: Database) -> None:
        invitation = made(await ask(api, admin))
        answers = [await api.delete(f"/v1/invitations/{invitation['id']}", headers=admin) for _ in range(2)]

        assert [answer.status_code for answer in answers] == [204] * 2
        refused(await accept(api, invitation["invitation"]), 401, "sms.unauthorized")
        actions = await database.pool.fetch("SELECT action FROM auth_audit_log ORDER BY id")
        assert [row["action"] for row in actions] == ["invitation.create", "invitation.revoke"]

    async def test_of_one_that_is_not_there_or_was_used_is_refused(
        self, api: httpx.AsyncClient, admin: Headers
    ) -> None:
        invitation = made(await ask(api, admin))
        await accept(api, invitation["invitation"])
        unknown = "01938c7a-7d0a-7d52-8a4c-0b54a3c5f1aa"

        refused(await api.delete(f"/v1/invitations/{invitation['id']}", headers=admin), 409, "sms.conflict")
        refused(await api.delete(f"/v1/invitations/{unknown}", headers=admin), 404, "sms.not_found")


class TestRegister:
    async def test_makes_an_account_and_logs_in(self, api: httpx.AsyncClient, database: Database) -> None:
        response = await accept(api, await invite(database), display_name=" Ana Díaz ")
        answer = response.json()

        assert response.status_code == 201
        assert response.headers["cache-control"] == "no-store"
        LoginAnswer.model_validate_json(response.content, extra="forbid")
        me = (await api.get("/users/me", headers=bearer(answer["access_token"]))).json()
        assert me == {
            "client_id": answer["client_id"],
            "kind": "person",
            "display_name": "Ana Díaz",
            "email": EMAIL,
            "roles": ["viewer"],
            "permissions": ["messages:read", "numbers:read"],
            "credential": me["credential"],
            "is_test": False,
            "created_at": me["created_at"],
        }
        assert answer["client_id"].startswith("person-")
        assert len(answer["client_id"]) == len("person-") + 12

    async def test_works_once(self, api: httpx.AsyncClient, database: Database) -> None:
        invitation = await invite(database)
        answers = await asyncio.gather(*(accept(api, invitation) for _ in range(3)))

        assert sorted(answer.status_code for answer in answers) == [201, 401, 401]
        assert await database.pool.fetchval("SELECT count(*) FROM auth_sessions") == 1

    async def test_can_be_repeated_with_an_idempotency_key(self, api: httpx.AsyncClient, database: Database) -> None:
        body = {"invitation": await invite(database), "password": PASSWORD}
        first, again = [
            await api.post("/auth/register", json=body, headers={"Idempotency-Key": "a-key"}) for _ in range(2)
        ]

        assert again.json() == first.json()
        assert again.status_code == 201

    async def test_is_refused_in_one_way_for_every_reason(
        self, api: httpx.AsyncClient, admin: Headers, database: Database
    ) -> None:
        over = await invite(database, "over@example.com")
        of_a_disabled = made(await ask(api, admin, email="left@example.com"))["invitation"]
        await database.pool.execute("UPDATE auth_clients SET disabled_at = now() WHERE id = 'boss'")
        answers = [
            await accept(api, "sf_invite_" + "A" * 43),
            await accept(api, ""),
            await accept(api, "sf_refresh_" + "A" * 43),
            await accept(api, of_a_disabled),
        ]
        with time_machine.travel(datetime.now(UTC) + timedelta(hours=73)):
            answers.append(await accept(api, over))
        errors = [refused(answer, 401, "sms.unauthorized") for answer in answers]

        assert {error["message"] for error in errors} == {"valid credentials are required"}

    @pytest.mark.parametrize(
        ("roles_now", "status"),
        [(["admin"], 201), (["manager"], 201), (["operator"], 401), (["viewer"], 401)],
    )
    async def test_gives_what_its_maker_may_give_now(
        self,
        api: httpx.AsyncClient,
        manager: Headers,
        admin: Headers,
        database: Database,
        roles_now: list[str],
        status: int,
    ) -> None:
        """Whoever was confined does not come back by an invitation kept for that."""
        other = bearer(await make_key(database, await make_client(database, "other")))
        invitation = made(await ask(api, other))["invitation"]
        response = await api.patch("/v1/clients/other", json={"roles": roles_now}, headers=admin)
        assert response.status_code == 200, response.text

        assert (await accept(api, invitation)).status_code == status

    async def test_of_an_admin_who_is_a_manager_now_makes_no_admin(
        self, api: httpx.AsyncClient, manager: Headers, admin: Headers, database: Database
    ) -> None:
        other = bearer(await make_key(database, await make_client(database, "other")))
        invitation = made(await ask(api, other, roles=["admin"]))["invitation"]
        await api.patch("/v1/clients/other", json={"roles": ["manager"]}, headers=admin)
        before = REGISTRY.get_sample_value("sms_auth_failures_total", {"reason": "unknown_invitation"}) or 0.0

        refused(await accept(api, invitation), 401, "sms.unauthorized")
        assert REGISTRY.get_sample_value("sms_auth_failures_total", {"reason": "unknown_invitation"}) == before + 1
        assert await database.pool.fetchval("SELECT count(*) FROM auth_clients WHERE email IS NOT NULL") == 0
        await api.patch("/v1/clients/other", json={"roles": ["admin"]}, headers=admin)
        assert (await accept(api, invitation)).status_code == 201

    @pytest.mark.parametrize(
        ("password", "word"),
        [
            ("short", "12 to 128"),
            ("elevenchars", "12 to 128"),
            ("x" * 129, "12 to 128"),
            ("ﷺ" * 11, "12 to 128"),
            (EMAIL.upper(), "address"),
        ],
    )
    async def test_a_password_that_is_not_good_enough_leaves_the_invitation_open(
        self, api: httpx.AsyncClient, database: Database, password: str, word: str
    ) -> None:
        invitation = await invite(database)
        error = refused(await accept(api, invitation, password), 400, "sms.validation_error", "password")

        assert word in error["message"]
        assert password not in str(error)
        assert (await accept(api, invitation)).status_code == 201

    @pytest.mark.parametrize("password", ["twelve chars", "x" * 128, "ééééééééééé!", "密码密码密码密码密码密码"])
    async def test_passwords_of_any_script_are_fine(
        self, api: httpx.AsyncClient, database: Database, password: str
    ) -> None:
        await register(api, database, password=password)
        assert (await log_in(api, password=password)).status_code == 200

    @pytest.mark.parametrize("name", ["a\nb", "a\x00b", "x" * 201])
    async def test_a_name_is_one_line(self, api: httpx.AsyncClient, database: Database, name: str) -> None:
        response = await accept(api, await invite(database), display_name=name)
        refused(response, 400, "sms.validation_error", "display_name")


class TestReset:
    async def test_an_invitation_for_an_account_sets_its_password_and_ends_its_log_ins(
        self, api: httpx.AsyncClient, database: Database
    ) -> None:
        before = await register(api, database, roles=["operator"])
        answer = (await accept(api, await invite(database, roles=None), NEW_PASSWORD)).json()

        assert answer["client_id"] == before["client_id"]
        assert await roles_of(database) == ["operator"]
        assert (await api.get("/users/me", headers=bearer(before["access_token"]))).status_code == 401
        refused(await refresh(api, before["refresh_token"]), 401, "sms.unauthorized")
        refused(await log_in(api), 401, "sms.unauthorized")
        assert (await log_in(api, password=NEW_PASSWORD)).status_code == 200
        assert (await api.get("/users/me", headers=bearer(answer["access_token"]))).status_code == 200

    async def test_gives_exactly_the_roles_of_the_invitation(self, api: httpx.AsyncClient, database: Database) -> None:
        """So nobody gets more by it than whoever invited could give, whatever the account has become since."""
        invitation = await invite(database, roles=["viewer"])
        await register(api, database, roles=["operator"])
        await accept(api, invitation, NEW_PASSWORD)

        assert await roles_of(database) == ["viewer"]

    async def test_leaves_somebody_who_can_manage_clients(self, api: httpx.AsyncClient, database: Database) -> None:
        await register(api, database, roles=["admin"])
        invitation = await invite(database, roles=["viewer"])
        await database.pool.execute("UPDATE auth_clients SET disabled_at = now() WHERE id = 'boss'")

        refused(await accept(api, invitation, NEW_PASSWORD), 409, "sms.conflict")
        assert await roles_of(database) == ["admin"]
        assert (await log_in(api)).status_code == 200

    async def test_of_an_account_disabled_since_is_refused(self, api: httpx.AsyncClient, database: Database) -> None:
        await register(api, database)
        invitation = await invite(database, roles=None)
        await database.pool.execute("UPDATE auth_clients SET disabled_at = now()")

        refused(await accept(api, invitation, NEW_PASSWORD), 401, "sms.unauthorized")
