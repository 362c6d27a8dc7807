"""The `sms-foundation` command as a process, as an operator calls it."""

import re
from collections.abc import AsyncIterator
from uuid import UUID

import pytest

from sms_foundation import __version__
from sms_foundation.core.db import Database, DatabaseUrl
from sms_foundation.core.work import queue
from sms_foundation.core.work.queue import NewWork
from sms_foundation.migrations.state import head_revision
from tests.support import postgres
from tests.support.command_line import NOWHERE, Command, Run, RunAll, assert_one_line

COMMANDS = (
    *("run", "serve", "worker", "migrate", "simulator", "send", "providers"),
    *("clients", "keys", "invitations", "roles", "numbers", "signing-keys", "reconcile", "audit", "privacy"),
    *("doctor", "dead"),
)


@pytest.fixture
async def empty_url(postgres_server: str) -> AsyncIterator[DatabaseUrl]:
    url = await postgres.clone(postgres_server, "template1")
    yield url
    await postgres.drop(postgres_server, url)


class TestHelp:
    async def test_of_every_command_says_what_it_does(self, run: Run, run_all: RunAll) -> None:
        overview, *rest = await run_all(
            ["--help"],
            *([command, "--help"] for command in COMMANDS),
            ["dead", "list", "--help"],
            ["dead", "replay", "--help"],
        )

        assert overview.status == 0
        assert tuple(re.findall(r"^  ([\w-]+) {2,}", overview.out.partition("Commands:")[2], re.MULTILINE)) == COMMANDS
        for command, result in zip([*COMMANDS, "dead list", "dead replay"], rest, strict=True):
            assert (result.status, result.err) == (0, ""), command
            assert result.lines[0].startswith("Usage: sms-foundation " + command) or "Usage:" in result.out
            assert len(result.out) > 200, command

    async def test_needs_no_database_and_version_says_which_it_is(self, run: Run) -> None:
        result = await run("--version", DATABASE_URL=NOWHERE)

        assert result == (0, f"sms-foundation {__version__}\n", "")


class TestErrors:
    async def test_are_one_line_and_exit_status_1(self, run_all: RunAll) -> None:
        away = {"DATABASE_URL": NOWHERE, "MONITOR_API_URL": "http://127.0.0.1:1"}
        no_url, wrong = {"DATABASE_URL": "mysql://u:s3cr3t@h/d"}, {"PORT": "s3cr3t", "APP_ENV": "x"}
        no_text = "a\udcff"  # bytes that are no UTF-8, as a shell hands them over
        cases: list[tuple[Command, tuple[str, ...]]] = [
            *(
                (({}, each), ("argument", "UTF-8"))
                for each in (["clients", "show", no_text], ["audit", "--actor", no_text], ["keys", "revoke", no_text])
            ),
            *(
                ((away, each), ("127.0.0.1:1/sms", "Refused"))
                for each in (["migrate"], ["dead", "list"], ["reconcile"], ["providers"])
            ),
            *(((no_url, [each]), ("DATABASE_URL must look like",)) for each in ("migrate", "serve", "worker")),
            *(((wrong, [each]), ("PORT: ", "APP_ENV: ")) for each in ("run", "serve", "worker", "simulator")),
            (({"K_SERVICE": "sms", "APP_ENV": "staging"}, ["serve"]), ("DATABASE_URL is not set", "Cloud Run")),
        ]

        results = await run_all(*(command for command, _ in cases))

        for result, (_, words) in zip(results, cases, strict=True):
            assert_one_line(result, *words)

    async def test_of_a_service_that_is_just_starting_are_one_line_below_the_log(self, run: Run) -> None:
        """Found out when the server runs already."""
        result = await run("serve", "--port", "0", DATABASE_URL=NOWHERE, OPERATIONS_NETWORKS="junk", LOG_FORMAT="json")

        assert_one_line(result, "OPERATIONS_NETWORKS", "junk")
        assert "Traceback" not in result.out

    async def test_of_usage_are_told_with_the_usage(self, run_all: RunAll) -> None:
        for result, word in zip(
            await run_all(["dance"], ["dead", "replay"], ["serve", "--port", "x"], ["dead", "list", "--limit", "0"]),
            ("dance", "name ids", "--port", "--limit"),
            strict=True,
        ):
            assert result.status == 2
            assert word in result.err
            assert "Traceback" not in result.err

    async def test_of_a_database_without_schema_are_one_line(self, run_all: RunAll, empty_url: DatabaseUrl) -> None:
        (result,) = await run_all(["dead", "list"], DATABASE_URL=empty_url.dsn)

        assert_one_line(result, "UndefinedTableError")


class TestMigrate:
    async def test_twice_then_down_and_up_again(self, run: Run, run_all: RunAll, empty_url: DatabaseUrl) -> None:
        where = empty_url.safe_name
        first = await run("migrate", DATABASE_URL=empty_url.dsn)
        assert (first.status, first.lines[-1]) == (0, f"the schema of {where} is at {head_revision()}")

        again, down, up, unknown = await run_all(
            ["migrate"],
            ["migrate", "--to", "base"],
            ["migrate", "--to", head_revision()],
            ["migrate", "--to", "9999"],
            DATABASE_URL=empty_url.dsn,
        )

        assert again == (0, f"the schema of {where} is at {head_revision()}\n", "")
        assert down == (0, f"the schema of {where} is at base\n", "")
        assert up == (0, f"the schema of {where} is at {head_revision()}\n", "")
        assert_one_line(unknown, "9999")

    async def test_check_finds_that_models_and_migrations_agree(self, run: Run) -> None:
        result = await run("migrate", "--check")

        assert (result.status, result.lines[-1:]) == (0, ["models and migrations agree"]), result


class TestDead:
    async def test_list_and_replay(self, run_all: RunAll, database: Database) -> None:
        dsn = database.url.dsn
        async with database.transaction() as connection:
            await queue.enqueue(connection, [NewWork("send" if n < 3 else "other", UUID(int=n)) for n in range(5)])
        await database.pool.execute(
            "UPDATE work SET state = 'dead', attempts = 12, last_error = 'refused by ' || kind WHERE ref_id <> $1",
            UUID(int=0),
        )
        ids = [row[0] for row in await database.pool.fetch("SELECT id FROM work WHERE state = 'dead' ORDER BY id")]

        listed, of_kind, limited, one, kind, rest, none, empty = await run_all(
            ["dead", "list"],
            ["dead", "list", "--kind", "other"],
            ["dead", "list", "--limit", "1"],
            ["dead", "replay", str(ids[0])],
            ["dead", "replay", "--kind", "other"],
            ["dead", "replay", "--all"],
            ["dead", "replay", "--all"],
            ["dead", "list"],
            DATABASE_URL=dsn,
        )

        fields = [line.split("\t") for line in listed.lines]
        assert [(row[0], row[1], row[2], row[3], row[5]) for row in fields] == [
            (str(id_), kind_, "12", str(UUID(int=n)), f"refused by {kind_}")
            for id_, n, kind_ in zip(ids, range(1, 5), ("send", "send", "other", "other"), strict=True)
        ]
        assert [line.split("\t")[0] for line in of_kind.lines] == [str(id_) for id_ in ids[2:]]
        assert len(limited.lines) == 1
        assert [one.out, kind.out, rest.out, none.out] == [f"{n} due again\n" for n in (1, 2, 1, 0)]
        assert empty.out == "no dead work\n"
        assert await database.pool.fetch("SELECT DISTINCT state, attempts FROM work") == [("due", 0)]
