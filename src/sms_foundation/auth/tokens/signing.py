"""Which private key signs our tokens: the one that is current in the database and that this process has."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta

import structlog
from joserfc import jwt

from sms_foundation.auth.tokens.key_ring import KeyRing
from sms_foundation.auth.tokens.private_keys import PrivateKeys, SigningKey
from sms_foundation.auth.tokens.public_keys import PublicKey, erase_retired, list_public_keys, register
from sms_foundation.auth.tokens.single_flight import SingleFlight
from sms_foundation.core.clock import monotonic, utc_now
from sms_foundation.core.db import Database
from sms_foundation.core.errors import NotConfiguredError, StartupError

log = structlog.get_logger(__name__)

READ_EVERY_S = 55.0
ALGORITHM = "RS256"


class Signer:
    """Signs tokens. Reads its keys, and registers a new one, when it first signs and then about once a minute."""

    def __init__(
        self, private_keys: PrivateKeys | None, ring: KeyRing, database: Database, *, grace: timedelta
    ) -> None:
        self._private_keys = private_keys
        self._ring = ring
        self._database = database
        self._grace = grace
        self._current: SigningKey | None = None
        self._read_at = float("-inf")
        self._reading = SingleFlight(self._read)

    async def prepare(self) -> None:
        """Make sure that the key that signs is registered. Raises NotConfiguredError, or an outage."""
        if monotonic() - self._read_at >= READ_EVERY_S:
            await self._reading.join()
        if self._current is None:
            raise NotConfiguredError(
                "tokens cannot be issued: there is no valid signing key. An operator must set "
                "SIGNING_KEY or SIGNING_KEY_PATH; `sms-foundation signing-keys rotate` makes a key"
            )

    async def sign(self, claims: Mapping[str, str | int | bool]) -> str:
        """Return a JWT with these claims, its key named in the header. Raises NotConfiguredError, or an outage.

        Who signs within a transaction calls `prepare` before it begins: where all connections are held by those who
        sign, a read of the keys would wait for one of theirs, and they for it.
        """
        if self._current is None:
            await self.prepare()
        key = self._current
        assert key is not None  # noqa: S101  # what `prepare` makes sure of
        return jwt.encode({"alg": ALGORITHM, "kid": key.kid}, dict(claims), key.key, [ALGORITHM])

    async def close(self) -> None:
        """Stop reading."""
        await self._reading.close()

    async def _read(self) -> None:
        source = self._private_keys
        if source is not None:
            async with self._database.connection() as connection:
                known = await list_public_keys(connection)
            now = utc_now()
            retired = {each.kid for each in known if not each.is_live(now)}
            keys = await self._read_from(source, retired)
            if keys and await self._bring_up_to_date(keys[0], known):
                async with self._database.connection() as connection:
                    known = await list_public_keys(connection)
            self._current = _choose(keys, known)
        self._read_at = monotonic()

    async def _read_from(self, source: PrivateKeys, retired: Collection[str]) -> Sequence[SigningKey]:
        try:
            keys: Sequence[SigningKey] = await asyncio.to_thread(source.read, retired)
        except StartupError as error:
            log.warning("signing_keys.cannot_be_read", error=str(error))
            return [] if self._current is None or self._current.kid in retired else [self._current]
        if not keys:
            log.error("signing_keys.all_retired")
        return keys

    async def _bring_up_to_date(self, newest: SigningKey, known: Sequence[PublicKey]) -> bool:
        """Register the newest key, and delete what has retired. Returns whether that changed anything."""
        now = utc_now()
        is_known = any(each.kid == newest.kid for each in known)
        is_clean = all(each.jwk is None or each.is_live(now) for each in known)
        if is_known and is_clean:
            return False
        async with self._database.transaction() as connection:
            is_new = await register(connection, newest, now=now, grace=self._grace)
            await erase_retired(connection, now)
        if is_new:
            self._ring.forget()
            log.info("signing_keys.registered", kid=newest.kid)
        return True


def _choose(keys: Sequence[SigningKey], known: Sequence[PublicKey]) -> SigningKey | None:
    """Return the key that signs: one that does not retire if we have it, else one that is still accepted."""
    now = utc_now()
    live = {each.kid: each for each in known if each.is_live(now)}
    ours = [key for key in keys if key.kid in live]
    lasting = [key for key in ours if live[key.kid].retires_at is None]
    return next(iter([*lasting, *ours]), None)
