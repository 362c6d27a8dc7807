"""Whose number is it? The one entry to the Collections Monitor: remembers matches, shares lookups, backs off."""

import asyncio
from collections import deque
from dataclasses import dataclass
from enum import StrEnum

import structlog

from sms_foundation.core.phone import lookup_variants, mask
from sms_foundation.enrichment.tenants import metrics
from sms_foundation.enrichment.tenants.cache import MatchCache
from sms_foundation.enrichment.tenants.circuit import Circuit
from sms_foundation.enrichment.tenants.errors import AttemptFailedError, Failure, MonitorUnavailableError
from sms_foundation.enrichment.tenants.metrics import LookupOutcome
from sms_foundation.enrichment.tenants.monitor import MonitorClient
from sms_foundation.enrichment.tenants.retry import RetryPolicy, repeat_while_useful
from sms_foundation.enrichment.tenants.timing import REAL_TIME, Timing

log = structlog.get_logger(__name__)

# A failure is a value here: everyone who shares a lookup raises an error of their own from it.
_Answer = str | None | AttemptFailedError


class MonitorState(StrEnum):
    """What the last lookup says about the Collections Monitor."""

    NOT_CONFIGURED = "not_configured"
    UNTRIED = "untried"
    OK = "ok"
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True, slots=True)
class MonitorHealth:
    """For the health page. `latency_s` is that of a whole lookup, all spellings and retries; None before the first."""

    state: MonitorState
    latency_s: float | None = None


class TenantLookup:
    """One per process. `monitor` is None where no Collections Monitor is configured."""

    def __init__(
        self,
        monitor: MonitorClient | None,
        *,
        cache: MatchCache | None = None,
        circuit: Circuit | None = None,
        policy: RetryPolicy | None = None,
        timing: Timing = REAL_TIME,
    ) -> None:
        self._monitor = monitor
        self._cache = cache or MatchCache(ttl_s=60.0, max_entries=10_000, timing=timing)
        self._circuit = circuit or Circuit(timing=timing)
        self._policy = policy or RetryPolicy()
        self._timing = timing
        self._in_flight: dict[str, asyncio.Task[_Answer]] = {}
        self._health = MonitorHealth(MonitorState.UNTRIED if monitor else MonitorState.NOT_CONFIGURED)

    async def find(self, raw: str, canonical: str) -> str | None:
        """Return the id of the tenant behind an address, None when no Monitor knows it (or none is configured).

        `raw` is the address as received, `canonical` its form from `canonical_address`. Every spelling is asked for in
        the order of `lookup_variants` until one matches. A match is remembered for about a minute, "not known" never.
        Callers of one number share one lookup; cancelling a caller leaves it to the others.

        Takes up to 4 attempts, at worst some 15 s while the Monitor hangs. Raises MonitorUnavailableError, at once
        while the circuit is open.
        """
        if self._monitor is None:
            _count(LookupOutcome.NOT_CONFIGURED)
            return None
        if (remembered := self._cache.find(canonical)) is not None:
            _count(LookupOutcome.CACHED)
            return remembered
        if (lookup := self._in_flight.get(canonical)) is not None:
            _count(LookupOutcome.SHARED)
        elif self._circuit.admit():
            lookup = asyncio.create_task(self._look_up(self._monitor, raw, canonical), name="tenant-lookup")
            self._in_flight[canonical] = lookup
        else:
            _count(LookupOutcome.CIRCUIT_OPEN)
            raise MonitorUnavailableError(Failure.CIRCUIT_OPEN, retry_after_s=self._circuit.retry_after_s())
        answer = await asyncio.shield(lookup)
        if isinstance(answer, AttemptFailedError):
            raise MonitorUnavailableError(answer.reason, retry_after_s=answer.retry_after_s)
        return answer

    def health(self) -> MonitorHealth:
        """Return how the last finished lookup went; asks nobody."""
        return self._health

    async def aclose(self) -> None:
        """Cancel the lookups under way, and with them their callers. Idempotent."""
        lookups = list(self._in_flight.values())
        for lookup in lookups:
            lookup.cancel()
        await asyncio.gather(*lookups, return_exceptions=True)
        self._in_flight.clear()

    async def _look_up(self, monitor: MonitorClient, raw: str, canonical: str) -> _Answer:
        is_success = False
        started_at = self._timing.monotonic()
        try:
            tenant_id = await self._ask(monitor, lookup_variants(raw, canonical))
            is_success = True
        except AttemptFailedError as failure:
            _count(LookupOutcome.UNAVAILABLE)
            log.warning(
                "tenants.lookup.unavailable", phone=mask(canonical), reason=failure.reason, detail=failure.detail
            )
            return failure
        finally:
            del self._in_flight[canonical]
            self._circuit.record(is_success=is_success)
            took_s = self._timing.monotonic() - started_at
            metrics.LOOKUP_SECONDS.observe(took_s)
            self._health = MonitorHealth(MonitorState.OK if is_success else MonitorState.UNAVAILABLE, took_s)
        if tenant_id is None:
            _count(LookupOutcome.UNKNOWN)
            return None
        self._cache.put(canonical, tenant_id)
        _count(LookupOutcome.MATCHED)
        return tenant_id

    async def _ask(self, monitor: MonitorClient, variants: list[str]) -> str | None:
        unasked = deque(variants)

        async def ask_the_rest() -> str | None:
            while unasked:
                if (tenant_id := await monitor.find_tenant(unasked[0])) is not None:
                    return tenant_id
                unasked.popleft()  # only now: a repeated attempt goes on with the spelling that failed
            return None

        # While the circuit is open nothing is repeated: neither the probe nor lookups from before it opened.
        return await repeat_while_useful(
            ask_the_rest, policy=self._policy, timing=self._timing, is_hopeless=lambda: self._circuit.is_open
        )


def _count(outcome: LookupOutcome) -> None:
    metrics.LOOKUPS.labels(outcome=outcome).inc()
