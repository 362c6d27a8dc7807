"""Whoever reads what messages say leaves a row, before they see it."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import orjson
import pytest

from sms_foundation.auth.audit.content_reads import AGAIN_S, ContentReads
from sms_foundation.auth.principal import Actor
from sms_foundation.core.config import Settings
from sms_foundation.core.db import Database, DatabaseUrl
from sms_foundation.core.ids import new_id
from tests.support.access import bearer, make_client, make_key
from tests.support.api import refused
from tests.support.service import TENANT_PHONE, Service, make_settings, running_service

ACTOR = Actor(client_id="billing", credential="key sf_live_k3J9x2Qa", address="203.0.113.7", request_id="r-1")


@pytest.fixture
def settings() -> Settings:
    """Everybody needs a key, and nothing happens in the background."""
    return make_settings(work_in_process=False, open_access=False)


@pytest.fixture
async def reads(database: Database) -> AsyncIterator[ContentReads]:
    reads = ContentReads(database)
    yield reads
    await reads.close()


async def rows(database: Database) -> list[asyncpg.Record]:
    found: list[asyncpg.Record] = await database.pool.fetch(
        "SELECT * FROM auth_audit_log WHERE action = 'messages.read_content' ORDER BY id"
    )
    return found


async def targets(database: Database) -> list[tuple[str, str]]:
    return [(row["target_kind"], row["target"]) for row in await rows(database)]


class TestNote:
    async def test_row_is_there_when_it_returns(self, reads: ContentReads, database: Database) -> None:
        id_ = new_id()
        await reads.note(ACTOR, "conversation", id_)
        [row] = await rows(database)
        told = ("actor", "credential", "address", "request_id", "target_kind", "target", "details")
        assert [row[name] for name in told] == [
            "billing",
            "key sf_live_k3J9x2Qa",
            "203.0.113.7",
            "r-1",
            "conversation",
            str(id_),
            "{}",
        ]

    async def test_the_same_again_within_five_minutes_leaves_no_second_row(self, database: Database) -> None:
        times = iter([1000.0, 1000.0 + AGAIN_S - 1, 1000.0 + AGAIN_S])
        now = next(times)
        reads = ContentReads(database, monotonic=lambda: now)
        for expected in (1, 1, 2):
            await reads.note(ACTOR, "message", "m-1")
            assert len(await rows(database)) == expected
            now = next(times, now)
        await reads.close()

    async def test_another_caller_credential_or_target_leaves_its_own(
        self, reads: ContentReads, database: Database
    ) -> None:
        for client, credential, target, details in [
            ("billing", "key a", "m-1", None),
            ("support", "key a", "m-1", None),
            ("billing", "key b", "m-1", None),
            ("billing", "key a", "m-2", None),
            ("billing", "key a", "m-1", {"count": 1}),
            ("billing", "key a", "m-1", {"count": 2}),
        ]:
            for _ in range(2):
                await reads.note(Actor(client_id=client, credential=credential), "message", target, details)
        assert len(await rows(database)) == 6

    async def test_reads_at_once_are_written_together(self, reads: ContentReads, database: Database) -> None:
        await asyncio.gather(*(reads.note(ACTOR, "message", new_id()) for _ in range(50)))
        assert len(await rows(database)) == 50
        transactions = await database.pool.fetchval("SELECT count(DISTINCT xmin::text) FROM auth_audit_log")
        assert transactions <= 3

    async def test_what_failed_to_be_written_is_written_the_next_time(
        self, reads: ContentReads, database: Database
    ) -> None:
        await database.pool.execute("ALTER TABLE auth_audit_log RENAME TO moved")
        with pytest.raises(asyncpg.UndefinedTableError):
            await reads.note(ACTOR, "message", "m-1")
        await database.pool.execute("ALTER TABLE moved RENAME TO auth_audit_log")
        await reads.note(ACTOR, "message", "m-1")
        assert len(await rows(database)) == 1


class TestRoutes:
    @pytest.fixture
    async def operator(self, database: Database) -> dict[str, str]:
        return bearer(await make_key(database, await make_client(database, "operator", roles=["operator"])))

    async def test_each_that_shows_content_leaves_one(
        self, service: Service, database: Database, operator: dict[str, str]
    ) -> None:
        await service.text("SM1", "Hola")
        await service.text("SM2", "No hay agua")
        conversation = str(await database.pool.fetchval("SELECT id FROM sms_conversations"))
        first, second = [
            str(row["id"]) for row in await database.pool.fetch("SELECT id FROM sms_messages ORDER BY conversation_seq")
        ]
        for path in (
            f"/conversations/{TENANT_PHONE}",
            f"/conversations/{TENANT_PHONE}?page=2&limit=1",
            "/messages/SM1",
            f"/v1/sms/{second}",
            "/v1/sms",
            "/conversations",
            "/conversations",
        ):
            assert (await service.client.get(path, headers=operator)).status_code == 200
        assert await targets(database) == [
            ("conversation", conversation),
            ("message", first),
            ("message", second),
            ("messages", "list"),
            ("conversations", "list"),
        ]
        listed = [orjson.loads(row["details"]) for row in (await rows(database))[3:]]
        assert listed == [
            {"count": 2, "newest": second, "oldest": first},
            {"count": 1, "first": conversation, "last": conversation},
        ]
        for row in await rows(database):
            assert row["actor"] == "operator"
            assert row["credential"].startswith("key sf_live_")
            text = "".join(str(value) for value in row.values())
            assert TENANT_PHONE[1:] not in text
            assert "Hola" not in text

    async def test_changes_that_are_answered_with_content_leave_one(
        self, service: Service, database: Database, operator: dict[str, str]
    ) -> None:
        body = {"to": TENANT_PHONE, "message": "Hola"}
        message = (await service.client.post("/v1/sms/send", json=body, headers=operator)).json()["id"]
        assert await targets(database) == []
        response = await service.client.post(f"/v1/sms/{message}/cancel", headers=operator)
        assert response.json()["message"] == "Hola"
        assert await targets(database) == [("message", message)]

    async def test_what_shows_nothing_leaves_none(
        self, service: Service, database: Database, operator: dict[str, str]
    ) -> None:
        assert (await service.client.get("/v1/sms", headers=operator)).status_code == 200
        assert (await service.client.get(f"/conversations/{TENANT_PHONE}", headers=operator)).status_code == 404
        await service.text("SM1", "Hola")
        viewer = bearer(await make_key(database, await make_client(database, "viewer", roles=["viewer"])))
        for path in ("/v1/sms", "/conversations", f"/conversations/{TENANT_PHONE}", "/messages/SM1"):
            assert (await service.client.get(path, headers=viewer)).status_code == 200
        assert await targets(database) == []

    async def test_no_content_is_shown_without_its_row(
        self, service: Service, database: Database, operator: dict[str, str]
    ) -> None:
        await service.text("SM1", "Hola")
        await database.pool.execute("ALTER TABLE auth_audit_log RENAME TO moved")
        for path in (f"/conversations/{TENANT_PHONE}", "/messages/SM1", "/v1/sms", "/conversations"):
            response = await service.client.get(path, headers=operator)
            refused(response, 503, "sms.unavailable")
            assert "Hola" not in response.text

    async def test_a_developer_on_this_machine_leaves_one_too(
        self, database_url: DatabaseUrl, database: Database
    ) -> None:
        settings = make_settings(work_in_process=False)
        async with running_service(settings, database_url, database) as service:
            await service.text("SM1", "Hola")
            assert (await service.client.get("/messages/SM1")).status_code == 200
        [row] = await rows(database)
        assert (row["actor"], row["credential"]) == ("local", "none: open access")
