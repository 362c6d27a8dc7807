"""What is over is deleted after a while, what is not stays, and nobody is locked out for long meanwhile."""

from datetime import timedelta
from uuid import UUID

import pytest

from sms_foundation.auth.principal import ClientKind
from sms_foundation.auth.tidying import TIDY_ACCESS, Tidying, tidy
from sms_foundation.core.config import Settings
from sms_foundation.core.db import Database
from sms_foundation.core.ids import NIL, new_id
from sms_foundation.core.work.queue import Work
from sms_foundation.core.work.runner import Again
from tests.support.access import make_client
from tests.support.processes import eventually
from tests.support.service import Service, make_settings

TABLES = ("idempotency_keys", "auth_refresh_tokens", "auth_sessions", "auth_invitations")


@pytest.fixture
def settings() -> Settings:
    return make_settings()


async def keep_answer(database: Database, digest: bytes, ends_in: timedelta) -> None:
    await database.pool.execute(
        "INSERT INTO idempotency_keys (digest, request_digest, status, answer, expires_at) "
        "VALUES ($1, '', 200, '', now() + $2)",
        digest,
        ends_in,
    )


async def log_in(
    database: Database, client: str, ends_in: timedelta, *, token_ends_in: timedelta | None = None
) -> UUID:
    id_ = new_id()
    await database.pool.execute(
        "INSERT INTO auth_sessions (id, client_id, expires_at) VALUES ($1, $2, now() + $3)", id_, client, ends_in
    )
    await database.pool.execute(
        "INSERT INTO auth_refresh_tokens (digest, session_id, expires_at) VALUES ($1, $2, now() + $3)",
        id_.bytes,
        id_,
        token_ends_in or ends_in,
    )
    return id_


async def invite(database: Database, ends_in: timedelta) -> UUID:
    id_ = new_id()
    await database.pool.execute(
        "INSERT INTO auth_invitations (id, digest, email, roles, created_by, expires_at, used_at) "
        "VALUES ($1, $2, 'ana@example.com', '{}', 'admin', now() + $3, now())",
        id_,
        id_.bytes,
        ends_in,
    )
    return id_


async def keys(database: Database, table: str) -> set[object]:
    column = "id" if table in ("auth_sessions", "auth_invitations") else "digest"
    return {row[0] for row in await database.pool.fetch(f"SELECT {column} FROM {table}")}


async def tidy_all(database: Database) -> None:
    outcome = await Tidying(database).tidy(Work(1, TIDY_ACCESS, NIL, 0, new_id()))
    assert isinstance(outcome, Again)


class TestTidy:
    async def test_answers_go_when_they_are_over(self, database: Database) -> None:
        for digest, ends_in in [(b"over", timedelta(seconds=-1)), (b"kept", timedelta(minutes=1))]:
            await keep_answer(database, digest, ends_in)
        await tidy_all(database)
        assert await keys(database, "idempotency_keys") == {b"kept"}

    async def test_log_ins_and_their_tokens_go_after_a_week(self, database: Database) -> None:
        client = await make_client(database, "ana", kind=ClientKind.PERSON)
        gone = await log_in(database, client, timedelta(days=-8))
        lately = await log_in(database, client, timedelta(days=-6))
        live = await log_in(database, client, timedelta(days=20), token_ends_in=timedelta(days=-8))
        await tidy_all(database)
        assert await keys(database, "auth_sessions") == {lately, live}
        assert await keys(database, "auth_refresh_tokens") == {lately.bytes}
        assert gone not in await keys(database, "auth_sessions")

    async def test_invitations_go_a_month_after_their_end(self, database: Database) -> None:
        await invite(database, timedelta(days=-31))
        kept = {await invite(database, timedelta(days=-29)), await invite(database, timedelta(days=1))}
        await tidy_all(database)
        assert await keys(database, "auth_invitations") == kept

    async def test_more_than_a_batch_goes_in_several(self, database: Database) -> None:
        await database.pool.execute(
            "INSERT INTO idempotency_keys (digest, request_digest, status, answer, expires_at) "
            "SELECT int4send(n), '', 200, '', now() - interval '1 hour' FROM generate_series(1, 2500) AS n"
        )
        async with database.connection() as connection:
            assert [await tidy(connection) for _ in range(4)] == [1000, 1000, 500, 0]

    async def test_each_table_is_searched_by_an_index(self, database: Database) -> None:
        for table in TABLES:
            plan = await database.pool.fetch(
                f"EXPLAIN SELECT FROM {table} WHERE expires_at < now() ORDER BY expires_at LIMIT 1000"
            )
            text = "\n".join(row[0] for row in plan)
            assert f"ix_{table}_expires_at" in text, text

    async def test_a_running_service_does_it_by_itself(self, database: Database, service: Service) -> None:
        await keep_answer(database, b"over", timedelta(seconds=-1))
        await database.pool.execute("UPDATE work SET run_at = now() WHERE kind = $1", TIDY_ACCESS)

        async def is_gone() -> bool:
            await database.pool.execute("UPDATE work SET run_at = now() WHERE kind = $1 AND state = 'due'", TIDY_ACCESS)
            return not await keys(database, "idempotency_keys")

        await eventually(is_gone, "the answer is deleted")
