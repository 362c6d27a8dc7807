"""Finding what never reached us, both ways, at a simulated Twilio whose webhooks reach nobody; and forgetting."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from hashlib import sha256
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from sms_foundation.core.clock import utc_now
from sms_foundation.core.config import LOCAL_ACCOUNT_SID, LOCAL_PHONE_NUMBER
from sms_foundation.core.db import Database, DatabaseUrl
from sms_foundation.core.ids import NIL
from sms_foundation.core.work.queue import Work
from sms_foundation.core.work.runner import Again
from sms_foundation.messaging.delivery import ReceiptStore
from sms_foundation.messaging.ingest import MessageStore
from sms_foundation.messaging.metrics import REPAIRED
from sms_foundation.messaging.outbound.policy import SendingPolicy
from sms_foundation.messaging.outbound.reconcile import Reconciliation, Report
from sms_foundation.simulator.app import build_app
from sms_foundation.simulator.scenario import Scenario, TravelTime
from sms_foundation.simulator.timing import Timing
from tests.simulator.servers import AUTH_TOKEN, closed_port_url, serve, settings_for
from tests.support.outbound import (
    PHONE,
    HttpProvider,
    Sending,
    accept,
    attempts,
    http_providers,
    message,
    phones,
    request,
    sending,
    status,
    until_taken,
)
from tests.support.processes import eventually

EVERY = timedelta(minutes=15)


@dataclass
class Clock:
    """The simulator's: a test lets it go wrong."""

    offset: timedelta = timedelta(0)

    @property
    def timing(self) -> Timing:
        return Timing(now=lambda: utc_now() + self.offset)


@dataclass
class Account:
    """A simulated Twilio account, and the control of its simulator."""

    url: str
    control: httpx.Client
    clock: Clock = field(default_factory=Clock)

    @property
    def entry(self) -> dict[str, Any]:
        return {
            "kind": "twilio",
            "name": "twilio",
            "account_sid": LOCAL_ACCOUNT_SID,
            "auth_token": AUTH_TOKEN,
            "senders": [LOCAL_PHONE_NUMBER],
            "sender_rates": {"*": None},
            "rate_per_s": None,
            "api_base_url": self.url,
        }

    def fault(self, kind: str, **values: object) -> None:
        answer = self.control.post("/simulator/faults", json={"kind": kind, **values})
        assert answer.status_code == 201, answer.text

    def behave(self) -> None:
        self.control.delete("/simulator/faults")

    def strikes(self) -> int:
        return sum(each["strikes"] for each in self.control.get("/simulator/faults").json()["faults"])

    def text(self, sender: str, body: str, **more: object) -> None:
        """A phone texts us; the webhook reaches nobody."""
        answer = self.control.post("/simulator/texts", json={"from": sender, "body": body, **more})
        assert answer.status_code == 200, answer.text

    def body_of(self, sid: str) -> str:
        """Return what the provider still knows of a message's text."""
        path = f"/2010-04-01/Accounts/{LOCAL_ACCOUNT_SID}/Messages/{sid}.json"
        return str(self.control.get(path, auth=(LOCAL_ACCOUNT_SID, AUTH_TOKEN)).json()["body"])


@pytest.fixture
def account() -> Iterator[Account]:
    clock = Clock()
    settings = settings_for(closed_port_url(), scenario=Scenario(travel=TravelTime(0, 0)))
    with (
        serve(build_app(settings, clock.timing)) as url,
        httpx.Client(base_url=url, trust_env=False, timeout=10) as control,
    ):
        yield Account(url, control, clock)


@pytest.fixture
async def process(account: Account, database: Database, database_url: DatabaseUrl) -> AsyncIterator[Sending]:
    async with sending(database_url, [account.entry]) as process:
        yield process


@pytest.fixture
async def reconciliation(process: Sending) -> AsyncIterator[Reconciliation]:
    async with AsyncExitStack() as stack:
        yield reconciliation_of(process, stack)


def reconciliation_of(process: Sending, stack: AsyncExitStack) -> Reconciliation:
    receipts = ReceiptStore(process.database, timeout_s=20.0)
    messages = MessageStore(
        process.database, lease_token=uuid4(), lease=timedelta(seconds=60), room=lambda: 0, timeout_s=20.0
    )
    stack.push_async_callback(receipts.close)
    stack.push_async_callback(messages.close)
    return Reconciliation(
        process.database,
        process.providers,
        process.states,
        receipts,
        messages,
        SendingPolicy(),
        every=EVERY,
        default_region="US",
    )


async def send(database: Database, count: int = 1, **more: Any) -> list[UUID]:
    ids = await accept(database, *(request(phone, **more) for phone in phones(count)))
    await until_taken(database, *ids)
    return ids


async def until_delivered(account: Account, count: int) -> None:
    async def have_arrived() -> bool:
        return int(account.control.get("/simulator/received/summary").json()["arrived"]) >= count

    await eventually(have_arrived, f"{count} have arrived")


async def let_be_due(database: Database) -> None:
    await database.pool.execute("UPDATE sms_messages SET poll_at = now() WHERE poll_at IS NOT NULL")


def repaired(kind: str) -> float:
    return REPAIRED.labels(kind)._value.get()


class TestStatuses:
    async def test_messages_without_an_end_are_asked_about_when_it_is_overdue(
        self, database: Database, account: Account, reconciliation: Reconciliation
    ) -> None:
        (id_,) = await send(database)
        await until_delivered(account, 1)
        before = repaired("status")
        await reconciliation.poll_due(report := Report())
        assert (report.asked, await status(database, id_)) == (0, "sending")  # not overdue yet
        await let_be_due(database)
        await reconciliation.poll_due(report)

        row = await message(database, id_)
        assert (row["delivery_status"], row["poll_at"]) == ("delivered", None)
        assert (report.asked, report.repaired_statuses, repaired("status") - before) == (1, 1, 1)

        await reconciliation.poll_due(again := Report())
        assert again.asked == 0

    async def test_stops_at_a_429_and_goes_on_later_with_those_it_did_not_ask_about(
        self, database: Database, account: Account, reconciliation: Reconciliation
    ) -> None:
        await send(database, 120)
        await until_delivered(account, 120)
        await let_be_due(database)
        account.fault("rate_limit", on="reads")
        await reconciliation.poll_due(report := Report())

        assert report.stopped == {"twilio"}
        assert account.strikes() <= 8  # those that were under way together
        account.behave()
        await reconciliation.poll_due(report := Report())
        assert 112 <= report.asked < 120
        assert not report.stopped

    async def test_a_round_that_takes_too_long_ends_and_the_next_one_goes_on(
        self, database: Database, account: Account, reconciliation: Reconciliation
    ) -> None:
        await send(database, 20)
        await until_delivered(account, 20)
        await let_be_due(database)
        await reconciliation.poll_due(over := Report(until=0.0))
        assert over.asked == 0
        account.fault("latency", on="reads", latency_ms=1)
        await reconciliation.poll_due(report := Report())

        assert report.asked == 20

    async def test_that_bring_no_end_are_asked_about_again_ever_later_and_after_days_no_more(
        self, database: Database, database_url: DatabaseUrl
    ) -> None:
        async with (
            http_providers(a := HttpProvider("a")),  # which tells no statuses
            sending(database_url, [a]) as process,
            AsyncExitStack() as stack,
        ):
            (id_,) = await send(database)
            reconciliation = reconciliation_of(process, stack)
            pauses = []
            for age in (timedelta(minutes=30), timedelta(hours=4), timedelta(days=4)):
                await database.pool.execute("UPDATE sms_messages SET sent_at = now() - $1::interval", age)
                await let_be_due(database)
                await reconciliation.poll_due(report := Report())
                assert report.asked == 1
                poll_at = (await message(database, id_))["poll_at"]
                pauses.append(None if poll_at is None else round((poll_at - utc_now()) / timedelta(minutes=1)))

        assert pauses == [30, 120, None]
        assert (report.repaired_statuses, await status(database, id_)) == (0, "sending")

    async def test_on_demand_all_since_then_are_asked_about_due_or_not(
        self, database: Database, account: Account, reconciliation: Reconciliation
    ) -> None:
        old, *_ = await send(database, 5)
        await until_delivered(account, 5)
        await database.pool.execute("UPDATE sms_messages SET sent_at = now() - interval '2 days' WHERE id = $1", old)
        await reconciliation.reconcile_since(utc_now() - timedelta(hours=24), report := Report())

        assert (report.asked, report.repaired_statuses) == (4, 4)
        assert await status(database, old) == "sending"


class TestInbound:
    async def test_texts_that_never_reached_us_are_stored_once_as_if_they_had_just_arrived(
        self, database: Database, account: Account, reconciliation: Reconciliation
    ) -> None:
        account.clock.offset = -timedelta(minutes=30)
        for number in range(3):
            account.text(PHONE, f"text {number}")
        before = repaired("inbound")
        await reconciliation.fetch_inbound(utc_now() - timedelta(hours=24), report := Report())

        assert (report.seen_inbound, report.repaired_inbound, repaired("inbound") - before) == (3, 3, 3)
        rows = await database.pool.fetch("SELECT * FROM sms_messages ORDER BY conversation_seq")
        assert {row["message_content"] for row in rows} == {"text 0", "text 1", "text 2"}
        assert [row["conversation_seq"] for row in rows] == [1, 2, 3]
        work = await database.pool.fetch("SELECT kind, ref_id FROM work ORDER BY id")
        assert {tuple(row) for row in work} == {("message_received", row["id"]) for row in rows}  # to be enriched

        await reconciliation.fetch_inbound(utc_now() - timedelta(hours=24), again := Report())
        assert (again.seen_inbound, again.repaired_inbound) == (3, 0)
        assert await database.pool.fetchval("SELECT count(*) FROM sms_messages") == 3

    async def test_those_still_on_their_way_to_the_webhook_are_left_alone(
        self, database: Database, account: Account, reconciliation: Reconciliation
    ) -> None:
        account.text(PHONE, "just now")
        await reconciliation.fetch_inbound(utc_now() - timedelta(hours=24), report := Report())

        assert report.seen_inbound == 0

    async def test_those_before_the_time_asked_for_are_left_alone(
        self, database: Database, account: Account, reconciliation: Reconciliation
    ) -> None:
        account.clock.offset = -timedelta(hours=30)
        account.text(PHONE, "yesterday")
        await reconciliation.fetch_inbound(utc_now() - timedelta(hours=24), report := Report())

        assert report.repaired_inbound == 0

    async def test_a_provider_that_refuses_is_not_asked_further(
        self, database: Database, account: Account, reconciliation: Reconciliation
    ) -> None:
        account.fault("rate_limit", on="reads")
        await reconciliation.reconcile_since(utc_now() - timedelta(hours=24), report := Report())

        assert (report.stopped, account.strikes()) == ({"twilio"}, 1)


class TestPeriodic:
    async def test_a_round_does_all_of_it_and_comes_back_after_its_interval(
        self, database: Database, account: Account, reconciliation: Reconciliation
    ) -> None:
        account.clock.offset = -timedelta(minutes=5)
        account.text(PHONE, "missed")
        (id_,) = await send(database, content_retention="hash")
        await until_delivered(account, 1)
        await let_be_due(database)
        outcome = await reconciliation.reconcile(Work(1, "reconcile_messages", NIL, 1, uuid4()))

        assert outcome == Again(EVERY)
        row = await message(database, id_)
        assert row["delivery_status"] == "delivered"
        assert row["message_content"].startswith("sha256:")
        assert await database.pool.fetchval("SELECT count(*) FROM sms_messages WHERE direction = 'inbound'") == 1


class TestRetention:
    async def test_of_the_hash_alone_forgets_the_text_here_at_once_and_at_the_provider_when_it_has_ended(
        self, database: Database, account: Account, reconciliation: Reconciliation
    ) -> None:
        (id_,) = await send(database, content="a secret", content_retention="hash")
        sid = (await message(database, id_))["provider_message_id"]
        await until_delivered(account, 1)
        await reconciliation.redact_due(Report())
        row = await message(database, id_)
        assert row["message_content"] == "sha256:" + sha256(b"a secret").hexdigest()
        assert account.body_of(sid) == "a secret"  # it may still be needed there
        assert row["redact_at"] > utc_now()
        (attempt,) = await attempts(database, id_)
        assert (attempt["response"], attempt["error_message"]) == (None, None)

        await let_be_due(database)
        await reconciliation.poll_due(Report())
        await database.pool.execute("UPDATE sms_messages SET redact_at = now()")
        await reconciliation.redact_due(report := Report())
        row = await message(database, id_)
        assert row["message_content"] == "sha256:" + sha256(b"a secret").hexdigest()  # not the hash of a hash
        assert (row["redact_at"], account.body_of(sid), report.redacted) == (None, "", 1)

    async def test_of_some_days_forgets_after_them(
        self, database: Database, account: Account, reconciliation: Reconciliation
    ) -> None:
        (id_,) = await send(database, content="keep a while", content_retention="7")
        await reconciliation.redact_due(Report())
        row = await message(database, id_)
        assert row["message_content"] == "keep a while"
        assert timedelta(days=6, hours=23) < row["redact_at"] - utc_now() <= timedelta(days=7)

    async def test_of_all_never_forgets(
        self, database: Database, account: Account, reconciliation: Reconciliation
    ) -> None:
        (id_,) = await send(database, content="keep")

        assert (await message(database, id_))["redact_at"] is None

    async def test_goes_on_later_when_the_provider_asks_to_slow_down_but_forgets_here_all_the_same(
        self, database: Database, account: Account, reconciliation: Reconciliation
    ) -> None:
        await send(database, 30, content="a secret", content_retention="hash")
        await until_delivered(account, 30)
        await database.pool.execute("UPDATE sms_messages SET ended_at = now()")
        account.fault("rate_limit", on="reads")
        await reconciliation.redact_due(report := Report())

        assert (report.redacted, report.stopped) == (30, {"twilio"})
        assert account.strikes() <= 8
        rows = await database.pool.fetch("SELECT message_content, redact_at > now() AS is_later FROM sms_messages")
        assert {(row["message_content"][:7], row["is_later"]) for row in rows} == {("sha256:", True)}


class TestTend:
    async def test_comes_back_and_applies_what_time_changes(
        self, database: Database, process: Sending, reconciliation: Reconciliation
    ) -> None:
        await process.states.read()
        await database.pool.execute("UPDATE sms_providers SET unhealthy_until = now() - interval '1 second'")
        outcome = await reconciliation.tend_providers(Work(1, "tend_providers", NIL, 1, uuid4()))

        assert outcome == Again(timedelta(seconds=10))
        assert await database.pool.fetchval("SELECT unhealthy_until FROM sms_providers") is None
