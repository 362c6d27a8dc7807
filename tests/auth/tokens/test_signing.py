"""Which key signs: registered when first used, replaced with a grace period, never back once it has retired."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import time_machine

from sms_foundation.auth.gate import SessionToken
from sms_foundation.auth.refusals import Reason, RefusedError
from sms_foundation.auth.tokens import key_ring, signing
from sms_foundation.auth.tokens.opening import TokenParts, open_tokens
from sms_foundation.auth.tokens.private_keys import GeneratedKeys, SigningKey, generate_signing_key
from sms_foundation.auth.tokens.public_keys import list_public_keys, register
from sms_foundation.core.config import Settings
from sms_foundation.core.db import Database, DatabaseUrl, parse_database_url
from sms_foundation.core.errors import NotConfiguredError, StartupError
from sms_foundation.core.ids import new_id
from tests.support.service import make_settings

OLD, NEW = generate_signing_key(), generate_signing_key()
SESSION = new_id()
GRACE = timedelta(hours=24)
Start = Callable[..., AbstractAsyncContextManager[TokenParts]]


@pytest.fixture
def start(database: Database) -> Start:
    """Start an instance with these settings."""

    @asynccontextmanager
    async def start(*keys: SigningKey, **changes: object) -> AsyncIterator[TokenParts]:
        given = {"signing_key": "\n".join(key.pem for key in keys)} if keys else {}
        async with open_tokens(make_settings(**given, **changes), database) as parts:
            yield parts

    return start


async def token_of(parts: TokenParts) -> str:
    await parts.issuer.prepare()
    return (await parts.issuer.for_session("person-abc", SESSION)).text


async def is_accepted(parts: TokenParts, token: str) -> bool:
    try:
        return await parts.tokens.verify(token) == SessionToken(SESSION)
    except RefusedError as error:
        if error.reason is not Reason.UNKNOWN_SIGNER:
            raise
        return False


async def live(parts: TokenParts) -> list[str]:
    return [key.kid for key in await parts.key_ring.live()]


def after(span: timedelta) -> time_machine.travel:
    return time_machine.travel(datetime.now(UTC) + span, tick=True)


class TestRegistering:
    async def test_happens_when_a_token_is_first_made(self, start: Start, database: Database) -> None:
        async with start(OLD) as parts:
            assert await database.pool.fetchval("SELECT count(*) FROM auth_signing_keys") == 0
            await token_of(parts)

        row = await database.pool.fetchrow("SELECT * FROM auth_signing_keys")
        assert (row["kid"], row["retires_at"]) == (OLD.kid, None)

    async def test_puts_no_private_half_into_the_database(self, start: Start, database: Database) -> None:
        async with start(OLD) as parts:
            await token_of(parts)

        stored = await database.pool.fetchval("SELECT auth_signing_keys::text FROM auth_signing_keys")
        private = OLD.key.as_dict(private=True)
        assert not any(str(private[name]) in stored for name in ("d", "p", "q", "dp", "dq", "qi"))

    async def test_a_start_needs_no_database(self) -> None:
        settings = make_settings(signing_key=OLD.pem)
        database = Database(parse_database_url("postgresql://nobody@127.0.0.1:1/none"), settings)
        await database.open()
        async with open_tokens(settings, database) as parts:
            with pytest.raises(ConnectionRefusedError):
                await token_of(parts)
        await database.close()

    async def test_the_older_of_several_is_not_taken_for_news(self, start: Start) -> None:
        async with start(NEW, OLD) as parts:
            await token_of(parts)
            assert await live(parts) == [NEW.kid]

    async def test_two_instances_that_start_with_different_keys_end_up_with_one(
        self, start: Start, database: Database
    ) -> None:
        async with start(OLD) as one, start(NEW) as other:
            await asyncio.gather(token_of(one), token_of(other))

        assert await database.pool.fetchval("SELECT count(*) FROM auth_signing_keys WHERE retires_at IS NULL") == 1

    async def test_without_a_key_nothing_is_signed_and_the_setting_is_named(self, database: Database) -> None:
        settings = make_settings(app_env="staging", open_access=None)
        async with open_tokens(settings, database) as parts:
            with pytest.raises(NotConfiguredError, match="SIGNING_KEY"):
                await token_of(parts)
            assert await live(parts) == []


class TestRotation:
    async def test_the_old_key_is_accepted_for_the_grace_period_and_then_removed(
        self, start: Start, database: Database
    ) -> None:
        async with start(OLD) as parts:
            old_token = await token_of(parts)
        async with start(NEW, OLD) as parts:
            new_token = await token_of(parts)
            assert await is_accepted(parts, old_token)
            assert await is_accepted(parts, new_token)
            assert await live(parts) == [NEW.kid, OLD.kid]
        with after(GRACE + timedelta(seconds=1)):
            async with start(NEW, OLD) as parts:
                await token_of(parts)
                assert not await is_accepted(parts, old_token)
                assert await live(parts) == [NEW.kid]
        rows = await database.pool.fetch("SELECT kid FROM auth_signing_keys WHERE public_jwk IS NOT NULL")
        assert [row["kid"] for row in rows] == [NEW.kid]

    async def test_the_grace_period_is_a_setting(self, start: Start, database: Database) -> None:
        async with start(OLD) as parts:
            await token_of(parts)
        async with start(NEW, OLD, signing_key_grace_h=2) as parts:
            await token_of(parts)

        retires_at = await database.pool.fetchval("SELECT retires_at FROM auth_signing_keys WHERE kid = $1", OLD.kid)
        assert abs(retires_at - datetime.now(UTC) - timedelta(hours=2)) < timedelta(minutes=1)

    def test_a_grace_period_shorter_than_a_token_is_refused_at_the_start(self) -> None:
        with pytest.raises(StartupError, match="SIGNING_KEY_GRACE_H"):
            asyncio.run(_open(make_settings(signing_key_grace_h=0.25, access_token_s=3600)))

    async def test_a_running_instance_accepts_the_next_ones_tokens_at_once(self, start: Start) -> None:
        async with start(OLD) as running, start(NEW, OLD) as next_one:
            assert await is_accepted(running, await token_of(running))
            assert await is_accepted(running, await token_of(next_one))

    async def test_requests_that_come_at_once_with_a_new_key_are_all_accepted(self, start: Start) -> None:
        async with start(OLD) as running, start(NEW, OLD) as next_one:
            assert await is_accepted(running, await token_of(running))
            token = await token_of(next_one)
            assert all(await asyncio.gather(*(is_accepted(running, token) for _ in range(20))))

    async def test_an_instance_that_has_only_the_old_key_goes_on_with_it(
        self, start: Start, database: Database
    ) -> None:
        """As long as it is accepted: a deployment replaces instances one by one."""
        async with start(OLD) as stale:
            await token_of(stale)
            async with database.transaction() as connection:
                await register(connection, NEW, now=datetime.now(UTC), grace=GRACE)
            stale.key_ring.forget()
            assert await is_accepted(stale, await token_of(stale))

    async def test_what_has_retired_does_not_come_back(self, start: Start) -> None:
        """Neither by an instance that was forgotten, nor by putting the old key back."""
        async with start(OLD) as parts:
            old_token = await token_of(parts)
        async with start(NEW, OLD) as parts:
            await token_of(parts)
        with after(GRACE + timedelta(seconds=1)):
            async with start(OLD) as stale:
                with pytest.raises(NotConfiguredError):
                    await token_of(stale)
            async with start(OLD, NEW) as put_back:
                assert await is_accepted(put_back, await token_of(put_back))
                assert not await is_accepted(put_back, old_token)
                assert await live(put_back) == [NEW.kid]

    async def test_a_key_that_retires_stops_on_a_running_instance_by_itself(self, start: Start) -> None:
        async with start(OLD) as parts:
            old_token = await token_of(parts)
        async with start(NEW, OLD) as parts:
            await token_of(parts)
            assert await is_accepted(parts, old_token)
            with after(GRACE + timedelta(seconds=1)):
                assert not await is_accepted(parts, old_token)
                assert await live(parts) == [NEW.kid]

    async def test_a_key_retired_by_hand_stops_within_seconds(
        self, start: Start, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What is known is never older than 4 s."""
        async with start(OLD) as parts:
            token = await token_of(parts)
            assert await is_accepted(parts, token)
            await database.pool.execute("UPDATE auth_signing_keys SET retires_at = now()")
            later = key_ring.monotonic() + key_ring.STALE_S
            monkeypatch.setattr(key_ring, "monotonic", lambda: later)
            assert not await is_accepted(parts, token)

        assert key_ring.STALE_S < 5


class TestRunning:
    async def test_a_new_file_is_noticed_within_a_minute(
        self, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "1.pem").write_text(OLD.pem)
        async with start(signing_key_path=tmp_path) as parts:
            first = await token_of(parts)
            (tmp_path / "2.pem").write_text(NEW.pem)
            later = signing.monotonic() + signing.READ_EVERY_S
            monkeypatch.setattr(signing, "monotonic", lambda: later)
            second = await token_of(parts)
            assert await live(parts) == [NEW.kid, OLD.kid]
            assert await is_accepted(parts, first)
            assert await is_accepted(parts, second)

        assert signing.READ_EVERY_S < 60

    async def test_signing_waits_for_no_connection_while_it_holds_them_all(
        self, database_url: DatabaseUrl, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Or all who make tokens would wait for each other whenever the keys are to be read again."""
        settings = make_settings(signing_key=OLD.pem, database_pool_size=2)
        database = Database(database_url, settings)
        await database.open()
        async with open_tokens(settings, database) as parts:
            await parts.issuer.prepare()
            later = signing.monotonic() + signing.READ_EVERY_S
            monkeypatch.setattr(signing, "monotonic", lambda: later)
            async with database.transaction(), database.transaction():
                token = await parts.issuer.for_session("person-abc", SESSION)
            assert await is_accepted(parts, token.text)
        await database.close()

    async def test_files_that_become_unreadable_change_nothing(
        self, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        file = tmp_path / "key.pem"
        file.write_text(OLD.pem)
        async with start(signing_key_path=file) as parts:
            await token_of(parts)
            file.unlink()
            later = signing.monotonic() + signing.READ_EVERY_S
            monkeypatch.setattr(signing, "monotonic", lambda: later)
            assert await is_accepted(parts, await token_of(parts))

    async def test_a_generated_key_that_has_retired_is_deleted_and_replaced(
        self, start: Start, tmp_path: Path, database: Database
    ) -> None:
        folder = tmp_path / "signing-keys"
        async with start(sms_data_dir=tmp_path) as parts:
            await token_of(parts)
        (old,) = GeneratedKeys(folder).read()
        async with database.transaction() as connection:
            await register(connection, NEW, now=datetime.now(UTC), grace=GRACE)
        with after(GRACE + timedelta(seconds=1)):
            async with start(sms_data_dir=tmp_path) as parts:
                assert await is_accepted(parts, await token_of(parts))
        (new,) = GeneratedKeys(folder).read()
        async with database.connection() as connection:
            known = {each.kid: each.jwk for each in await list_public_keys(connection)}
        assert new.kid != old.kid
        assert len(list(folder.glob("*.pem"))) == 1
        assert known[old.kid] is None
        assert known[new.kid] == new.public_jwk

    async def test_made_up_names_of_keys_do_not_reach_the_database_one_by_one(
        self, start: Start, database: Database
    ) -> None:
        async with start(OLD) as parts:
            await token_of(parts)
            await parts.key_ring.find("A" * 43)
            await database.pool.execute("ALTER TABLE auth_signing_keys RENAME TO away")
            found = [await parts.key_ring.find(f"{number:043}") for number in range(100)]

        assert found == [None] * 100


async def _open(settings: Settings) -> None:
    database = Database(parse_database_url("postgresql://nobody@127.0.0.1:1/none"), settings)
    async with open_tokens(settings, database):
        pass
