"""Who read what messages say. Written before the answer leaves: nobody sees content without a row that says so.

Who reads the same again within `AGAIN_S` leaves no second row in the same process, so that a page that is looked at
every few seconds does not fill the log. Rows of concurrent reads are written by one statement.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import orjson

from sms_foundation.auth.audit.log import Action
from sms_foundation.auth.principal import Actor
from sms_foundation.core import clock
from sms_foundation.core.batching import Batcher
from sms_foundation.core.db import Database, is_outage
from sms_foundation.core.ids import new_id
from sms_foundation.core.saturation import Use

AGAIN_S: Final = 300.0
_MOST_REMEMBERED: Final = 10_000
_MAX_BATCH: Final = 64

_RECORD = """
INSERT INTO auth_audit_log (id, actor, credential, address, request_id, action, target_kind, target, details)
SELECT id, actor, credential, address, request_id, $9, target_kind, target, details::jsonb
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[])
    AS t(id, actor, credential, address, request_id, target_kind, target, details)
"""


@dataclass(frozen=True, slots=True)
class _Read:
    actor: Actor
    target_kind: str
    target: str
    details: str


class ContentReads:
    """Notes who read which content."""

    def __init__(self, database: Database, *, monotonic: Callable[[], float] = clock.monotonic) -> None:
        self._database = database
        self._monotonic = monotonic
        self._batcher: Batcher[_Read, None] = Batcher(
            self._write, is_item_to_blame=lambda error: not is_outage(error), max_items=_MAX_BATCH
        )
        # When each was written last (monotonic), oldest first.
        self._written: OrderedDict[object, float] = OrderedDict()

    async def note(
        self, actor: Actor, target_kind: str, target: UUID | str, details: Mapping[str, object] | None = None
    ) -> None:
        """Return once it stands in the log that `actor` read the content of `target`; see `log.record` for the rest.

        Raises an outage (`core.db.is_outage`) or OverloadedError: then the content must not be shown.
        """
        detail = "{}" if details is None else orjson.dumps(details, default=str).decode()
        key = (actor.client_id, actor.credential, target_kind, target, detail)
        written_at = self._written.get(key)
        if written_at is not None and self._monotonic() - written_at < AGAIN_S:
            return
        await self._batcher.submit(_Read(actor, target_kind, str(target), detail))
        self._written.pop(key, None)
        self._written[key] = self._monotonic()
        if len(self._written) > _MOST_REMEMBERED:
            self._written.popitem(last=False)

    def use(self) -> Use:
        """Tell how many reads wait to be noted."""
        return self._batcher.use()

    async def close(self) -> None:
        """Wait for what is being written."""
        await self._batcher.close()

    async def _write(self, reads: Sequence[_Read]) -> Sequence[None]:
        async with self._database.connection() as connection:
            await connection.execute(
                _RECORD,
                [new_id() for _ in reads],
                [each.actor.client_id for each in reads],
                [each.actor.credential for each in reads],
                [each.actor.address for each in reads],
                [each.actor.request_id for each in reads],
                [each.target_kind for each in reads],
                [each.target for each in reads],
                [each.details for each in reads],
                Action.MESSAGES_READ_CONTENT,
            )
        return [None] * len(reads)
