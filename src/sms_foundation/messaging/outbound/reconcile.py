"""Finding what never reached us, both ways, and forgetting what is not to be kept.

Callbacks get lost, a service is down for an hour: so messages without an end are asked about, and texts that the
provider has and we do not are stored as if they had just arrived. What this repairs is counted, and should stay 0.
"""

import asyncio
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256

import asyncpg
import structlog

from sms_foundation.core.clock import monotonic, utc_now
from sms_foundation.core.db import Connection, Database
from sms_foundation.core.ids import NIL
from sms_foundation.core.phone import canonical_address
from sms_foundation.core.work.queue import NewWork, Work
from sms_foundation.core.work.runner import Again, Outcome
from sms_foundation.messaging.delivery import ReceiptOutcome, ReceiptStore
from sms_foundation.messaging.ingest import MessageStore
from sms_foundation.messaging.jobs import RECONCILE_MESSAGES, TEND_PROVIDERS
from sms_foundation.messaging.metrics import REPAIRED
from sms_foundation.messaging.outbound.policy import SendingPolicy
from sms_foundation.messaging.outbound.provider_states import ProviderStates
from sms_foundation.messaging.tombstones import sql_is_erased
from sms_foundation.providers.base import InboundSms, Provider
from sms_foundation.providers.errors import ErrorKind, ProviderError

log = structlog.get_logger(__name__)

_BATCH = 100
_BATCHES_AT_ONCE = 20
_AT_ONCE = 8
# A round ends after so long, and goes on with the next one: a handler has half a lease.
_ROUND_S = 10.0
_NEXT_ROUND = timedelta(seconds=1)
# A message without an end for so long will not get one any more.
# Source: https://www.twilio.com/docs/messaging/guides/outbound-message-logging (statuses come within hours)
_ASK_NO_LONGER_AFTER = timedelta(days=3)
# Fresh texts are still on their way to the webhook.
_ON_THEIR_WAY = timedelta(minutes=2)
_REDACT_AT_PROVIDER_AGAIN = timedelta(hours=1)
_TEND_EVERY = timedelta(seconds=10)
# After so many of these in a row a provider is asked no further: the rest would end the same way, each by its timeout.
_STOPPING = {ErrorKind.RATE_LIMITED: 1, ErrorKind.ACCOUNT: 1, ErrorKind.UNAVAILABLE: 3}

_TO_POLL = """
SELECT id, provider, provider_message_id FROM sms_messages
WHERE poll_at <= now() AND provider = ANY($1) AND provider_message_id IS NOT NULL ORDER BY poll_at LIMIT $2
"""
_TO_POLL_SINCE = """
SELECT id, provider, provider_message_id FROM sms_messages
WHERE poll_at IS NOT NULL AND sent_at >= $3 AND provider = ANY($1) AND provider_message_id IS NOT NULL AND id > $4
ORDER BY id LIMIT $2
"""
_POLLED = """
UPDATE sms_messages
SET poll_at = CASE WHEN ended_at IS NULL AND sent_at > now() - $3::interval
                   THEN now() + greatest($2::interval, (now() - sent_at) / 2) END
WHERE id = ANY($1)
"""
_KNOWN = "SELECT provider_message_id FROM sms_messages WHERE provider_message_id = ANY($2) AND provider = $1"
_TO_REDACT = """
SELECT id, provider, provider_message_id, message_content, ended_at IS NOT NULL OR direction = 'inbound' AS has_ended,
       sent_at
FROM sms_messages WHERE redact_at <= now() ORDER BY redact_at LIMIT $1
"""
# Of a message whose person was erased there is no content here any more, only the provider's to be forgotten.
_REDACT = f"""
UPDATE sms_messages AS m
SET message_content = CASE WHEN {sql_is_erased("m")} THEN m.message_content ELSE r.content END,
    redact_at = now() + r.again_after, updated_at = now()
FROM unnest($1::uuid[], $2::text[], $3::interval[]) AS r(id, content, again_after)
WHERE m.id = r.id
"""  # noqa: S608  # put together from constants only
_REDACT_ATTEMPTS = "UPDATE sms_send_attempts SET response = NULL, error_message = NULL WHERE message_id = ANY($1)"
# Some providers repeat the text in every report.
_REDACT_EVENTS = """
UPDATE sms_message_status_events SET raw_webhook_data = '{"redacted": true}', error_message = NULL
WHERE message_id = ANY($1) AND raw_webhook_data IS NOT NULL
"""
_HASH = "sha256:"


@dataclass(slots=True)
class Report:
    """What one round did so far.

    `stopped` names the providers that were asked no further, `errors` why some were not asked about everything.
    `until`: nothing more is begun then (monotonic seconds).
    """

    asked: int = 0
    unanswered: int = 0
    repaired_statuses: int = 0
    seen_inbound: int = 0
    repaired_inbound: int = 0
    redacted: int = 0
    stopped: set[str] = field(default_factory=set)
    errors: dict[str, ErrorKind] = field(default_factory=dict)
    silences: Counter[str] = field(default_factory=Counter)
    until: float = math.inf

    @property
    def is_over(self) -> bool:
        return monotonic() >= self.until


@dataclass(frozen=True, slots=True)
class Redaction:
    """What came of asking a provider to forget a body: `again_after` so long ask again; `problem`: it never will."""

    again_after: timedelta | None
    problem: str | None = None


FORGOTTEN = Redaction(None)
NOT_CONFIGURED = Redaction(None, "this provider is not configured any more")
_CANNOT = Redaction(None, "this provider cannot be asked to")
_LATER = Redaction(_REDACT_AT_PROVIDER_AGAIN)


def recurring_messaging_work() -> list[NewWork]:
    """The rows that keep reconciliation and the care for providers going; enqueueing them again is a no-op."""
    return [NewWork(kind, NIL, unique_key=kind) for kind in (RECONCILE_MESSAGES, TEND_PROVIDERS)]


class Reconciliation:
    """Handler of RECONCILE_MESSAGES and TEND_PROVIDERS, and what `sms-foundation reconcile` runs on demand."""

    def __init__(
        self,
        database: Database,
        providers: Mapping[str, Provider],
        states: ProviderStates,
        receipts: ReceiptStore,
        messages: MessageStore,
        policy: SendingPolicy,
        *,
        every: timedelta,
        default_region: str,
    ) -> None:
        self._database = database
        self._providers = providers
        self._states = states
        self._receipts = receipts
        self._messages = messages
        self._policy = policy
        self._every = every
        self._default_region = default_region

    async def tend_providers(self, _work: Work) -> Outcome:
        """Apply what time changes about providers; recurring."""
        await self._states.tend()
        return Again(_TEND_EVERY)

    async def reconcile(self, _work: Work) -> Outcome:
        """Ask about what is due, look for missed texts of the last rounds, forget what is not to be kept; recurring."""
        report = Report(until=monotonic() + _ROUND_S)
        await self.redact_due(report)  # first: it is a promise, and quick
        await self.poll_due(report)
        await self.fetch_inbound(utc_now() - 3 * self._every - _ON_THEIR_WAY, report)
        if report.repaired_statuses or report.repaired_inbound:
            log.warning("reconcile.repaired", statuses=report.repaired_statuses, inbound=report.repaired_inbound)
        return Again(_NEXT_ROUND if report.is_over else self._every)

    async def reconcile_since(self, since: datetime, report: Report) -> None:
        """Ask about every message without an end that was sent since then, and look for texts missed since then."""
        await self.poll_since(since, report)
        await self.fetch_inbound(since, report)

    async def poll_since(self, since: datetime, report: Report) -> None:
        """Ask about every message without an end that was sent since then, whenever its turn would have been."""
        last = NIL
        while True:
            async with self._database.connection() as connection:
                rows = await connection.fetch(_TO_POLL_SINCE, self._names(report), _BATCH, since, last)
            await self._poll(rows, report)
            if len(rows) < _BATCH:
                break
            last = rows[-1]["id"]

    async def poll_due(self, report: Report) -> None:
        """Ask the providers about messages whose end is overdue, a bounded number of them."""
        for _ in range(_BATCHES_AT_ONCE):
            async with self._database.connection() as connection:
                rows = await connection.fetch(_TO_POLL, self._names(report), _BATCH)
            await self._poll(rows, report)
            if len(rows) < _BATCH or report.is_over:
                break

    async def fetch_inbound(self, since: datetime, report: Report) -> None:
        """Store what the providers received for us since then and never told us."""
        until = utc_now() - _ON_THEIR_WAY
        for name, provider in self._providers.items():
            if since >= until or name in report.stopped or report.is_over:
                continue
            batch: list[InboundSms] = []
            try:
                async for sms in provider.list_inbound(since, until):
                    batch.append(sms)
                    if len(batch) == _BATCH:
                        await self._store_missing(name, batch, report)
                        batch = []
                        if monotonic() >= report.until:
                            log.warning("reconcile.not_all", provider=name, seen=report.seen_inbound)
                            break
            except ProviderError as error:
                self._note_error(name, error, report, what="inbound")
            await self._store_missing(name, batch, report)

    async def redact_due(self, report: Report) -> None:
        """Replace contents whose time is over by their hash, here and, once the message has ended, at the provider."""
        while True:
            async with self._database.connection() as connection:
                rows = await connection.fetch(_TO_REDACT, _AT_ONCE)
            if not rows:
                return
            asked = [
                self.redact_at_provider(
                    row["provider"],
                    row["provider_message_id"],
                    report,
                    has_ended=row["has_ended"],
                    sent_at=row["sent_at"],
                )
                for row in rows
            ]
            again = [redaction.again_after for redaction in await asyncio.gather(*asked)]
            async with self._database.transaction() as connection:
                ids = [row["id"] for row in rows]
                await connection.execute(_REDACT, ids, [_hashed(row["message_content"]) for row in rows], again)
                await connection.execute(_REDACT_ATTEMPTS, ids)
                await connection.execute(_REDACT_EVENTS, ids)
            report.redacted += len(rows)
            if report.is_over:
                return

    async def _poll(self, rows: Sequence[asyncpg.Record], report: Report) -> None:
        """Ask about `rows`, a few at a time, and note after each few that they were asked about."""
        for start in range(0, len(rows), _AT_ONCE):
            if report.is_over:
                return
            few = [row for row in rows[start : start + _AT_ONCE] if row["provider"] not in report.stopped]
            await asyncio.gather(*(self._ask_about(row, report) for row in few))
            async with self._database.connection() as connection:
                asked = [row["id"] for row in few]
                await connection.execute(_POLLED, asked, self._policy.poll_after, _ASK_NO_LONGER_AFTER)

    async def _ask_about(self, row: asyncpg.Record, report: Report) -> None:
        name = row["provider"]
        try:
            status = await self._providers[name].fetch_status(row["provider_message_id"])
        except ProviderError as error:
            report.unanswered += 1
            self._note_error(name, error, report, what="status")
            return
        report.asked += 1
        report.silences[name] = 0
        if status is not None and await self._receipts.apply(status) is ReceiptOutcome.APPLIED:
            report.repaired_statuses += 1
            REPAIRED.labels("status").inc()

    async def _store_missing(self, name: str, batch: Sequence[InboundSms], report: Report) -> None:
        if not batch:
            return
        report.seen_inbound += len(batch)
        async with self._database.connection() as connection:
            known = await _known_ids(connection, name, [sms.provider_message_id for sms in batch])
        for sms in batch:
            if sms.provider_message_id in known:
                continue
            stored = await self._messages.store(sms, phone=canonical_address(sms.sender, self._default_region))
            if not stored.is_duplicate:
                report.repaired_inbound += 1
                REPAIRED.labels("inbound").inc()

    async def redact_at_provider(
        self,
        name: str | None,
        provider_message_id: str | None,
        report: Report,
        *,
        has_ended: bool,
        sent_at: datetime | None,
    ) -> Redaction:
        """Have the provider called `name` forget the body of a message, unless it is on its way. Idempotent."""
        if name is None or provider_message_id is None:
            return FORGOTTEN  # it never got there
        provider = self._providers.get(name)
        if provider is None:
            return NOT_CONFIGURED
        if not provider.can_redact:
            return _CANNOT
        is_recent = sent_at is not None and sent_at > utc_now() - _ASK_NO_LONGER_AFTER
        if name in report.stopped or (is_recent and not has_ended):
            return _LATER
        try:
            is_forgotten = await provider.redact(provider_message_id)
        except ProviderError as error:
            self._note_error(name, error, report, what="redact")
            return _LATER
        report.silences[name] = 0
        return FORGOTTEN if is_forgotten else _CANNOT

    def _names(self, report: Report) -> list[str]:
        return [name for name in self._providers if name not in report.stopped]

    def _note_error(self, name: str, error: ProviderError, report: Report, *, what: str) -> None:
        if error.kind in _STOPPING:
            report.errors[name] = error.kind
            report.silences[name] += 1
        if error.kind in _STOPPING and report.silences[name] >= _STOPPING[error.kind]:
            report.stopped.add(name)
        log.warning("reconcile.not_told", provider=name, what=what, reason=error.kind.value)


async def _known_ids(connection: Connection, provider: str, ids: Sequence[str]) -> set[str]:
    return {row[0] for row in await connection.fetch(_KNOWN, provider, ids)}


def _hashed(content: str) -> str:
    return content if content.startswith(_HASH) else _HASH + sha256(content.encode()).hexdigest()
