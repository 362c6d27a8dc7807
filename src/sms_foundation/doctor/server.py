"""The PostgreSQL beneath: version, clock, indexes, how far vacuuming is behind, and what stands in front of it."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from sms_foundation.core.clock import utc_now
from sms_foundation.doctor.context import Context
from sms_foundation.doctor.findings import Finding, Severity, few
from sms_foundation.migrations.declared import declared_names

_OLDEST_VERSION: Final = 150_000  # NULLS NOT DISTINCT

_VERSION: Final = "SELECT current_setting('server_version_num')::int, current_setting('server_version')"
_EXTENSIONS: Final = """
SELECT name FROM pg_available_extensions
WHERE installed_version IS NOT NULL AND installed_version <> default_version ORDER BY name
"""
_PID: Final = "SELECT pg_backend_pid()"
_CLOCK: Final = "SELECT clock_timestamp()"
# Those being built this moment are not valid yet, which is as it should be.
_INVALID: Final = """
SELECT c.relname FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid
    JOIN pg_class AS t ON t.oid = i.indrelid
WHERE t.relname = ANY($1) AND t.relnamespace = current_schema()::regnamespace AND NOT (i.indisvalid AND i.indisready)
  AND NOT EXISTS (SELECT FROM pg_stat_progress_create_index AS p WHERE p.index_relid = i.indexrelid)
ORDER BY 1
"""
_PRESENT: Final = """
SELECT c.relname FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid
WHERE c.relnamespace = current_schema()::regnamespace
"""
_VACUUM: Final = """
SELECT s.relname, s.n_dead_tup,
       coalesce((SELECT option_value::bigint FROM pg_options_to_table(c.reloptions)
                 WHERE option_name = 'autovacuum_vacuum_threshold'),
                current_setting('autovacuum_vacuum_threshold')::bigint)
       + coalesce((SELECT option_value::float8 FROM pg_options_to_table(c.reloptions)
                   WHERE option_name = 'autovacuum_vacuum_scale_factor'),
                  current_setting('autovacuum_vacuum_scale_factor')::float8) * greatest(c.reltuples, 0) AS begins_at,
       coalesce(extract(epoch FROM now() - greatest(s.last_autovacuum, s.last_vacuum))::float8, 'infinity') AS quiet_s,
       coalesce((SELECT option_value::boolean FROM pg_options_to_table(c.reloptions)
                 WHERE option_name = 'autovacuum_enabled'), true)
       AND current_setting('autovacuum')::boolean AS is_on,
       age(c.relfrozenxid)::bigint AS freeze_age
FROM pg_stat_user_tables AS s JOIN pg_class AS c ON c.oid = s.relid
WHERE s.relname = ANY($1) AND s.schemaname = current_schema() ORDER BY s.relname
"""
_OLD_TRANSACTIONS: Final = """
SELECT pid FROM pg_stat_activity
WHERE datname = current_database() AND xact_start < now() - $1::interval AND pid <> pg_backend_pid()
  AND backend_type = 'client backend' ORDER BY xact_start
"""


async def check_server(context: Context) -> list[Finding]:
    """Look at version, extensions and what the server says of its indexes and tables."""
    tables, indexes = declared_names()
    return [
        *await _check_version(context),
        *await _check_indexes(context, tables, indexes),
        *await _check_vacuum(context, tables),
        *await _check_transactions(context),
    ]


async def check_clock(context: Context) -> list[Finding]:
    """Compare the clock here with the server's; what the question took does not count."""
    async with context.reader.transaction() as connection:
        before = utc_now()
        there = await connection.fetchval(_CLOCK)
        after = utc_now()
    off = max(before - there, there - after, timedelta(0))
    if off <= context.limits.clock_off:
        return []
    direction = "ahead of" if before > there else "behind"
    return [
        Finding(
            name="clocks_differ",
            why=f"this machine is {off.total_seconds():.1f} s {direction} the database: tokens are refused as not yet "
            "valid, times in a conversation go back and forth, expiries come early or late",
            do="`chronyc tracking` or `timedatectl` here and on the database's host; keep both by NTP",
        )
    ]


def pooler_not_known() -> Finding:
    """Return what to do about a transaction pooler that the settings do not know of."""
    return Finding(
        name="pooler_not_known",
        why="a transaction pooler is in front of the database and the service does not know: session settings are "
        "refused or lost, and prepared statements are gone when they are needed",
        do="set DATABASE_POOLER=transaction, or connect to the session port",
    )


async def check_pooler(context: Context) -> list[Finding]:
    """Find out whether a pooler gives our transactions to whichever connection is free, and whether we know it."""
    database = context.reader.database
    async with database.connection() as one:
        # In turn a pooler gives each of these another connection.
        pids = [await one.fetchval(_PID) for _ in range(3)]
        is_direct = set(pids) == {one.get_server_pid()}
        # By last use it gives the same one, unless somebody else's transaction has just taken it.
        async with context.reader.transaction():
            pids.append(await one.fetchval(_PID))
    if len(set(pids)) > 1 and not database.url.is_transaction_pooler:
        return [pooler_not_known()]
    if is_direct and database.url.is_transaction_pooler:
        return [
            Finding(
                name="pooler_not_there",
                why="DATABASE_POOLER (or the URL) says that a transaction pooler is in front; there is none, and every "
                "statement is planned anew for nothing",
                do="set DATABASE_POOLER=none",
                severity=Severity.NOTICE,
            )
        ]
    return []


async def _check_version(context: Context) -> list[Finding]:
    ((number, version),) = await context.reader.fetch(_VERSION)
    found = []
    if number < _OLDEST_VERSION:
        found.append(
            Finding(
                name="postgresql_too_old",
                why=f"this is PostgreSQL {version}; the schema needs 15, without which a receipt can be stored twice",
                do="upgrade the server to 15 or newer",
            )
        )
    if behind := [row[0] for row in await context.reader.fetch(_EXTENSIONS)]:
        found.append(
            Finding(
                name="extensions_behind",
                count=len(behind),
                examples=few(behind),
                severity=Severity.NOTICE,
                why="they are older than what the server has, as after an upgrade; the service itself needs none",
                do="ALTER EXTENSION NAME UPDATE",
            )
        )
    return found


async def _check_indexes(context: Context, tables: Sequence[str], indexes: Sequence[str]) -> list[Finding]:
    invalid = [row[0] for row in await context.reader.fetch(_INVALID, tables)]
    present = {row[0] for row in await context.reader.fetch(_PRESENT)}
    missing = [each for each in indexes if each not in present]
    found = []
    if invalid:
        found.append(
            Finding(
                name="indexes_invalid",
                count=len(invalid),
                examples=few(invalid),
                why="they cost every write and serve no read: building them CONCURRENTLY was broken off",
                do="REINDEX INDEX CONCURRENTLY NAME",
            )
        )
    if missing:
        found.append(
            Finding(
                name="indexes_missing",
                count=len(missing),
                examples=few(missing),
                why="every statement of the service counts on its index: without it each reads the whole table",
                do="create it again as src/sms_foundation/migrations/versions has it, with CONCURRENTLY",
            )
        )
    return found


async def _check_vacuum(context: Context, tables: Sequence[str]) -> list[Finding]:
    limits = context.limits
    rows = await context.reader.fetch(_VACUUM, tables)
    behind = {
        row["relname"]: row["n_dead_tup"]
        for row in rows
        if row["n_dead_tup"] >= limits.dead_rows
        and row["n_dead_tup"] > 2 * row["begins_at"]
        and row["quiet_s"] > limits.vacuum_quiet.total_seconds()
    }
    off = [row["relname"] for row in rows if not row["is_on"]]
    old = [row["relname"] for row in rows if row["freeze_age"] > limits.freeze_age]
    found = []
    if behind:
        found.append(
            Finding(
                name="vacuum_behind",
                count=len(behind),
                examples=few(list(behind)),
                details=behind,
                why="dead rows pile up: every probe of their indexes passes by them, and the disk fills",
                do="VACUUM (VERBOSE, ANALYZE) NAME now; then look for old transactions and for "
                "autovacuum_max_workers, autovacuum_vacuum_cost_limit that are too low",
            )
        )
    if off:
        found.append(
            Finding(
                name="autovacuum_off",
                count=len(off),
                examples=few(off),
                why="nobody removes dead rows of these tables",
                do="ALTER TABLE NAME RESET (autovacuum_enabled); or autovacuum = on in the server's settings",
            )
        )
    if old:
        found.append(
            Finding(
                name="freezing_behind",
                count=len(old),
                examples=few(old),
                why="when transaction numbers run out the server takes no more writes",
                do="VACUUM (FREEZE) NAME, before anything else",
            )
        )
    return found


async def _check_transactions(context: Context) -> list[Finding]:
    pids = [row[0] for row in await context.reader.fetch(_OLD_TRANSACTIONS, context.limits.transaction)]
    if not pids:
        return []
    return [
        Finding(
            name="old_transactions",
            count=len(pids),
            examples=few([f"pid {pid}" for pid in pids]),
            why="as long as they last no dead row can be removed anywhere, and whatever they locked stays locked",
            do="SELECT state, application_name, xact_start, query FROM pg_stat_activity WHERE pid = PID tells whose; "
            "SELECT pg_terminate_backend(PID) ends it",
        )
    ]
