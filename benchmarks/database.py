"""PostgreSQL beside the service: a server with fsync, databases that are new, rows that were there before."""

import asyncio
import contextlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg

from benchmarks.errors import BenchmarkError
from benchmarks.processes import command_line, parent_pid
from sms_foundation.core.db import parse_database_url
from sms_foundation.core.ids import new_id
from sms_foundation.core.local_postgres import LocalPostgres
from sms_foundation.migrations import runner

_PREFERRED = Path("/usr/lib/postgresql/15/bin")  # what production runs; otherwise what the embedded database uses

# Rows of one conversation lie scattered over the table, as they would after months of everybody texting.
_SEED = """
WITH conversation AS (
    INSERT INTO sms_conversations
        (id, phone_number_canonical, phone_number_original, message_count, last_message_at)
    SELECT gen_random_uuid(), phone, phone, $2, now() FROM unnest($1::text[]) AS phone
    RETURNING id, phone_number_canonical AS phone
)
INSERT INTO sms_messages
    (id, conversation_id, conversation_seq, direction, provider, provider_message_id, from_number, to_number,
     message_content, delivery_status, raw_webhook_data, created_at)
SELECT gen_random_uuid(), c.id, seq, $3, 'twilio', 'SM' || md5($4 || ((seq - 1) * cardinality($1) + place)),
       c.phone, '+15005550006', 'Hola, no hay agua caliente en el apartamento desde ayer por la noche. #' || seq,
       CASE $3 WHEN 'inbound' THEN 'received' ELSE 'queued' END,
       jsonb_build_object('Body', 'Hola, no hay agua caliente en el apartamento desde ayer por la noche. #' || seq,
                          'From', c.phone, 'To', '+15005550006', 'ApiVersion', '2010-04-01'),
       now() - ($2 - seq) * interval '1 second'
FROM generate_series(1, $2) AS seq
CROSS JOIN unnest($1::text[]) WITH ORDINALITY AS number(phone, place) JOIN conversation AS c USING (phone)
ORDER BY seq, place
"""


@dataclass(frozen=True, slots=True)
class PostgresServer:
    """The server; `pid` of its first process, None when it does not run on this machine as far as we can see."""

    url: str
    pid: int | None
    origin: str

    def query(self, statement: str, *arguments: object, database: str | None = None) -> list[asyncpg.Record]:
        """Run one statement in a connection of its own and return its rows."""
        return asyncio.run(_query(database or self.url, statement, arguments))

    @contextlib.contextmanager
    def fresh_database(self) -> Iterator[str]:
        """Yield the URL of a new database with the schema and nothing in it; drop it afterwards."""
        name = f"sms_bench_{new_id().hex}"
        self.query(f'CREATE DATABASE "{name}"')
        try:
            url = urlsplit(self.url)._replace(path=f"/{name}").geturl()
            asyncio.run(runner.upgrade(parse_database_url(url)))
            yield url
        finally:
            self.query(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def settle(self, url: str) -> None:
        """Vacuum a database that was just filled and write everything out, so that neither falls into a measurement."""
        self.query("VACUUM ANALYZE", database=url)
        with contextlib.suppress(asyncpg.InsufficientPrivilegeError):
            self.query("CHECKPOINT")

    def describe(self) -> dict[str, str]:
        """Return version and the settings that decide what a commit costs."""
        names = ("server_version", "fsync", "synchronous_commit", "full_page_writes", "shared_buffers")
        return {"origin": self.origin} | {name: self.query(f"SHOW {name}")[0][0] for name in names}


@contextlib.contextmanager
def lend_server() -> Iterator[PostgresServer]:
    """Yield DATABASE_URL's server, or one in a temporary folder, PostgreSQL 15 if the system has it.

    Raises BenchmarkError when the server does not sync its commits to disk: its figures would mean nothing.
    """
    with contextlib.ExitStack() as stack:
        if named := os.environ.get("DATABASE_URL"):
            url, origin = parse_database_url(named).dsn, "DATABASE_URL"
        else:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sms-bench-pg-")))
            binaries = _PREFERRED if (_PREFERRED / "postgres").exists() else None
            url = stack.enter_context(LocalPostgres(folder, binaries=binaries)).url
            origin = "system" if binaries else "embedded"
        try:
            server = PostgresServer(url, asyncio.run(_find_postmaster(url)), origin)
        except (OSError, asyncpg.PostgresError) as error:
            raise BenchmarkError(f"the database cannot be reached: {type(error).__name__}: {error}") from None
        settings = server.describe()
        if settings["fsync"] != "on" or settings["synchronous_commit"] == "off":
            raise BenchmarkError("the database server runs with fsync or synchronous_commit off: nothing to compare")
        yield server


async def _query(url: str, statement: str, arguments: Sequence[object]) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(url, timeout=10)
    try:
        rows: list[asyncpg.Record] = await connection.fetch(statement, *arguments)
        return rows
    finally:
        await connection.close()


async def _find_postmaster(url: str) -> int | None:
    connection = await asyncpg.connect(url, timeout=10)
    try:
        backend = connection.get_server_pid()
        # A server in a container or elsewhere counts otherwise: that number may be anybody's here.
        return parent_pid(backend) if command_line(backend).startswith("postgres:") else None
    finally:
        await connection.close()


def seed_messages(
    server: PostgresServer, url: str, *, phones: Sequence[str], each: int, direction: str, family: str
) -> None:
    """Write `each` messages into a new conversation with each of `phones`; `requests.seeded_sid` names them."""
    server.query(_SEED, phones, each, direction, family, database=url)
