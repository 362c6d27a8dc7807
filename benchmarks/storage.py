"""What one message takes on disk, indexes included: `python -m benchmarks.storage`, JSON lines on standard output.

Texts and sends go through the code that stores them in production: webhooks as Twilio sends them, its answers to
sends, two receipts each. Twenty messages with each number. Nothing is timed, so the machine does not matter.
"""

import argparse
import asyncio
import itertools
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Final
from uuid import uuid4

import orjson

from benchmarks.database import PostgresServer, lend_server
from benchmarks.report import Report
from benchmarks.requests import ACCOUNT_SID, OUR_NUMBER, phone_numbers
from sms_foundation.core.config import Settings
from sms_foundation.core.db import Connection, Database, parse_database_url
from sms_foundation.core.segments import count_segments
from sms_foundation.core.work import queue
from sms_foundation.core.work.queue import Lane, Priority, Work
from sms_foundation.messaging.delivery import ReceiptStore
from sms_foundation.messaging.facts import save_message_languages
from sms_foundation.messaging.ingest import MessageStore
from sms_foundation.messaging.jobs import MESSAGE_RECEIVED, SEND_MESSAGE
from sms_foundation.messaging.outbound import store
from sms_foundation.messaging.outbound.accept import MessageAcceptor, SendRequest
from sms_foundation.messaging.outbound.store import AttemptOutcome, Finished, NewAttempt
from sms_foundation.providers.base import MessageStatus, StatusReport
from sms_foundation.providers.twilio.webhook import parse_inbound, parse_status
from sms_foundation.simulator.crowd.generator import generate_crowd
from sms_foundation.simulator.forms import Pairs, inbound_form, new_message_sid, status_form

SORTS: Final = ("text_received", "message_sent")
_EACH: Final = 20
_BATCH: Final = 500
_LEASE: Final = timedelta(minutes=5)
_REASONS: Final = '{"reasons": {"twilio": "chosen", "vonage": "weight"}, "weights": {"twilio": 100, "vonage": 100}}'

# What is there when nothing is stored is no message's.
_SIZES: Final = """
SELECT relname AS name, pg_total_relation_size(oid) AS total, pg_indexes_size(oid) AS indexes
FROM pg_class WHERE relkind = 'r' AND relname LIKE 'sms\\_%' ORDER BY relname
"""


def main() -> None:
    """Store so many of each sort and print what they take."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.storage", description="Bytes on disk per message.")
    parser.add_argument("--messages", type=int, default=50_000, help="of each sort  [default: 50000]")
    count = parser.parse_args().messages
    report = Report(sys.stdout)
    with lend_server() as server:
        for name in SORTS:
            with server.fresh_database() as url:
                before = _sizes(server, url)
                asyncio.run(fill(name, url, count))
                server.settle(url)
                after = _sizes(server, url)
            report.add(name, messages=count, **per_message(before, after, count))


async def fill(sort: str, url: str, count: int) -> None:
    """Store `count` messages of one of SORTS in the database at `url`, with all that happens to each."""
    async with _opened(url) as database:
        await (_receive if sort == "text_received" else _send)(database, count)


def _sizes(server: PostgresServer, url: str) -> dict[str, tuple[int, int]]:
    return {row["name"]: (row["total"], row["indexes"]) for row in server.query(_SIZES, database=url)}


def per_message(before: dict[str, tuple[int, int]], after: dict[str, tuple[int, int]], count: int) -> dict[str, int]:
    """Return bytes per message: all, of that indexes, and by table."""
    grown = {name: after[name][0] - before[name][0] for name in after}
    indexes = sum(after[name][1] - before[name][1] for name in after)
    return {"bytes": round(sum(grown.values()) / count), "index_bytes": round(indexes / count)} | {
        name: round(size / count) for name, size in grown.items() if size
    }


@asynccontextmanager
async def _opened(url: str) -> AsyncIterator[Database]:
    database = Database(parse_database_url(url), Settings(_env_file=None, app_env="test"))  # type: ignore[call-arg]
    await database.open()
    try:
        yield database
    finally:
        await database.close()


def _bodies(count: int) -> list[str]:
    known = [text.body for text in itertools.islice(generate_crowd(1), min(count, 4000))]
    return list(itertools.islice(itertools.cycle(known), count))


def _phones(count: int) -> list[str]:
    """Return whose turn it is: everybody writes once before anybody writes again."""
    return list(itertools.islice(itertools.cycle(phone_numbers(max(count // _EACH, 1))), count))


def _batches(count: int) -> Iterator[list[tuple[str, str]]]:
    """Yield batches of (phone, text)."""
    all_of_them = list(zip(_phones(count), _bodies(count), strict=True))
    for start in range(0, count, _BATCH):
        yield all_of_them[start : start + _BATCH]


async def _claim(connection: Connection, kind: str) -> list[Work]:
    lane = Lane(kind, Priority.NORMAL, _BATCH)
    return await queue.claim(connection, lanes=[lane], limit=_BATCH, lease_token=uuid4(), lease=_LEASE)


async def _receive(database: Database, count: int) -> None:
    """Store texts and the language of each."""
    texts = MessageStore(database, lease_token=uuid4(), lease=_LEASE, room=lambda: 0, timeout_s=60.0)
    for batch in _batches(count):
        await asyncio.gather(*(texts.store(parse_inbound(_text(*each)), phone=each[0]) for each in batch))
        async with database.transaction() as connection:
            work = await _claim(connection, MESSAGE_RECEIVED)
            await save_message_languages(connection, {each.ref_id: ("es", 0.87) for each in work})
            await queue.finish(connection, work)
    await texts.close()


def _text(phone: str, body: str) -> Pairs:
    return inbound_form(
        message_sid=new_message_sid(), account_sid=ACCOUNT_SID, sender=phone, recipient=OUR_NUMBER, body=body
    )


async def _send(database: Database, count: int) -> None:
    """Accept messages, send each with one attempt, and let it be sent and delivered."""
    acceptor = MessageAcceptor(database, timeout_s=60.0, on_accepted=lambda: None)
    receipts = ReceiptStore(database, timeout_s=60.0)
    for batch in _batches(count):
        async with database.transaction() as connection:
            await acceptor.accept_all(connection, [_request(*each) for each in batch])
        sent: dict[str, str] = {}
        while work := await _work(database):
            sent |= await _take(database, work)
        for status in ("sent", "delivered"):
            await asyncio.gather(*(receipts.apply(_report(sid, phone, status)) for sid, phone in sent.items()))
    await receipts.close()


async def _work(database: Database) -> list[Work]:
    async with database.connection() as connection:
        return await _claim(connection, SEND_MESSAGE)


async def _take(database: Database, work: Sequence[Work]) -> dict[str, str]:
    """Write down that Twilio took the messages of `work`; returns their numbers by the SIDs it gave them."""
    async with database.connection() as connection:
        messages = await store.load(connection, [each.ref_id for each in work])
        attempts = [
            NewAttempt(message_id=id_, number=1, provider="twilio", sender=OUR_NUMBER, reasons=_REASONS)
            for id_ in messages
        ]
        await store.begin(connection, attempts)
        sids = {id_: new_message_sid() for id_ in messages}
        await store.finish(connection, [_finished(each, sids[each.ref_id]) for each in work])
    return {sids[id_]: message.recipient for id_, message in messages.items()}


def _request(phone: str, body: str) -> SendRequest:
    encoding, segments = count_segments(body)
    name = str(uuid4())
    return SendRequest(
        recipient=phone,
        content=body,
        encoding=encoding,
        num_segments=segments,
        client_id="rent-reminder",
        digest=sha256(name.encode()).digest(),
        idempotency_key=name,
        metadata={"case": "2026-11-0017"},
    )


def _finished(work: Work, sid: str) -> Finished:
    return Finished(
        message_id=work.ref_id,
        number=1,
        work=work,
        outcome=AttemptOutcome.SENT,
        status=MessageStatus.QUEUED,
        event_status="queued",
        provider_message_id=sid,
        latency_ms=92,
        response=_answer(sid),
    )


def _answer(sid: str) -> str:
    """Return what is kept of Twilio's answer: all but the text."""
    uri = f"/2010-04-01/Accounts/{ACCOUNT_SID}/Messages/{sid}"
    answer = {
        "account_sid": ACCOUNT_SID,
        "api_version": "2010-04-01",
        "date_created": "Fri, 20 Nov 2026 09:30:00 +0000",
        "date_sent": None,
        "date_updated": "Fri, 20 Nov 2026 09:30:00 +0000",
        "direction": "outbound-api",
        "error_code": None,
        "error_message": None,
        "from": OUR_NUMBER,
        "messaging_service_sid": None,
        "num_media": "0",
        "num_segments": "1",
        "price": None,
        "price_unit": "USD",
        "sid": sid,
        "status": "queued",
        "subresource_uris": {"media": f"{uri}/Media.json", "feedback": f"{uri}/Feedback.json"},
        "to": "+14155550123",
        "uri": f"{uri}.json",
    }
    return orjson.dumps(answer).decode()


def _report(sid: str, phone: str, status: str) -> StatusReport:
    form = status_form(
        message_sid=sid,
        account_sid=ACCOUNT_SID,
        status=status,
        sender=OUR_NUMBER,
        recipient=phone,
        now=datetime.now(UTC),
    )
    return parse_status(form)


if __name__ == "__main__":
    main()
