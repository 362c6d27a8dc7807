"""GET /v1/audit and `sms-foundation audit`: admins ask the log."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from sms_foundation.auth.audit.log import Action, record
from sms_foundation.auth.audit.schemas import AuditLog
from sms_foundation.auth.principal import Actor
from sms_foundation.core.config import Settings
from sms_foundation.core.db import Database, DatabaseUrl
from tests.support.access import bearer, make_client, make_key
from tests.support.api import Json, refused
from tests.support.command_line import run_python
from tests.support.service import Service, make_settings

DONE = [
    ("admin", Action.CLIENT_CREATE, "client", "billing"),
    ("admin", Action.KEY_CREATE, "key", "sf_live_aaaaaaaa"),
    ("billing", Action.MESSAGES_READ_CONTENT, "conversation", "c-1"),
    ("support", Action.MESSAGES_READ_CONTENT, "conversation", "c-1"),
    ("admin", Action.KEY_REVOKE, "key", "sf_live_aaaaaaaa"),
]


@pytest.fixture
def settings() -> Settings:
    """Everybody needs a key, and nothing happens in the background."""
    return make_settings(work_in_process=False, open_access=False, admin_api_key=None)


@pytest.fixture
async def api(service: Service, database: Database) -> httpx.AsyncClient:
    """An admin who reads the log, in which stands DONE, and before it what the first start did."""
    service.client.headers.update(bearer(await make_key(database, await make_client(database, "auditor"))))
    async with database.transaction() as connection:
        for client, action, kind, target in DONE:
            actor = Actor(client_id=client, credential="key sf_live_k3J9x2Qa", address="203.0.113.7", request_id="r-1")
            await record(connection, actor, action, target_kind=kind, target=target, details={"note": "n"})
    return service.client


async def entries(api: httpx.AsyncClient, **query: object) -> list[Json]:
    response = await api.get("/v1/audit", params=query)
    assert response.status_code == 200, response.text
    AuditLog.model_validate_json(response.content, extra="forbid")
    found: list[Json] = response.json()["entries"]
    return [each for each in found if each["request_id"] == "r-1"]


def done(found: list[Json]) -> list[tuple[str, ...]]:
    return [(each["actor"], each["action"], each["target_kind"], each["target"]) for each in found]


class TestListEntries:
    async def test_shows_everything_newest_first(self, api: httpx.AsyncClient) -> None:
        found = await entries(api)
        assert done(found) == [tuple(map(str, each)) for each in reversed(DONE)]
        assert found[0]["credential"] == "key sf_live_k3J9x2Qa"
        assert found[0]["address"] == "203.0.113.7"
        assert found[0]["details"] == {"note": "n"}

    async def test_filters_are_joined(self, api: httpx.AsyncClient) -> None:
        for query, places in [
            ({"actor": "admin"}, [4, 1, 0]),
            ({"action": "messages.read_content"}, [3, 2]),
            ({"target": "sf_live_aaaaaaaa"}, [4, 1]),
            ({"actor": "billing", "target": "c-1"}, [2]),
            ({"actor": "admin", "action": "key.revoke", "target": "sf_live_aaaaaaaa"}, [4]),
            ({"actor": "nobody"}, []),
        ]:
            assert done(await entries(api, **query)) == [tuple(map(str, DONE[place])) for place in places]

    async def test_time_bounds_what_was_done(self, api: httpx.AsyncClient) -> None:
        now = datetime.now(UTC)
        before, after = (now - timedelta(minutes=5)).isoformat(), (now + timedelta(minutes=5)).isoformat()
        assert len(await entries(api, since=before, until=after)) == 5
        assert await entries(api, since=after) == []
        assert await entries(api, until=before) == []

    async def test_pages_join_without_gap_or_repetition(self, api: httpx.AsyncClient) -> None:
        seen: list[str] = []
        query: Json = {"limit": 2}
        while True:
            page = (await api.get("/v1/audit", params=query)).json()
            seen += [each["id"] for each in page["entries"]]
            if page["next_cursor"] is None:
                break
            query["cursor"] = page["next_cursor"]
        assert seen == sorted(seen, reverse=True)
        assert len(set(seen)) == len(seen) >= 5

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("action", "key.steal"),
            ("since", "2026-11-20T09:00:00"),
            ("cursor", "nonsense"),
            ("limit", "0"),
            ("actor", "\0"),
        ],
    )
    async def test_wrong_parameter_is_named(self, api: httpx.AsyncClient, field: str, value: str) -> None:
        refused(await api.get("/v1/audit", params={field: value}), 400, "sms.validation_error", field)

    @pytest.mark.parametrize("role", ["viewer", "operator"])
    async def test_is_for_admins(self, service: Service, database: Database, role: str) -> None:
        headers = bearer(await make_key(database, await make_client(database, role, roles=[role])))
        refused(await service.client.get("/v1/audit", headers=headers), 403, "sms.forbidden")

    async def test_nothing_over_http_changes_it(self, api: httpx.AsyncClient) -> None:
        for method in ("POST", "PUT", "PATCH", "DELETE"):
            refused(await api.request(method, "/v1/audit"), 405, "sms.method_not_allowed")

    async def test_every_filter_is_answered_by_an_index(self, database: Database) -> None:
        for condition in ("actor = 'a'", "action = 'key.create'", "target = 't'", "id < gen_random_uuid()"):
            plan = await database.pool.fetch(
                f"EXPLAIN SELECT id FROM auth_audit_log WHERE {condition} ORDER BY id DESC LIMIT 20"
            )
            text = "\n".join(row[0] for row in plan)
            assert "Index" in text
            assert "Seq Scan" not in text
            assert "Sort" not in text


class TestCommand:
    async def run(self, url: DatabaseUrl, folder: Path, *arguments: str) -> list[str]:
        environment = {"DATABASE_URL": url.dsn, "PATH": "/usr/bin:/bin"}
        result = await run_python(["-m", "sms_foundation", "audit", *arguments], environment, folder)
        assert result.status == 0, result
        return result.lines

    async def test_prints_a_line_for_each(
        self, api: httpx.AsyncClient, database_url: DatabaseUrl, tmp_path: Path
    ) -> None:
        [line] = await self.run(database_url, tmp_path, "--action", "key.revoke")
        at, *rest = line.split("\t")
        assert datetime.fromisoformat(at).tzinfo is not None
        assert rest == [
            "admin",
            "key sf_live_k3J9x2Qa",
            "203.0.113.7",
            "key.revoke",
            "key sf_live_aaaaaaaa",
            '{"note": "n"}',
        ]
        assert await self.run(database_url, tmp_path, "--actor", "support", "--since", "2030-01-01") == ["no entries"]
