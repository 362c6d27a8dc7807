"""A person about whom everything is stored that can be, and another one who is nobody's business here."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import orjson

from sms_foundation.auth.numbers import service as number_rules
from sms_foundation.auth.principal import COMMAND_LINE
from sms_foundation.core.clock import utc_now
from sms_foundation.core.config import LOCAL_PHONE_NUMBER
from sms_foundation.core.db import Database
from sms_foundation.core.work import queue
from sms_foundation.core.work.queue import Lane, Priority
from sms_foundation.enrichment.findings import FindingStore
from sms_foundation.enrichment.tasks import Enrichment
from sms_foundation.enrichment.tenants.lookup import TenantLookup
from sms_foundation.messaging.delivery import ReceiptStore
from sms_foundation.messaging.ingest import MessageStore
from sms_foundation.messaging.jobs import MESSAGE_RECEIVED
from sms_foundation.messaging.outbound.policy import SendingPolicy
from sms_foundation.messaging.outbound.reconcile import Reconciliation
from sms_foundation.messaging.personal_data import StoredMessage
from sms_foundation.privacy.erasing import Erased, Erasing, Listener
from sms_foundation.privacy.subject import find_subject
from tests.loopback import reply
from tests.support.outbound import HttpProvider, Sending, Taken
from tests.support.processes import eventually
from tests.support.service import SMS_PATH, STATUS_PATH, Service

PERSON = "+14155550123"
OTHER = "+14155550199"
NAME = "Maria Gonzalez"
TRACES = ("4155550123", "555-0123", "Maria", "maria", "pineapple", "secret-photo", "tenant-77", "case-9")
"""What the database knows about the person, in all the forms in which it came."""


async def quoting(provider: HttpProvider, message: Taken) -> bytes:
    """Take the message and repeat all of it in the answer, or refuse it in so many words."""
    if message.body.startswith("refuse"):
        return reply(400, orjson.dumps({"code": "bad-number", "text": f"{message.recipient} is not {NAME}'s"}))
    provider.taken.append(message)
    return reply(200, orjson.dumps({"id": message.id, "to": message.recipient, "body": message.body}))


@dataclass
class World:
    """A service, a process that sends, and what a test does to the person's data."""

    service: Service
    database: Database
    sender: Sending
    provider: HttpProvider
    reconciliation: Reconciliation

    async def send(self, text: str, to: str = PERSON, **more: Any) -> UUID:
        """Have a message accepted; it waits."""
        values = {"to": to, "message": text, "sender_id": None, **more}
        response = await self.service.client.post(
            "/v1/sms/send",
            json={name: value for name, value in values.items() if value is not None},
            headers={"X-Request-ID": f"for-{NAME.lower().replace(' ', '-')}"},
        )
        assert response.status_code == 202, response.text
        return UUID(response.json()["id"])

    async def send_off(self) -> None:
        """Hand everything that is due to the provider."""
        while work := await self.sender.claim():
            await self.sender.run(work)

    async def read_texts(self) -> None:
        """Do what a worker does with the texts that came in."""
        findings = FindingStore(self.database, tells_profiles=False, on_work=lambda: None)
        lookup = TenantLookup(None)
        enrichment = Enrichment(self.database, lookup, None, findings, reconcile_every=timedelta(hours=1))
        async with self.database.connection() as connection:
            found = await queue.claim(
                connection,
                lanes=[Lane(MESSAGE_RECEIVED, Priority.NORMAL, 10)],
                limit=10,
                lease_token=uuid4(),
                lease=timedelta(minutes=1),
            )
        for work in found:
            await enrichment.enrich_message(work)
        await enrichment.close()
        await lookup.aclose()

    async def opted_out(self) -> set[str]:
        """Return who wants no more texts."""
        rows = await self.database.pool.fetch("SELECT phone_number_canonical FROM sms_opt_outs")
        return {row[0] for row in rows}

    @asynccontextmanager
    async def held(self, message_id: UUID) -> AsyncIterator[None]:
        """Keep everybody else from changing a message."""
        async with self.database.transaction() as connection:
            await connection.execute("SELECT FROM sms_messages WHERE id = $1 FOR UPDATE", message_id)
            yield

    async def until_somebody_waits(self, count: int = 1) -> None:
        """Return when so many connections wait for a lock."""

        async def do_wait() -> bool:
            return await self.count_waiting() == count

        await eventually(do_wait, f"{count} wait for a lock")

    async def count_waiting(self) -> int:
        """Return how many connections wait for a lock."""
        count: int = await self.database.pool.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        return count

    async def text(self, sid: str, body: str, *, sender: str = PERSON, **more: str) -> None:
        """Let a text arrive."""
        pairs = [("MessageSid", sid), ("From", sender), ("To", LOCAL_PHONE_NUMBER), ("Body", body), *more.items()]
        response = await self.service.post_signed(SMS_PATH, pairs)
        assert response.status_code == 200, response.text

    async def report(self, sid: str, status: str, *, to: str = PERSON, **more: str) -> None:
        """Let the provider report about whatever it calls `sid`."""
        pairs = [("MessageSid", sid), ("MessageStatus", status), ("From", LOCAL_PHONE_NUMBER), ("To", to)]
        response = await self.service.post_signed(STATUS_PATH, [*pairs, *more.items()])
        assert response.status_code < 300, response.text

    async def tell(self, message_id: UUID, status: str, **more: str) -> None:
        """Let the provider report about a message."""
        sid = await self.database.pool.fetchval(
            "SELECT provider_message_id FROM sms_messages WHERE id = $1", message_id
        )
        await self.report(sid, status, **more)

    async def live(self, phone: str = PERSON) -> None:
        """Store everything about somebody that can be stored."""
        prefix = "SM" if phone == PERSON else "SO"
        await self.text(
            f"{prefix}1",
            f"I am {NAME} and like pineapple",
            sender=phone,
            ProfileName=NAME,
            NumMedia="1",
            MediaUrl0="https://media.example/secret-photo",
            MediaContentType0="image/jpeg",
        )
        await self.text(f"{prefix}2", "pineapple again", sender=f"whatsapp:{phone}")
        sent = await self.send(
            "your pineapple is ready",
            phone,
            metadata={"customer": NAME},
            idempotency_key=f"ready-{phone}",
            content_retention=30,
        )
        await self.send("refuse: pineapple", phone)
        await self.send_off()
        await self.tell(sent, "delivered", ErrorCode="30003", ErrorMessage=f"{phone} was off", to=phone)
        await self.report(f"{prefix}elsewhere", "failed", to=phone, ErrorMessage=f"no way to {phone[1:]}")
        await self.send("pineapple next week", phone, send_at=(utc_now() + timedelta(days=7)).isoformat())
        dead = await self.send("pineapple that nobody took", phone)
        await self.database.pool.execute("UPDATE work SET state = 'dead', last_error = 'x' WHERE ref_id = $1", dead)
        await self.send("pineapple in a moment", phone)
        await self._know(phone)
        path = f"/conversations/{phone}"
        patch = {"workflow_type": "dunning", "workflow_id": "case-9", "conversation_status": "open"}
        response = await self.service.client.patch(path, json=patch, headers={"Idempotency-Key": f"file-{phone}"})
        assert response.status_code == 200, response.text
        assert (await self.service.client.get(path)).status_code == 200

    async def _know(self, phone: str) -> None:
        """Keep what enrichment finds out, and what operators and the law say about a number."""
        tenant = "tenant-77" if phone == PERSON else "tenant-88"
        pool = self.database.pool
        await pool.execute(
            "UPDATE sms_conversations SET tenant_id = $2, tenant_lookup_status = 'matched', language_detected = 'es', "
            "language_confidence = 0.9, language_seq = 1 WHERE phone_number_canonical = $1",
            phone,
            tenant,
        )
        await pool.execute(
            "UPDATE sms_messages SET language_detected = 'es', language_confidence = 0.9 WHERE direction = 'inbound'"
        )
        await pool.execute(
            "INSERT INTO sms_tenants (id, tenant_id, language_told) VALUES ($1, $2, 'es')", uuid4(), tenant
        )
        await pool.execute(
            "INSERT INTO sms_tenant_numbers (tenant_id, phone_number_canonical, last_used_at) VALUES ($1, $2, now())",
            tenant,
            phone,
        )
        await pool.execute(
            "INSERT INTO sms_opt_outs (phone_number_canonical, sender, source) VALUES ($1, '+15005550006', 'keyword')",
            phone,
        )
        async with self.database.transaction() as connection:
            await number_rules.set_rule(connection, COMMAND_LINE, prefix=phone, is_allowed=True, note=NAME)

    async def erase(self, phone: str = PERSON, *, listener: Listener | None = None) -> Erased:
        """Erase everything about somebody."""
        erasing = Erasing(
            self.database, self.reconciliation, find_subject(phone, "US"), listener or Listening().listener
        )
        return await erasing.run(reference="REQUEST-17")

    async def rows(self) -> dict[str, list[str]]:
        """Return every row of every table as text."""
        tables = await self.database.pool.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        return {
            table: [row[0] for row in await self.database.pool.fetch(f'SELECT t::text FROM "{table}" AS t')]
            for (table,) in tables
        }

    async def traces(self) -> dict[str, set[str]]:
        """Return what is known about the person, and in which tables it stands."""
        found = {
            table: {trace for trace in TRACES if any(trace in row for row in rows)}
            for table, rows in (await self.rows()).items()
        }
        return {table: traces for table, traces in found.items() if traces}

    async def messages(self) -> list[asyncpg.Record]:
        return list(await self.database.pool.fetch("SELECT * FROM sms_messages ORDER BY id"))


class KilledError(Exception):
    """The process ends here."""


class Listening:
    """What an erasing tells on its way."""

    def __init__(self, *, dies_at: str | None = None) -> None:
        """`dies_at`: the process ends when this is told for the first time."""
        self._dies_at = dies_at
        self.done: list[tuple[int, int]] = []
        self.waited_for: list[int] = []
        self.not_forgotten: list[tuple[UUID, str]] = []

    @property
    def listener(self) -> Listener:
        def progress(done: int, total: int) -> None:
            self.done.append((done, total))
            self._live_on("progress")

        def not_forgotten(message: StoredMessage, reason: str) -> None:
            self.not_forgotten.append((message.id, reason))
            self._live_on("not_forgotten")

        return Listener(progress, self.waited_for.append, not_forgotten)

    def _live_on(self, told: str) -> None:
        if told == self._dies_at:
            raise KilledError


@asynccontextmanager
async def reconciliation_of(process: Sending) -> AsyncIterator[Reconciliation]:
    """Yield what asks the providers of a process."""
    database = process.database
    receipts = ReceiptStore(database, timeout_s=20.0)
    messages = MessageStore(database, lease_token=uuid4(), lease=timedelta(seconds=60), room=lambda: 0, timeout_s=20.0)
    yield Reconciliation(
        database,
        process.providers,
        process.states,
        receipts,
        messages,
        SendingPolicy(),
        every=timedelta(minutes=15),
        default_region="US",
    )
    await receipts.close()
    await messages.close()
