"""Erasing everything stored about a number, in steps that can be killed anywhere and repeated.

A conversation stays the person's, and in use, until the last step: so a STOP that comes meanwhile is the person's, and
a repetition finds what an interrupted run has left. What is not sent yet is called off, and calls under way are waited
for; then messages are erased, stretch by stretch, with those that came meanwhile; and when no more have come the
conversation forgets, in the same moment, whose it was.
"""

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

from sms_foundation.auth.audit.log import Action, record
from sms_foundation.auth.limits.limiter import number_key_prefixes
from sms_foundation.auth.numbers import personal_data as number_rules
from sms_foundation.auth.principal import COMMAND_LINE
from sms_foundation.core.db import Connection, Database
from sms_foundation.core.rates.postgres import count_keys, forget_keys
from sms_foundation.enrichment.tenants import personal_data as tenants
from sms_foundation.messaging import personal_data as messaging
from sms_foundation.messaging.outbound.calling_off import call_off, cancel_unsent
from sms_foundation.messaging.outbound.reconcile import NOT_CONFIGURED, Reconciliation, Redaction, Report
from sms_foundation.messaging.personal_data import Conversation, Counts, StoredMessage
from sms_foundation.privacy.subject import Subject

_AT_ONCE: Final = 8
_LOOK_AGAIN_S: Final = 0.5
# Whoever receives the report, or the answer, that names the message has its provider asked.
_UNSURE: Final = Redaction(None, "nobody knows whether it got there; the service asks once that turns out")
# Where this process cannot ask, the service may well be able to.
_NOT_CONFIGURED: Final = Redaction(timedelta(0), "this provider is not configured here; the service asks if it can")
_SIMULATED: Final = Redaction(timedelta(0), "this provider is simulated here; the service asks if it can")


@dataclass(frozen=True, slots=True)
class Survey:
    """What there is about a person. `opt_outs` and `denials` stay; `notes` are those of denials.

    `limits`: how much of their limits is used, in the last hours.
    """

    conversations: int
    counts: Counts
    unmatched_receipts: int
    tenants: int
    permissions: int
    notes: int
    limits: int
    opt_outs: int
    denials: int

    @property
    def is_nothing(self) -> bool:
        """Whether nothing would be erased."""
        rules = self.permissions + self.notes
        return not (self.conversations or self.unmatched_receipts or self.tenants or rules or self.limits)


@dataclass(slots=True)
class Erased:
    """What was done. `asked_later`: messages that their provider is yet to forget; the service sees to it."""

    conversations: int = 0
    messages: int = 0
    canceled: int = 0
    unmatched_receipts: int = 0
    forgotten_by_provider: int = 0
    asked_later: int = 0
    not_forgotten_by_provider: int = 0


@dataclass(frozen=True, slots=True)
class Listener:
    """What is told on the way.

    `progress(done, total)` of messages; `waiting(calls)` while providers are being called; `not_forgotten(message,
    reason)` for each of which nobody here can say that its provider forgets it, before it is erased: a run that is
    killed in between, or another one at the same time, tells it again.
    """

    progress: Callable[[int, int], None]
    waiting: Callable[[int], None]
    not_forgotten: Callable[[StoredMessage, str], None]


async def survey(database: Database, subject: Subject, progress: Callable[[int, int], None]) -> Survey:
    """Count what there is about `subject`, and change nothing."""
    async with database.connection() as connection:
        conversations = await messaging.find_conversations(connection, subject.addresses)
        rule = await number_rules.find_rule(connection, subject.number)
        limits = await count_keys(connection, number_key_prefixes(subject.number))
        opt_outs = len(await messaging.export_opt_outs(connection, subject.addresses))
        tenant_ids = await tenants.find_tenants(connection, subject.addresses)
    counts = Counts()
    total, done = sum(each.message_count for each in conversations), 0
    for conversation in conversations:
        for after, up_to in conversation.stretches():
            async with database.connection() as connection:
                counts += await messaging.count_stretch(connection, conversation.id, after, up_to)
            done += up_to - after
            progress(done, total)
    return Survey(
        conversations=len(conversations),
        counts=counts,
        unmatched_receipts=len(await _find_unmatched(database, subject)),
        tenants=len(tenant_ids),
        permissions=int(rule is not None and rule.is_allowed),
        notes=int(rule is not None and not rule.is_allowed and bool(rule.note)),
        limits=limits,
        opt_outs=opt_outs,
        denials=int(rule is not None and not rule.is_allowed),
    )


class Erasing:
    """Erases one person's data.

    `reconciliation` is what asks the providers, but for those in `simulated`: a stand-in knows nothing of what the
    real one has.
    """

    def __init__(
        self,
        database: Database,
        reconciliation: Reconciliation,
        subject: Subject,
        listener: Listener,
        *,
        simulated: Collection[str] = (),
    ) -> None:
        self._database = database
        self._reconciliation = reconciliation
        self._subject = subject
        self._listener = listener
        self._simulated = simulated
        self._erased = Erased()
        self._asked = Report()
        self._total = self._done = 0

    async def run(self, *, reference: str | None) -> Erased:
        """Erase everything, between two rows in the audit log; `reference` is the request's, for those rows.

        Idempotent, a run that was killed is finished by the next, and two at once do no more than one. Whatever the
        person texts, or is sent, while this runs is erased as well; what comes after it makes a new conversation.
        """
        async with self._database.transaction() as connection:
            found = await messaging.find_conversations(connection, self._subject.addresses)
            await self._record(connection, {"stage": "begun", "reference": reference, "conversations": _ids(found)})
        self._total = sum(each.message_count for each in found)
        for conversation in found:
            await self._erase(conversation)
        await self._erase_unmatched_receipts()
        async with self._database.transaction() as connection:
            await self._forget_the_rest(connection)
            await self._record(connection, {"stage": "finished", "reference": reference, **asdict(self._erased)})
        return self._erased

    async def _erase(self, conversation: Conversation) -> None:
        erased, count = 0, conversation.message_count
        while True:
            # How many there are was read before: so of each of them all work is found, and a STOP among them is taken
            # at its word before it is erased.
            await self._call_off(conversation)
            for after, up_to in messaging.stretches(erased, count):
                await self._erase_stretch(conversation, after, up_to)
                self._done += up_to - after
                self._listener.progress(self._done, max(self._done, self._total))
            come = await self._bury(conversation, count)
            if come is None:
                break
            erased, count = count, come
        self._erased.conversations += 1

    async def _bury(self, conversation: Conversation, erased: int) -> int | None:
        """Forget whose conversation it was, if it has no more messages than `erased`; else return how many it has."""
        async with self._database.transaction() as connection:
            count, tenant_id = await messaging.lock_conversation(connection, conversation.id)
            if count > erased:
                return count
            await messaging.bury_conversation(connection, conversation.id)
            if tenant_id is not None:
                await tenants.forget_numbers(connection, [tenant_id], self._subject.addresses)
        return None

    async def _call_off(self, conversation: Conversation) -> None:
        """Return when nothing more happens to the messages of a conversation; a call has half a lease at most."""
        while True:
            stopped = await call_off(self._database, [conversation.id], phone=conversation.address)
            self._erased.canceled += stopped.canceled
            if not stopped.under_way:
                return
            self._listener.waiting(stopped.under_way)
            await asyncio.sleep(_LOOK_AGAIN_S)

    async def _erase_stretch(self, conversation: Conversation, after: int, up_to: int) -> None:
        while True:
            async with self._database.connection() as connection:
                found = await messaging.load_stretch(connection, conversation.id, after, up_to)
            if not found:
                return
            redactions = await self._ask_providers(found)
            for message, redaction in zip(found, redactions, strict=True):
                if redaction.problem is not None:
                    self._listener.not_forgotten(message, redaction.problem)
            async with self._database.transaction() as connection:
                erased = await messaging.erase_messages(
                    connection, [each.id for each in found], [each.again_after for each in redactions]
                )
            for message, redaction in zip(found, redactions, strict=True):
                if message.id in erased:
                    self._count(message, redaction)
            left = [each.id for each in found if each.id not in erased]
            if not left:
                return
            # Put back in line by its client since it was called off.
            self._erased.canceled += await cancel_unsent(self._database, left)
            await self._call_off(conversation)

    async def _ask_providers(self, messages: Sequence[StoredMessage]) -> list[Redaction]:
        redactions: list[Redaction] = []
        for start in range(0, len(messages), _AT_ONCE):
            few = messages[start : start + _AT_ONCE]
            redactions += await asyncio.gather(*(self._ask_provider(each) for each in few))
        return redactions

    async def _ask_provider(self, message: StoredMessage) -> Redaction:
        if message.is_unsure:
            return _UNSURE
        if message.provider_message_id is not None and message.provider in self._simulated:
            return _SIMULATED
        redaction = await self._reconciliation.redact_at_provider(
            message.provider,
            message.provider_message_id,
            self._asked,
            has_ended=message.has_ended,
            sent_at=message.sent_at,
        )
        return _NOT_CONFIGURED if redaction is NOT_CONFIGURED else redaction

    def _count(self, message: StoredMessage, redaction: Redaction) -> None:
        self._erased.messages += 1
        if redaction.problem is not None:
            self._erased.not_forgotten_by_provider += 1
        elif redaction.again_after is not None:
            self._erased.asked_later += 1
        elif message.provider_message_id is not None:
            self._erased.forgotten_by_provider += 1

    async def _erase_unmatched_receipts(self) -> None:
        ids = await _find_unmatched(self._database, self._subject)
        for start in range(0, len(ids), messaging.STRETCH):
            async with self._database.connection() as connection:
                await messaging.erase_unmatched_events(connection, ids[start : start + messaging.STRETCH])
        self._erased.unmatched_receipts = len(ids)

    async def _forget_the_rest(self, connection: Connection) -> None:
        addresses = self._subject.addresses
        await tenants.forget_numbers(connection, await tenants.find_tenants(connection, addresses), addresses)
        await number_rules.forget_rules(connection, COMMAND_LINE, self._subject.number)
        await forget_keys(connection, number_key_prefixes(self._subject.number))

    async def _record(self, connection: Connection, details: dict[str, object]) -> None:
        await record(
            connection,
            COMMAND_LINE,
            Action.PRIVACY_ERASE,
            target_kind="number",
            target=self._subject.masked,
            details=details,
        )


async def _find_unmatched(database: Database, subject: Subject) -> list[UUID]:
    if subject.digits is None:
        return []
    async with database.transaction() as connection:
        return [each async for each in messaging.find_unmatched_events(connection, subject.digits)]


def _ids(conversations: Sequence[Conversation]) -> list[str]:
    return [str(each.id) for each in conversations]
