"""What all processes know together about the providers: the rules are in `health`, the rows are here.

Successes are counted in memory and written once a second; a failure, and the success that ends a row of them, are
written at once, because the next message should know. What changes is logged and kept with its reason.
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import asyncpg
import structlog

from sms_foundation.core.clock import monotonic, utc_now
from sms_foundation.core.db import Connection, Database, explain_outage
from sms_foundation.core.ids import new_id
from sms_foundation.messaging.metrics import PROVIDER_CHANGES, PROVIDER_STATE
from sms_foundation.messaging.outbound.health import (
    RULES,
    Change,
    CircuitState,
    HealthRules,
    Outcomes,
    ProviderState,
    ReceiptWindow,
    Window,
    after_outcomes,
    after_probe,
    after_receipts,
    after_rest,
    begin_probe,
    is_available,
    may_probe,
)

log = structlog.get_logger(__name__)

_CACHE_S = 1.0
_BUCKET_S = 10

_COLUMNS = """name, circuit, consecutive_failures, circuit_until, unhealthy_until, weight_percent, weight_changed_at,
       now() AS now"""
_ADD_MISSING = "INSERT INTO sms_providers (name) SELECT unnest($1::text[]) ON CONFLICT DO NOTHING"
_READ = f"SELECT {_COLUMNS} FROM sms_providers WHERE name = ANY($1) ORDER BY name"  # noqa: S608
_LOCK = f"SELECT {_COLUMNS} FROM sms_providers WHERE name = ANY($1) ORDER BY name FOR UPDATE"  # noqa: S608
_COUNT = f"""
INSERT INTO sms_provider_windows AS w (provider, started_at, attempts, failures, receipts, late)
SELECT $1, to_timestamp(floor(extract(epoch FROM now()) / {_BUCKET_S}) * {_BUCKET_S}), $2, $3, $4, $5
ON CONFLICT (provider, started_at) DO UPDATE
SET attempts = w.attempts + excluded.attempts, failures = w.failures + excluded.failures,
    receipts = w.receipts + excluded.receipts, late = w.late + excluded.late
"""  # noqa: S608
_SUM = """
SELECT provider, coalesce(sum(attempts), 0)::int AS attempts, coalesce(sum(failures), 0)::int AS failures,
       coalesce(sum(receipts), 0)::int AS receipts, coalesce(sum(late), 0)::int AS late
FROM sms_provider_windows WHERE provider = ANY($1) AND started_at > now() - $2::interval GROUP BY provider
"""
_SAVE = """
UPDATE sms_providers
SET circuit = $2, consecutive_failures = $3, circuit_until = $4, unhealthy_until = $5, weight_percent = $6,
    weight_changed_at = $7, updated_at = now()
WHERE name = $1
"""
_RELEASE_PROBE = """
UPDATE sms_providers SET circuit = 'open', circuit_until = now(), updated_at = now()
WHERE name = $1 AND circuit = 'probing'
"""
_KEEP_CHANGE = """
INSERT INTO sms_provider_changes (id, provider, what, old, new, reason) VALUES ($1, $2, $3, $4, $5, $6)
"""
_FORGET_OLD_WINDOWS = "DELETE FROM sms_provider_windows WHERE started_at < now() - $1::interval * 2"
_CHANGES = """
SELECT provider, what, old, new, reason, created_at FROM sms_provider_changes ORDER BY id DESC LIMIT $1
"""


@dataclass(slots=True)
class _Pending:
    """What ended here and is not written yet."""

    attempts: int = 0
    failures: int = 0
    receipts: int = 0
    late: int = 0
    had_success: bool = False
    trailing_failures: int = 0
    opens_at_once: bool = False
    probe: bool | None = None  # how the probe ended

    @property
    def is_empty(self) -> bool:
        return not self.attempts and not self.receipts and self.probe is None

    def outcomes(self) -> Outcomes:
        return Outcomes(self.had_success, self.trailing_failures, self.opens_at_once)


@dataclass(slots=True)
class _Cache:
    states: dict[str, ProviderState] = field(default_factory=dict)
    read_at: float = float("-inf")
    clock_offset: timedelta = timedelta(0)


class ProviderStates:
    """The states of the providers called `names`, cached for a second. `start` and `close` go with a running loop."""

    def __init__(self, database: Database, names: Sequence[str], *, rules: HealthRules = RULES) -> None:
        self._database = database
        self._names = sorted(names)
        self._rules = rules
        self._cache = _Cache({name: ProviderState() for name in self._names})
        self._pending = {name: _Pending() for name in self._names}
        self._writing = asyncio.Lock()
        self._flusher: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to write what is counted."""
        self._flusher = asyncio.create_task(self._flush_forever(), name="provider-states")

    async def close(self) -> None:
        """Write what is left, if the database can be reached."""
        if self._flusher is not None:
            self._flusher.cancel()
            await asyncio.wait([self._flusher])
        with suppress(Exception):  # counts of the last second; nothing depends on them
            async with asyncio.timeout(1):
                await self._flush()

    def now(self) -> datetime:
        """Return the database's time, as of the last look at it."""
        return utc_now() + self._cache.clock_offset

    @property
    def known(self) -> Mapping[str, ProviderState]:
        """The states as last read."""
        return self._cache.states

    async def read(self) -> Mapping[str, ProviderState]:
        """Return the states, at most a second old."""
        if monotonic() - self._cache.read_at > _CACHE_S:
            async with self._database.connection() as connection:
                rows = await connection.fetch(_READ, self._names)
                if len(rows) < len(self._names):
                    await connection.execute(_ADD_MISSING, self._names)
                    rows = await connection.fetch(_READ, self._names)
            self._remember(rows)
        return self._cache.states

    async def try_probe(self, name: str) -> bool:
        """Take the right to send the one message that tries provider `name` again; False: somebody else has it."""
        async with self._database.transaction() as connection:
            state, now = _state_of(await connection.fetchrow(_LOCK, [name]))
            is_mine = may_probe(state, now)
            if is_mine:
                state, changes = begin_probe(state, now, self._rules)
                await self._save(connection, name, state, changes)
        self._cache.states[name] = state
        return is_mine

    async def release_probe(self, name: str) -> None:
        """Give back the right to probe `name`, for a message that did not try it after all. Idempotent."""
        async with self._database.connection() as connection:
            await connection.execute(_RELEASE_PROBE, name)

    async def note_attempt(
        self, name: str, *, is_failure: bool, opens_circuit: bool = False, is_probe: bool = False
    ) -> None:
        """Count an attempt. Failures, what ends a row of them, and the end of a probe are written when it returns."""
        pending = self._pending.get(name)
        if pending is None:
            return  # a provider that is no longer configured
        if is_probe:
            # Judged by itself: in the window, an outage would outlast its end by the rest that follows it.
            pending.probe = not is_failure
            await self._flush()
            return
        pending.attempts += 1
        if is_failure:
            pending.failures += 1
            pending.trailing_failures += 1
            pending.opens_at_once |= opens_circuit
        else:
            pending.had_success, pending.trailing_failures = True, 0
        # A success that ends a row of failures is news as well: the next failure elsewhere would count as one of them.
        if is_failure or self._cache.states[name].consecutive_failures:
            await self._flush()

    def note_delivery(self, name: str, after_s: float) -> None:
        """Count a message that reached its phone `after_s` seconds after it was sent."""
        if (pending := self._pending.get(name)) is not None:
            pending.receipts += 1
            pending.late += after_s > self._rules.late_after.total_seconds()

    async def tend(self) -> None:
        """Apply what only time changes: rests that are over, and the share of providers whose receipts come late."""
        async with self._database.transaction() as connection:
            rows = await connection.fetch(_LOCK, self._names)
            sums = await connection.fetch(_SUM, self._names, self._rules.window)
            receipts = {row["provider"]: ReceiptWindow(row["receipts"], row["late"]) for row in sums}
            if not rows:
                return
            now = rows[0]["now"]
            before = {row["name"]: _state_of(row)[0] for row in rows}
            rested = {name: after_rest(state, now) for name, state in before.items()}
            weighed = after_receipts({n: state for n, (state, _) in rested.items()}, receipts, now, self._rules)
            for name, (state, changes) in weighed.items():
                if state != before[name]:
                    await self._save(connection, name, state, [*rested[name][1], *changes])
            await connection.execute(_FORGET_OLD_WINDOWS, self._rules.window)

    async def _flush_forever(self) -> None:
        failures = 0
        while True:
            await asyncio.sleep(_CACHE_S)
            try:
                await self._flush()
                failures = 0
            except Exception as error:  # noqa: BLE001  # counted again with the next round
                failures += 1
                if failures in (1, 10) or failures % 100 == 0:
                    log.warning("providers.not_counted", error=explain_outage(error), failures=failures)

    async def _flush(self) -> None:
        async with self._writing:
            for name in self._names:
                pending = self._pending[name]
                if pending.is_empty:
                    continue
                self._pending[name] = _Pending()
                try:
                    await self._write(name, pending)
                except BaseException:
                    _merge(pending, self._pending[name])
                    self._pending[name] = pending
                    raise

    async def _write(self, name: str, pending: _Pending) -> None:
        state = self._cache.states[name]
        is_clean = not pending.failures and pending.probe is None and state.consecutive_failures == 0
        counts = (pending.attempts, pending.failures, pending.receipts, pending.late)
        if is_clean:
            async with self._database.connection() as connection:
                await connection.execute(_COUNT, name, *counts)
            return
        async with self._database.transaction() as connection:
            row = await connection.fetchrow(_LOCK, [name])
            await connection.execute(_COUNT, name, *counts)
            sums = await connection.fetchrow(_SUM, [name], self._rules.window)
            before, now = _state_of(row)
            state = before
            changes: list[Change] = []
            if pending.probe is not None:
                state, changes = after_probe(state, pending.probe, now, self._rules)
            window = Window(sums["attempts"], sums["failures"]) if sums else Window(0, 0)
            state, more = after_outcomes(state, pending.outcomes(), window, now, self._rules)
            if state != before:
                await self._save(connection, name, state, [*changes, *more])
        self._cache.states[name] = state

    async def _save(self, connection: Connection, name: str, state: ProviderState, changes: list[Change]) -> None:
        await connection.execute(
            _SAVE,
            name,
            state.circuit,
            state.consecutive_failures,
            state.circuit_until,
            state.unhealthy_until,
            state.weight_percent,
            state.weight_changed_at,
        )
        for each in changes:
            await connection.execute(_KEEP_CHANGE, new_id(), name, each.what, each.old, each.new, each.reason)
            PROVIDER_CHANGES.labels(name, each.what, each.new.removesuffix(" %")).inc()
            is_bad = each.new in ("open", "unhealthy")
            (log.error if is_bad else log.warning)(
                "provider.changed", provider=name, what=each.what, old=each.old, new=each.new, reason=each.reason
            )

    def _remember(self, rows: list[asyncpg.Record]) -> None:
        states = {row["name"]: _state_of(row)[0] for row in rows}
        if rows:
            self._cache = _Cache(states, monotonic(), rows[0]["now"] - utc_now())
        for name, state in states.items():
            PROVIDER_STATE.labels(name).set(is_available(state, self.now()))


async def count_recent(
    connection: Connection, names: Sequence[str], *, rules: HealthRules = RULES
) -> dict[str, tuple[Window, ReceiptWindow]]:
    """Return what was counted within `HealthRules.window` by provider; one that nothing was counted of is left out."""
    rows = await connection.fetch(_SUM, names, rules.window)
    return {
        row["provider"]: (Window(row["attempts"], row["failures"]), ReceiptWindow(row["receipts"], row["late"]))
        for row in rows
    }


async def list_changes(connection: Connection, *, limit: int) -> list[asyncpg.Record]:
    """Return the last changes of any provider's state, newest first."""
    rows: list[asyncpg.Record] = await connection.fetch(_CHANGES, limit)
    return rows


def _state_of(row: asyncpg.Record) -> tuple[ProviderState, datetime]:
    state = ProviderState(
        CircuitState(row["circuit"]),
        row["consecutive_failures"],
        row["circuit_until"],
        row["unhealthy_until"],
        row["weight_percent"],
        row["weight_changed_at"],
    )
    return state, row["now"]


def _merge(older: _Pending, newer: _Pending) -> None:
    """Add to `older` what came while it could not be written."""
    older.attempts += newer.attempts
    older.failures += newer.failures
    older.receipts += newer.receipts
    older.late += newer.late
    older.trailing_failures = newer.trailing_failures + (0 if newer.had_success else older.trailing_failures)
    older.had_success |= newer.had_success
    older.opens_at_once |= newer.opens_at_once
    older.probe = newer.probe if newer.probe is not None else older.probe
