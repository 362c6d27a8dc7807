"""Should this process get something to do, and would only a new process help?"""

from sms_foundation.core.db import explain_outage
from sms_foundation.core.limited import Limited
from sms_foundation.core.stopping import Stopping
from sms_foundation.migrations.state import schema_problem
from sms_foundation.worker import Core

_PATIENCE_S = 2.0


class Readiness:
    """The two questions of probes. Remembers that the schema is current once it was.

    `must_work`: background work is what this process is for, so it is not ready before that has begun.
    """

    def __init__(self, core: Core, stopping: Stopping, *, must_work: bool) -> None:
        self._core = core
        self._stopping = stopping
        self._must_work = must_work
        self._is_schema_current = False
        self._ask_database_within = Limited(self._ask_database, limit_s=_PATIENCE_S)

    async def not_ready(self) -> str | None:
        """Say in one line why it should get nothing to do now, None when it should; takes 2 seconds at most."""
        if self._stopping.has_begun:
            return "stopping"
        if (problem := self.not_alive()) is not None:
            return problem
        if self._must_work and not self._core.is_working:
            return "background work has not begun"
        try:
            return await self._ask_database_within()
        except Exception as error:  # noqa: BLE001  # whatever it is, the answer is "not ready"
            return f"database: {explain_outage(error)}"

    def not_alive(self) -> str | None:
        """Say in one line why this process should be replaced, None when it should not. Asks nobody."""
        return "background work has ended by itself" if self._core.has_stopped_working else None

    async def _ask_database(self) -> str | None:
        async with self._core.database.connection() as connection:
            if self._is_schema_current:
                await connection.execute("SELECT 1")
                return None
            problem = await schema_problem(connection)
        self._is_schema_current = problem is None
        return problem
