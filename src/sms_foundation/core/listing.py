"""Lists with filters: a statement put together from the conditions asked for, so that each has the plan it deserves."""

from collections.abc import Mapping
from datetime import datetime

import asyncpg

from sms_foundation.core.db import Connection
from sms_foundation.core.ids import first_id_at

# An id is made a moment before its row, and perhaps by another clock.
_CLOCKS_APART_MS = 60_000


class Listing:
    """One statement in the making. What becomes part of its text is the program's own; values are bound."""

    def __init__(self, select: str) -> None:
        """`select` ends in a WHERE that more can be added to: `... WHERE true`."""
        self._parts = [select]
        self._arguments: list[object] = []

    def bind(self, value: object) -> str:
        """Return the placeholder that stands for `value`."""
        self._arguments.append(value)
        return f"${len(self._arguments)}"

    def where(self, condition: str, *values: object) -> None:
        """Add a condition with a `{}` for each of `values`."""
        self._parts.append(condition.format(*map(self.bind, values)))

    def where_given(self, conditions: Mapping[str, str], wanted: object) -> None:
        """Add the conditions, each with one `{}`, whose name is an attribute of `wanted` that is not None."""
        for name, condition in conditions.items():
            if (value := getattr(wanted, name)) is not None:
                self.where(condition, value)

    def where_made(self, id_column: str, since: datetime | None, until: datetime | None) -> None:
        """Narrow the primary key to a stretch of time, roughly: ids begin with the time they were made.

        The condition on the exact time stays necessary; this is what makes it cheap.
        """
        if since is not None:
            self.where(f"{id_column} >= {{}}", first_id_at(since, shift_ms=-_CLOCKS_APART_MS))
        if until is not None:
            self.where(f"{id_column} < {{}}", first_id_at(until, shift_ms=_CLOCKS_APART_MS))

    async def fetch(self, connection: Connection, *, order: str, limit: int) -> list[asyncpg.Record]:
        """Run it: `order` is what follows ORDER BY."""
        statement = f"{' AND '.join(self._parts)} ORDER BY {order} LIMIT {self.bind(limit)}"
        rows: list[asyncpg.Record] = await connection.fetch(statement, *self._arguments)
        return rows
