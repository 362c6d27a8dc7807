"""`sms-foundation clients`, `keys` and `roles`: an operator's way from nothing to a caller, and back."""

import re
from datetime import UTC, datetime, timedelta

import pytest

from sms_foundation.auth.keys.format import digest_of, is_test_key, is_well_formed, prefix_of
from sms_foundation.core.db import Database
from tests.support.access import make_client, make_key
from tests.support.access_api import audit
from tests.support.command_line import NOWHERE, RunAll, assert_one_line

GOOGLE = ("https://accounts.google.com", "107517467455664443766")


@pytest.fixture
def variables(database: Database) -> dict[str, str]:
    return {"DATABASE_URL": database.url.dsn}


class TestClients:
    async def test_are_created_shown_changed_and_disabled(
        self, run_all: RunAll, database: Database, variables: dict[str, str]
    ) -> None:
        results = await run_all(
            ["clients", "create", "rent", "--role", "operator", "--role", "viewer", "--display-name", "Rent"],
            ["clients", "limit", "rent", "100/1s"],
            ["clients", "roles", "rent", "viewer"],
            ["clients", "link", "rent", *GOOGLE],
            ["clients", "show", "rent"],
            ["clients", "unlink", "rent", *GOOGLE],
            ["clients", "limit", "rent", "default"],
            ["clients", "disable", "rent"],
            ["clients", "list"],
            ["clients", "enable", "rent"],
            **variables,
        )

        assert [(result.status, result.err) for result in results] == [(0, "")] * len(results)
        created, limited, demoted, _, shown, _, default, disabled, listed, enabled = results
        assert created.out == "rent\tservice\tactive\toperator,viewer\tdefault\tRent\n"
        assert limited.out == "rent\tservice\tactive\toperator,viewer\t100/1s\tRent\n"
        assert demoted.out == "rent\tservice\tactive\tviewer\t100/1s\tRent\n"
        words = [" ".join(line.split()) for line in shown.lines]
        assert words[:5] == [
            "rent service, active",
            "name Rent",
            "roles viewer",
            "allowed messages:read, numbers:read",
            "request limit 100/1s",
        ]
        assert words[-1] == f"identity {' '.join(GOOGLE)}"
        assert default.out == "rent\tservice\tactive\tviewer\tdefault\tRent\n"
        assert re.fullmatch(r"rent\tservice\tdisabled since [-0-9]+ [:0-9]+Z\tviewer\tdefault\tRent\n", disabled.out)
        assert listed.out == disabled.out
        assert enabled.out == default.out
        assert {(actor, target) for actor, _, _, target in await audit(database)} == {("command-line", "rent")}
        assert [action for _, action, _, _ in await audit(database)] == [
            "client.create",
            "client.limit",
            "client.roles",
            "identity.link",
            "identity.unlink",
            "client.limit",
            "client.disable",
            "client.enable",
        ]

    async def test_what_is_wrong_is_one_line(
        self, run_all: RunAll, database: Database, variables: dict[str, str]
    ) -> None:
        await make_client(database, "chief")
        away = {"DATABASE_URL": NOWHERE}
        cases: list[tuple[list[str], tuple[str, ...]]] = [
            (["clients", "create", "Rent!", "--role", "viewer"], ("id: ",)),
            (["clients", "create", "local", "--role", "viewer"], ("id: ", "reserved")),
            (["clients", "create", "rent", "--role", "boss"], ("boss", "viewer, operator, admin")),
            (["clients", "create", "chief", "--role", "viewer"], ("there is a client",)),
            (["clients", "limit", "chief", "fast"], ("request_limit: ",)),
            (["clients", "show", "rent"], ("no client",)),
            (["clients", "disable", "chief"], ("clients:manage",)),
            (["clients", "roles", "chief", "viewer"], ("clients:manage",)),
            (["clients", "unlink", "chief", *GOOGLE], ("no such identity",)),
            (["keys", "create", "rent", "x"], ("client_id: no client",)),
            (["keys", "create", "chief", "x", "--scope", "messages:sent"], ("scopes: ",)),
            (["keys", "create", "chief", "x", "--network", "10.0.0.1/8"], ("networks: ", "10.0.0.1/8")),
            (["keys", "revoke", "sf_live_unheard0"], ("no key",)),
            (["keys", "rotate", "sf_live_unheard0"], ("no key",)),
            (["roles", "set", "viewer", "messages:send"], ("built in",)),
            (["roles", "set", "sender", "messages:sent"], ("permissions: ",)),
            (["roles", "set", "Sender", "messages:send"], ("name: ",)),
            (["roles", "delete", "sender"], ("no role",)),
        ]

        results = await run_all(*(case for case, _ in cases), **variables)
        unreachable = await run_all(*((away, [each, "list"]) for each in ("clients", "keys", "roles")))

        for result, (case, words) in zip(results, cases, strict=True):
            assert_one_line(result, *words), case
        for result in unreachable:
            assert_one_line(result, "127.0.0.1:1/sms", "Refused")

    async def test_usage_is_told_where_something_is_missing(self, run_all: RunAll) -> None:
        for result, word in zip(
            await run_all(
                ["clients", "create", "rent"],
                ["clients", "roles", "rent"],
                ["keys", "create", "rent", "x", "--expires", "soon"],
                ["keys", "rotate", "x", "--grace", "31d"],
                ["roles", "set", "sender"],
            ),
            ("--role", "ROLE", "--expires", "--grace", "PERMISSION"),
            strict=True,
        ):
            assert result.status == 2
            assert word in result.err


class TestKeys:
    async def test_a_new_key_is_alone_on_standard_output_and_stored_as_digest(
        self, run_all: RunAll, database: Database, variables: dict[str, str]
    ) -> None:
        await make_client(database, "rent", roles=["operator"])

        made, test, listed = await run_all(
            [
                "keys",
                "create",
                "rent",
                "production",
                "--scope",
                "messages:send",
                "--network",
                "10.0.0.0/8",
                "--expires",
                "90d",
            ],
            ["keys", "create", "rent", "trial", "--test"],
            ["keys", "list"],
            **variables,
        )

        (key,) = made.lines
        assert is_well_formed(key)
        assert key not in made.err
        assert is_test_key(test.out.strip())
        row = await database.pool.fetchrow("SELECT * FROM auth_api_keys WHERE name = 'production'")
        assert (row["digest"], row["prefix"], row["is_test"]) == (digest_of(key), prefix_of(key), False)
        assert (row["scopes"], row["networks"]) == (["messages:send"], ["10.0.0.0/8"])
        assert abs(row["expires_at"] - datetime.now(UTC) - timedelta(days=90)) < timedelta(minutes=5)
        fields = [line.split("\t") for line in listed.lines]
        assert [(each[0], each[2], each[3], each[5], each[7]) for each in fields] == [
            (prefix_of(test.out), "rent", "active", "used never", "trial"),
            (prefix_of(key), "rent", "active", "used never", "production"),
        ]
        assert fields[1][6] == "messages:send,10.0.0.0/8"
        assert key.rpartition("_")[2] not in listed.out

    async def test_are_rotated_and_revoked_by_prefix_or_id(
        self, run_all: RunAll, database: Database, variables: dict[str, str]
    ) -> None:
        old = await make_key(database, await make_client(database, "rent"), scopes=["messages:send"])
        other = await make_key(database, "rent")
        other_id = await database.pool.fetchval("SELECT id FROM auth_api_keys WHERE prefix = $1", prefix_of(other))

        rotated, at_once, listed, revoked, of_nobody = await run_all(
            ["keys", "rotate", prefix_of(old), "--grace", "90m", "--expires", "12h"],
            ["keys", "rotate", str(other_id), "--grace", "0"],
            ["keys", "list", "--client", "rent"],
            ["keys", "revoke", prefix_of(old)],
            ["keys", "list", "--client", "nobody-here"],
            **variables,
        )

        assert rotated.status == at_once.status == 0, rotated.err + at_once.err
        states = {line.split("\t")[0]: line.split("\t")[3] for line in listed.lines}
        assert states == {
            prefix_of(old): "expiring",
            prefix_of(other): "revoked",
            prefix_of(rotated.out): "expiring",
            prefix_of(at_once.out): "active",
        }
        new = await database.pool.fetchrow("SELECT * FROM auth_api_keys WHERE prefix = $1", prefix_of(rotated.out))
        assert new["scopes"] == ["messages:send"]
        assert new["digest"] == digest_of(rotated.out.strip())
        left = await database.pool.fetchval("SELECT expires_at - now() FROM auth_api_keys WHERE id = $1", new["id"])
        assert timedelta(hours=11, minutes=50) < left <= timedelta(hours=12)
        assert "\trevoked\t" in revoked.out
        assert of_nobody.out == "no keys\n"

    async def test_one_for_the_first_start_needs_no_database(self, run_all: RunAll) -> None:
        first, second = await run_all(["keys", "generate"], ["keys", "generate"], DATABASE_URL=NOWHERE)

        assert is_well_formed(first.out.strip())
        assert not is_test_key(first.out)
        assert first.out != second.out


class TestRoles:
    async def test_are_listed_set_and_deleted(
        self, run_all: RunAll, database: Database, variables: dict[str, str]
    ) -> None:
        made, used, in_use, changed, listed = await run_all(
            ["roles", "set", "sender", "messages:send", "--description", "sends only"],
            ["clients", "create", "rent", "--role", "sender"],
            ["roles", "delete", "sender"],
            ["clients", "roles", "rent", "viewer"],
            ["roles", "list"],
            **variables,
        )
        (deleted,) = await run_all(["roles", "delete", "sender"], **variables)

        assert made.out == "sender\tmessages:send\tsends only\n"
        assert used.status == changed.status == 0
        assert_one_line(in_use, "1 clients")
        roles, _, permissions = listed.out.partition("\npermissions:\n")
        assert [line.split("\t")[0] for line in roles.splitlines()] == ["viewer", "operator", "admin", "sender"]
        assert "messages:send            send messages" in permissions
        assert deleted.out == "deleted\n"
