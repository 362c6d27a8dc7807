"""The log is written with the change it tells about, and never changed again."""

import asyncpg
import orjson
import pytest

from sms_foundation.auth.audit.log import Action, record
from sms_foundation.auth.principal import COMMAND_LINE, Actor
from sms_foundation.core.db import Database

ACTOR = Actor(client_id="billing", credential="key sf_live_k3J9x2Qa", address="203.0.113.7", request_id="r-1")


async def record_one(database: Database, actor: Actor = ACTOR) -> None:
    async with database.transaction() as connection:
        await record(
            connection, actor, Action.KEY_CREATE, target_kind="key", target="sf_live_x", details={"scopes": ["a"]}
        )


class TestRecord:
    async def test_says_who_did_what_to_what_and_when(self, database: Database) -> None:
        await record_one(database)
        row = dict(await database.pool.fetchrow("SELECT * FROM auth_audit_log"))
        row["details"] = orjson.loads(row["details"])
        assert row.pop("id")
        assert row.pop("created_at") == await database.pool.fetchval("SELECT created_at FROM auth_audit_log")
        assert row == {
            "actor": "billing",
            "credential": "key sf_live_k3J9x2Qa",
            "address": "203.0.113.7",
            "request_id": "r-1",
            "action": "key.create",
            "target_kind": "key",
            "target": "sf_live_x",
            "details": {"scopes": ["a"]},
        }

    async def test_command_line_has_neither_address_nor_request(self, database: Database) -> None:
        await record_one(database, COMMAND_LINE)
        row = await database.pool.fetchrow("SELECT actor, address, request_id FROM auth_audit_log")
        assert tuple(row) == ("command-line", None, None)

    async def test_goes_with_a_change_that_is_undone(self, database: Database) -> None:
        async def fail() -> None:
            async with database.transaction() as connection:
                await record(connection, ACTOR, Action.KEY_REVOKE, target_kind="key", target="1")
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await fail()
        assert await database.pool.fetchval("SELECT count(*) FROM auth_audit_log") == 0


class TestAppendOnly:
    @pytest.mark.parametrize(
        "statement",
        [
            "UPDATE auth_audit_log SET actor = 'somebody else'",
            "DELETE FROM auth_audit_log",
            "TRUNCATE auth_audit_log",
            "INSERT INTO auth_audit_log SELECT * FROM auth_audit_log "
            "ON CONFLICT (id) DO UPDATE SET actor = 'somebody else'",
        ],
    )
    async def test_what_stands_there_stays(self, database: Database, statement: str) -> None:
        await record_one(database)
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="append-only"):
            await database.pool.execute(statement)
        assert await database.pool.fetchval("SELECT actor FROM auth_audit_log") == "billing"
