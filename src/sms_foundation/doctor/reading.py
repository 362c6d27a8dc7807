"""Reading a busy database without being felt: short read-only transactions, bounded steps, and pauses as long as they.

Nothing here assumes a session, so all of it works behind a transaction pooler: what the service sets for its sessions
is set for each transaction.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import asyncpg

from sms_foundation.core.clock import monotonic
from sms_foundation.core.db import Connection, Database

Progress = Callable[[str], None]
"""Is told in a line how far a walk is, after every step."""

# Of these the first three keep whoever waits for us, or for whom we wait, from waiting long; the others leave the
# planner nothing to choose but probes of indexes, as in the sessions of the service.
_FOR_THIS_TRANSACTION: Final = """
SELECT set_config('statement_timeout', $1, true), set_config('lock_timeout', '1000', true),
       set_config('idle_in_transaction_session_timeout', '20000', true),
       set_config('enable_seqscan', 'off', true), set_config('enable_hashjoin', 'off', true),
       set_config('enable_mergejoin', 'off', true), set_config('jit', 'off', true)
"""
_STATEMENT_MS: Final = 3000
_FIRST_STEP: Final = 250
_LARGEST_STEP: Final = 1000
_SMALLEST_STEP: Final = 20
_SLOW_S: Final = 0.2
_QUICK_S: Final = 0.05


class Reader:
    """Reads for all checks, one statement at a time."""

    def __init__(
        self,
        database: Database,
        progress: Progress = lambda _line: None,
        *,
        statement_ms: int = _STATEMENT_MS,
        first_step: int = _FIRST_STEP,
    ) -> None:
        self.database = database
        self._progress = progress
        self._statement_ms = statement_ms
        self._first_step = first_step

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """Lend a connection in a transaction that cannot write and in which no statement takes long."""
        async with self.database.connection() as connection, connection.transaction(readonly=True):
            await connection.execute(_FOR_THIS_TRANSACTION, str(self._statement_ms))
            yield connection

    async def fetch(self, statement: str, *arguments: object) -> list[asyncpg.Record]:
        """Run one statement and return its rows."""
        async with self.transaction() as connection:
            rows: list[asyncpg.Record] = await connection.fetch(statement, *arguments)
            return rows

    async def walk(
        self, what: str, statement: str, after: tuple[object, ...], *arguments: object
    ) -> AsyncIterator[list[asyncpg.Record]]:
        """Yield the rows of `statement` step by step, in the order of their key: the first columns, as many as `after`.

        Its first parameters are the key after which a step begins, the next is how many rows at most, then come the
        `arguments`. A step that takes long makes the next ones smaller; one that is cut off is made again, smaller.
        Raises what PostgreSQL says when nothing helps.
        """
        step, seen = self._first_step, 0
        while True:
            started = monotonic()
            try:
                rows = await self.fetch(statement, *after, step, *arguments)
            except asyncpg.QueryCanceledError:
                if step <= _SMALLEST_STEP:
                    raise
                step = max(step // 4, _SMALLEST_STEP)
                continue
            took_s = monotonic() - started
            if rows:
                yield rows
                seen += len(rows)
                self._progress(f"{what}: {seen:,} looked at")
            if len(rows) < step:
                return
            after = tuple(rows[-1])[: len(after)]
            if took_s > _SLOW_S:
                step = max(step // 2, _SMALLEST_STEP)
            elif took_s < _QUICK_S:
                step = min(step * 2, _LARGEST_STEP)
            await asyncio.sleep(took_s)  # half of one connection's time is others'
