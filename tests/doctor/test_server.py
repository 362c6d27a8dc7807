"""What is wrong with the PostgreSQL beneath, or in front of it, is made in a real one and found."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
import time_machine

from sms_foundation.core.clock import utc_now
from sms_foundation.core.config import Settings
from sms_foundation.core.db import Database, DatabaseUrl, parse_database_url
from sms_foundation.doctor.context import Context
from sms_foundation.doctor.findings import Report, Severity
from sms_foundation.doctor.limits import Limits
from sms_foundation.doctor.reading import Reader
from sms_foundation.doctor.server import check_clock, check_pooler, check_server
from sms_foundation.migrations.declared import declared_names
from tests.core.test_db_pooler import pooler_for
from tests.doctor.examined import Examined, Patient
from tests.support.transaction_pooler import TransactionPooler


@pytest.fixture
async def pooler(database_url: DatabaseUrl) -> AsyncIterator[TransactionPooler]:
    async with pooler_for(database_url) as pooler:
        yield pooler


def _context(database: Database, settings: Settings, limits: Limits | None = None) -> Context:
    return Context(
        settings=settings,
        configs=(),
        reader=Reader(database),
        since=None,
        limits=limits or Limits.of(settings),
        report=Report(),
    )


async def _check_server(patient: Patient, limits: Limits | None = None) -> Examined:
    context = _context(patient.database, patient.settings, limits)
    return Examined(Report(await check_server(context)))


async def test_a_migrated_database_is_as_it_should_be(patient: Patient) -> None:
    found = await _check_server(patient)

    assert found.report.findings == []


class TestSchema:
    async def test_that_is_behind_is_found_and_nothing_inside_is_looked_at(self, patient: Patient) -> None:
        await patient.run("UPDATE alembic_version SET version_num = '0001'")

        found = await patient.examine()

        assert found["schema_behind"].do == "`sms-foundation migrate`"
        assert {"server", "messages", "access", "receipts"} <= found.unchecked
        assert found.report.exit_status == 1


class TestIndexes:
    async def test_invalid(self, patient: Patient) -> None:
        await patient.run("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'ix_work_due'::regclass")

        assert (await _check_server(patient))["indexes_invalid"].examples == ("ix_work_due",)

    async def test_missing(self, patient: Patient) -> None:
        await patient.run("DROP INDEX ix_sms_message_status_events_message_id")

        assert (await _check_server(patient))["indexes_missing"].examples == (
            "ix_sms_message_status_events_message_id",
        )

    def test_all_that_the_models_declare_are_looked_for(self) -> None:
        tables, indexes = declared_names()
        assert {"sms_messages", "work", "auth_api_keys", "rate_cells"} <= set(tables)
        assert {"pk_work", "uq_work_unique_key", "uq_sms_messages_idempotency_key"} <= set(indexes)


class TestVacuum:
    async def test_far_behind(self, patient: Patient) -> None:
        limits = Limits(dead_rows=1000, vacuum_quiet=timedelta(0))
        await patient.run("ALTER TABLE work RESET (autovacuum_vacuum_threshold)")
        await patient.run("INSERT INTO work (kind, ref_id) SELECT 'x', gen_random_uuid() FROM generate_series(1, 5000)")
        await patient.run("DELETE FROM work")
        async with patient.database.connection() as connection:
            await connection.execute("SELECT pg_stat_force_next_flush()")

        found = await _check_server(patient, limits)
        harmless = await _check_server(patient)

        assert found["vacuum_behind"].details == {"work": 5000}
        assert harmless.names() == set()

    async def test_off(self, patient: Patient) -> None:
        await patient.run("ALTER TABLE sms_messages SET (autovacuum_enabled = false)")

        assert (await _check_server(patient))["autovacuum_off"].examples == ("sms_messages",)

    async def test_freezing_far_behind(self, patient: Patient) -> None:
        await patient.run("CREATE TABLE other ()")

        found = await _check_server(patient, Limits(freeze_age=-1))

        assert found["freezing_behind"].count >= 1

    async def test_old_transactions_hold_it_up(self, patient: Patient) -> None:
        async with patient.database.transaction() as connection:
            pid = await connection.fetchval("SELECT pg_backend_pid()")
            found = await _check_server(patient, Limits(transaction=timedelta(0)))

        assert f"pid {pid}" in found["old_transactions"].examples


class TestVersion:
    async def test_extensions_older_than_the_server_has(self, patient: Patient) -> None:
        await patient.run("UPDATE pg_extension SET extversion = '0.9' WHERE extname = 'plpgsql'")

        finding = (await _check_server(patient))["extensions_behind"]

        assert (finding.severity, finding.examples) == (Severity.NOTICE, ("plpgsql",))


class TestClock:
    @pytest.mark.parametrize(("off_s", "word"), [(-60, "behind"), (60, "ahead of")])
    async def test_that_differs(self, patient: Patient, off_s: int, word: str) -> None:
        context = _context(patient.database, patient.settings)
        await context.reader.fetch("SELECT 1")
        with time_machine.travel(utc_now() + timedelta(seconds=off_s)):
            (finding,) = await check_clock(context)

        assert finding.name == "clocks_differ"
        assert word in finding.why

    async def test_that_agrees(self, patient: Patient) -> None:
        assert await check_clock(_context(patient.database, patient.settings)) == []


class TestPooler:
    async def test_none_and_none_expected(self, patient: Patient) -> None:
        assert await check_pooler(_context(patient.database, patient.settings)) == []

    async def test_one_that_refuses_our_session_settings_is_named(
        self, pooler: TransactionPooler, database_url: DatabaseUrl, settings: Settings
    ) -> None:
        """DATABASE_POOLER is not set, and the pooler takes no connection of ours at all."""
        async with _open(_through(pooler, database_url, "none"), settings) as database:
            found = await Patient(database, settings).examine()

        assert "pooler_not_known" in found.names()
        assert "database" in found.unchecked

    async def test_one_that_swallows_them_is_found_out(
        self, pooler: TransactionPooler, database_url: DatabaseUrl, settings: Settings
    ) -> None:
        url = _through(pooler, database_url, "transaction")
        async with _open(url, settings) as database:
            # As the settings would have it, had nobody told them.
            database.url = DatabaseUrl(url.dsn, is_transaction_pooler=False)
            (finding,) = await check_pooler(_context(database, settings))

        assert finding.name == "pooler_not_known"

    async def test_one_that_is_known_is_fine(
        self, pooler: TransactionPooler, database_url: DatabaseUrl, settings: Settings
    ) -> None:
        async with _open(_through(pooler, database_url, "transaction"), settings) as database:
            assert await check_pooler(_context(database, settings)) == []

    async def test_one_that_is_not_there(self, database_url: DatabaseUrl, settings: Settings) -> None:
        url = DatabaseUrl(database_url.dsn, is_transaction_pooler=True)
        async with _open(url, settings) as database:
            (finding,) = await check_pooler(_context(database, settings))

        assert (finding.name, finding.severity) == ("pooler_not_there", Severity.NOTICE)

    async def test_everything_works_behind_one(
        self, pooler: TransactionPooler, database_url: DatabaseUrl, settings: Settings, patient: Patient
    ) -> None:
        id_ = await patient.message(status="delivered")
        async with _open(_through(pooler, database_url, "transaction"), settings) as database:
            found = await Patient(database, settings).examine()

        assert found["status_not_explained"].examples == (str(id_),)
        assert found.unchecked <= {"webhooks"}


def _through(pooler: TransactionPooler, url: DatabaseUrl, mode: str) -> DatabaseUrl:
    name = url.dsn.partition("?")[0].rpartition("/")[2]
    dsn = f"postgresql://postgres@127.0.0.1:{pooler.port}/{name}?sslmode=disable"
    return parse_database_url(dsn, pooler=mode)


@asynccontextmanager
async def _open(url: DatabaseUrl, settings: Settings) -> AsyncIterator[Database]:
    database = Database(url, settings)
    await database.open()
    yield database
    await database.close()
