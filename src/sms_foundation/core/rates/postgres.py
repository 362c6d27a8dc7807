"""Rates whose cells are rows of `rate_cells`: one statement reserves or takes any number of slots of any keys."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import cast

import asyncpg

from sms_foundation.core.db import Connection, Database, explain_outage, is_outage, retry_races, rows_affected
from sms_foundation.core.rates.base import Asked, Outcome, RatesUnavailableError, Slot, Take, Wish, outcome_at

# A run is the wishes of one key: positions `first` up to but not at `stop`. Times are microseconds from `now`.
#
# `held` locks the rows, in key order, so that two of these wait for each other but never in a circle. A row that others
# have moved since the statement began is locked, and returned, as they left it. `now` is read when all locks are
# held: a slot cannot begin while we still wait. `walk` has a row per wish, saying where its slot starts; the row at
# `stop` is where the next one would. (A window function cannot do this: whether a wish moves the cell depends on the
# wishes before it.) A key without a row gets one (`made`), in key order and after all locks of rows that were there;
# whoever was faster with it leaves it out of `made`, and its wishes have no result.
# (An insert waits only for somebody who is inserting the same key, and has all its locks: for a moment.)
_RESERVE = """
WITH RECURSIVE run AS MATERIALIZED (
    SELECT * FROM unnest($1::text[], $2::int[], $3::int[]) AS run(key, first, stop)
), held AS MATERIALIZED (
    SELECT run.first, run.stop, cell.key, cell.tat FROM run JOIN rate_cells AS cell USING (key)
    ORDER BY cell.key COLLATE "C"
    FOR NO KEY UPDATE OF cell
), clock AS MATERIALIZED (
    SELECT coalesce(max(clock_timestamp()), clock_timestamp()) AS now FROM held
), walk AS (
    (SELECT key, false AS is_new, stop, first AS position,
            greatest(0, date_part('epoch', tat - (SELECT now FROM clock)) * 1000000)::bigint AS start_us
     FROM held
     UNION ALL
     SELECT key, true, stop, first, 0 FROM run WHERE NOT EXISTS (SELECT FROM rate_cells WHERE key = run.key))
    UNION ALL
    SELECT key, is_new, stop, position + 1,
           start_us + CASE WHEN start_us <= ($5::bigint[])[position] THEN ($4::bigint[])[position] ELSE 0 END
    FROM walk WHERE position < stop
), moved AS (
    UPDATE rate_cells AS cell SET tat = clock.now + walk.start_us * interval '1 microsecond'
    FROM walk, clock
    WHERE walk.position = walk.stop AND NOT walk.is_new AND cell.key = walk.key
      AND cell.tat < clock.now + walk.start_us * interval '1 microsecond'
), made AS (
    INSERT INTO rate_cells (key, tat)
    SELECT walk.key, clock.now + walk.start_us * interval '1 microsecond' FROM walk, clock
    WHERE walk.position = walk.stop AND walk.is_new
    ORDER BY walk.key COLLATE "C"
    ON CONFLICT (key) DO NOTHING
    RETURNING key
), new AS (
    SELECT array_agg(key) AS keys, count(*) = (SELECT count(*) FROM walk WHERE position = stop AND is_new) AS are_all
    FROM made
)
SELECT position, start_us FROM walk, new
WHERE position < stop AND (NOT is_new OR new.are_all OR key = ANY(new.keys))
"""


def _take(cost: str, horizon: str) -> str:
    """Return the statement that takes from each of $1, distinct keys in order; `{key}` in an expression is a row's key.

    Keys are locked in the order given, which is that of `held` above. All is counted as of now(), when the statement
    arrived; a cell that others have moved meanwhile is seen as they left it. A key that had no room is not returned.
    """
    new, known = cost.format(key="taken.key"), cost.format(key="cell.key")
    return f"""
INSERT INTO rate_cells AS cell (key, tat)
SELECT taken.key, now() + {new} FROM unnest($1::text[]) AS taken(key)
ON CONFLICT (key) DO UPDATE SET tat = greatest(cell.tat, now()) + {known}
WHERE cell.tat <= now() + {horizon.format(key="cell.key")}
RETURNING cell.key, round(extract(epoch FROM cell.tat - now() - {known}) * 1000000)::bigint
"""  # noqa: S608  # put together from constants only


def _each(parameter: str) -> str:
    return f"({parameter}::bigint[])[array_position($1::text[], {{key}})] * interval '1 microsecond'"


# What limits one number limits all of them: two numbers instead of two arrays save a third.
_TAKE_ALIKE = _take("$2::bigint * interval '1 microsecond'", "$3::bigint * interval '1 microsecond'")
_TAKE = _take(_each("$2"), _each("$3"))

_GIVE_BACK = """
WITH held AS MATERIALIZED (
    SELECT cell.key, back.cost_us
    FROM unnest($1::text[], $2::bigint[]) AS back(key, cost_us) JOIN rate_cells AS cell USING (key)
    ORDER BY cell.key COLLATE "C"
    FOR NO KEY UPDATE OF cell
)
UPDATE rate_cells AS cell SET tat = cell.tat - held.cost_us * interval '1 microsecond'
FROM held WHERE cell.key = held.key
"""

_READ = """
SELECT key, greatest(0, extract(epoch FROM tat - clock_timestamp()))::float8 FROM rate_cells WHERE key = ANY($1)
"""

# Rows that somebody holds are not idle; skipping them, this waits for nobody.
_FORGET_IDLE = """
DELETE FROM rate_cells WHERE key IN (
    SELECT key FROM rate_cells WHERE tat < clock_timestamp() - interval '1 hour' LIMIT 10000 FOR UPDATE SKIP LOCKED)
"""

# Cells are those of the last hour or two: looked through for a person now and then, they need no index by prefix.
_COUNT = "SELECT count(*) FROM rate_cells AS c, unnest($1::text[]) AS p(prefix) WHERE starts_with(c.key, p.prefix)"
_FORGET = "DELETE FROM rate_cells AS c USING unnest($1::text[]) AS p(prefix) WHERE starts_with(c.key, p.prefix)"


@dataclass(slots=True)
class _Runs:
    """The wishes of one call, those of one key next to each other. Positions count from 1, as in PostgreSQL's arrays.

    `order[position - 1]` is the index of a wish in what the caller gave.
    """

    order: list[int]
    keys: list[str] = field(default_factory=list)
    firsts: list[int] = field(default_factory=list)
    stops: list[int] = field(default_factory=list)


def _runs(wishes: Sequence[Asked]) -> _Runs:
    def key_of(index: int) -> str:
        return wishes[index].key

    runs = _Runs(sorted(range(len(wishes)), key=key_of))
    stop = 1
    for key, run in groupby(runs.order, key_of):
        runs.keys.append(key)
        runs.firsts.append(stop)
        stop += len(list(run))
        runs.stops.append(stop)
    return runs


class PostgresRates:
    """`base.Rates` on the database's clock. Assumes no session, so it works behind a transaction pooler."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def reserve(self, wishes: Sequence[Wish]) -> list[Outcome]:
        """See `base.Rates`. One statement and one commit that waits for no disk."""
        return await self._reserve(wishes)

    async def take(self, takes: Sequence[Take]) -> list[Outcome]:
        """See `base.Rates`. One statement while keys differ and have room; else one more, for those that do not."""
        first = {each.key: each for each in reversed(takes)}
        starts = await self._take([first[key] for key in sorted(first)])
        outcomes: list[Outcome | None] = []
        for each in takes:
            start_us = starts.pop(each.key, None) if first[each.key] is each else None
            outcomes.append(None if start_us is None else Slot(start_us / 1_000_000))
        if left := [index for index, outcome in enumerate(outcomes) if outcome is None]:
            later = await self._reserve([takes[index] for index in left])
            for index, outcome in zip(left, later, strict=True):
                outcomes[index] = outcome
        return cast(list[Outcome], outcomes)

    async def give_back(self, costs_us: Mapping[str, int]) -> None:
        """See `base.Rates`. One statement."""
        await self._fetch(_GIVE_BACK, list(costs_us), list(costs_us.values()))

    async def read(self, keys: Sequence[str]) -> dict[str, float]:
        """See `base.Rates`. Locks nothing."""
        return dict.fromkeys(keys, 0.0) | dict(await self._fetch(_READ, list(keys)))

    async def _take(self, takes: Sequence[Take]) -> dict[str, int]:
        """Take from keys that differ, in order; returns how much was used of those that had room, in microseconds."""
        if not takes:
            return {}
        keys, (_, cost_us, horizon_us) = [each.key for each in takes], takes[0]
        if all(each.cost_us == cost_us and each.horizon_us == horizon_us for each in takes):
            return dict(await self._fetch(_TAKE_ALIKE, keys, cost_us, horizon_us))
        costs_us, horizons_us = [each.cost_us for each in takes], [each.horizon_us for each in takes]
        return dict(await self._fetch(_TAKE, keys, costs_us, horizons_us))

    async def _reserve(self, wishes: Sequence[Asked]) -> list[Outcome]:
        outcomes = await self._reserve_in_cells(wishes)
        missing = [index for index in range(len(wishes)) if index not in outcomes]
        if missing:  # made, or forgotten, by somebody else meanwhile
            later = await self._reserve([wishes[index] for index in missing])
            outcomes.update(zip(missing, later, strict=True))
        return [outcomes[index] for index in range(len(wishes))]

    async def _reserve_in_cells(self, wishes: Sequence[Asked]) -> dict[int, Outcome]:
        """Reserve for the wishes whose key has a cell; returns their outcomes by index."""
        runs = _runs(wishes)
        costs = [wishes[index].cost_us for index in runs.order]
        horizons = [wishes[index].horizon_us for index in runs.order]
        rows = await self._fetch(_RESERVE, runs.keys, runs.firsts, runs.stops, costs, horizons)
        indexes = ((runs.order[position - 1], start_us) for position, start_us in rows)
        return {index: outcome_at(wishes[index], start_us) for index, start_us in indexes}

    async def _fetch(self, statement: str, *arguments: object) -> list[asyncpg.Record]:
        async def attempt() -> list[asyncpg.Record]:
            async with self._database.connection() as connection:
                rows: list[asyncpg.Record] = await connection.fetch(statement, *arguments)
                return rows

        try:
            return await retry_races(attempt)
        except Exception as error:
            if not is_outage(error):
                raise
            raise RatesUnavailableError(f"the database that keeps rates: {explain_outage(error)}") from error


async def forget_idle(connection: Connection) -> int:
    """Delete cells that nobody has used for an hour: having none means the same. Returns how many, 10,000 at most."""
    return rows_affected(await connection.execute(_FORGET_IDLE))


async def count_keys(connection: Connection, prefixes: Sequence[str]) -> int:
    """Return how many cells have a key that begins with one of `prefixes`."""
    count: int = await connection.fetchval(_COUNT, prefixes)
    return count


async def forget_keys(connection: Connection, prefixes: Sequence[str]) -> int:
    """Delete all cells whose key begins with one of `prefixes`, as if nothing had been used. Returns how many."""
    return rows_affected(await connection.execute(_FORGET, prefixes))
