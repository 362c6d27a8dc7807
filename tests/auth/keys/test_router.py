"""/v1/keys: shown once, several per client, replaced with time to change over, revoked at once."""

from datetime import UTC, datetime, timedelta

import pytest
import time_machine

from sms_foundation.auth.keys.format import digest_of, is_test_key, is_well_formed, prefix_of
from sms_foundation.auth.keys.states import ApiKey
from sms_foundation.core.config import Settings
from sms_foundation.core.db import Database
from sms_foundation.core.ids import new_id
from tests.support.access import bearer, make_client, make_key
from tests.support.access_api import Caller, audit, make_caller
from tests.support.api import Document, Json, refused
from tests.support.processes import eventually
from tests.support.service import Service, make_settings

NEW = {"client_id": "rent", "name": "production"}
DAY_S = 86_400


@pytest.fixture
def settings() -> Settings:
    return make_settings(open_access=False, work_in_process=False)


@pytest.fixture
async def admin_key(database: Database) -> str:
    await make_client(database, "rent", roles=["operator"])
    return await make_key(database, await make_client(database, "chief"))


@pytest.fixture
async def admin(admin_key: str, service: Service) -> Caller:
    return Caller(service.client, admin_key)


@pytest.fixture
async def document(service: Service) -> Document:
    return Document((await service.client.get("/openapi.json")).json())


def moment(text: str | None) -> datetime:
    assert text is not None
    return datetime.fromisoformat(text)


async def is_accepted(service: Service, key: str, path: str = "/v1/sms") -> bool:
    status = (await service.client.get(path, headers=bearer(key))).status_code
    assert status in (200, 401)
    return status == 200


class TestCreate:
    async def test_shows_the_key_which_works_at_once(self, admin: Caller, service: Service, document: Document) -> None:
        made = await admin.do("POST", "/v1/keys", NEW, status=201)

        document.check(made, document.response("post", "/v1/keys", 201))
        assert is_well_formed(made["key"])
        assert made["prefix"] == prefix_of(made["key"])
        assert (made["client_id"], made["name"], made["state"], made["is_test"]) == (
            "rent",
            "production",
            "active",
            False,
        )
        assert (made["scopes"], made["networks"], made["expires_at"], made["last_used_at"]) == (None, [], None, None)
        assert await is_accepted(service, made["key"])

    async def test_the_key_and_its_digest_are_never_shown_again(self, admin: Caller, database: Database) -> None:
        made = await admin.do("POST", "/v1/keys", NEW, status=201)
        secret = made["key"].rpartition("_")[2]
        stored = await database.pool.fetchval("SELECT digest FROM auth_api_keys WHERE client_id = 'rent'")
        assert stored == digest_of(made["key"])

        shown = [
            (await admin.call("GET", path)).text
            for path in (
                "/v1/keys",
                f"/v1/keys/{made['id']}",
                "/v1/keys?client_id=rent",
                "/v1/clients/rent",
                "/v1/audit",
            )
        ]
        shown.append((await admin.call("POST", f"/v1/keys/{made['id']}/revoke")).text)
        shown.append(str(await database.pool.fetch("SELECT * FROM auth_audit_log")))

        for text in shown:
            assert secret not in text
            assert stored.hex() not in text
            assert "digest" not in text
        dump = str([dict(row) for row in await database.pool.fetch("SELECT * FROM auth_api_keys")])
        assert secret not in dump

    async def test_a_client_has_several(self, admin: Caller, service: Service) -> None:
        made = [await admin.do("POST", "/v1/keys", NEW, status=201) for _ in range(3)]

        assert len({each["key"] for each in made}) == 3
        assert all([await is_accepted(service, each["key"]) for each in made])

    async def test_takes_scopes_networks_an_end_and_a_test_flag(self, admin: Caller, document: Document) -> None:
        made = await admin.do(
            "POST",
            "/v1/keys",
            NEW
            | {
                "is_test": True,
                "scopes": ["messages:send", "messages:read", "messages:send"],
                "networks": ["203.0.113.0/24", "2001:db8::1", "10.0.0.1"],
                "expires_at": "2100-01-01T00:00:00+01:00",
            },
            status=201,
        )

        document.check(made, document.response("post", "/v1/keys", 201))
        assert is_test_key(made["key"])
        assert made["is_test"]
        assert made["scopes"] == ["messages:read", "messages:send"]
        assert made["networks"] == ["203.0.113.0/24", "2001:db8::1/128", "10.0.0.1/32"]
        assert made["expires_at"] == "2099-12-31T23:00:00Z"

    @pytest.mark.parametrize(
        ("changes", "field"),
        [
            ({"client_id": "nobody-here"}, "client_id"),
            ({"client_id": ""}, "client_id"),
            ({"name": ""}, "name"),
            ({"name": "  "}, "name"),
            ({"name": "a\u0000"}, "name"),
            ({"scopes": []}, "scopes"),
            ({"scopes": ["messages:sent"]}, "scopes.0"),
            ({"scopes": ["clients:manage"]}, "scopes"),
            ({"networks": ["10.0.0.1/8"]}, "networks"),
            ({"networks": ["localhost"]}, "networks"),
            ({"networks": ["10.0.0.1"] * 51}, "networks"),
            ({"expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
            ({"expires_at": "2100-01-01T00:00:00"}, "expires_at"),
            ({"expires_at": "tomorrow"}, "expires_at"),
            ({"expires_at": "9999-12-31T23:59:59-05:00"}, "expires_at"),
            ({"expires_at": "0001-01-01T00:00:00+05:00"}, "expires_at"),
            ({"key": "sf_live_mine"}, "key"),
        ],
    )
    async def test_what_is_wrong_is_named(self, admin: Caller, changes: Json, field: str) -> None:
        refused(await admin.call("POST", "/v1/keys", NEW | changes), 400, "sms.validation_error", field)

    async def test_for_a_disabled_client_is_409(self, admin: Caller) -> None:
        await admin.do("POST", "/v1/clients/rent/disable")

        refused(await admin.call("POST", "/v1/keys", NEW), 409, "sms.conflict")

    async def test_nobody_makes_a_key_that_may_more_than_they(self, service: Service, admin: Caller) -> None:
        lesser = await make_caller(service, "lesser", scopes=["clients:manage", "clients:read", "messages:send"])

        for asked in (NEW, NEW | {"scopes": ["messages:read"]}, NEW | {"client_id": "chief"}):
            refused(await lesser.call("POST", "/v1/keys", asked), 403, "sms.forbidden")
        await lesser.do("POST", "/v1/keys", NEW | {"scopes": ["messages:send"]}, status=201)

    async def test_a_repetition_with_the_same_idempotency_key_shows_the_same_key(
        self, admin: Caller, database: Database
    ) -> None:
        first, second = [await admin.call("POST", "/v1/keys", NEW, Idempotency_Key="k") for _ in range(2)]

        assert first.json() == second.json()
        assert second.headers["x-idempotent-replayed"] == "true"
        secret = first.json()["key"].rpartition("_")[2].encode()
        stored = await database.pool.fetchval("SELECT answer FROM idempotency_keys")
        assert secret not in stored

    async def test_a_confined_key_of_the_same_client_gets_no_kept_answer_with_a_key_in_it(
        self, service: Service, admin: Caller, database: Database
    ) -> None:
        confined = await make_key(database, "chief", scopes=["clients:manage", "messages:read_content"])
        asked = {"client_id": "chief", "name": "more"}
        made = await admin.call("POST", "/v1/keys", asked, Idempotency_Key="make-one")

        answer = await Caller(service.client, confined).call("POST", "/v1/keys", asked, Idempotency_Key="make-one")

        assert made.status_code == 201
        refused(answer, 422, "sms.idempotency_conflict")
        assert made.json()["key"] not in answer.text

    async def test_a_test_key_is_not_answered_what_a_live_one_did(
        self, service: Service, admin: Caller, database: Database
    ) -> None:
        tester = Caller(service.client, await make_key(database, "chief", is_test=True, scopes=["messages:send"]))
        live = Caller(service.client, await make_key(database, "chief", scopes=["messages:send"]))
        asked = {"messages": [{"to": "+14155550123", "message": "Hi"}]}

        first = await live.call("POST", "/v1/sms/send/batch", asked, Idempotency_Key="one")
        second = await tester.call("POST", "/v1/sms/send/batch", asked, Idempotency_Key="one")

        assert (first.status_code, second.status_code) == (202, 202)
        assert "x-idempotent-replayed" not in second.headers
        assert await database.pool.fetch("SELECT is_test FROM sms_messages ORDER BY id") == [(False,), (True,)]

    async def test_is_in_the_audit_log(self, admin: Caller, database: Database) -> None:
        made = await admin.do("POST", "/v1/keys", NEW, status=201)

        assert await audit(database) == [("chief", "key.create", "key", made["id"])]


class TestList:
    async def test_pages_hold_every_key_once_newest_first(
        self, admin: Caller, database: Database, document: Document
    ) -> None:
        made = [await admin.do("POST", "/v1/keys", NEW | {"name": str(number)}, status=201) for number in range(5)]
        names: list[str] = []
        cursor = None
        while True:
            page = await admin.get("/v1/keys", client_id="rent", limit=2, **({"cursor": cursor} if cursor else {}))
            document.check(page, document.response("get", "/v1/keys", 200))
            names += [each["name"] for each in page["keys"]]
            cursor = page["next_cursor"]
            if cursor is None:
                break

        assert names == ["4", "3", "2", "1", "0"]
        everybodys = (await admin.get("/v1/keys"))["keys"]
        assert [each["client_id"] for each in everybodys] == ["rent"] * 5 + ["chief"]
        assert await admin.get(f"/v1/keys/{made[0]['id']}") == everybodys[4]

    async def test_says_when_a_key_was_last_used(self, admin: Caller) -> None:
        async def used_at() -> str | None:
            (key,) = (await admin.get("/v1/keys", client_id="chief"))["keys"]
            return str(key["last_used_at"]) if key["last_used_at"] else None

        async def is_noted() -> bool:
            return await used_at() is not None

        await eventually(is_noted, "the use is noted, beside the answers")  # the first is on its way before it is
        assert datetime.now(UTC) - moment(await used_at()) < timedelta(minutes=1)

    @pytest.mark.parametrize("cursor", ["x", "WzFd", "WyJhIl0"])
    async def test_a_cursor_of_somebody_elses_is_refused(self, admin: Caller, cursor: str) -> None:
        refused(await admin.call("GET", f"/v1/keys?cursor={cursor}"), 400, "sms.validation_error", "cursor")


class TestRevoke:
    async def test_the_key_is_refused_at_once_and_repeating_changes_nothing(
        self, admin: Caller, service: Service, document: Document
    ) -> None:
        made = await admin.do("POST", "/v1/keys", NEW, status=201)
        assert await is_accepted(service, made["key"])

        first, second = [await admin.do("POST", f"/v1/keys/{made['id']}/revoke") for _ in range(2)]

        document.check(first, document.response("post", "/v1/keys/{key_id}/revoke", 200))
        assert first == second
        assert first["state"] == "revoked"
        assert not await is_accepted(service, made["key"])
        assert [entry[1] for entry in await audit(service.database)] == ["key.create", "key.revoke"]

    async def test_of_those_who_may_more_is_not_for_those_who_may_less(self, admin: Caller, service: Service) -> None:
        key_id = (await admin.do("POST", "/v1/keys", {"client_id": "chief", "name": "x"}, status=201))["id"]
        manager = await make_caller(service, "manager", scopes=["clients:read", "clients:manage"])

        refused(await manager.call("POST", f"/v1/keys/{key_id}/revoke"), 403, "sms.forbidden")

        assert (await admin.get(f"/v1/keys/{key_id}"))["state"] == "active"

    async def test_other_keys_of_the_client_go_on(self, admin: Caller, service: Service) -> None:
        one, two = [await admin.do("POST", "/v1/keys", NEW, status=201) for _ in range(2)]

        await admin.do("POST", f"/v1/keys/{one['id']}/revoke")

        assert await is_accepted(service, two["key"])

    async def test_of_a_key_there_is_not_is_404(self, admin: Caller) -> None:
        for path in ("/revoke", "/rotate"):
            refused(await admin.call("POST", f"/v1/keys/{new_id()}{path}"), 404, "sms.not_found")
        refused(await admin.call("GET", f"/v1/keys/{new_id()}"), 404, "sms.not_found")
        refused(await admin.call("GET", "/v1/keys/x"), 400, "sms.validation_error", "key_id")


class TestRotate:
    async def test_the_new_key_is_like_the_old_one_which_works_for_a_day_more(
        self, admin: Caller, service: Service, document: Document
    ) -> None:
        asked = NEW | {"scopes": ["messages:read"], "networks": ["127.0.0.0/8"], "is_test": True}
        old = await admin.do("POST", "/v1/keys", asked, status=201)

        new = await admin.do("POST", f"/v1/keys/{old['id']}/rotate", status=201)

        document.check(new, document.response("post", "/v1/keys/{key_id}/rotate", 201))
        same = ("client_id", "name", "scopes", "networks", "is_test", "expires_at")
        assert {name: new[name] for name in same} == {name: old[name] for name in same}
        assert (new["replaces"], new["state"]) == (old["id"], "active")
        assert await is_accepted(service, old["key"])
        assert await is_accepted(service, new["key"])
        shown = await admin.get(f"/v1/keys/{old['id']}")
        assert shown["state"] == "expiring"
        left = moment(shown["revoked_at"]) - datetime.now(UTC)
        assert timedelta(hours=23, minutes=55) < left <= timedelta(hours=24)

        with time_machine.travel(datetime.now(UTC) + timedelta(hours=24), tick=True):
            assert not await is_accepted(service, old["key"])
            assert await is_accepted(service, new["key"])
            assert (await admin.get(f"/v1/keys/{old['id']}"))["state"] == "revoked"

    async def test_grace_is_ones_own_choice_and_may_be_none(self, admin: Caller, service: Service) -> None:
        old = await admin.do("POST", "/v1/keys", NEW, status=201)
        assert await is_accepted(service, old["key"])

        new = await admin.do("POST", f"/v1/keys/{old['id']}/rotate", {"grace_s": 0}, status=201)

        assert not await is_accepted(service, old["key"])
        assert await is_accepted(service, new["key"])

    async def test_the_new_key_lives_as_long_as_the_old_one_was_given(self, admin: Caller) -> None:
        end = datetime.now(UTC) + timedelta(days=30)
        old = await admin.do("POST", "/v1/keys", NEW | {"expires_at": end.isoformat()}, status=201)
        with time_machine.travel(datetime.now(UTC) + timedelta(days=29), tick=True):
            new = await admin.do("POST", f"/v1/keys/{old['id']}/rotate", status=201)
            chosen = await admin.do(
                "POST", f"/v1/keys/{new['id']}/rotate", {"expires_at": "2100-01-01T00:00:00Z"}, status=201
            )

        assert moment(new["expires_at"]) - moment(new["created_at"]) == moment(old["expires_at"]) - moment(
            old["created_at"]
        )
        assert chosen["expires_at"] == "2100-01-01T00:00:00Z"

    async def test_a_key_that_is_over_or_was_rotated_is_409(self, admin: Caller, database: Database) -> None:
        rotated, revoked = [await admin.do("POST", "/v1/keys", NEW, status=201) for _ in range(2)]
        await admin.do("POST", f"/v1/keys/{rotated['id']}/rotate", status=201)
        await admin.do("POST", f"/v1/keys/{revoked['id']}/revoke")
        await make_key(database, "rent", expires_at=datetime.now(UTC) - timedelta(seconds=1))
        expired = (await admin.get("/v1/keys"))["keys"][0]

        for each in (rotated, revoked, expired):
            refused(await admin.call("POST", f"/v1/keys/{each['id']}/rotate"), 409, "sms.conflict")

    async def test_a_key_being_replaced_can_still_be_revoked(self, admin: Caller, service: Service) -> None:
        old = await admin.do("POST", "/v1/keys", NEW, status=201)
        await admin.do("POST", f"/v1/keys/{old['id']}/rotate", status=201)

        assert (await admin.do("POST", f"/v1/keys/{old['id']}/revoke"))["state"] == "revoked"
        assert not await is_accepted(service, old["key"])

    async def test_gives_and_so_needs_what_the_key_may(self, admin: Caller, service: Service) -> None:
        lesser = await make_caller(service, "lesser", scopes=["clients:manage", "messages:read"])
        whole = await admin.do("POST", "/v1/keys", NEW, status=201)
        confined = await admin.do("POST", "/v1/keys", NEW | {"scopes": ["messages:read"]}, status=201)

        refused(await lesser.call("POST", f"/v1/keys/{whole['id']}/rotate"), 403, "sms.forbidden")
        assert await is_accepted(service, whole["key"])
        await lesser.do("POST", f"/v1/keys/{confined['id']}/rotate", status=201)

    @pytest.mark.parametrize(
        ("body", "field"),
        [
            ({"grace_s": -1}, "grace_s"),
            ({"grace_s": 31 * DAY_S}, "grace_s"),
            ({"expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
        ],
    )
    async def test_what_is_wrong_is_named(self, admin: Caller, body: Json, field: str) -> None:
        made = await admin.do("POST", "/v1/keys", NEW, status=201)

        response = await admin.call("POST", f"/v1/keys/{made['id']}/rotate", body)

        refused(response, 400, "sms.validation_error", field)

    async def test_scopes_of_another_version_stay_as_they_are(self, admin: Caller, database: Database) -> None:
        key_id = new_id()
        await database.pool.execute(
            "INSERT INTO auth_api_keys (id, client_id, name, prefix, digest, is_test, scopes) "
            "VALUES ($1, 'rent', 'old', 'p', 'd', false, '{galaxies:read}')",
            key_id,
        )

        assert (await admin.do("POST", f"/v1/keys/{key_id}/rotate", status=201))["scopes"] == ["galaxies:read"]


class TestState:
    NOW = datetime(2026, 11, 20, tzinfo=UTC)

    @pytest.mark.parametrize(
        ("expires_in", "revoked_in", "state"),
        [
            (None, None, "active"),
            (8 * DAY_S, None, "active"),
            (7 * DAY_S, None, "expiring"),
            (1, None, "expiring"),
            (0, None, "expired"),
            (None, 1, "expiring"),
            (None, 0, "revoked"),
            (-5, -5, "revoked"),
            (-5, 5, "expired"),
            (8 * DAY_S, 5, "expiring"),
        ],
    )
    def test_is_what_happens_to_it(self, expires_in: int | None, revoked_in: int | None, state: str) -> None:
        def at(seconds: int | None) -> datetime | None:
            return None if seconds is None else self.NOW + timedelta(seconds=seconds)

        key = ApiKey(
            id=new_id(),
            client_id="rent",
            name="",
            prefix="",
            is_test=False,
            scopes=None,
            networks=(),
            created_at=self.NOW,
            expires_at=at(expires_in),
            revoked_at=at(revoked_in),
        )

        assert key.state(self.NOW) == state
