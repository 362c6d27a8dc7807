"""Deleting what access control needs no more: kept answers, sessions, tokens, invitations, limits nobody is near.

The audit log stays.
"""

from datetime import timedelta
from typing import Final

from sms_foundation.core.db import Connection, Database, rows_affected
from sms_foundation.core.ids import NIL
from sms_foundation.core.rates.postgres import forget_idle
from sms_foundation.core.work.queue import NewWork, Work
from sms_foundation.core.work.runner import Again, Outcome

# Recurring; ref_id is nil.
TIDY_ACCESS: Final = "tidy_access"

_EVERY: Final = timedelta(minutes=10)
_BATCH: Final = 1000
# The condition stands in the DELETE as well: a row may have been renewed since it was found.
_DELETE: Final = """
DELETE FROM {table} WHERE {key} = ANY(ARRAY(
    SELECT {key} FROM {table} WHERE expires_at < now() - {kept}::interval ORDER BY expires_at LIMIT $1
)) AND expires_at < now() - {kept}::interval
"""
# How long after its end each is of use, to nobody but people who look into what happened. Of a session that is over,
# or an invitation that was used, the end is still the one it was given.
_STATEMENTS: Final = tuple(
    _DELETE.format(table=table, key=key, kept=kept)
    for table, key, kept in (
        ("idempotency_keys", "digest", "'0'"),
        ("auth_refresh_tokens", "digest", "'7 days'"),
        ("auth_sessions", "id", "'7 days'"),
        ("auth_invitations", "id", "'30 days'"),
    )
)


def recurring_access_work() -> NewWork:
    """The row that keeps tidying going; enqueueing it again is a no-op."""
    return NewWork(TIDY_ACCESS, NIL, unique_key=TIDY_ACCESS)


async def tidy(connection: Connection) -> int:
    """Delete up to a batch of each sort of what is over; returns how many rows went. Repeat it until none do."""
    return sum([rows_affected(await connection.execute(statement, _BATCH)) for statement in _STATEMENTS])


class Tidying:
    """Handler of TIDY_ACCESS."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def tidy(self, _work: Work) -> Outcome:
        """Delete everything that is over, in short transactions."""
        is_left = True
        while is_left:
            async with self._database.connection() as connection:
                is_left = await tidy(connection) + await forget_idle(connection) > 0
        return Again(_EVERY)
