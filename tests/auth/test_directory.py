"""The directory: what the database knows of credentials, remembered for seconds and never for longer."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from sms_foundation.auth import directory as directory_module
from sms_foundation.auth.directory import FRESH_S, STALE_S, Directory, Grant
from sms_foundation.auth.keys.format import digest_of, generate_key, prefix_of
from sms_foundation.auth.metrics import AUTH_LOOKUPS
from sms_foundation.auth.permissions import ALL, BEYOND_TEST, BUILT_IN_ROLES, Permission
from sms_foundation.auth.principal import ClientKind
from sms_foundation.auth.refusals import Reason, RefusedError
from sms_foundation.core.config import Settings
from sms_foundation.core.db import Database, DatabaseUrl, is_outage, parse_database_url
from sms_foundation.core.ids import new_id
from tests.support.access import make_client, make_key
from tests.support.processes import eventually
from tests.support.tcp_gate import TcpGate

ANSWERED = """
SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND state_change > $1
    AND state LIKE 'idle%' AND query LIKE '%k.digest = $1%' AND pid <> pg_backend_pid())
"""


class Clock:
    """A monotonic clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def directory(database: Database, clock: Clock) -> AsyncIterator[Directory]:
    directory = Directory(database, monotonic=clock)
    yield directory
    await directory.close()


@pytest.fixture
async def key(database: Database) -> str:
    """A live key of an admin."""
    return await make_key(database, await make_client(database))


async def find(directory: Directory, key: str) -> Grant:
    return await directory.by_digest(digest_of(key))


async def refusal(directory: Directory, key: str) -> Reason:
    with pytest.raises(RefusedError) as refused:
        await find(directory, key)
    return refused.value.reason


def lookups(kind: str = "key") -> float:
    return float(AUTH_LOOKUPS.labels(kind)._value.get())


async def settle() -> None:
    """Let what the directory asks beside us come to its end."""
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        if "_refresh" in repr(task.get_coro()):
            await asyncio.gather(task, return_exceptions=True)


async def revoke(database: Database, key: str, *, at: datetime | None = None) -> None:
    await database.pool.execute(
        "UPDATE auth_api_keys SET revoked_at = coalesce($2, now()) WHERE prefix = $1", prefix_of(key), at
    )


async def disable(database: Database) -> None:
    await database.pool.execute("UPDATE auth_clients SET disabled_at = now()")


class TestByDigest:
    async def test_a_key_grants_what_its_clients_roles_allow(self, database: Database, directory: Directory) -> None:
        await database.pool.execute(
            "INSERT INTO auth_roles (name, permissions) VALUES ('auditor', '{audit:read, galaxies:read}')"
        )
        client = await make_client(database, "reports", roles=["viewer", "auditor", "deleted"], limit="5/1s")
        key = await make_key(database, client)

        grant = await find(directory, key)

        assert grant.principal.permissions == BUILT_IN_ROLES["viewer"] | {Permission.AUDIT_READ}
        assert (grant.principal.client_id, grant.principal.kind) == ("reports", ClientKind.SERVICE)
        assert (grant.principal.limit, grant.principal.is_test) == ("5/1s", False)
        assert (grant.expires_at, grant.networks) == (None, ())
        assert grant.principal.credential == f"key {prefix_of(key)}"
        assert key not in repr(grant)

    async def test_scopes_confine_a_key_and_never_widen_it(self, database: Database, directory: Directory) -> None:
        client = await make_client(database, roles=["viewer"])
        key = await make_key(database, client, scopes=["messages:read", "messages:send"])

        assert (await find(directory, key)).principal.permissions == {Permission.MESSAGES_READ}

    async def test_a_test_key_of_an_admin_cannot_make_keys(self, database: Database, directory: Directory) -> None:
        key = await make_key(database, await make_client(database), is_test=True)

        principal = (await find(directory, key)).principal

        assert principal.is_test
        assert principal.permissions == ALL - BEYOND_TEST

    @pytest.mark.parametrize(
        ("expires", "revoked", "ends"), [(None, 9, 9), (9, None, 9), (9, 5, 5), (5, 9, 5)], ids=str
    )
    async def test_a_key_is_good_until_it_expires_or_what_replaced_it_is_in_place(
        self, database: Database, directory: Directory, expires: int | None, revoked: int | None, ends: int
    ) -> None:
        day = datetime.now(UTC).replace(microsecond=0)
        expires_at = None if expires is None else day + timedelta(days=expires)
        key = await make_key(database, await make_client(database), expires_at=expires_at)
        if revoked is not None:
            await revoke(database, key, at=day + timedelta(days=revoked))

        assert (await find(directory, key)).expires_at == day + timedelta(days=ends)

    async def test_unknown_revoked_and_of_a_disabled_client_are_told_apart(
        self, database: Database, directory: Directory, key: str
    ) -> None:
        revoked = await make_key(database, "tests")
        await revoke(database, revoked)
        assert await refusal(directory, generate_key(is_test=False).text) is Reason.UNKNOWN_KEY
        assert await refusal(directory, revoked) is Reason.REVOKED_KEY

        await disable(database)

        assert await refusal(directory, key) is Reason.CLIENT_DISABLED

    async def test_last_use_is_noted_once_a_minute(self, database: Database, directory: Directory, key: str) -> None:
        used = "SELECT last_used_at FROM auth_api_keys"

        async def is_noted() -> bool:
            return await database.pool.fetchval(used + " WHERE last_used_at > now() - interval '50 s'") is not None

        assert await database.pool.fetchval(used) is None
        await find(directory, key)
        await eventually(is_noted, "the use is noted")
        first = await database.pool.fetchval(used)
        directory.forget()
        await find(directory, key)
        again = await database.pool.fetchval(used)
        await database.pool.execute("UPDATE auth_api_keys SET last_used_at = now() - interval '61 s'")
        directory.forget()
        await find(directory, key)
        await eventually(is_noted, "a later use is noted")

        assert first == again

    async def test_noting_a_use_holds_up_nobody(self, database: Database, directory: Directory, key: str) -> None:
        """Whoever rotates the key at this moment has its row."""
        async with database.transaction() as rotating:
            await rotating.execute("UPDATE auth_api_keys SET name = 'being rotated'")
            assert (await find(directory, key)).principal.client_id == "tests"


class TestByKeyId:
    async def test_a_key_is_the_same_by_its_id(self, database: Database, directory: Directory, key: str) -> None:
        key_id = await database.pool.fetchval("SELECT id FROM auth_api_keys")

        assert await directory.by_key_id(UUID(str(key_id))) == await find(directory, key)

    async def test_an_id_of_a_session_is_none_of_a_key(self, database: Database, directory: Directory) -> None:
        session = await make_session(database, await make_client(database))

        with pytest.raises(RefusedError) as refused:
            await directory.by_key_id(session)

        assert refused.value.reason is Reason.UNKNOWN_KEY


async def make_session(database: Database, client_id: str) -> UUID:
    session = new_id()
    await database.pool.execute(
        "INSERT INTO auth_sessions (id, client_id, expires_at) VALUES ($1, $2, now() + interval '1 day')",
        session,
        client_id,
    )
    return session


class TestBySession:
    async def test_grants_what_the_person_may_until_it_ends(
        self, database: Database, directory: Directory, clock: Clock
    ) -> None:
        client = await make_client(database, "ana", roles=["operator"], kind=ClientKind.PERSON)
        session = await make_session(database, client)
        principal = (await directory.by_session(session)).principal
        assert principal.permissions == BUILT_IN_ROLES["operator"]
        assert (principal.kind, principal.credential) == (ClientKind.PERSON, f"session {session}")

        await database.pool.execute("UPDATE auth_sessions SET ended_at = now()")
        clock.now += STALE_S

        with pytest.raises(RefusedError) as refused:
            await directory.by_session(session)
        assert refused.value.reason is Reason.SESSION_ENDED

    async def test_unknown_is_as_good_as_ended(self, directory: Directory) -> None:
        with pytest.raises(RefusedError) as refused:
            await directory.by_session(new_id())

        assert refused.value.reason is Reason.SESSION_ENDED


class TestByIdentity:
    async def test_finds_the_client_by_issuer_and_subject_together(
        self, database: Database, directory: Directory
    ) -> None:
        await make_client(database, "one", roles=["viewer"])
        await make_client(database, "two", roles=["operator"])
        await database.pool.executemany(
            "INSERT INTO auth_identities (issuer, subject, client_id) VALUES ($1, $2, $3)",
            [("https://a.example", "s", "one"), ("https://b.example", "s", "two")],
        )

        grant = await directory.by_identity("https://b.example", "s")

        assert (grant.principal.client_id, grant.principal.credential) == ("two", "token of https://b.example")
        for issuer, subject in (("https://a.example", "t"), ("https://c.example", "s"), ("s", "https://a.example")):
            with pytest.raises(RefusedError) as refused:
                await directory.by_identity(issuer, subject)
            assert refused.value.reason is Reason.UNKNOWN_SUBJECT


class TestRemembering:
    async def test_a_known_key_is_not_asked_for_while_it_is_fresh(
        self, directory: Directory, clock: Clock, key: str
    ) -> None:
        before = lookups()
        for _ in range(100):
            await find(directory, key)
        clock.now += FRESH_S * 0.99
        await find(directory, key)

        assert lookups() == before + 1

    async def test_concurrent_first_requests_ask_once(self, directory: Directory, key: str) -> None:
        before = lookups()

        grants = await asyncio.gather(*(find(directory, key) for _ in range(50)))

        assert lookups() == before + 1
        assert len({grant.principal for grant in grants}) == 1

    async def test_an_ageing_answer_is_used_while_it_is_asked_for_again(
        self, database: Database, directory: Directory, clock: Clock, key: str
    ) -> None:
        await find(directory, key)
        await revoke(database, key)
        clock.now += FRESH_S

        await find(directory, key)
        await settle()

        assert await refusal(directory, key) is Reason.REVOKED_KEY

    @pytest.mark.parametrize("change", [revoke, disable], ids=["revoked", "disabled"])
    async def test_what_is_taken_away_elsewhere_never_works_longer_than_it_may(
        self, database: Database, directory: Directory, clock: Clock, key: str, change: object
    ) -> None:
        await find(directory, key)
        await (revoke(database, key) if change is revoke else disable(database))
        clock.now += STALE_S

        assert await refusal(directory, key) in (Reason.REVOKED_KEY, Reason.CLIENT_DISABLED)
        assert STALE_S < 5

    async def test_roles_given_and_taken_elsewhere_are_seen(
        self, database: Database, directory: Directory, clock: Clock, key: str
    ) -> None:
        await find(directory, key)
        await database.pool.execute("UPDATE auth_clients SET roles = '{viewer}'")
        clock.now += STALE_S

        assert (await find(directory, key)).principal.permissions == BUILT_IN_ROLES["viewer"]

    async def test_a_key_that_was_refused_works_as_soon_as_it_is_there(
        self, database: Database, directory: Directory
    ) -> None:
        await make_client(database)
        new = generate_key(is_test=False)
        assert await refusal(directory, new.text) is Reason.UNKNOWN_KEY

        await database.pool.execute(
            "INSERT INTO auth_api_keys (id, client_id, name, prefix, digest, is_test) "
            "VALUES ($1, 'tests', '', $2, $3, false)",
            new_id(),
            new.prefix,
            new.digest,
        )

        assert (await find(directory, new.text)).principal.client_id == "tests"

    async def test_refusals_leave_nothing_in_memory(self, directory: Directory, key: str) -> None:
        await find(directory, key)
        for _ in range(50):
            assert await refusal(directory, generate_key(is_test=False).text) is Reason.UNKNOWN_KEY

        assert len(directory._entries) == 1

    async def test_memory_is_bounded_and_whoever_fell_out_is_asked_for_again(
        self, database: Database, directory: Directory, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(directory_module, "_MOST_KEPT", 3)
        client = await make_client(database)
        keys = [await make_key(database, client) for _ in range(8)]
        for key in keys:
            await find(directory, key)
        before = lookups()

        assert len(directory._entries) == 3
        await find(directory, keys[-1])
        assert lookups() == before
        await find(directory, keys[0])
        assert lookups() == before + 1

    async def test_forgetting_makes_a_change_of_ones_own_seen_at_once(
        self, database: Database, directory: Directory, key: str
    ) -> None:
        await find(directory, key)
        assert directory.is_known(digest_of(key))
        await revoke(database, key)
        directory.forget()

        assert not directory.is_known(digest_of(key))
        assert await refusal(directory, key) is Reason.REVOKED_KEY

    async def test_only_what_was_accepted_is_known(self, directory: Directory) -> None:
        new = generate_key(is_test=False)
        await refusal(directory, new.text)

        assert not directory.is_known(new.digest)


class TestOutage:
    """The database goes away and comes back, behind a port that the test opens and closes."""

    @pytest.fixture
    async def gate(self, database_url: DatabaseUrl) -> AsyncIterator[TcpGate]:
        async with TcpGate(database_url) as gate:
            await gate.open()
            yield gate

    @pytest.fixture
    async def directory(self, gate: TcpGate, settings: Settings, clock: Clock) -> AsyncIterator[Directory]:
        database = Database(parse_database_url(gate.url), settings)
        await database.open()
        directory = Directory(database, monotonic=clock)
        yield directory
        await directory.close()
        await database.close()

    async def test_known_keys_go_on_until_stale_then_it_is_an_outage_not_a_refusal(
        self, directory: Directory, clock: Clock, gate: TcpGate, key: str
    ) -> None:
        await find(directory, key)
        await gate.close()
        for later in (FRESH_S, STALE_S * 0.99):
            clock.now = 1000 + later
            await find(directory, key)
            await settle()
        clock.now = 1000 + STALE_S

        with pytest.raises(Exception) as failed:  # noqa: PT011  # whichever way it shows
            await find(directory, key)
        assert is_outage(failed.value)

        await gate.open()
        assert (await find(directory, key)).principal.client_id == "tests"

    async def test_unknown_keys_are_an_outage_too_and_leave_nothing_in_memory(
        self, directory: Directory, gate: TcpGate, key: str
    ) -> None:
        await find(directory, key)
        await gate.close()

        for _ in range(5):
            with pytest.raises(Exception) as failed:  # noqa: PT011
                await find(directory, generate_key(is_test=False).text)
            assert is_outage(failed.value)

        assert len(directory._entries) == 1

    async def test_an_answer_that_hangs_does_not_make_what_is_old_look_new(
        self, directory: Directory, clock: Clock, gate: TcpGate, database: Database, key: str
    ) -> None:
        """Asked before the revocation, answered long after it: whoever comes in between does not rely on it."""
        await database.pool.execute("UPDATE auth_api_keys SET last_used_at = now()")  # nothing to be noted meanwhile
        await find(directory, key)
        clock.now += FRESH_S
        gate.hold_answers()
        started_at = await database.pool.fetchval("SELECT clock_timestamp()")
        await find(directory, key)  # asks beside us; the answer, that all is well, does not get through

        async def is_answered() -> bool:
            return bool(await database.pool.fetchval(ANSWERED, started_at))

        await eventually(is_answered, "the database has answered")
        await revoke(database, key)
        clock.now += STALE_S
        late = asyncio.create_task(refusal(directory, key))
        await asyncio.sleep(0)
        gate.thaw()

        assert await late is Reason.REVOKED_KEY
        await settle()
        assert await refusal(directory, key) is Reason.REVOKED_KEY

    async def test_closing_does_not_wait_for_a_silent_database(
        self, directory: Directory, clock: Clock, gate: TcpGate, key: str
    ) -> None:
        await find(directory, key)
        gate.freeze()
        clock.now += FRESH_S
        await find(directory, key)
        directory.forget()

        closing = asyncio.create_task(directory.close())
        gate.thaw()
        await closing

        assert not directory._asking
