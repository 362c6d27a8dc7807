"""`sms-foundation reconcile`: what never reached us is found, said in a line, and nothing is stored twice."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import orjson
import pytest

from sms_foundation.core.db import Database, DatabaseUrl
from sms_foundation.core.ids import new_id
from tests.loopback import LoopbackServer, Received, reply
from tests.support.command_line import Result, Run, RunAll, assert_one_line

ACCOUNT = "AC" + "ab" * 16
LEFT_OUT = "tenants: left out, MONITOR_API_URL is not set"

_ADD_MESSAGES = """
WITH conversation AS (
    INSERT INTO sms_conversations (id, phone_number_canonical, phone_number_original, last_message_at, message_count)
    VALUES (gen_random_uuid(), '+14155550123', '+14155550123', now(), cardinality($1::uuid[])) RETURNING id
)
INSERT INTO sms_messages (id, conversation_id, conversation_seq, direction, provider, provider_message_id, from_number,
                          to_number, message_content, delivery_status, sent_at, poll_at)
SELECT t.id, conversation.id, t.seq, 'outbound', 'twilio', t.sid, '+15005550006', '+14155550123', 'Hello', 'sent',
       now() - t.age, now() + interval '1 day'
FROM conversation, unnest($1::uuid[], $2::text[], $3::interval[]) WITH ORDINALITY AS t(id, sid, age, seq)
"""


async def _add_sent(database: Database, *ages: timedelta) -> list[str]:
    """Store messages that Twilio took so long ago and whose end was never told; returns their SIDs."""
    sids = [f"SM{number:032x}" for number in range(1, len(ages) + 1)]
    await database.pool.execute(_ADD_MESSAGES, [new_id() for _ in ages], sids, list(ages))
    return sids


async def _statuses(database: Database) -> list[str]:
    rows = await database.pool.fetch(
        "SELECT delivery_status FROM sms_messages WHERE direction = 'outbound' ORDER BY id"
    )
    return [row[0] for row in rows]


def _providers(twilio: LoopbackServer) -> str:
    config = {
        "kind": "twilio",
        "name": "twilio",
        "account_sid": ACCOUNT,
        "auth_token": "s3cr3t",
        "api_base_url": twilio.base_url,
    }
    return orjson.dumps([config]).decode()


def _resource(
    sid: str, status: str, *, direction: str = "outbound-api", body: str = "Hello", age_min: int = 10
) -> dict[str, object]:
    at = format_datetime(datetime.now(UTC) - timedelta(minutes=age_min))
    ours, theirs = "+15005550006", "+14155550123"
    is_inbound = direction == "inbound"
    return {
        "sid": sid,
        "account_sid": ACCOUNT,
        "status": status,
        "direction": direction,
        "from": theirs if is_inbound else ours,
        "to": ours if is_inbound else theirs,
        "body": body,
        "date_created": at,
        "date_sent": at,
        "date_updated": at,
        "num_segments": "1",
        "num_media": "0",
        "error_code": None,
        "error_message": None,
    }


class Twilio:
    """What Twilio has: every message was delivered, and two texts came in, one of them too long ago."""

    def __init__(self) -> None:
        self.refusal: bytes | None = None
        self.missed = [
            _resource("SM" + "c" * 32, "received", direction="inbound", body="Hola", age_min=30),
            _resource("SM" + "d" * 32, "received", direction="inbound", body="Old", age_min=180),
        ]

    async def answer(self, request: Received) -> bytes:
        if self.refusal is not None:
            return self.refusal
        sid = request.target.rpartition("/")[2].removesuffix(".json")
        if sid.startswith("SM"):
            return reply(200, orjson.dumps(_resource(sid, "delivered")))
        return reply(200, orjson.dumps({"messages": self.missed, "next_page_uri": None}))


@pytest.fixture
def twilio() -> Twilio:
    return Twilio()


@pytest.fixture
async def server(twilio: Twilio) -> AsyncIterator[LoopbackServer]:
    async with LoopbackServer(twilio.answer) as server:
        yield server


@pytest.fixture
def reconcile(run: Run, server: LoopbackServer, database: Database) -> Run:
    """Run `reconcile` on the test's database with the test's Twilio."""

    async def reconcile(*arguments: str, **variables: str) -> Result:
        known = {"DATABASE_URL": database.url.dsn, "PROVIDERS": _providers(server), **variables}
        return await run("reconcile", *arguments, **known)

    return reconcile


class TestProviders:
    async def test_statuses_and_texts_since_then_are_repaired_and_the_second_time_there_is_nothing_to_repair(
        self, reconcile: Run, database: Database, server: LoopbackServer
    ) -> None:
        sids = await _add_sent(database, timedelta(minutes=10), timedelta(minutes=50), timedelta(hours=3))

        first = await reconcile("--since", "60m")
        again = await reconcile("--since", "1h")

        assert (first.status, first.err) == (0, "")
        assert first.lines[0].startswith("asking twilio about everything since ")
        assert first.lines[-3:] == [
            "statuses: 2 repaired of 2 asked about",
            "inbound: 1 missed texts stored, of 1 that providers have",
            LEFT_OUT,
        ]
        assert await _statuses(database) == ["delivered", "delivered", "sent"]
        assert sids[2] not in "".join(server.targets)
        (text,) = await database.pool.fetch("SELECT * FROM sms_messages WHERE direction = 'inbound'")
        assert (text["provider_message_id"], text["message_content"]) == ("SM" + "c" * 32, "Hola")
        # As if it had just arrived: its language and tenant are found out by whoever runs work.
        assert await database.pool.fetchval("SELECT ref_id FROM work WHERE kind = 'message_received'") == text["id"]
        assert again.lines[-3:-1] == [
            "statuses: 0 repaired of 0 asked about",
            "inbound: 0 missed texts stored, of 1 that providers have",
        ]

    async def test_one_part_can_be_chosen(self, reconcile: Run, database: Database, server: LoopbackServer) -> None:
        await _add_sent(database, timedelta(minutes=10))

        inbound = await reconcile("--only", "inbound")
        listed = list(server.targets)
        statuses = await reconcile("--only", "statuses", "--since", "2h")

        assert inbound.lines[1:] == ["inbound: 2 missed texts stored, of 2 that providers have"]
        assert all("Messages.json?" in target for target in listed)
        assert statuses.lines[1:] == ["statuses: 1 repaired of 1 asked about"]
        assert not any("Messages.json?" in target for target in server.targets[len(listed) :])

    @pytest.mark.parametrize(
        ("refusal", "words"),
        [
            (reply(429, b'{"code": 20429, "message": "Too Many Requests"}'), "slow down; run it again"),
            (reply(401, b'{"code": 20003, "message": "Authenticate"}'), "check its credentials"),
            (reply(503, b"<html>"), "did not answer; run it again"),
        ],
        ids=["too_many", "credentials", "away"],
    )
    async def test_one_that_does_not_tell_is_left_alone_soon_and_the_error_says_what_to_do(
        self,
        reconcile: Run,
        database: Database,
        server: LoopbackServer,
        twilio: Twilio,
        refusal: bytes,
        words: str,
    ) -> None:
        await _add_sent(database, *[timedelta(minutes=5)] * 60)
        twilio.refusal = refusal

        result = await reconcile()

        assert_one_line(result, "twilio", words)
        asked = len(server.received)
        assert 0 < asked <= 12  # those that were under way together
        assert f"statuses: 0 repaired of 0 asked about, {asked} without an answer" in result.lines
        assert LEFT_OUT in result.lines  # it went on to the rest

    async def test_without_any_there_is_a_note(self, run: Run, database_url: DatabaseUrl) -> None:
        result = await run("reconcile", DATABASE_URL=database_url.dsn, PROVIDERS="[]")

        assert result == (0, f"statuses and inbound: left out, no provider is configured\n{LEFT_OUT}\n", "")


class TestPeriod:
    async def test_is_told_how_to_be_written(self, run_all: RunAll) -> None:
        wrong = ("", "24", "1y", "-1h", "0h", "1.5h", "99999d", "h")

        for result in await run_all(*(["reconcile", f"--since={each}"] for each in wrong)):
            assert result.status == 2
            assert "90m, 24h or 7d" in result.err.replace("\n", " ")
            assert "Traceback" not in result.err


class TestTenants:
    async def test_of_unknown_numbers_are_found_and_nothing_is_doubled(self, run: Run, database: Database) -> None:
        numbers = [f"+1415555012{n}" for n in range(4)]
        await database.pool.execute(
            "INSERT INTO sms_conversations (id, phone_number_canonical, phone_number_original, last_message_at) "
            "SELECT gen_random_uuid(), phone, phone, now() FROM unnest($1::text[]) AS t(phone)",
            numbers,
        )

        async def answer(request: Received) -> bytes:
            is_known = "5550123" not in request.target
            return reply(200, b'{"tenant_id": "tenant-7"}') if is_known else reply(404)

        async with LoopbackServer(answer) as monitor:
            variables = {"DATABASE_URL": database.url.dsn, "MONITOR_API_URL": monitor.base_url}
            command = ("reconcile", "--only", "tenants")
            first = await run(*command, **variables)
            second, beside = await asyncio.gather(run(*command, **variables), run(*command, **variables))

        assert (first.status, first.err) == (0, "")
        assert first.lines[0] == "tenants: 4 conversations without one"
        assert first.lines[-1] == "tenants: 1 conversations are still without one"
        for again in (second, beside):
            assert (again.status, again.lines[0]) == (0, "tenants: 1 conversations without one")
        rows = await database.pool.fetch("SELECT phone_number_canonical, tenant_id FROM sms_tenant_numbers ORDER BY 1")
        assert [tuple(row) for row in rows] == [(number, "tenant-7") for number in numbers if number != "+14155550123"]
        assert await database.pool.fetchval("SELECT count(*) FROM work") == 0

    async def test_asked_for_by_name_need_somebody_to_ask(self, run: Run, database_url: DatabaseUrl) -> None:
        result = await run("reconcile", "--only", "tenants", DATABASE_URL=database_url.dsn)

        assert_one_line(result, "MONITOR_API_URL is not set")
