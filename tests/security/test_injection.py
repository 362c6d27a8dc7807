"""Names and texts of others that would be more than text: in logs, on terminals, in tables, in pages."""

import re
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from sms_foundation.core.db import Database
from sms_foundation.core.printable import escape_unprintable
from tests.support.command_line import run_python
from tests.support.declared_metrics import SOURCE
from tests.support.processes import Processes, send_status, send_text
from tests.support.service import Service

# What starts a line of its own, steers a terminal (ESC, and C1's CSI and OSC), hides or turns text around.
STEERING = ["\x1b[31mRED\x1b[0m", "\x9b2J", "\x9d0;title\x07", "\r", "\n", "\u2028", "\u202e", "\u200b", "\x00", "\x7f"]
SENDERS = [
    'ACME\n{"event":"auth.refused","level":"critical"}',
    "\x1b]0;owned\x07ACME",
    "\x9b31mACME",
    "ACME\u202egnp.exe",
    "ACME\u2028second line",
    "=cmd|' /C calc'!A0",
    "<script>alert(1)</script>",
    "%s%n{0.__class__}",
    "'; DROP TABLE sms_messages; --",
]
_LOG = """
import sys
import orjson, structlog
from sms_foundation.core.logging import configure_logging
configure_logging(level="INFO", log_format="json")
for text in orjson.loads(sys.stdin.read()):
    structlog.get_logger("any").info("a.b", one=text, nested={"two": [f"x{text}"]}, phone="***0123")
"""
_is_harmless = re.compile(r"[^\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069]*").fullmatch


def _without_own_colours(line: str) -> str:
    """Take out what the console's own columns are coloured with; red, which is for errors, is not among it."""
    return re.sub(r"\x1b\[(?:0|1|2|3[2-6])m", "", line)


class TestLogs:
    @pytest.mark.slow
    async def test_no_sender_writes_a_line_or_steers_a_terminal(self, processes: Processes, database: Database) -> None:
        for log_format in ("json", "console"):
            service = processes.serve(DATABASE_URL=database.url.dsn, LOG_LEVEL="DEBUG", LOG_FORMAT=log_format)
            await service.until_ready()
            async with service.connect() as connection:
                for number, sender in enumerate(SENDERS):
                    sid = f"SM{log_format}{number}\x9b31m\u202e"
                    assert (await send_text(connection, sid, sender, sender=sender)).status == 200
                    assert (await send_status(connection, sid, f"sent\x9b31m{number}\n")).status == 200
                await connection.get("/nowhere\x9b31m", **{"X-Request-ID": "id\x1b[31m", "User-Agent": "\x1b[31m"})
            lines = service.log.split("\n")

            assert len([line for line in lines if "http.request" in line and "/webhook" in line]) == 2 * len(SENDERS)
            for line in lines:
                assert _is_harmless(_without_own_colours(line)), ascii(line)
            if log_format == "json":
                assert {orjson.loads(line)["level"] for line in lines if line} <= {"debug", "info", "warning"}

    def test_any_value_is_one_line_of_printable_text(self) -> None:
        # In a process of its own: how logging is set up is the same for all of a process.
        given = orjson.dumps(STEERING).decode()
        child = subprocess.run([sys.executable, "-c", _LOG], input=given, capture_output=True, text=True, check=True)
        lines = child.stdout.rstrip("\n").split("\n")

        assert len(lines) == len(STEERING)
        for shown in map(orjson.loads, lines):
            assert shown["one"].isprintable()
            assert shown["nested"]["two"][0].isprintable()


class TestTerminal:
    def test_everything_that_is_not_printed_is_escaped_and_nothing_else_changes(self) -> None:
        for text in STEERING:
            assert escape_unprintable(text).isprintable()
        assert escape_unprintable("Ana's café, 50 % – ¡sí! 🙂") == "Ana's café, 50 % – ¡sí! 🙂"
        assert escape_unprintable("a\tb\x1b[2J\u202e") == r"a\tb\x1b[2J\u202e"

    async def test_what_callers_write_down_steers_nobodys_terminal(
        self, service: Service, database: Database, tmp_path: Path
    ) -> None:
        api, evil = service.client, "\x9b2J\u202ename"
        await api.post(
            "/v1/number-rules", json={"prefix": "+1900", "is_allowed": False, "note": f"\x1b[2J\n+1\t{evil}"}
        )
        await api.post("/v1/clients", json={"id": "evil", "roles": ["viewer"], "display_name": evil})
        await api.post("/v1/keys", json={"client_id": "evil", "name": evil})
        await api.put("/v1/roles/evil", json={"permissions": ["messages:read"], "description": evil})
        environment = {"DATABASE_URL": database.url.dsn, "PATH": "/usr/bin:/bin"}

        for command in (
            ["numbers", "list"],
            ["clients", "list"],
            ["clients", "show", "evil"],
            ["keys", "list"],
            ["roles", "list"],
            ["audit"],
        ):
            result = await run_python(["-m", "sms_foundation", *command], environment, tmp_path)
            assert result.status == 0, result.err
            for line in result.out.split("\n"):
                assert _is_harmless(line.replace("\t", "")), (command, ascii(line))
        rules = await run_python(["-m", "sms_foundation", "numbers", "list"], environment, tmp_path)
        assert len(rules.lines) == 1


class TestTables:
    def test_nothing_writes_tables_for_spreadsheets(self) -> None:
        """A cell that begins with = + - or @ is a formula to a spreadsheet: whoever adds a CSV has to escape those."""
        for path in SOURCE.rglob("*.py"):
            assert not re.search(r"import csv|text/csv|openpyxl|\.xlsx", path.read_text()), path

    @pytest.mark.parametrize("name", ["=1+1", "@SUM", "\tA", "A\nB", "A,B", 'A"B', "A;B", "<b>", "+A1", "-A1", " A"])
    async def test_no_message_goes_out_under_a_name_that_is_a_formula(self, service: Service, name: str) -> None:
        body = {"to": "+14155550188", "message": "Hi", "sender_id": name}

        response = await service.client.post("/v1/sms/send", json=body)

        stored = await service.database.pool.fetchval("SELECT from_number FROM sms_messages")
        assert response.status_code == 400 or not (stored or "").startswith(("=", "+", "-", "@", " ", "\t"))


class TestPages:
    async def test_what_came_in_is_never_a_page(self, service: Service) -> None:
        await service.text("SM1", "<script>alert(1)</script>", sender="<script>alert(1)</script>")

        for path in ("/conversations", "/messages/SM1", "/conversations/<script>", "/nowhere/<script>"):
            response = await service.client.get(path)
            assert response.headers["content-type"] == "application/json"
            assert response.headers["x-content-type-options"] == "nosniff"
            assert "default-src 'none'" in response.headers["content-security-policy"]
