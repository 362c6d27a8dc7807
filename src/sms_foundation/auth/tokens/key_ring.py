"""The public keys in memory: which are ours, looked up in the database every few seconds and not for every token."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from joserfc.jwk import RSAKey

from sms_foundation.auth.tokens.public_keys import PublicKey, list_public_keys
from sms_foundation.auth.tokens.single_flight import SingleFlight
from sms_foundation.core.clock import monotonic, utc_now
from sms_foundation.core.db import Database

# As in `auth.directory`: asked for again beside the requests, and never used when older than the second.
FRESH_S = 2.0
STALE_S = 4.0
# How often a name that is not known may be looked for: whoever makes names up must not keep the database busy.
SEARCH_EVERY_S = 3.0
_is_kid = re.compile(r"[A-Za-z0-9_-]{43}").fullmatch


@dataclass(frozen=True, slots=True)
class _Held:
    public: PublicKey
    key: RSAKey


class KeyRing:
    """Every method raises an outage when it has to ask a database that cannot be reached."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._keys: Mapping[str, _Held] = {}
        self._asked_at = float("-inf")
        self._searched_at = float("-inf")
        self._reading = SingleFlight(self._read)
        self._searching = SingleFlight(self._search)

    async def find(self, kid: str) -> RSAKey | None:
        """Return the key with this name as long as what it signed is accepted.

        One that was registered a moment ago is found too, by asking again, which happens every few seconds at most.
        """
        await self._keep_up()
        held = self._keys.get(kid)
        if held is None and _is_kid(kid):
            await self._look_for_news()
            held = self._keys.get(kid)
        return held.key if held is not None and held.public.is_live(utc_now()) else None

    async def live(self) -> list[PublicKey]:
        """Return the keys whose signatures are accepted, newest first."""
        await self._keep_up()
        now = utc_now()
        return [held.public for held in self._keys.values() if held.public.is_live(now)]

    def forget(self) -> None:
        """Ask anew: this process has registered a key."""
        self._asked_at = float("-inf")

    async def close(self) -> None:
        """Stop asking."""
        await self._searching.close()
        await self._reading.close()

    async def _keep_up(self) -> None:
        age_s = monotonic() - self._asked_at
        if age_s >= STALE_S:
            await self._reading.join()
        elif age_s >= FRESH_S:
            self._reading.start()

    async def _look_for_news(self) -> None:
        if not self._searching.is_running:
            if monotonic() - self._searched_at < SEARCH_EVERY_S:
                return
            self._searched_at = monotonic()
        await self._searching.join()

    async def _search(self) -> None:
        if self._reading.is_running:
            await self._reading.join()  # may have begun too early to see what is looked for
        await self._reading.join()

    async def _read(self) -> None:
        asked_at = monotonic()
        async with self._database.connection() as connection:
            rows = await list_public_keys(connection)
        known = self._keys
        self._keys = {
            row.kid: _Held(row, known[row.kid].key if row.kid in known else RSAKey.import_key(dict(row.jwk)))
            for row in rows
            if row.jwk is not None
        }
        self._asked_at = asked_at
