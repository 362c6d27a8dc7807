"""/v1/clients: made, shown, changed and disabled by those who may, and by nobody beyond what they may themselves."""

import asyncio
from urllib.parse import urlencode

import pytest

from sms_foundation.auth.permissions import BUILT_IN_ROLES
from sms_foundation.auth.principal import ClientKind
from sms_foundation.core.config import Settings
from sms_foundation.core.db import Database
from sms_foundation.core.ids import new_id
from tests.support.access import bearer, make_client, make_key
from tests.support.access_api import Caller, audit, make_caller
from tests.support.api import Document, refused
from tests.support.service import Service, make_settings

GOOGLE = {"issuer": "https://accounts.google.com", "subject": "107517467455664443766"}


@pytest.fixture
def settings() -> Settings:
    return make_settings(open_access=False, work_in_process=False)


@pytest.fixture
async def admin_key(database: Database) -> str:
    """There before the service starts, which therefore makes no admin of its own."""
    return await make_key(database, await make_client(database, "chief"))


@pytest.fixture
async def admin(admin_key: str, service: Service) -> Caller:
    return Caller(service.client, admin_key)


@pytest.fixture
async def document(service: Service) -> Document:
    return Document((await service.client.get("/openapi.json")).json())


class TestCreate:
    async def test_makes_a_service_that_is_shown_as_documented(self, admin: Caller, document: Document) -> None:
        made = await admin.do(
            "POST",
            "/v1/clients",
            {
                "id": "rent-reminder",
                "display_name": " Rent ",
                "roles": ["viewer", "operator", "viewer"],
                "request_limit": "9/1s",
            },
            status=201,
        )

        document.check(made, document.response("post", "/v1/clients", 201))
        assert (made["id"], made["kind"], made["display_name"], made["email"]) == (
            "rent-reminder",
            "service",
            "Rent",
            None,
        )
        assert (made["roles"], made["request_limit"], made["disabled_at"]) == (["operator", "viewer"], "9/1s", None)
        assert made["permissions"] == sorted(BUILT_IN_ROLES["operator"])
        assert made == await admin.get("/v1/clients/rent-reminder")

    async def test_is_in_the_audit_log_with_who_did_it(self, admin: Caller, database: Database) -> None:
        await admin.do("POST", "/v1/clients", {"id": "new", "roles": ["viewer"]}, status=201)

        assert await audit(database) == [("chief", "client.create", "client", "new")]
        credential = await database.pool.fetchval("SELECT credential FROM auth_audit_log")
        assert credential == f"key {admin.key.rpartition('_')[0]}"

    @pytest.mark.parametrize(
        ("changes", "field"),
        [
            ({"id": "Rent"}, "id"),
            ({"id": "-rent"}, "id"),
            ({"id": "a" * 65}, "id"),
            ({"id": "a\n"}, "id"),
            ({"id": ""}, "id"),
            ({"id": "ä"}, "id"),
            *(({"id": name}, "id") for name in ("local", "command-line", "service", "nobody")),
            ({"roles": []}, "roles"),
            ({"roles": ["Admin"]}, "roles.0"),
            ({"roles": "admin"}, "roles"),
            ({"request_limit": "fast"}, "request_limit"),
            ({"request_limit": "0/1s"}, "request_limit"),
            ({"display_name": "a\u0000b"}, "display_name"),
            ({"display_name": "a" * 201}, "display_name"),
            ({"kind": "person"}, "kind"),
            ({"email": "a@example.com"}, "email"),
        ],
    )
    async def test_what_is_wrong_is_named(self, admin: Caller, changes: dict[str, object], field: str) -> None:
        body = {"id": "new", "roles": ["viewer"]} | changes

        refused(await admin.call("POST", "/v1/clients", body), 400, "sms.validation_error", field)

    async def test_an_unknown_role_is_named_with_those_there_are(self, admin: Caller, database: Database) -> None:
        await database.pool.execute("INSERT INTO auth_roles (name, permissions) VALUES ('sender', '{messages:send}')")

        response = await admin.call("POST", "/v1/clients", {"id": "new", "roles": ["viewer", "boss"]})

        message = refused(response, 400, "sms.validation_error", "roles")["message"]
        assert "boss" in message
        assert all(name in message for name in ("viewer", "operator", "admin", "sender"))

    async def test_an_id_that_is_taken_is_409_also_for_many_at_once(self, admin: Caller, database: Database) -> None:
        body = {"id": "new", "roles": ["viewer"]}

        responses = await asyncio.gather(*(admin.call("POST", "/v1/clients", body) for _ in range(5)))

        assert sorted(response.status_code for response in responses) == [201, 409, 409, 409, 409]
        assert len(await audit(database)) == 1

    async def test_a_repetition_with_the_same_idempotency_key_makes_one(
        self, admin: Caller, database: Database
    ) -> None:
        body = {"id": "new", "roles": ["viewer"]}
        first, second = [await admin.call("POST", "/v1/clients", body, Idempotency_Key="k") for _ in range(2)]

        assert (first.status_code, second.status_code) == (201, 201)
        assert first.content == second.content
        assert second.headers["x-idempotent-replayed"] == "true"
        assert len(await audit(database)) == 1

    async def test_nobody_makes_a_client_that_may_more_than_they(self, service: Service, admin: Caller) -> None:
        lesser = await make_caller(service, "lesser", scopes=["clients:manage", "messages:send"])

        response = await lesser.call("POST", "/v1/clients", {"id": "new", "roles": ["operator"]})

        assert "messages:read_content" in refused(response, 403, "sms.forbidden")["message"]
        refused(await admin.call("GET", "/v1/clients/new"), 404, "sms.not_found")


class TestList:
    async def test_pages_hold_every_client_once_by_id(
        self, admin: Caller, database: Database, document: Document
    ) -> None:
        for number in range(7):
            await make_client(database, f"client-{number}", roles=["viewer"])
        await make_client(database, "ana", kind=ClientKind.PERSON)
        pages, cursor = [], None
        while True:
            page = await admin.get("/v1/clients", limit=4, **({"cursor": cursor} if cursor else {}))
            document.check(page, document.response("get", "/v1/clients", 200))
            pages += page["clients"]
            cursor = page["next_cursor"]
            if cursor is None:
                break

        assert [each["id"] for each in pages] == ["ana", "chief", *(f"client-{number}" for number in range(7))]
        assert {each["kind"] for each in pages} == {"person", "service"}

    @pytest.mark.parametrize("cursor", ["x", "WyJhXHUwMDAwIl0", "WzFd", "WyJBIl0"])
    async def test_a_cursor_of_somebody_elses_is_refused(self, admin: Caller, cursor: str) -> None:
        refused(await admin.call("GET", f"/v1/clients?cursor={cursor}"), 400, "sms.validation_error", "cursor")

    async def test_no_answer_holds_a_password(self, admin: Caller, database: Database) -> None:
        await make_client(database, "ana", kind=ClientKind.PERSON)
        await database.pool.execute("UPDATE auth_clients SET password_hash = '$argon2id$s3cr3t' WHERE id = 'ana'")

        for path in ("/v1/clients", "/v1/clients/ana"):
            assert "s3cr3t" not in (await admin.call("GET", path)).text


class TestChange:
    async def test_roles_and_limit_change_and_what_is_left_out_stays(self, admin: Caller, database: Database) -> None:
        await admin.do("POST", "/v1/clients", {"id": "new", "roles": ["viewer"], "request_limit": "9/1s"}, status=201)

        limit_only = await admin.do("PATCH", "/v1/clients/new", {"request_limit": "off"})
        roles_only = await admin.do("PATCH", "/v1/clients/new", {"roles": ["operator"]})
        default = await admin.do("PATCH", "/v1/clients/new", {"request_limit": None})
        nothing = await admin.do("PATCH", "/v1/clients/new", {})

        assert (limit_only["roles"], limit_only["request_limit"]) == (["viewer"], "off")
        assert (roles_only["roles"], roles_only["request_limit"]) == (["operator"], "off")
        assert (default["roles"], default["request_limit"]) == (["operator"], None)
        assert nothing == default
        assert [action for _, action, _, _ in await audit(database)] == [
            "client.create",
            "client.limit",
            "client.roles",
            "client.limit",
        ]

    async def test_roles_hold_at_once_where_they_were_changed(self, admin: Caller, service: Service) -> None:
        other = await make_caller(service, "other", roles=["viewer"])
        assert (await other.call("GET", "/v1/clients")).status_code == 403

        await admin.do("PATCH", "/v1/clients/other", {"roles": ["admin"]})

        assert (await other.call("GET", "/v1/clients")).status_code == 200

    async def test_nobody_gives_roles_beyond_their_own(self, service: Service, admin: Caller) -> None:
        lesser = await make_caller(service, "lesser", scopes=["clients:manage", "messages:read", "numbers:read"])
        await make_client(service.database, "target", roles=["viewer"])

        for roles in (["admin"], ["viewer", "operator"]):
            refused(await lesser.call("PATCH", "/v1/clients/target", {"roles": roles}), 403, "sms.forbidden")
        assert (await admin.get("/v1/clients/target"))["roles"] == ["viewer"]
        assert (await lesser.do("PATCH", "/v1/clients/target", {"request_limit": "9/1s"}))["request_limit"] == "9/1s"

    async def test_a_change_that_fails_in_part_changes_nothing(self, admin: Caller, database: Database) -> None:
        await make_client(database, "new", roles=["viewer"], limit="9/1s")

        response = await admin.call("PATCH", "/v1/clients/new", {"roles": ["boss"], "request_limit": "off"})

        refused(response, 400, "sms.validation_error", "roles")
        assert (await admin.get("/v1/clients/new"))["request_limit"] == "9/1s"
        assert await audit(database) == []

    @pytest.mark.parametrize("path", ["", "/disable", "/enable", "/identities"])
    async def test_of_a_client_there_is_not_is_404(self, admin: Caller, path: str) -> None:
        method = "POST" if path else "PATCH"
        body = GOOGLE if path else {"roles": ["viewer"]}
        refused(await admin.call(method, f"/v1/clients/nobody-here{path}", body), 404, "sms.not_found")


class TestDisable:
    async def test_nothing_of_it_is_accepted_any_more_until_it_is_enabled(
        self, admin: Caller, service: Service, database: Database
    ) -> None:
        other = await make_caller(service, "other")
        assert (await other.call("GET", "/v1/clients")).status_code == 200

        disabled = [await admin.do("POST", "/v1/clients/other/disable") for _ in range(2)]
        refused(await other.call("GET", "/v1/clients"), 401, "sms.unauthorized")
        enabled = [await admin.do("POST", "/v1/clients/other/enable") for _ in range(2)]
        assert (await other.call("GET", "/v1/clients")).status_code == 200

        assert disabled[0] == disabled[1]
        assert disabled[0]["disabled_at"] is not None
        assert enabled[0]["disabled_at"] is enabled[1]["disabled_at"] is None
        assert [entry[1] for entry in await audit(database)] == ["client.disable", "client.enable"]

    async def test_ends_a_persons_log_ins_for_good(self, admin: Caller, database: Database) -> None:
        await make_client(database, "ana", kind=ClientKind.PERSON, roles=["viewer"])
        await make_client(database, "ben", kind=ClientKind.PERSON, roles=["viewer"])
        for client_id in ("ana", "ana", "ben"):
            await database.pool.execute(
                "INSERT INTO auth_sessions (id, client_id, expires_at) VALUES ($1, $2, now() + interval '1 day')",
                new_id(),
                client_id,
            )
        await database.pool.execute(
            "INSERT INTO auth_sessions (id, client_id, expires_at, ended_at, end_reason) "
            "VALUES ($1, 'ana', now(), '2026-01-01Z', 'logout')",
            new_id(),
        )

        await admin.do("POST", "/v1/clients/ana/disable")
        await admin.do("POST", "/v1/clients/ana/enable")

        sessions = await database.pool.fetch(
            "SELECT client_id, ended_at IS NULL, end_reason FROM auth_sessions ORDER BY client_id, end_reason"
        )
        assert [tuple(row) for row in sessions] == [
            ("ana", False, "disabled"),
            ("ana", False, "disabled"),
            ("ana", False, "logout"),
            ("ben", True, None),
        ]

    async def test_enabling_gives_and_so_needs_what_the_client_may(self, admin: Caller, service: Service) -> None:
        lesser = await make_caller(service, "lesser", scopes=["clients:manage"])
        await make_client(service.database, "target", roles=["viewer"])
        await admin.do("POST", "/v1/clients/target/disable")

        refused(await lesser.call("POST", "/v1/clients/target/enable"), 403, "sms.forbidden")
        await admin.do("POST", "/v1/clients/target/enable")


class TestThoseWhoMayMore:
    @pytest.mark.parametrize(
        ("method", "path", "body"),
        [
            ("POST", "/v1/clients/chief/disable", None),
            ("PATCH", "/v1/clients/chief", {"roles": ["manager"]}),
            ("PATCH", "/v1/clients/chief", {"request_limit": "1/1d"}),
            ("POST", "/v1/clients/chief/identities", GOOGLE),
            ("DELETE", "/v1/clients/chief/identities?issuer=https://accounts.google.com&subject=1", None),
        ],
    )
    async def test_are_not_changed_by_those_who_only_manage_clients(
        self, admin: Caller, service: Service, method: str, path: str, body: object
    ) -> None:
        """They could shut out every admin, and would not be allowed to undo it."""
        managing = {"permissions": ["clients:manage", "clients:read"], "description": ""}
        await admin.do("PUT", "/v1/roles/manager", managing)
        manager = await make_caller(service, "manager", roles=["manager"])
        before = await admin.get("/v1/clients/chief")

        error = refused(await manager.call(method, path, body), 403, "sms.forbidden")

        assert "audit:read" in error["message"]
        assert await admin.get("/v1/clients/chief") == before

    async def test_their_equals_can_be(self, admin: Caller, service: Service) -> None:
        managing = {"permissions": ["clients:manage", "clients:read"], "description": ""}
        await admin.do("PUT", "/v1/roles/manager", managing)
        manager = await make_caller(service, "manager", roles=["manager"])
        await make_caller(service, "colleague", roles=["manager"])

        assert (await manager.do("POST", "/v1/clients/colleague/disable"))["disabled_at"] is not None


class TestLastManager:
    async def test_is_neither_disabled_nor_demoted(self, admin: Caller, database: Database) -> None:
        await make_client(database, "viewer", roles=["viewer"])
        await make_client(database, "off")
        await database.pool.execute("UPDATE auth_clients SET disabled_at = now() WHERE id = 'off'")

        for response in (
            await admin.call("POST", "/v1/clients/chief/disable"),
            await admin.call("PATCH", "/v1/clients/chief", {"roles": ["operator"]}),
        ):
            assert "clients:manage" in refused(response, 409, "sms.conflict")["message"]

        assert (await admin.get("/v1/clients/chief"))["roles"] == ["admin"]
        assert await audit(database) == []
        await admin.do("POST", "/v1/clients/viewer/disable")
        await admin.do("PATCH", "/v1/clients/chief", {"roles": ["admin", "viewer"]})

    async def test_one_by_a_role_of_ones_own_counts_as_any_other(self, admin: Caller, database: Database) -> None:
        await admin.do("PUT", "/v1/roles/managers", {"permissions": ["clients:manage", "clients:read"]})
        await make_client(database, "second", roles=["managers"])

        await admin.do("PATCH", "/v1/clients/chief", {"roles": ["operator"]})

        second = Caller(admin._api, await make_key(database, "second"))
        refused(await second.call("POST", "/v1/clients/second/disable"), 409, "sms.conflict")

    async def test_two_who_disable_each_other_at_once_do_not_both_succeed(
        self, admin: Caller, service: Service, database: Database
    ) -> None:
        for number in range(5):
            name = f"second-{number}"
            second = await make_caller(service, name)
            answers = await asyncio.gather(
                admin.call("POST", f"/v1/clients/{name}/disable"),
                second.call("POST", "/v1/clients/chief/disable"),
            )
            assert 200 in {answer.status_code for answer in answers}
            assert await database.pool.fetchval(
                "SELECT count(*) FROM auth_clients WHERE disabled_at IS NULL AND roles @> '{admin}'"
            )
            await database.pool.execute("UPDATE auth_clients SET disabled_at = now() WHERE id = $1", name)
            await database.pool.execute("UPDATE auth_clients SET disabled_at = NULL WHERE id = 'chief'")


class TestIdentities:
    async def test_are_linked_shown_and_unlinked(self, admin: Caller, database: Database, document: Document) -> None:
        await make_client(database, "new", roles=["viewer"])

        for _ in range(2):
            linked = await admin.do("POST", "/v1/clients/new/identities", GOOGLE)
        document.check(linked, document.response("post", "/v1/clients/{client_id}/identities", 200))
        assert [(each["issuer"], each["subject"]) for each in linked["identities"]] == [
            (GOOGLE["issuer"], GOOGLE["subject"])
        ]
        query = "issuer=https://accounts.google.com&subject=107517467455664443766"
        unlinked = await admin.do("DELETE", f"/v1/clients/new/identities?{query}")

        assert unlinked["identities"] == []
        refused(await admin.call("DELETE", f"/v1/clients/new/identities?{query}"), 404, "sms.not_found")
        assert [entry[1:] for entry in await audit(database)] == [
            ("identity.link", "client", "new"),
            ("identity.unlink", "client", "new"),
        ]

    async def test_an_address_is_one_identity_however_it_is_written(self, admin: Caller, database: Database) -> None:
        await make_client(database, "new", roles=[])
        path = "/v1/clients/new/identities"
        linked = await admin.do("POST", path, GOOGLE | {"subject": "Svc@Project.Example"})
        assert [each["subject"] for each in linked["identities"]] == ["svc@project.example"]

        query = urlencode(GOOGLE | {"subject": "SVC@project.example"})
        assert (await admin.do("DELETE", f"{path}?{query}"))["identities"] == []
        odd = {"subject": "\u212aim@example.com"}
        refused(await admin.call("POST", path, GOOGLE | odd), 400, "sms.validation_error", "subject")
        refused(await admin.call("DELETE", f"{path}?{urlencode(GOOGLE | odd)}"), 400, "sms.validation_error", "subject")

    async def test_one_identity_has_one_client(self, admin: Caller, database: Database) -> None:
        await make_client(database, "one", roles=["viewer"])
        await make_client(database, "two", roles=["viewer"])
        await admin.do("POST", "/v1/clients/one/identities", GOOGLE)

        refused(await admin.call("POST", "/v1/clients/two/identities", GOOGLE), 409, "sms.conflict")
        query = "issuer=https://accounts.google.com&subject=107517467455664443766"
        refused(await admin.call("DELETE", f"/v1/clients/two/identities?{query}"), 404, "sms.not_found")

    async def test_linking_gives_and_so_needs_what_the_client_may(self, admin: Caller, service: Service) -> None:
        lesser = await make_caller(service, "lesser", scopes=["clients:manage"])

        refused(await lesser.call("POST", "/v1/clients/chief/identities", GOOGLE), 403, "sms.forbidden")

    @pytest.mark.parametrize(
        "changes", [{"subject": ""}, {"subject": "a b"}, {"issuer": "a\u0000"}, {"issuer": "a" * 301}]
    )
    async def test_what_no_claim_can_be_is_named(self, admin: Caller, changes: dict[str, str]) -> None:
        response = await admin.call("POST", "/v1/clients/chief/identities", GOOGLE | changes)

        refused(response, 400, "sms.validation_error", *changes)


class TestPermissions:
    async def test_reading_does_not_allow_changing(self, service: Service, admin: Caller) -> None:
        reader = await make_caller(service, "reader", scopes=["clients:read"])

        await reader.get("/v1/clients/chief")
        refused(await reader.call("POST", "/v1/clients/chief/disable"), 403, "sms.forbidden")

    async def test_a_test_key_of_an_admin_changes_nothing(self, service: Service, admin: Caller) -> None:
        key = await make_key(service.database, "chief", is_test=True)

        response = await service.client.post("/v1/clients/chief/disable", headers=bearer(key))

        refused(response, 403, "sms.forbidden")
