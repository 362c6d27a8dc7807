"""DATABASE_URL in all its spellings, connections that really work, and what counts as whose fault."""

import asyncio
import contextlib
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote, urlsplit
from uuid import uuid4

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sms_foundation.core.db import (
    Database,
    DatabaseUrl,
    explain_outage,
    is_outage,
    parse_database_url,
    retry_races,
    rows_affected,
)
from sms_foundation.core.errors import StartupError
from tests.support.processes import eventually
from tests.support.service import make_settings


class TestParseDatabaseUrl:
    @pytest.mark.parametrize(
        "scheme", ["postgres", "postgresql", "postgresql+asyncpg", "postgresql+psycopg2", "postgres+asyncpg"]
    )
    def test_every_usual_scheme_is_one_database(self, scheme: str) -> None:
        url = parse_database_url(f" {scheme}://user:password@db.example.com:5433/sms\n")

        assert url.dsn == "postgresql://user:password@db.example.com:5433/sms"
        assert url.safe_name == "db.example.com:5433/sms"
        assert not url.is_transaction_pooler

    @pytest.mark.parametrize("mode", ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"])
    def test_sslmode_is_kept(self, mode: str) -> None:
        assert parse_database_url(f"postgres://u@h/d?sslmode={mode}").dsn == f"postgresql://u@h/d?sslmode={mode}"

    @pytest.mark.parametrize(
        ("written", "mode"), [("require", "require"), ("verify-full", "verify-full"), ("true", "require")]
    )
    def test_ssl_as_other_drivers_write_it_is_sslmode(self, written: str, mode: str) -> None:
        url = parse_database_url(f"postgresql+asyncpg://u@h/d?ssl={written}")

        assert url.dsn == f"postgresql://u@h/d?sslmode={mode}"

    @pytest.mark.parametrize(
        "url",
        [
            "postgresql://postgres.ref:pw@aws-0-us-east-1.pooler.supabase.com:6543/postgres",
            "postgresql://u:p@localhost:6432/sms?pgbouncer=true",
            "postgres://u:p@localhost:6432/sms?sslmode=require&pgbouncer=true&connection_limit=1",
        ],
    )
    def test_a_transaction_pooler_is_recognised(self, url: str) -> None:
        assert parse_database_url(url).is_transaction_pooler
        assert not parse_database_url(url, pooler="none").is_transaction_pooler

    @pytest.mark.parametrize(
        "url", ["postgresql://u:p@db.supabase.co:5432/postgres", "postgresql://u:p@localhost/sms?pgbouncer=false"]
    )
    def test_anything_else_is_a_server_unless_the_setting_says_otherwise(self, url: str) -> None:
        assert not parse_database_url(url).is_transaction_pooler
        assert parse_database_url(url, pooler="transaction").is_transaction_pooler

    def test_parameters_of_other_tools_are_left_out(self) -> None:
        url = parse_database_url(
            "postgres://u:p@h/d?sslmode=require&channel_binding=require&connect_timeout=10&schema=public&pool_timeout=0"
        )

        assert url.dsn == "postgresql://u:p@h/d?sslmode=require"

    @pytest.mark.parametrize(
        ("url", "name"),
        [
            ("postgresql://u@[::1]:5433/sms", "[::1]:5433/sms"),
            ("postgresql:///sms?host=/var/run/postgresql", "/var/run/postgresql/sms"),
            ("postgresql://u@%2Fvar%2Frun%2Fpostgresql/sms", "/var/run/postgresql/sms"),
            ("postgresql:///sms", "local socket/sms"),
            ("postgresql://u:p%40ss%2Fword@h/sms", "h/sms"),
        ],
    )
    def test_the_safe_name_is_where_it_is_without_credentials(self, url: str, name: str) -> None:
        assert parse_database_url(url).safe_name == name

    def test_credentials_are_not_in_repr(self) -> None:
        assert "secret" not in repr(parse_database_url("postgresql://u:secret@h/d"))

    @pytest.mark.parametrize(
        ("url", "problem"),
        [
            ("mysql://u:secret@h/d", "must look like postgresql://"),
            ("sqlite:///secret.db", "must look like postgresql://"),
            ("h:5432/secret", "must look like postgresql://"),
            ("", "must look like postgresql://"),
            ("postgresql://u:secret@h:54x32/d", "broken host or port"),
            ("postgresql://u:secret@h:99999/d", "broken host or port"),
            ("postgresql://u:secret@[::1/d", "broken host or port"),
            ("postgresql://u:5#secret@h/d", "percent-encode"),
            ("postgresql://u:5?secret@h/d", "percent-encode"),
            ("postgresql://u:sec/ret-secret@h/d", "percent-encode"),
            ("postgresql://u:secret@h/d?sslmod=require", "unknown parameters: sslmod$"),
            ("postgresql://u:secret@h/d?b=secret&a=secret", "unknown parameters: a, b$"),
            ("postgresql://u:secret@h/d?sslmode=mandatory", "sslmode"),
        ],
    )
    def test_what_cannot_be_understood_is_a_clear_error_without_the_url(self, url: str, problem: str) -> None:
        with pytest.raises(StartupError, match=problem) as caught:
            parse_database_url(url)

        assert "secret" not in str(caught.value)
        assert "\n" not in str(caught.value)
        assert caught.value.__suppress_context__ or caught.value.__context__ is None

    @given(st.text(min_size=1, max_size=20))
    def test_any_password_survives_percent_encoding(self, password: str) -> None:
        url = parse_database_url(f"postgresql+asyncpg://u:{quote(password, safe='')}@h/d?sslmode=require")

        assert unquote(urlsplit(url.dsn).password or "") == password
        assert url.safe_name == "h/d"

    @given(st.text(alphabet="aZ0 @:/?#[]%&=+", min_size=1, max_size=12))
    def test_no_password_however_broken_is_repeated(self, password: str) -> None:
        secret = f"s3cr3t{password}s3cr3t"
        with contextlib.suppress(StartupError):
            url = parse_database_url(f"postgresql://u:{secret}@h/d")
            assert "s3cr3t" not in repr(url) + url.safe_name
            return
        with pytest.raises(StartupError) as caught:
            parse_database_url(f"postgresql://u:{secret}@h/d")
        assert "s3cr3t" not in str(caught.value)


def socket_folder(url: DatabaseUrl) -> tuple[str, str]:
    """Folder of the server's unix socket and the database's name, of a test database on such a socket."""
    parts = urlsplit(url.dsn)
    host = parse_qs(parts.query).get("host", [""])[0]
    if not host.startswith("/"):
        pytest.skip("the tests' server is not reached through a unix socket")
    return host, parts.path[1:]


async def _execute_in_transaction(database: Database, *statements: tuple[object, ...]) -> None:
    async with database.transaction() as connection:
        for statement in statements:
            await connection.execute(*statement)


class TestConnections:
    async def test_every_spelling_of_a_socket_connects(self, database_url: DatabaseUrl) -> None:
        folder, name = socket_folder(database_url)
        for spelling in (
            f"postgres://postgres@/{name}?host={folder}",
            f"postgresql+asyncpg://postgres@/{name}?host={quote(folder, safe='')}",
            f"postgresql://postgres:p%40ss%2Fword%23@{quote(folder, safe='')}/{name}?sslmode=prefer",
            f"postgresql:///{name}?host={folder}&user=postgres&pgbouncer=true&connection_limit=3",
        ):
            database = Database(parse_database_url(spelling), make_settings())
            await database.open()
            assert await database.pool.fetchval("SELECT current_database()") == name
            await database.close()

    async def test_its_application_name_is_seen_in_pg_stat_activity(
        self, database_url: DatabaseUrl, database: Database
    ) -> None:
        ours = Database(database_url, make_settings(database_application_name="sms-blue"))
        await ours.open()
        async with ours.connection():
            names = await database.pool.fetch(
                "SELECT application_name FROM pg_stat_activity WHERE datname = current_database()"
            )
        await ours.close()

        assert [row[0] for row in names if row[0] != "sms-foundation"] == ["sms-blue"]

    async def test_the_pool_holds_no_more_connections_than_its_size_and_says_when_it_is_used_up(
        self, database_url: DatabaseUrl
    ) -> None:
        small = Database(database_url, make_settings(database_pool_size=2, database_pool_timeout_s=0.05))
        await small.open()
        async with small.pool.acquire(), small.pool.acquire():
            with pytest.raises(TimeoutError) as caught:
                async with small.connection():
                    pass
        assert is_outage(caught.value)
        assert await small.pool.fetchval("SELECT 1") == 1
        await small.close()

    async def test_a_statement_that_takes_too_long_is_cut_and_the_connection_stays_good(
        self, database_url: DatabaseUrl
    ) -> None:
        hasty = Database(database_url, make_settings(database_command_timeout_s=0.05))
        await hasty.open()
        with pytest.raises(TimeoutError):
            await hasty.pool.execute("SELECT pg_sleep(30)")
        assert await hasty.pool.fetchval("SELECT 1", timeout=30) == 1
        await hasty.close()

    async def test_a_transaction_commits_at_the_end_and_rolls_back_on_an_error(self, database: Database) -> None:
        add = "INSERT INTO work (kind, ref_id) VALUES ($1, gen_random_uuid())"
        async with database.transaction() as connection:
            await connection.execute(add, "kept")
        with pytest.raises(asyncpg.DivisionByZeroError):
            await _execute_in_transaction(database, (add, "undone"), ("SELECT 1 / 0",))

        assert await database.pool.fetchval("SELECT array_agg(kind) FROM work") == ["kept"]

    async def test_a_connection_given_back_in_the_middle_of_a_transaction_is_rolled_back(
        self, database_url: DatabaseUrl
    ) -> None:
        single = Database(database_url, make_settings(database_pool_size=2))
        await single.open()
        async with single.connection() as connection:
            await connection.execute("BEGIN; INSERT INTO work (kind, ref_id) VALUES ('lost', gen_random_uuid())")
        async with single.connection() as connection:
            assert not connection.is_in_transaction()
            assert await connection.fetchval("SELECT count(*) FROM work") == 0
        await single.close()

    async def test_killed_connections_are_replaced(self, database_url: DatabaseUrl, database: Database) -> None:
        ours = Database(database_url, make_settings())
        await ours.open()
        async with ours.connection() as connection:
            pid = connection.get_server_pid()
        await database.pool.fetchval("SELECT pg_terminate_backend($1, 5000)", pid)

        assert await retry_races(lambda: ours.pool.fetchval("SELECT 1")) == 1
        await ours.close()

    async def test_opening_needs_no_server(self, tmp_path: Path) -> None:
        away = Database(parse_database_url(f"postgresql://postgres@/sms?host={tmp_path}"), make_settings())
        await away.open()

        with pytest.raises(OSError) as caught:  # noqa: PT011  # whichever it is, it is an outage
            await away.pool.fetchval("SELECT 1")

        assert is_outage(caught.value)
        await away.close()

    async def test_closing_cuts_what_is_still_busy(self, database_url: DatabaseUrl, database: Database) -> None:
        busy = Database(database_url, make_settings())
        await busy.open()
        sleeping = asyncio.create_task(busy.pool.execute("SELECT pg_sleep(60)"))

        async def is_asleep() -> bool:
            return bool(
                await database.pool.fetchval(
                    "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' "
                    "AND datname = current_database()"
                )
            )

        await eventually(is_asleep, "the statement runs")

        await busy.close()

        with pytest.raises((asyncpg.InterfaceError, asyncpg.PostgresError, OSError)):
            await sleeping


class TestIsOutage:
    async def test_data_that_is_refused_is_the_callers_fault(self, database: Database) -> None:
        by_asyncpg = [
            ("SELECT $1::int", "a text"),
            ("SELECT $1::int", 2**40),
            ("SELECT $1::bigint", 2**70),
            ("SELECT $1::uuid", "no uuid"),
            ("SELECT $1::text", "\ud800"),
            ("SELECT $1::text", 7),
            ("SELECT $1::timestamptz", "yesterday"),
        ]
        by_the_server = [
            ("SELECT $1::text", "\0"),
            ("SELECT ($1::text)::int", "x"),
            ("SELECT 1 / $1::int", 0),
            ("SELECT ($1::text)::jsonb", "{"),
            ("SELECT no_such_column, $1::int FROM work", 1),
        ]
        for statement, argument in by_asyncpg + by_the_server:
            with pytest.raises((asyncpg.DataError, asyncpg.PostgresError)) as caught:
                await database.pool.fetchval(statement, argument)
            assert not is_outage(caught.value), (statement, argument)

    async def test_a_missing_database_or_schema_may_come(self, database: Database, database_url: DatabaseUrl) -> None:
        with pytest.raises(asyncpg.UndefinedTableError) as missing_table:
            await database.pool.fetchval("SELECT 1 FROM not_migrated_yet")
        assert is_outage(missing_table.value)

        elsewhere = urlsplit(database_url.dsn)._replace(path=f"/none_{uuid4().hex}").geturl()
        with pytest.raises(asyncpg.InvalidCatalogNameError) as missing_database:
            await asyncpg.connect(elsewhere)
        assert is_outage(missing_database.value)

    async def test_a_certificate_that_is_not_there_is_the_operators_fault(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))

        with pytest.raises(asyncpg.InterfaceError, match="root certificate") as caught:
            await asyncpg.connect(parse_database_url("postgresql://u@127.0.0.1:1/d?sslmode=verify-full").dsn)

        assert is_outage(caught.value)

    async def test_a_database_that_takes_no_connections_is_an_outage(
        self, database: Database, database_url: DatabaseUrl
    ) -> None:
        name = urlsplit(database_url.dsn).path[1:]
        server = await asyncpg.connect(urlsplit(database_url.dsn)._replace(path="/postgres").geturl())
        await server.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        await server.close()

        with pytest.raises(asyncpg.PostgresError) as caught:
            await asyncpg.connect(database_url.dsn)

        assert is_outage(caught.value)

    async def test_a_server_being_stopped_is_an_outage(self, database: Database) -> None:
        connection = await asyncpg.connect(database.url.dsn)
        sleeping = asyncio.create_task(connection.execute("SELECT pg_sleep(60)"))

        async def is_killed() -> bool:
            return bool(
                await database.pool.fetchval(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE pid = $1 AND query LIKE 'SELECT pg_sleep%'",
                    connection.get_server_pid(),
                )
            )

        await eventually(is_killed, "the sleeping connection is killed")
        with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)) as caught:
            await sleeping

        assert is_outage(caught.value)

    @pytest.mark.parametrize(
        "error", [ValueError("x"), KeyError("x"), RuntimeError("x"), UnicodeEncodeError("a", "", 0, 1, "")]
    )
    def test_a_defect_of_ours_is_none(self, error: Exception) -> None:
        assert not is_outage(error)


class TestExplainOutage:
    async def test_is_one_line_without_credentials(self, tmp_path: Path) -> None:
        with pytest.raises(OSError) as caught:  # noqa: PT011
            await asyncpg.connect(f"postgresql://u:secret@/sms?host={tmp_path}")

        text = explain_outage(caught.value)
        assert text.startswith("FileNotFoundError: ")
        assert "\n" not in text
        assert "secret" not in text

    def test_an_error_without_a_text_is_named(self) -> None:
        assert explain_outage(TimeoutError()) == "TimeoutError"


class TestRetryRaces:
    async def test_a_lost_race_is_run_again_until_it_is_won(self, database: Database) -> None:
        """Each of ten takes the next free number; the unique key lets only one at a time have it."""
        await database.pool.execute("CREATE TABLE numbers (n int PRIMARY KEY)")

        async def take() -> None:
            async with database.transaction() as connection:
                await connection.execute("INSERT INTO numbers SELECT coalesce(max(n), 0) + 1 FROM numbers")

        await asyncio.gather(*(retry_races(take) for _ in range(4)))

        assert await database.pool.fetchval("SELECT array_agg(n ORDER BY n) FROM numbers") == [1, 2, 3, 4]

    async def test_a_deadlock_is_run_again(self, database: Database) -> None:
        await database.pool.execute(
            "CREATE TABLE pair (id int PRIMARY KEY, n int); INSERT INTO pair VALUES (1,0),(2,0)"
        )
        both_hold_one = asyncio.Barrier(2)
        runs = 0

        async def add(first: int, second: int) -> None:
            nonlocal runs
            runs += 1
            is_first_time = runs <= 2
            async with database.transaction() as connection:
                await connection.execute("SET LOCAL deadlock_timeout = '10ms'")
                await connection.execute("UPDATE pair SET n = n + 1 WHERE id = $1", first)
                if is_first_time:
                    await both_hold_one.wait()
                await connection.execute("UPDATE pair SET n = n + 1 WHERE id = $1", second)

        await asyncio.gather(retry_races(lambda: add(1, 2)), retry_races(lambda: add(2, 1)))

        assert runs > 2
        assert await database.pool.fetchval("SELECT array_agg(n) FROM pair") == [2, 2]

    async def test_a_race_that_is_always_lost_is_an_error_in_the_end(self, database: Database) -> None:
        runs = 0

        async def violate() -> None:
            nonlocal runs
            runs += 1
            await database.pool.execute("INSERT INTO alembic_version SELECT version_num FROM alembic_version")

        with pytest.raises(asyncpg.UniqueViolationError):
            await retry_races(violate)
        assert runs == 4

    async def test_a_connection_that_breaks_in_the_middle_is_replaced_once(self, database: Database) -> None:
        runs = 0

        async def die(*, times: int) -> int:
            nonlocal runs
            runs += 1
            async with database.connection() as connection:
                if runs <= times:
                    await connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")
                return runs

        assert await retry_races(lambda: die(times=1)) == 2
        runs = 0
        with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
            await retry_races(lambda: die(times=9))
        assert runs == 2

    async def test_data_that_is_refused_is_not_tried_again(self, database: Database) -> None:
        runs = 0

        async def refuse() -> None:
            nonlocal runs
            runs += 1
            await database.pool.fetchval("SELECT $1::int", "x")

        with pytest.raises(asyncpg.DataError):
            await retry_races(refuse)
        assert runs == 1


class TestRowsAffected:
    @pytest.mark.parametrize(("tag", "rows"), [("UPDATE 3", 3), ("INSERT 0 12", 12), ("DELETE 0", 0)])
    def test_reads_the_command_tag(self, tag: str, rows: int) -> None:
        assert rows_affected(tag) == rows
