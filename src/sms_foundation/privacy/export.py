"""Everything stored about a number as one JSON object, written piece by piece."""

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Final

import orjson

from sms_foundation.auth.audit.log import Action, record
from sms_foundation.auth.numbers import personal_data as number_rules
from sms_foundation.auth.principal import COMMAND_LINE
from sms_foundation.core.clock import utc_now
from sms_foundation.core.db import Connection, Database
from sms_foundation.enrichment.tenants import personal_data as tenants
from sms_foundation.messaging import personal_data as messaging
from sms_foundation.messaging.personal_data import Conversation
from sms_foundation.privacy.subject import Subject

FORMAT: Final = "sms-foundation/personal-data"
VERSION: Final = 1

Write = Callable[[bytes], object]
Progress = Callable[[int, int], None]
"""Told how many messages are done, and of how many."""


class Export:
    """One person's data on its way out; `write` gets the JSON in order, a stretch of a conversation at a time."""

    def __init__(self, database: Database, subject: Subject, write: Write, progress: Progress) -> None:
        self._database = database
        self._subject = subject
        self._write = write
        self._progress = progress

    async def run(self, *, reference: str | None) -> None:
        """Write everything, after a row in the audit log that says so; `reference` is the request's, for that row.

        What arrives meanwhile may or may not be part of it.
        """
        conversations = await self._begin(reference)
        head = {"format": FORMAT, "version": VERSION, "exported_at": utc_now(), "number": self._subject.number}
        self._write(orjson.dumps(head)[:-1])
        async with self._reading() as connection:
            addresses = self._subject.addresses
            known = {each.tenant_id for each in conversations if each.tenant_id is not None}
            known.update(await tenants.find_tenants(connection, addresses))
            self._list("opt_outs", await messaging.export_opt_outs(connection, addresses))
            self._list("number_rules", await number_rules.export_rules(connection, self._subject.number))
            self._list("tenants", await tenants.export_tenants(connection, sorted(known)))
            self._list("tenant_numbers", await tenants.export_tenant_numbers(connection, addresses))
        await self._conversations(conversations)
        await self._unmatched_receipts()
        self._write(b"}\n")

    async def _begin(self, reference: str | None) -> list[Conversation]:
        async with self._database.transaction() as connection:
            conversations = await messaging.find_conversations(connection, self._subject.addresses)
            await record(
                connection,
                COMMAND_LINE,
                Action.PRIVACY_EXPORT,
                target_kind="number",
                target=self._subject.masked,
                details={"reference": reference, "conversations": [str(each.id) for each in conversations]},
            )
        return conversations

    async def _conversations(self, conversations: list[Conversation]) -> None:
        total, done = sum(each.message_count for each in conversations), 0
        self._write(b',\n"conversations":[')
        for place, conversation in enumerate(conversations):
            async with self._reading() as connection:
                row = await messaging.export_conversation(connection, conversation.id)
            self._write(b",\n" if place else b"\n")
            self._write(row.encode()[:-1] + b',"messages":[')
            is_first = True
            for after, up_to in conversation.stretches():
                async with self._reading() as connection:
                    rows = await messaging.export_stretch(connection, conversation.id, after, up_to)
                if rows:
                    self._write((b"\n" if is_first else b",\n") + ",\n".join(rows).encode())
                    is_first = False
                done += up_to - after
                self._progress(done, total)
            self._write(b"]}")
        self._write(b"]")

    async def _unmatched_receipts(self) -> None:
        found: list[str] = []
        if self._subject.digits is not None:
            async with self._reading() as connection:
                ids = [each async for each in messaging.find_unmatched_events(connection, self._subject.digits)]
                found = [await messaging.export_event(connection, each) for each in ids]
        self._list("unmatched_receipts", found)

    def _list(self, name: str, rows: Iterable[str]) -> None:
        self._write(f',\n"{name}":[{",".join(rows)}]'.encode())

    @asynccontextmanager
    async def _reading(self) -> AsyncIterator[Connection]:
        async with self._database.transaction() as connection:
            await connection.execute("SET LOCAL TimeZone = 'UTC'")
            yield connection
