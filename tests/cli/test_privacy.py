"""`sms-foundation privacy`: what an operator types when somebody asks for their data, or for its end."""

import asyncio
import sys
from pathlib import Path

import orjson
import pytest

from sms_foundation.core.db import Database
from sms_foundation.core.ids import new_id
from tests.support.command_line import NOWHERE, Run, RunAll, assert_one_line
from tests.support.processes import eventually

PHONE = "+14155550123"

_ADD = """
WITH conversation AS (
    INSERT INTO sms_conversations (id, phone_number_canonical, phone_number_original, message_count)
    VALUES (gen_random_uuid(), $2, $2, 2) RETURNING id
)
INSERT INTO sms_messages (id, conversation_id, conversation_seq, direction, provider, provider_message_id, from_number,
                          to_number, message_content, delivery_status)
SELECT t.id, conversation.id, t.seq, 'inbound', 'carrier', t.seq::text, $2, '+15005550006', 'pineapple', 'received'
FROM conversation, unnest($1::uuid[]) WITH ORDINALITY AS t(id, seq)
"""


@pytest.fixture
async def ids(database: Database) -> list[str]:
    """Two texts of the person."""
    ids = [new_id(), new_id()]
    await database.pool.execute(_ADD, ids, PHONE)
    return [str(each) for each in ids]


async def texts(database: Database) -> list[str]:
    return [row[0] for row in await database.pool.fetch("SELECT message_content FROM sms_messages ORDER BY id")]


class TestExport:
    async def test_goes_to_standard_output_and_nothing_else_does(
        self, run: Run, database: Database, ids: list[str]
    ) -> None:
        result = await run("privacy", "export", "(415) 555-0123", DATABASE_URL=database.url.dsn)

        assert (result.status, result.err) == (0, "")
        (conversation,) = orjson.loads(result.out)["conversations"]
        assert [message["id"] for message in conversation["messages"]] == ids

    async def test_goes_to_a_new_file_that_nobody_else_may_read(
        self, run_all: RunAll, database: Database, ids: list[str], tmp_path: Path
    ) -> None:
        path = tmp_path / "export.json"
        arguments = ["privacy", "export", PHONE, "--output", str(path)]
        first, again, nowhere = await run_all(
            arguments,
            arguments,
            ["privacy", "export", PHONE, "--output", str(tmp_path / "no" / "folder")],
            DATABASE_URL=database.url.dsn,
        )

        assert (first.status, first.out) == (0, "")
        assert path.stat().st_mode & 0o777 == 0o600
        assert len(orjson.loads(path.read_bytes())["conversations"][0]["messages"]) == len(ids)
        assert_one_line(again, "exists already")
        assert_one_line(nowhere, "cannot write")

    async def test_an_unreachable_database_is_one_line_and_leaves_no_file(self, run: Run, tmp_path: Path) -> None:
        path = tmp_path / "export.json"
        assert_one_line(await run("privacy", "export", PHONE, "--output", str(path), DATABASE_URL=NOWHERE), "127.0.0.1")
        assert not path.exists()


class TestErase:
    async def test_says_what_it_would_erase_and_asks(self, run: Run, database: Database, ids: list[str]) -> None:
        await database.pool.execute(
            "INSERT INTO sms_opt_outs (phone_number_canonical, sender, source) VALUES ($1, 'x', 'keyword')", PHONE
        )
        result = await run("privacy", "erase", PHONE, DATABASE_URL=database.url.dsn)  # and nobody answers

        assert (result.status, result.out) == (1, "")
        lines = [" ".join(line.split()) for line in result.err.splitlines()]
        assert lines[0] == "***0123: to be erased"
        assert {"conversations 1", f"messages {len(ids)}", "status events 0", "opt-outs 1"} <= set(lines)
        assert "kept, to protect the person" in lines
        assert lines[-1] == "Erase this for good? [y/N] error: nothing was erased"
        assert await texts(database) == ["pineapple", "pineapple"]
        assert await database.pool.fetchval("SELECT count(*) FROM auth_audit_log WHERE action = 'privacy.erase'") == 0

    async def test_does_it_with_yes_and_names_what_stays_elsewhere(
        self, run: Run, database: Database, ids: list[str]
    ) -> None:
        given = {"DATABASE_URL": database.url.dsn}
        erased = await run("privacy", "erase", "415-555-0123", "--yes", "--reference", "REQUEST-17", **given)

        assert erased.status == 0, erased.err
        assert "4155550123" not in erased.err + erased.out, "in the cloud all of it is a log"
        assert await texts(database) == ["", ""]
        assert "***0123: 2 messages erased, 0 of them canceled" in erased.err
        assert [line.split("\t") for line in erased.lines] == [
            [id_, "carrier", str(place), "this provider is not configured here; the service asks if it can"]
            for place, id_ in enumerate(ids, start=1)
        ]
        log = await database.pool.fetch("SELECT target, details FROM auth_audit_log WHERE action = 'privacy.erase'")
        assert [(row["target"], orjson.loads(row["details"])["reference"]) for row in log] == [
            ("***0123", "REQUEST-17")
        ] * 2

    async def test_a_simulated_provider_is_not_asked_about_what_the_real_one_has(
        self, run: Run, database: Database, ids: list[str]
    ) -> None:
        """APP_ENV is local by default: on a laptop without the service's settings "twilio" is the simulator."""
        await database.pool.execute("UPDATE sms_messages SET provider = 'twilio'")
        erased = await run("privacy", "erase", PHONE, "--yes", DATABASE_URL=database.url.dsn)

        assert [line.split("\t")[0] for line in erased.lines] == ids
        assert {line.split("\t")[3] for line in erased.lines} == {
            "this provider is simulated here; the service asks if it can"
        }
        assert await database.pool.fetchval("SELECT count(*) FROM sms_messages WHERE redact_at <= now()") == len(ids)

    async def test_killed_before_a_message_is_erased_it_has_named_it(
        self, environment: dict[str, str], database: Database, ids: list[str], tmp_path: Path
    ) -> None:
        command = [sys.executable, "-m", "sms_foundation", "privacy", "erase", PHONE, "--yes"]
        variables = environment | {"DATABASE_URL": database.url.dsn}
        variables.pop("PYTHONUNBUFFERED", None)  # which would flush every line
        pipe = asyncio.subprocess.PIPE

        async def is_about_to_erase() -> bool:
            return bool(
                await database.pool.fetchval(
                    "SELECT EXISTS (SELECT FROM pg_stat_activity "
                    "WHERE datname = current_database() AND wait_event_type = 'Lock')"
                )
            )

        async with database.transaction() as connection:
            await connection.execute("SELECT FROM sms_messages FOR UPDATE")
            process = await asyncio.create_subprocess_exec(
                *command, cwd=tmp_path, env=variables, stdout=pipe, stderr=pipe
            )
            await eventually(is_about_to_erase, "it is about to erase")
            process.kill()
            out, _ = await process.communicate()

        assert [line.split("\t")[0] for line in out.decode().splitlines()] == ids
        assert await texts(database) == ["pineapple", "pineapple"]

    async def test_a_note_about_a_number_that_is_denied_is_something_to_erase(
        self, run: Run, database: Database
    ) -> None:
        await database.pool.execute(
            "INSERT INTO auth_number_rules (id, prefix, is_allowed, note, created_by) "
            "VALUES (gen_random_uuid(), $1, false, 'Maria', 'admin')",
            PHONE,
        )
        erased = await run("privacy", "erase", PHONE, "--yes", DATABASE_URL=database.url.dsn)

        assert erased.status == 0, erased.err
        assert await database.pool.fetchval("SELECT note FROM auth_number_rules") == ""

    async def test_twice_says_that_nothing_is_left(self, run: Run, database: Database) -> None:
        result = await run("privacy", "erase", PHONE, "--yes", DATABASE_URL=database.url.dsn)

        assert (result.status, result.out) == (0, "")
        assert result.err == "***0123: nothing is stored that could be erased\n"

    async def test_what_is_wrong_is_one_line(self, run_all: RunAll) -> None:
        nowhere, nobody = await run_all(
            ["privacy", "erase", PHONE, "--yes"], ["privacy", "erase", " ", "--yes"], DATABASE_URL=NOWHERE
        )

        assert_one_line(nowhere, "127.0.0.1", "run it again")
        assert_one_line(nobody, "no phone number")


class TestHelp:
    async def test_shows_how_to(self, run_all: RunAll) -> None:
        general, export, erase = await run_all(
            ["privacy", "--help"], ["privacy", "export", "--help"], ["privacy", "erase", "--help"]
        )

        assert "docs/privacy.md" in general.out
        assert "sms-foundation privacy export +14155550123 --output export.json" in " ".join(export.out.split())
        assert "sms-foundation privacy erase +14155550123" in " ".join(erase.out.split())
        assert "opt-outs" in erase.out
