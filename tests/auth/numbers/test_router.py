"""Rules for numbers over HTTP: who may see and change them, what they do to sends, and what is left in the log."""

import json
from uuid import UUID

import httpx
import pytest

from sms_foundation.auth.numbers import repository
from sms_foundation.core.config import Settings
from sms_foundation.core.db import Database, DatabaseUrl
from tests.support.access import bearer, make_client, make_key
from tests.support.api import Document, Json, refused
from tests.support.processes import eventually
from tests.support.service import TENANT_PHONE, Service, make_settings, running_service

RULES = "/v1/number-rules"
PREMIUM = "+19005550123"


@pytest.fixture
def settings() -> Settings:
    return make_settings(work_in_process=False)


@pytest.fixture
def api(service: Service) -> httpx.AsyncClient:
    return service.client


async def set_rule(api: httpx.AsyncClient, prefix: str, *, is_allowed: bool = False, note: str = "") -> httpx.Response:
    return await api.post(RULES, json={"prefix": prefix, "is_allowed": is_allowed, "note": note})


async def send(api: httpx.AsyncClient, to: str, **more: object) -> httpx.Response:
    return await api.post("/v1/sms/send", json={"to": to, "message": "Hello", **more})


async def listed(api: httpx.AsyncClient, **params: object) -> Json:
    answer = await api.get(RULES, params={name: str(value) for name, value in params.items()})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def audit_rows(database: Database) -> list[tuple[str, str, str, str]]:
    rows = await database.pool.fetch(
        "SELECT actor, action, target, details::text FROM auth_audit_log WHERE action LIKE 'number_rule.%' ORDER BY id"
    )
    return [tuple(row) for row in rows]


async def reads(database: Database) -> list[tuple[str, str, str, Json]]:
    """Return who was shown whole numbers: the client, what, which, and the details."""
    rows = await database.pool.fetch(
        "SELECT actor, target_kind, target, details::text FROM auth_audit_log "
        "WHERE action = 'messages.read_content' ORDER BY id"
    )
    return [(row[0], row[1], row[2], json.loads(row[3])) for row in rows]


async def as_role(service: Service, *roles: str) -> dict[str, str]:
    name = "-".join(roles) or "nobody-special"
    return bearer(await make_key(service.database, await make_client(service.database, name, roles=roles)))


class TestSet:
    async def test_answers_with_the_rule(self, api: httpx.AsyncClient) -> None:
        answer = await set_rule(api, "+1 (900)", note="premium numbers")

        assert answer.status_code == 200
        rule = answer.json()
        assert rule.pop("created_at")
        assert rule == {"prefix": "+1900", "is_allowed": False, "note": "premium numbers", "created_by": "local"}

    async def test_the_same_prefix_again_is_changed(self, api: httpx.AsyncClient) -> None:
        await set_rule(api, "+1900")
        await set_rule(api, "+1900", is_allowed=True, note="after all")

        (rule,) = (await listed(api))["rules"]

        assert (rule["prefix"], rule["is_allowed"], rule["note"]) == ("+1900", True, "after all")

    @pytest.mark.parametrize(
        ("body", "field"),
        [
            ({"prefix": "*", "is_allowed": False}, "prefix"),
            ({"prefix": "1" * 41, "is_allowed": False}, "prefix"),
            ({"prefix": "+1\x00", "is_allowed": False}, "prefix"),
            ({"prefix": "+1"}, "is_allowed"),
            ({"prefix": "+1", "is_allowed": "yes"}, "is_allowed"),
            ({"prefix": "+1", "is_allowed": True, "note": "a" * 501}, "note"),
            ({"prefix": "+1", "is_allowed": True, "note": "\x00"}, "note"),
            ({"prefix": "+1", "is_allowed": True, "why": ""}, "why"),
        ],
    )
    async def test_what_makes_no_sense_is_named(self, api: httpx.AsyncClient, body: Json, field: str) -> None:
        refused(await api.post(RULES, json=body), 400, "sms.validation_error", field)
        assert (await listed(api))["rules"] == []

    async def test_a_repetition_with_the_same_key_is_done_once(
        self, api: httpx.AsyncClient, database: Database
    ) -> None:
        body, headers = {"prefix": "+1900", "is_allowed": False}, {"Idempotency-Key": "k"}

        first, second = [await api.post(RULES, json=body, headers=headers) for _ in range(2)]

        assert first.json() == second.json()
        assert second.headers["x-idempotent-replayed"] == "true"
        assert len(await audit_rows(database)) == 1


class TestList:
    async def test_pages_follow_each_other_last_made_first(self, api: httpx.AsyncClient) -> None:
        for n in range(5):
            await set_rule(api, f"+190{n}")

        pages = [await listed(api, limit=2)]
        while cursor := pages[-1]["next_cursor"]:
            pages.append(await listed(api, limit=2, cursor=cursor))

        assert [rule["prefix"] for page in pages for rule in page["rules"]] == [f"+190{n}" for n in (4, 3, 2, 1, 0)]
        assert [len(page["rules"]) for page in pages] == [2, 2, 1]

    @pytest.mark.parametrize("cursor", ["", "x", "WzFd", "WyJub3BlIl0"])
    async def test_a_cursor_that_is_none_of_ours_is_named(self, api: httpx.AsyncClient, cursor: str) -> None:
        refused(await api.get(RULES, params={"cursor": cursor}), 400, "sms.validation_error", "cursor")

    async def test_whole_numbers_are_hidden_from_those_who_may_not_see_content(
        self, api: httpx.AsyncClient, service: Service
    ) -> None:
        for prefix in (TENANT_PHONE, "+1900", "87654321"):
            await set_rule(api, prefix)
        viewer, operator = await as_role(service, "viewer"), await as_role(service, "operator")

        seen = await api.get(RULES, headers=viewer, params={"limit": 2})
        rest = await api.get(RULES, headers=viewer, params={"cursor": seen.json()["next_cursor"]})
        everything = await api.get(RULES, headers=operator)

        prefixes = [rule["prefix"] for answer in (seen, rest) for rule in answer.json()["rules"]]
        assert prefixes == ["***4321", "+1900", "***0123"]
        assert [rule["prefix"] for rule in everything.json()["rules"]] == ["87654321", "+1900", TENANT_PHONE]

    async def test_a_page_reads_what_it_shows_however_deep_it_is(self, database: Database) -> None:
        await database.pool.execute(
            "INSERT INTO auth_number_rules (id, prefix, is_allowed, note, created_by) "
            "SELECT ('00000000-0000-7000-8000-' || lpad(n::text, 12, '0'))::uuid, '+1' || n, false, '', 'local' "
            "FROM generate_series(1, 3000) AS n"
        )
        read = "SELECT idx_tup_fetch + seq_tup_read FROM pg_stat_xact_user_tables WHERE relname = 'auth_number_rules'"
        async with database.transaction() as connection:
            before = await connection.fetchval(read)
            rows = await repository.list_rules(connection, after=UUID("00000000-0000-7000-8000-000000000100"), limit=10)
            fetched = await connection.fetchval(read) - before

        assert [row["prefix"] for row in rows] == [f"+1{n}" for n in range(99, 89, -1)]
        assert fetched <= 11


class TestDelete:
    @pytest.mark.parametrize("spelling", ["+1900", "%2B1900", "%2B1%20900"])
    async def test_a_rule_is_gone(self, api: httpx.AsyncClient, spelling: str) -> None:
        await set_rule(api, "+1900")

        assert (await api.delete(f"{RULES}/{spelling}")).status_code == 204
        assert (await listed(api))["rules"] == []
        assert (await send(api, PREMIUM)).status_code == 202

    async def test_one_that_is_not_there_is_404(self, api: httpx.AsyncClient, database: Database) -> None:
        refused(await api.delete(f"{RULES}/+1900"), 404, "sms.not_found")
        assert await audit_rows(database) == []

    async def test_what_is_no_prefix_is_400(self, api: httpx.AsyncClient) -> None:
        refused(await api.delete(f"{RULES}/nobody"), 400, "sms.validation_error", "prefix")


class TestPermissions:
    async def test_viewers_see_operators_change_and_others_do_neither(
        self, api: httpx.AsyncClient, service: Service
    ) -> None:
        body = {"prefix": "+1900", "is_allowed": False}
        statuses = {}
        for roles in (("viewer",), ("operator",), ()):
            headers = await as_role(service, *roles)
            statuses[roles] = [
                (await api.get(RULES, headers=headers)).status_code,
                (await api.post(RULES, json=body, headers=headers)).status_code,
                (await api.delete(f"{RULES}/+1900", headers=headers)).status_code,
            ]

        assert statuses == {("viewer",): [200, 403, 403], ("operator",): [200, 200, 204], (): [403, 403, 403]}

    async def test_a_test_key_changes_nothing(self, api: httpx.AsyncClient, database: Database) -> None:
        headers = bearer(await make_key(database, await make_client(database), is_test=True))
        answer = await api.post(RULES, json={"prefix": "+1900", "is_allowed": False}, headers=headers)
        assert answer.status_code == 403


class TestAudit:
    async def test_every_change_is_in_the_log_and_never_a_whole_number(
        self, api: httpx.AsyncClient, service: Service
    ) -> None:
        headers = await as_role(service, "operator")
        await api.post(RULES, json={"prefix": "+1900", "is_allowed": False, "note": TENANT_PHONE}, headers=headers)
        await api.post(RULES, json={"prefix": TENANT_PHONE, "is_allowed": True}, headers=headers)
        await api.delete(f"{RULES}/{TENANT_PHONE}", headers=headers)

        rows = await audit_rows(service.database)

        assert rows == [
            ("operator", "number_rule.set", "+1900", '{"is_allowed": false}'),
            ("operator", "number_rule.set", "***0123", '{"is_allowed": true}'),
            ("operator", "number_rule.delete", "***0123", "{}"),
        ]

    async def test_whole_numbers_are_shown_to_nobody_without_a_row_that_says_so(
        self, api: httpx.AsyncClient, service: Service
    ) -> None:
        for prefix in (TENANT_PHONE, "+1900", "87654321"):
            await set_rule(api, prefix)
        viewer, operator = await as_role(service, "viewer"), await as_role(service, "operator")

        for headers in (viewer, operator, operator):
            await api.get(RULES, headers=headers)

        lists = [row for row in await reads(service.database) if row[2] == "list"]
        assert [(actor, kind, details["count"]) for actor, kind, _, details in lists] == [
            ("operator", "number_rules", 2)
        ]

    async def test_each_page_with_whole_numbers_leaves_its_own_row(
        self, api: httpx.AsyncClient, database: Database
    ) -> None:
        for prefix in ("+14155550101", "+14155550102", "+1900", "+1901"):
            await set_rule(api, prefix)
        before = len(await reads(database))

        cursor = (await listed(api, limit=2))["next_cursor"]
        assert len(await reads(database)) == before
        for _ in range(2):
            cursor = (await listed(api, limit=1, cursor=cursor))["next_cursor"]

        assert len(await reads(database)) == before + 2

    async def test_setting_shows_a_whole_number_and_leaves_a_row_a_prefix_none(
        self, api: httpx.AsyncClient, service: Service
    ) -> None:
        await set_rule(api, "+1900")
        await set_rule(api, TENANT_PHONE)

        assert await reads(service.database) == [("local", "number_rule", "***0123", {})]


class TestSending:
    async def test_denied_number_is_403_without_the_number_and_nothing_is_stored(
        self, api: httpx.AsyncClient, database: Database
    ) -> None:
        await set_rule(api, "+1900")

        answer = await send(api, PREMIUM)

        error = refused(answer, 403, "sms.number_not_allowed")
        assert error["details"] == {"number": "***0123"}
        assert PREMIUM[:8] not in answer.text
        assert await database.pool.fetchval("SELECT count(*) FROM sms_messages") == 0
        assert (await send(api, TENANT_PHONE)).status_code == 202

    async def test_with_an_allowlist_all_others_are_403(self, api: httpx.AsyncClient) -> None:
        await set_rule(api, "+1415", is_allowed=True)

        assert (await send(api, TENANT_PHONE)).status_code == 202
        refused(await send(api, "+447700900123"), 403, "sms.number_not_allowed")

    async def test_older_ways_in_ask_too(self, api: httpx.AsyncClient) -> None:
        await set_rule(api, "+1900")
        for path in ("/sms/send", "/api/sms", "/messages/send"):
            refused(await api.post(path, json={"to": PREMIUM, "body": "Hi"}), 403, "sms.number_not_allowed")

    async def test_in_a_batch_a_denied_number_harms_no_other(self, api: httpx.AsyncClient) -> None:
        await set_rule(api, "+1900")
        messages = [{"to": to, "message": "Hi"} for to in (TENANT_PHONE, PREMIUM, "nobody", "+14155550199")]

        answer = (await api.post("/v1/sms/send/batch", json={"messages": messages})).json()

        assert [each["status"] for each in answer["results"]] == [202, 403, 400, 202]
        assert answer["results"][1]["error"]["code"] == "sms.number_not_allowed"
        assert PREMIUM[:8] not in str(answer["results"][1])

    async def test_what_was_accepted_before_the_rule_is_answered_the_same_again(self, api: httpx.AsyncClient) -> None:
        first = await send(api, PREMIUM, idempotency_key="k")
        await set_rule(api, "+1900")

        again = await send(api, PREMIUM, idempotency_key="k")

        assert (again.status_code, again.json()["id"]) == (202, first.json()["id"])

    async def test_a_denied_number_is_not_counted_against_its_limit(
        self, database_url: DatabaseUrl, database: Database
    ) -> None:
        settings = make_settings(work_in_process=False, number_limit="1/1h")
        async with running_service(settings, database_url, database) as service:
            await set_rule(service.client, "+1900")
            for _ in range(3):
                refused(await send(service.client, PREMIUM), 403, "sms.number_not_allowed")
            await service.client.delete(f"{RULES}/+1900")

            assert (await send(service.client, PREMIUM)).status_code == 202
            assert (await send(service.client, PREMIUM)).status_code == 429

    async def test_another_instance_goes_by_a_new_rule_within_seconds(
        self, service: Service, settings: Settings, database_url: DatabaseUrl, database: Database
    ) -> None:
        async with running_service(settings, database_url, database) as other:
            assert (await send(other.client, PREMIUM)).status_code == 202
            await set_rule(service.client, "+1900")
            refused(await send(service.client, PREMIUM), 403, "sms.number_not_allowed")

            async def is_denied() -> bool:
                return (await send(other.client, PREMIUM)).status_code == 403

            await eventually(is_denied, "the other instance knows the rule")


class TestDocument:
    async def test_answers_are_as_documented(self, api: httpx.AsyncClient) -> None:
        document = Document((await api.get("/openapi.json")).json())
        rule = (await set_rule(api, "+1900", note="why")).json()

        document.check(rule, document.response("post", RULES, 200))
        document.check(await listed(api), document.response("get", RULES, 200))
        assert document.paths[RULES]["post"]["x-permission"] == "numbers:write"
        assert document.paths[RULES]["get"]["x-permission"] == "numbers:read"
