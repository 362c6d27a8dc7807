"""Matches remembered for a moment, so that a tenant who sends five texts in a row is looked up once."""

from collections import OrderedDict
from typing import Final

from sms_foundation.enrichment.tenants.timing import REAL_TIME, Timing

_SPREAD: Final = 0.2  # numbers that were learned together must not all be asked again together


class MatchCache:
    """Tenant ids by canonical address; the least recently used goes first when `max_entries` are reached."""

    def __init__(self, *, ttl_s: float, max_entries: int, timing: Timing = REAL_TIME) -> None:
        self._ttl_s = ttl_s
        self._max_entries = max_entries
        self._timing = timing
        self._entries: OrderedDict[str, tuple[str, float]] = OrderedDict()

    def find(self, canonical: str) -> str | None:
        """Return the remembered tenant id, None when there is none or it is too old."""
        entry = self._entries.get(canonical)
        if entry is None:
            return None
        tenant_id, expires_at = entry
        if self._timing.monotonic() >= expires_at:
            del self._entries[canonical]
            return None
        self._entries.move_to_end(canonical)
        return tenant_id

    def put(self, canonical: str, tenant_id: str) -> None:
        """Remember a match for `ttl_s`, a fifth more or less."""
        ttl_s = self._ttl_s * self._timing.uniform(1 - _SPREAD, 1 + _SPREAD)
        self._entries[canonical] = (tenant_id, self._timing.monotonic() + ttl_s)
        self._entries.move_to_end(canonical)
        if len(self._entries) > self._max_entries:
            self._entries.popitem(last=False)
