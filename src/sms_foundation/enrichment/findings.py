"""Writing down what was found out: languages and tenants of many messages in one transaction.

A finding and the end of its work row are one commit, so a crash repeats the finding or keeps it, never half. Locks are
taken in one order everywhere: work rows and messages by id, conversations by phone, then tenants by tenant_id.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from uuid import UUID

import structlog

from sms_foundation.core.batching import Batcher
from sms_foundation.core.clock import utc_now
from sms_foundation.core.db import Connection, Database, is_outage, retry_races
from sms_foundation.core.phone import mask
from sms_foundation.core.saturation import Use
from sms_foundation.core.tracing.context import Origin, within
from sms_foundation.core.work import queue
from sms_foundation.core.work.queue import NewWork, Work
from sms_foundation.enrichment.jobs import TELL_LANGUAGE
from sms_foundation.enrichment.language.preference import (
    MIN_CONFIDENCE_TO_TELL,
    NO_EVIDENCE,
    Decision,
    Evidence,
    take_over,
    weigh,
)
from sms_foundation.enrichment.metrics import ENRICHMENT_SECONDS, LANGUAGE_DECISIONS
from sms_foundation.enrichment.tenants import repository as tenants_repository
from sms_foundation.enrichment.tenants.repository import Tenant
from sms_foundation.messaging import facts
from sms_foundation.messaging.facts import ConversationFacts, ReceivedMessage

log = structlog.get_logger(__name__)

# A transaction of findings is six statements: alone it costs more than the rest of a text, and requests wait behind it.
_LINGER_S = 0.02

_EPOCH = datetime.fromtimestamp(0, UTC)


class Lookup(StrEnum):
    """What the Collections Monitor said about a number."""

    MATCHED = "matched"
    UNKNOWN = "unknown"
    UNAVAILABLE = "unavailable"
    NOT_ASKED = "not_asked"  # no phone number at all


@dataclass(frozen=True, slots=True)
class Finding:
    """All that one piece of work found out about a conversation.

    `message` and its language are None for a lookup without a new text. `is_final` False keeps the work row open: the
    lookup has to be repeated.
    """

    work: Work
    conversation_id: UUID
    lookup: Lookup
    tenant_id: str | None = None
    message: ReceivedMessage | None = None
    language: str | None = None
    confidence: float = 0.0

    @property
    def is_final(self) -> bool:
        return self.lookup is not Lookup.UNAVAILABLE


class FindingStore:
    """Writes findings, many per commit. `on_work` is called after a commit that left new work behind.

    `tells_profiles`: a tenant profile service is configured.
    """

    def __init__(self, database: Database, *, tells_profiles: bool, on_work: Callable[[], None]) -> None:
        self._database = database
        self._tells_profiles = tells_profiles
        self._on_work = on_work
        self._batcher: Batcher[Finding, None] = Batcher(
            self._write,
            is_item_to_blame=lambda error: not is_outage(error),
            max_items=32,
            linger_s=_LINGER_S,
            tracer=database.tracer,
            name="findings",
        )

    async def save(self, finding: Finding) -> None:
        """Return after the commit of `finding` and, when it is final, of the end of its work. Idempotent."""
        await self._batcher.submit(finding)

    def use(self) -> Use:
        """Tell how many findings wait to be saved."""
        return self._batcher.use()

    async def close(self) -> None:
        """Wait until everything submitted is committed or refused."""
        await self._batcher.close()

    async def _write(self, batch: Sequence[Finding]) -> list[None]:
        async def attempt() -> list[NewWork]:
            async with self._database.transaction() as connection:
                # Nobody was told of this commit: if the server crashes before it is on disk, the work rows are back too
                # and it is done again. So it need not wait for the disk, nor make the texts wait that share its log.
                await connection.execute("SET LOCAL synchronous_commit = off")
                return await self._write_in(connection, batch)

        if await retry_races(attempt):
            self._on_work()
        now = utc_now()
        for finding in batch:
            if finding.message is not None and finding.is_final:
                ENRICHMENT_SECONDS.observe((now - finding.message.received_at).total_seconds())
        return [None] * len(batch)

    async def _write_in(self, connection: Connection, batch: Sequence[Finding]) -> list[NewWork]:
        done = [finding.work for finding in batch if finding.is_final]
        await queue.finish(connection, sorted(done, key=lambda work: work.id))
        await facts.save_message_languages(
            connection,
            {
                finding.message.id: (finding.language, finding.confidence)
                for finding in batch
                if finding.message is not None and finding.language is not None
            },
        )
        by_conversation: dict[UUID, list[Finding]] = defaultdict(list)
        for finding in batch:
            by_conversation[finding.conversation_id].append(finding)
        known = await facts.lock_conversations(connection, list(by_conversation))
        linked = {id_: _link(known[id_], found) for id_, found in by_conversation.items() if id_ in known}
        tenant_ids = {each.tenant_id for each in linked.values() if each.tenant_id is not None}
        tenants = await tenants_repository.lock_tenants(connection, tenant_ids) if tenant_ids else {}
        if matched := _numbers_used(linked.values(), by_conversation):
            await tenants_repository.remember_numbers(connection, matched)
        heard_before = await _evidence_before_match(connection, known, linked)

        tenants_after = dict(tenants)
        changed: list[ConversationFacts] = []
        for id_, conversation in linked.items():
            # The tenant's language comes first: a first text that is less certain does not replace it.
            with within(by_conversation[id_][0].work.cause):
                decided = _decide_language(_reuse_tenant_language(conversation, tenants), by_conversation[id_])
            if decided.tenant_id is not None:
                tenants_after[decided.tenant_id] = _weigh_tenant(
                    tenants_after[decided.tenant_id], by_conversation[id_], heard_before.get(id_, NO_EVIDENCE)
                )
            changed.append(decided)
        for index, each in enumerate(changed):
            with within(by_conversation[each.id][0].work.cause):
                changed[index] = _reuse_tenant_language(each, tenants_after)
        await facts.save_conversations(connection, [each for each in changed if each != known[each.id]])
        causes = {
            linked[finding.conversation_id].tenant_id: finding.work.cause
            for finding in batch
            if finding.conversation_id in linked
        }
        return await self._save_tenants(connection, tenants, tenants_after, causes)

    async def _save_tenants(
        self,
        connection: Connection,
        before: dict[str, Tenant],
        after: dict[str, Tenant],
        causes: Mapping[str | None, Origin],
    ) -> list[NewWork]:
        changed = [tenant for tenant_id, tenant in after.items() if tenant != before[tenant_id]]
        if changed:
            await tenants_repository.save_languages(connection, changed)
        for tenant in changed:
            await facts.share_language(
                connection,
                tenant_id=tenant.tenant_id,
                language=tenant.language,
                confidence=tenant.language_confidence,
            )
        work = [
            NewWork(
                TELL_LANGUAGE,
                tenant.id,
                unique_key=f"{TELL_LANGUAGE}:{tenant.id}",
                cause=causes.get(tenant.tenant_id),
            )
            for tenant in after.values()
            if self._tells_profiles and wants_telling(tenant)
        ]
        if work:
            await queue.enqueue(connection, work)
        return work


def wants_telling(tenant: Tenant) -> bool:
    """Whether the profile service should learn this tenant's language: certain enough, and not what it knows."""
    return tenant.language_confidence >= MIN_CONFIDENCE_TO_TELL and tenant.language not in (
        "unknown",
        tenant.language_told,
    )


def _link(conversation: ConversationFacts, found: Iterable[Finding]) -> ConversationFacts:
    """Apply what the lookups said, in the order of the messages they were made for."""
    ordered = sorted(found, key=lambda each: each.message.conversation_seq if each.message else 0)
    for finding in ordered:
        if finding.lookup is Lookup.MATCHED:
            conversation = replace(conversation, tenant_id=finding.tenant_id, tenant_lookup_status="matched")
        elif finding.lookup is Lookup.UNKNOWN and conversation.tenant_id is None:
            conversation = replace(conversation, tenant_lookup_status="unknown")
    return conversation


def _numbers_used(
    conversations: Iterable[ConversationFacts], found: dict[UUID, list[Finding]]
) -> list[tuple[str, str, datetime]]:
    return [
        (finding.tenant_id, conversation.phone, used_at)
        for conversation in conversations
        for finding in found[conversation.id]
        if finding.lookup is Lookup.MATCHED and finding.tenant_id is not None
        if (used_at := finding.message.received_at if finding.message else conversation.last_message_at) is not None
    ]


def _decide_language(conversation: ConversationFacts, found: Iterable[Finding]) -> ConversationFacts:
    known = Evidence(conversation.language_confidence, conversation.language_seq, conversation.language)
    for finding in found:
        if finding.message is None or finding.language is None:
            continue
        decision = weigh(known, Evidence(finding.confidence, finding.message.conversation_seq, finding.language))
        with within(finding.work.cause):
            _log_decision(conversation, decision, finding)
        known = decision.evidence
    return replace(conversation, language=known.language, language_confidence=known.confidence, language_seq=known.seq)


async def _evidence_before_match(
    connection: Connection, before: dict[UUID, ConversationFacts], linked: dict[UUID, ConversationFacts]
) -> dict[UUID, Evidence]:
    """Return what conversations that just got their first tenant are known to be spoken in, dated for the tenant.

    A number that changed hands brings nothing: what was heard on it before was somebody else.
    """
    new = [
        id_
        for id_, conversation in linked.items()
        if conversation.tenant_id is not None and before[id_].tenant_id is None and conversation.language_seq > 0
    ]
    if not new:
        return {}
    decided_at = await facts.load_language_times(connection, new)
    return {
        id_: Evidence(linked[id_].language_confidence, _microseconds(at), linked[id_].language)
        for id_, at in decided_at.items()
    }


def _weigh_tenant(tenant: Tenant, found: Iterable[Finding], heard_before: Evidence) -> Tenant:
    """Let the tenant's language follow the new texts, and what a newly matched number was spoken to in before."""
    known = Evidence(tenant.language_confidence, tenant.language_at_us, tenant.language)
    known = weigh(known, heard_before).evidence
    for finding in found:
        if finding.message is not None and finding.language is not None:
            at_us = _microseconds(finding.message.received_at)
            known = weigh(known, Evidence(finding.confidence, at_us, finding.language)).evidence
    return replace(tenant, language=known.language, language_confidence=known.confidence, language_at_us=known.seq)


def _microseconds(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(microseconds=1)


def _reuse_tenant_language(conversation: ConversationFacts, tenants: dict[str, Tenant]) -> ConversationFacts:
    if conversation.tenant_id is None:
        return conversation
    tenant = tenants[conversation.tenant_id]
    known = Evidence(conversation.language_confidence, conversation.language_seq, conversation.language)
    decision = take_over(known, Evidence(tenant.language_confidence, 0, tenant.language))
    if decision.evidence != known:
        _log_decision(conversation, decision, None)
    after = decision.evidence
    return replace(conversation, language=after.language, language_confidence=after.confidence, language_seq=after.seq)


def _log_decision(conversation: ConversationFacts, decision: Decision, finding: Finding | None) -> None:
    LANGUAGE_DECISIONS.labels(decision.reason.value).inc()
    log.info(
        "language.decided",
        reason=decision.reason.value,
        language=decision.evidence.language,
        confidence=decision.evidence.confidence,
        detected=finding.language if finding else None,
        detected_confidence=finding.confidence if finding else None,
        phone=mask(conversation.phone),
        tenant_id=conversation.tenant_id,
        message_id=str(finding.message.id) if finding and finding.message else None,
    )
