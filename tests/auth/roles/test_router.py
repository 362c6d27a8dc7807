"""/v1/roles: the built-in ones stay, those of one's own are made, changed and deleted by those who may."""

import pytest

from sms_foundation.auth.permissions import ALL, BUILT_IN_ROLES, MEANING
from sms_foundation.core.config import Settings
from sms_foundation.core.db import Database
from sms_foundation.core.ids import new_id
from tests.support.access import make_client, make_key
from tests.support.access_api import Caller, audit, make_caller
from tests.support.api import Document, Json, refused
from tests.support.service import Service, make_settings

SENDER: Json = {"permissions": ["messages:send"], "description": "sends only"}


@pytest.fixture
def settings() -> Settings:
    return make_settings(open_access=False, work_in_process=False)


@pytest.fixture
async def admin_key(database: Database) -> str:
    return await make_key(database, await make_client(database, "chief"))


@pytest.fixture
async def admin(admin_key: str, service: Service) -> Caller:
    return Caller(service.client, admin_key)


class TestList:
    async def test_shows_built_in_roles_then_ones_own_and_what_all_permissions_mean(
        self, admin: Caller, service: Service
    ) -> None:
        document = Document((await service.client.get("/openapi.json")).json())
        await admin.do("PUT", "/v1/roles/sender", SENDER)
        await admin.do("PUT", "/v1/roles/auditor", {"permissions": ["audit:read"]})

        listed = await admin.get("/v1/roles")

        document.check(listed, document.response("get", "/v1/roles", 200))
        assert [(each["name"], each["is_built_in"]) for each in listed["roles"]] == [
            ("viewer", True),
            ("operator", True),
            ("admin", True),
            ("auditor", False),
            ("sender", False),
        ]
        for each in listed["roles"][:3]:
            assert each["permissions"] == sorted(BUILT_IN_ROLES[each["name"]])
        assert {each["name"]: each["meaning"] for each in listed["permissions"]} == MEANING


class TestSet:
    async def test_makes_a_role_whose_holders_may_that_and_nothing_else(self, admin: Caller, service: Service) -> None:
        made = await admin.do("PUT", "/v1/roles/sender", SENDER)
        caller = await make_caller(service, "rent", roles=["sender"])

        assert made == {"name": "sender", "is_built_in": False, **SENDER}
        assert (await caller.call("POST", "/v1/sms/preview", {"message": "Hi"})).status_code == 200
        refused(await caller.call("GET", "/v1/sms"), 403, "sms.forbidden")

    async def test_changes_it_for_everybody_who_has_it_at_once(self, admin: Caller, service: Service) -> None:
        await admin.do("PUT", "/v1/roles/sender", SENDER)
        caller = await make_caller(service, "rent", roles=["sender", "viewer"])
        assert (await caller.call("POST", "/v1/sms/preview", {"message": "Hi"})).status_code == 200

        await admin.do("PUT", "/v1/roles/sender", {"permissions": ["audit:read"]})

        refused(await caller.call("POST", "/v1/sms/preview", {"message": "Hi"}), 403, "sms.forbidden")
        assert (await caller.call("GET", "/v1/audit")).status_code == 200
        assert (await caller.call("GET", "/v1/sms")).status_code == 200

    async def test_repeating_it_changes_nothing_more(self, admin: Caller, database: Database) -> None:
        first, second = [await admin.do("PUT", "/v1/roles/sender", SENDER) for _ in range(2)]

        assert first == second
        assert await audit(database) == [("chief", "role.set", "role", "sender")]

    @pytest.mark.parametrize("name", ["viewer", "operator", "admin"])
    async def test_a_built_in_role_is_neither_changed_nor_deleted(self, admin: Caller, name: str) -> None:
        refused(await admin.call("PUT", f"/v1/roles/{name}", SENDER), 400, "sms.validation_error", "name")
        refused(await admin.call("DELETE", f"/v1/roles/{name}"), 400, "sms.validation_error", "name")

    @pytest.mark.parametrize(
        ("name", "changes", "field"),
        [
            ("Sender", {}, "name"),
            ("a" * 65, {}, "name"),
            ("sender", {"permissions": []}, "permissions"),
            ("sender", {"permissions": ["messages:sent"]}, "permissions.0"),
            ("sender", {"description": "a\nb"}, "description"),
            ("sender", {"name": "x"}, "name"),
        ],
    )
    async def test_what_is_wrong_is_named(self, admin: Caller, name: str, changes: Json, field: str) -> None:
        response = await admin.call("PUT", f"/v1/roles/{name}", SENDER | changes)

        refused(response, 400, "sms.validation_error", field)

    async def test_nobody_gives_a_role_what_they_may_not_but_it_may_have_it_already(
        self, admin: Caller, service: Service
    ) -> None:
        await admin.do("PUT", "/v1/roles/sender", {"permissions": ["messages:send", "audit:read"]})
        lesser = await make_caller(service, "lesser", scopes=["roles:manage", "messages:read"])

        wider = {"permissions": ["messages:send", "audit:read", "numbers:write"]}
        refused(await lesser.call("PUT", "/v1/roles/sender", wider), 403, "sms.forbidden")
        refused(await lesser.call("PUT", "/v1/roles/other", SENDER), 403, "sms.forbidden")
        await lesser.do("PUT", "/v1/roles/sender", {"permissions": ["messages:send", "audit:read", "messages:read"]})

    async def test_nobody_takes_from_a_role_what_they_may_not_themselves(self, admin: Caller, service: Service) -> None:
        """Or whoever manages roles could take everything from everybody, and not be allowed to give it back."""
        await admin.do("PUT", "/v1/roles/sender", {"permissions": ["messages:send", "audit:read"]})
        lesser = await make_caller(service, "lesser", scopes=["roles:manage", "messages:send"])

        refused(await lesser.call("PUT", "/v1/roles/sender", SENDER), 403, "sms.forbidden")
        await lesser.do("PUT", "/v1/roles/sender", {"permissions": ["audit:read"]})

    async def test_the_role_of_the_last_who_may_manage_clients_keeps_allowing_it(
        self, admin: Caller, database: Database
    ) -> None:
        await admin.do("PUT", "/v1/roles/owner", {"permissions": sorted(ALL)})
        await admin.do("PATCH", "/v1/clients/chief", {"roles": ["owner"]})

        response = await admin.call("PUT", "/v1/roles/owner", {"permissions": sorted(ALL - {"clients:manage"})})

        refused(response, 409, "sms.conflict")
        assert (await admin.call("GET", "/v1/clients")).status_code == 200


class TestDelete:
    async def test_a_role_nobody_has_is_gone(self, admin: Caller, database: Database) -> None:
        await admin.do("PUT", "/v1/roles/sender", SENDER)

        await admin.do("DELETE", "/v1/roles/sender", status=204)

        refused(await admin.call("DELETE", "/v1/roles/sender"), 404, "sms.not_found")
        assert [entry[1] for entry in await audit(database)] == ["role.set", "role.delete"]

    async def test_a_role_in_use_stays_and_it_is_said_by_how_many(self, admin: Caller, database: Database) -> None:
        await admin.do("PUT", "/v1/roles/sender", SENDER)
        for name in ("one", "two"):
            await make_client(database, name, roles=["viewer", "sender"])
        await database.pool.execute("UPDATE auth_clients SET disabled_at = now() WHERE id = 'two'")

        message = refused(await admin.call("DELETE", "/v1/roles/sender"), 409, "sms.conflict")["message"]

        assert "2 clients" in message
        assert (await admin.get("/v1/clients/one"))["permissions"] == ["messages:read", "messages:send", "numbers:read"]

    async def test_an_open_invitation_is_a_use_and_one_that_is_over_is_none(
        self, admin: Caller, database: Database
    ) -> None:
        await admin.do("PUT", "/v1/roles/sender", SENDER)
        await database.pool.execute(
            "INSERT INTO auth_invitations (id, digest, email, roles, created_by, expires_at) "
            "VALUES ($1, 'd', 'a@example.com', '{sender}', 'chief', now() + interval '1 hour')",
            new_id(),
        )
        message = refused(await admin.call("DELETE", "/v1/roles/sender"), 409, "sms.conflict")["message"]
        assert "1 open invitations" in message

        await database.pool.execute("UPDATE auth_invitations SET revoked_at = now()")

        await admin.do("DELETE", "/v1/roles/sender", status=204)

    async def test_needs_a_permission_of_its_own(self, admin: Caller, service: Service) -> None:
        await admin.do("PUT", "/v1/roles/sender", SENDER)
        manager = await make_caller(service, "manager", scopes=["clients:manage", "clients:read"])

        assert (await manager.call("GET", "/v1/roles")).status_code == 200
        refused(await manager.call("DELETE", "/v1/roles/sender"), 403, "sms.forbidden")
        refused(await manager.call("PUT", "/v1/roles/other", SENDER), 403, "sms.forbidden")
