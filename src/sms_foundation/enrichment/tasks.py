"""The background work of enrichment: who texted, in which language, and telling whoever needs to know."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

from sms_foundation.core.batching import Batcher
from sms_foundation.core.clock import utc_now
from sms_foundation.core.db import Database, is_outage
from sms_foundation.core.ids import NIL
from sms_foundation.core.phone import is_phone_number
from sms_foundation.core.saturation import Use
from sms_foundation.core.work import queue
from sms_foundation.core.work.queue import NewWork, Work
from sms_foundation.core.work.runner import Again, Done, Outcome, Retry, Settled
from sms_foundation.enrichment.findings import Finding, FindingStore, Lookup, wants_telling
from sms_foundation.enrichment.jobs import LOOK_UP_CONVERSATION, RECONCILE
from sms_foundation.enrichment.language import detect
from sms_foundation.enrichment.metrics import LANGUAGES, NUMBERS
from sms_foundation.enrichment.tenants import repository as tenants_repository
from sms_foundation.enrichment.tenants.errors import (
    MonitorUnavailableError,
    ProfileRejectedError,
    ProfileUnavailableError,
)
from sms_foundation.enrichment.tenants.lookup import MonitorState, TenantLookup
from sms_foundation.enrichment.tenants.profile import TenantProfile
from sms_foundation.messaging import facts
from sms_foundation.messaging.facts import ReceivedMessage
from sms_foundation.messaging.opt_outs import apply_keyword, is_keyword

_RECONCILE_BATCH = 500
# Numbers that have been silent for longer are looked up again when they text.
RECONCILE_ACTIVE_WITHIN = timedelta(days=30)


class Enrichment:
    """Handlers of the kinds in `enrichment.jobs` and of `messaging.jobs.MESSAGE_RECEIVED`."""

    def __init__(
        self,
        database: Database,
        lookup: TenantLookup,
        profile: TenantProfile | None,
        findings: FindingStore,
        *,
        reconcile_every: timedelta,
    ) -> None:
        self._database = database
        self._lookup = lookup
        self._profile = profile
        self._findings = findings
        self._reconcile_every = reconcile_every
        self._loader: Batcher[UUID, ReceivedMessage | None] = Batcher(
            self._load,
            is_item_to_blame=lambda error: not is_outage(error),
            max_items=32,
            linger_s=0.01,
            tracer=database.tracer,
            name="enrichment_loads",
        )

    async def enrich_message(self, work: Work) -> Outcome:
        """Recognise the language of one message and find its sender's tenant."""
        message = await self._loader.submit(work.ref_id)
        if message is None:
            return Done()
        if is_keyword(message.content):
            async with self._database.transaction() as connection:
                await apply_keyword(
                    connection,
                    work.ref_id,
                    phone=message.phone,
                    own_number=message.own_number,
                    text=message.content,
                )
        language, confidence = detect(message.content)
        LANGUAGES.labels(language).inc()
        lookup, tenant_id, retry_after = await self._ask(message.sender, message.phone)
        NUMBERS.labels(lookup.value).inc()
        await self._findings.save(
            Finding(work, message.conversation_id, lookup, tenant_id, message, language, confidence)
        )
        if lookup is Lookup.UNAVAILABLE:
            return Retry("the Collections Monitor is unavailable", retry_after, is_outage=True)
        return Settled()

    async def look_up_conversation(self, work: Work) -> Outcome:
        """Look up the number of a conversation that has no tenant yet."""
        async with self._database.transaction() as connection:
            conversation = (await facts.lock_conversations(connection, [work.ref_id])).get(work.ref_id)
        if conversation is None or conversation.tenant_id is not None:
            return Done()
        lookup, tenant_id, retry_after = await self._ask(conversation.phone_original, conversation.phone)
        if lookup is Lookup.UNAVAILABLE:
            return Retry("the Collections Monitor is unavailable", retry_after, is_outage=True)
        await self._findings.save(Finding(work, conversation.id, lookup, tenant_id))
        return Settled()

    async def tell_language(self, work: Work) -> Outcome:
        """Tell the tenant profile service the language that holds now."""
        async with self._database.connection() as connection:
            tenant = await tenants_repository.find_tenant(connection, work.ref_id)
        if tenant is None or self._profile is None or not wants_telling(tenant):
            return Done()
        try:
            await self._profile.put_language(tenant.tenant_id, tenant.language)
        except ProfileUnavailableError as error:
            return Retry(str(error), _seconds(error.retry_after_s), is_outage=True)
        except ProfileRejectedError as error:
            # Nothing a repetition could change; a person can replay it once the profile service accepts it.
            return Retry(str(error), timedelta(hours=1))
        async with self._database.transaction() as connection:
            # The tenant stays locked until this row is gone: a change that comes now either is seen here or, finding
            # no open row any more, makes one of its own.
            current = await tenants_repository.mark_language_told(connection, tenant.id, language=tenant.language)
            if current == tenant.language:
                await queue.finish(connection, [work])
                return Settled()
        return Again(timedelta(0))

    async def reconcile(self, _work: Work) -> Outcome:
        """Enqueue a lookup for every recently active number without a tenant; recurring."""
        if self._lookup.health().state is MonitorState.NOT_CONFIGURED:
            return Again(self._reconcile_every)
        await enqueue_lookups(self._database, active_within=RECONCILE_ACTIVE_WITHIN)
        return Again(self._reconcile_every)

    def use(self) -> Use:
        """Tell how many messages wait to be read."""
        return self._loader.use()

    async def close(self) -> None:
        """Wait for findings being written."""
        await self._loader.close()
        await self._findings.close()

    async def _load(self, ids: Sequence[UUID]) -> list[ReceivedMessage | None]:
        async with self._database.connection() as connection:
            found = await facts.load_messages(connection, ids)
        return [found.get(id_) for id_ in ids]

    async def _ask(self, raw: str, phone: str) -> tuple[Lookup, str | None, timedelta | None]:
        if not is_phone_number(phone):  # short codes and alphanumeric senders are nobody's
            return Lookup.NOT_ASKED, None, None
        try:
            tenant_id = await self._lookup.find(raw, phone)
        except MonitorUnavailableError as error:
            return Lookup.UNAVAILABLE, None, _seconds(error.retry_after_s)
        if tenant_id is not None:
            return Lookup.MATCHED, tenant_id, None
        is_asked = self._lookup.health().state is not MonitorState.NOT_CONFIGURED
        return Lookup.UNKNOWN if is_asked else Lookup.NOT_ASKED, None, None


def _seconds(value: float | None) -> timedelta | None:
    return None if value is None else timedelta(seconds=value)


async def enqueue_lookups(database: Database, *, active_within: timedelta | None) -> int:
    """Enqueue a lookup for each number without a tenant, once however often this runs; returns how many there are."""
    now = utc_now()
    since = datetime.min.replace(tzinfo=UTC) if active_within is None else now - active_within
    total, before = 0, (now, NIL)
    while True:
        async with database.transaction() as connection:
            keys = await facts.list_without_tenant(connection, before=before, since=since, limit=_RECONCILE_BATCH)
            await queue.enqueue(
                connection,
                [NewWork(LOOK_UP_CONVERSATION, id_, unique_key=f"{LOOK_UP_CONVERSATION}:{id_}") for _, id_ in keys],
            )
        total += len(keys)
        if len(keys) < _RECONCILE_BATCH:
            return total
        before = keys[-1]


def recurring_work() -> NewWork:
    """The row that keeps reconciliation going; enqueueing it again is a no-op."""
    return NewWork(RECONCILE, NIL, unique_key=RECONCILE)
