"""`sms-foundation numbers`: who may be texted, as operators say it."""

from sms_foundation.core.db import Database
from tests.support.command_line import NOWHERE, Run, RunAll, assert_one_line

PHONE = "+14155550123"


class TestNumbers:
    async def test_rules_are_set_listed_asked_and_removed(self, run_all: RunAll, database: Database) -> None:
        results = await run_all(
            ["numbers", "list"],
            ["numbers", "check", "(415) 555-0123"],
            ["numbers", "allow", "+1"],
            ["numbers", "deny", "+1 900", "--note", "premium numbers"],
            ["numbers", "check", PHONE],
            ["numbers", "check", "+19005550123"],
            ["numbers", "check", "+447700900123"],
            ["numbers", "list"],
            ["numbers", "remove", "+1900"],
            ["numbers", "list"],
            DATABASE_URL=database.url.dsn,
        )
        out = [" ".join(result.out.split()) for result in results]

        assert [(result.status, result.err) for result in results] == [(0, "")] * 10
        assert out[0] == "no rules: every number may be texted"
        assert out[1] == f"{PHONE}: allowed, no rule is about it"
        assert out[2] == "+1: allowed; running instances know within 4 seconds"
        assert out[3] == "+1900: denied; running instances know within 4 seconds"
        assert out[4] == f"{PHONE}: allowed, by the rule for +1"
        assert out[5] == "+19005550123: denied, by the rule for +1900"
        assert out[6] == "+447700900123: denied, no rule is about it, and only what a rule allows may be texted"
        rows = [line.split("\t") for line in results[7].lines]
        assert [(row[0], row[1], row[2], row[4]) for row in rows] == [
            ("+1900", "denied", "command-line", "premium numbers"),
            ("+1", "allowed", "command-line", ""),
        ]
        assert out[8] == "removed"
        assert len(results[9].lines) == 1
        log = await database.pool.fetch(
            "SELECT actor, action, target FROM auth_audit_log WHERE target_kind = 'number_rule' ORDER BY id"
        )
        assert [tuple(row) for row in log] == [
            ("command-line", "number_rule.set", "+1"),
            ("command-line", "number_rule.set", "+1900"),
            ("command-line", "number_rule.delete", "+1900"),
        ]

    async def test_what_cannot_be_done_is_one_line(self, run_all: RunAll, database: Database) -> None:
        wrong, missing, unknown, long = await run_all(
            ["numbers", "deny", "everybody"],
            ["numbers", "remove", "+1900"],
            ["numbers", "check", "nobody"],
            ["numbers", "deny", "+1", "--note", "a" * 501],
            DATABASE_URL=database.url.dsn,
        )
        assert_one_line(wrong, "prefix", "+1900")
        assert_one_line(missing, "no rule")
        assert_one_line(unknown, "no phone number")
        assert_one_line(long, "500")
        assert await database.pool.fetchval("SELECT count(*) FROM auth_number_rules") == 0

    async def test_an_unreachable_database_is_one_line(self, run: Run) -> None:
        assert_one_line(await run("numbers", "list", DATABASE_URL=NOWHERE), "127.0.0.1")

    async def test_help_shows_how_to(self, run_all: RunAll) -> None:
        general, deny = await run_all(["numbers", "--help"], ["numbers", "deny", "--help"])
        assert "sms-foundation numbers allow +1" in general.out
        assert "sms-foundation numbers deny +1900" in " ".join(deny.out.split())
