"""A database looked over as `sms-foundation doctor` does, and rows that are right until a test breaks them."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sms_foundation.core.config import Settings
from sms_foundation.core.db import Database
from sms_foundation.core.ids import NIL, first_id_at, new_id
from sms_foundation.doctor.examination import examine
from sms_foundation.doctor.findings import Finding, Report, Severity
from sms_foundation.doctor.limits import Limits

PHONE = "+14155550123"
SENDER = "+15005550006"

_ADD_CONVERSATION = """
INSERT INTO sms_conversations (id, phone_number_canonical, phone_number_original, message_count, last_message_at)
VALUES ($1, $2, $2, $3, $4)
"""
_ADD_MESSAGE = """
INSERT INTO sms_messages (id, conversation_id, conversation_seq, direction, provider, provider_message_id, from_number,
                          to_number, message_content, delivery_status, priority, created_at, updated_at, sent_at,
                          ended_at, poll_at, content_retention, client_id)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 'Hello', $9, 1, $10, $10, $11, $12, $13, 'full', 'client')
"""


@dataclass(frozen=True)
class Examined:
    """What one examination came to."""

    report: Report

    def names(self, severity: Severity = Severity.WRONG) -> set[str]:
        return {each.name for each in self.report.findings if each.severity is severity}

    def __getitem__(self, name: str) -> Finding:
        (finding,) = (each for each in self.report.findings if each.name == name)
        return finding

    @property
    def unchecked(self) -> set[str]:
        return {each.name for each in self.report.unchecked}


class Patient:
    """A database with rows in it. Everything it holds is as the service would have left it."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self.database = database
        self.settings = settings
        self._phones = 0

    async def examine(self, *, since: datetime | None = None, limits: Limits | None = None) -> Examined:
        return Examined(await examine(self.settings, self.database, since=since, limits=limits))

    async def run(self, statement: str, *arguments: object) -> Any:
        """Run a statement; returns its first value, if it has one."""
        return await self.database.pool.fetchval(statement, *arguments)

    async def conversation(self, *messages: dict[str, Any]) -> tuple[UUID, list[UUID]]:
        """Store a conversation of these messages, oldest first, a second apart; returns its id, and theirs."""
        self._phones += 1
        phone = f"+1415555{self._phones:04d}"
        conversation_id = new_id()
        begun: datetime = await self.run("SELECT now() - interval '1 hour'")
        times = [begun + timedelta(seconds=number) for number in range(len(messages))]
        await self.run(_ADD_CONVERSATION, conversation_id, phone, len(messages), times[-1] if times else None)
        ids = []
        for number, (values, at) in enumerate(zip(messages, times, strict=True), start=1):
            ids.append(await self._message(conversation_id, phone, number, at, **values))
        return conversation_id, ids

    async def message(self, **values: Any) -> UUID:
        """Store one message, with a conversation of its own."""
        _, (id_,) = await self.conversation(values)
        return id_

    async def _message(
        self,
        conversation_id: UUID,
        phone: str,
        number: int,
        at: datetime,
        *,
        direction: str = "outbound",
        status: str = "sent",
        named: str | None = "",
        ended: bool | None = None,
        poll_at: datetime | None = None,
    ) -> UUID:
        id_ = UUID(int=first_id_at(at).int | (new_id().int & ((1 << 62) - 1)))
        name = f"SM{id_.hex}" if named == "" else named
        is_inbound = direction == "inbound"
        has_ended = status in ("delivered", "read", "failed", "undelivered", "expired", "canceled")
        await self.run(
            _ADD_MESSAGE,
            id_,
            conversation_id,
            number,
            direction,
            "twilio" if name or is_inbound else None,
            name,
            phone if is_inbound else SENDER,
            SENDER if is_inbound else phone,
            status,
            at,
            at if name and not is_inbound else None,
            at if (has_ended if ended is None else ended) else None,
            poll_at,
        )
        return id_

    async def event(self, message_id: UUID | None, word: str, *, name: str | None = "", raw: str | None = "{}") -> UUID:
        """Store an event: of the message's provider, unless `name` says otherwise; None: a step of ours."""
        if name == "":
            name = await self.run("SELECT provider_message_id FROM sms_messages WHERE id = $1", message_id)
        id_ = new_id()
        await self.run(
            "INSERT INTO sms_message_status_events (id, message_id, provider, provider_message_id, event_status, "
            "raw_webhook_data) VALUES ($1, $2, $3, $4, $5, $6::jsonb)",
            id_,
            message_id,
            None if name is None else "twilio",
            name,
            word,
            None if name is None else raw,
        )
        return id_

    async def attempt(self, message_id: UUID, outcome: str | None, *, age: timedelta = timedelta(0)) -> None:
        await self.run(
            "INSERT INTO sms_send_attempts (message_id, number, provider, sender, reasons, started_at, outcome) "
            "VALUES ($1, 1, 'twilio', $2, '{}', now() - $3::interval, $4)",
            message_id,
            SENDER,
            age,
            outcome,
        )

    async def work(self, kind: str, ref_id: UUID = NIL, **columns: Any) -> int:
        """Store a row of work, due now; `columns` are SQL expressions."""
        names = "".join(f", {name}" for name in columns)
        values = "".join(f", {value}" for value in columns.values())
        id_: int = await self.run(
            f"INSERT INTO work (kind, ref_id{names}) VALUES ($1, $2{values}) RETURNING id", kind, ref_id
        )
        return id_
