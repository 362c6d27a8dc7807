"""Rates hold over all processes together, what is over them waits, and waiting costs nothing."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import httpx
import pytest

from sms_foundation.core.config import LOCAL_ACCOUNT_SID, LOCAL_PHONE_NUMBER
from sms_foundation.core.db import Database, DatabaseUrl
from sms_foundation.core.local_accounts import (
    LOCAL_MESSAGEBIRD_ACCESS_KEY,
    LOCAL_MESSAGEBIRD_SIGNING_KEY,
    LOCAL_TELNYX_API_KEY,
    LOCAL_TELNYX_PUBLIC_KEY,
)
from sms_foundation.core.rates.base import Denied, Outcome, RatesUnavailableError, Slot
from sms_foundation.core.work.queue import Priority
from sms_foundation.messaging.outbound.pace import Go, OverProviderRate, OverSenderRate, Pace, Place
from sms_foundation.providers.config import ProviderConfig
from sms_foundation.simulator.app import build_app
from tests.simulator.servers import AUTH_TOKEN, closed_port_url, serve, settings_for
from tests.support.outbound import (
    HttpProvider,
    ScriptedRates,
    Sending,
    Taken,
    accept,
    attempts,
    count_taken,
    http_providers,
    make_due,
    outcomes,
    phones,
    refusing,
    request,
    sending,
    status,
    take,
    until_taken_count,
    work_rows,
)
from tests.support.processes import eventually


def simulated(url: str, **options: Any) -> list[dict[str, Any]]:
    """Three accounts at a simulator, as entries of PROVIDERS."""
    common = {"senders": [LOCAL_PHONE_NUMBER], "sender_rates": {"*": None}, **options}
    messagebird = {"access_key": LOCAL_MESSAGEBIRD_ACCESS_KEY, "signing_key": LOCAL_MESSAGEBIRD_SIGNING_KEY}
    telnyx = {"api_key": LOCAL_TELNYX_API_KEY, "public_key": LOCAL_TELNYX_PUBLIC_KEY}
    twilio = {"account_sid": LOCAL_ACCOUNT_SID, "auth_token": AUTH_TOKEN}
    return [
        {"kind": "twilio", "name": "twilio", "api_base_url": url, **twilio, **common},
        {"kind": "messagebird", "name": "messagebird", "api_base_url": f"{url}/messagebird", **messagebird, **common},
        {"kind": "telnyx", "name": "telnyx", "api_base_url": f"{url}/telnyx", **telnyx, **common},
    ]


def most_per_second(taken: Sequence[Taken]) -> int:
    """Return the most messages within any second, wherever it begins."""
    moments = sorted(each.at for each in taken)
    return max(sum(start <= each < start + 1 for each in moments) for start in moments)


class TestProviderRate:
    async def test_two_hundred_a_second_into_three_times_fifty_exceeds_none_and_loses_none(
        self, database: Database, database_url: DatabaseUrl
    ) -> None:
        """In the record of the simulator, which stands outside."""
        with serve(build_app(settings_for(closed_port_url()))) as url:
            entries = simulated(url, rate_per_s=50)
            async with sending(database_url, entries), sending(database_url, entries):
                for second in range(2):
                    for part in range(4):
                        await accept(
                            database,
                            *(request(phone, f"{second}.{part}", client_id="c") for phone in phones(200)[part::4]),
                        )
                        await asyncio.sleep(0.25)
                await until_taken_count(database, 400)
            async with httpx.AsyncClient(base_url=url, trust_env=False) as control:
                summary = (await control.get("/simulator/received/summary")).json()

        assert (summary["accepted"], summary["duplicates"]) == (400, 0)
        figures = summary["providers"]
        assert set(figures) == {"twilio", "messagebird", "telnyx"}
        assert all(each["max_per_second"] <= 50 for each in figures.values())
        assert await work_rows(database) == []

    async def test_counts_segments(self, database: Database, database_url: DatabaseUrl) -> None:
        await accept(database, *(request(phone, num_segments=5) for phone in phones(8)))
        async with http_providers(a := HttpProvider("a", {"rate_per_s": 20})), sending(database_url, [a]):
            await until_taken_count(database, 8)

        assert most_per_second(a.taken) <= 4

    async def test_that_is_used_up_sends_messages_to_others_and_fails_nobody(
        self, database: Database, database_url: DatabaseUrl
    ) -> None:
        await accept(database, *(request(phone) for phone in phones(60)))
        slow, free = HttpProvider("slow", {"rate_per_s": 5}), HttpProvider("free", {"rate_per_s": None})
        async with http_providers(slow, free), sending(database_url, [slow, free]):
            await until_taken_count(database, 60)

        assert most_per_second(slow.taken) <= 5
        assert len(free.taken) >= 50
        rows = await database.pool.fetch("SELECT DISTINCT outcome FROM sms_send_attempts")
        assert [row[0] for row in rows] == ["sent"]


class TestSenderRate:
    async def test_holds_over_all_providers_and_processes_and_counts_segments(
        self, database: Database, database_url: DatabaseUrl
    ) -> None:
        await accept(database, *(request(phone, num_segments=2) for phone in phones(12)))
        a = HttpProvider("a", {"sender_rates": {"*": 10}})
        b = HttpProvider("b", {"sender_rates": {"*": 10}})
        async with http_providers(a, b), sending(database_url, [a, b]), sending(database_url, [a, b]):
            await until_taken_count(database, 12)

        assert most_per_second([*a.taken, *b.taken]) <= 5
        rows = await database.pool.fetch("SELECT DISTINCT outcome FROM sms_send_attempts")
        assert [row[0] for row in rows] == ["sent"]

    @pytest.mark.parametrize(
        ("sender", "sender_rates", "rate"),
        [
            ("+14155550100", {}, 1),  # a long code
            ("+18005550100", {}, 3),  # toll-free
            ("12345", {}, 100),  # a short code
            ("Landlord", {}, None),
            ("+14155550100", {"long_code": 10}, 10),
            ("+18005550100", {"long_code": 10}, 3),
            ("+14155550100", {"+14155550100": 7, "long_code": 10}, 7),
            ("+14155550100", {"*": None}, None),
        ],
    )
    async def test_is_what_carriers_grant_to_its_kind_unless_configured(
        self, sender: str, sender_rates: dict[str, float | None], rate: float | None
    ) -> None:
        rates = ScriptedRates([])
        config = ProviderConfig(name="a", rate_per_s=None, senders=(sender,), sender_rates=sender_rates)
        await Pace(rates, [config]).ask([Place("a", sender, 1, Priority.NORMAL)])

        asked = [(wish.key, round(1.1 / wish.interval_s)) for wish in rates.wishes]
        assert asked == ([] if rate is None else [(f"sender:{sender}", rate)])


class TestAsk:
    CONFIG = ProviderConfig(name="a", rate_per_s=50, senders=("+14155550100",))
    PLACE = Place("a", "+14155550100", 1, Priority.NORMAL)

    async def test_takes_no_slot_of_the_provider_where_the_sender_has_none(self) -> None:
        rates = ScriptedRates([Denied(3.0)])
        (answer,) = await Pace(rates, [self.CONFIG]).ask([self.PLACE])

        assert isinstance(answer, OverSenderRate)
        assert [wish.key for wish in rates.wishes] == ["sender:+14155550100"]

    async def test_asks_for_the_providers_slot_only_when_the_senders_is_due(self) -> None:
        rates = ScriptedRates([Slot(0.3)])
        (answer,) = await Pace(rates, [self.CONFIG]).ask([self.PLACE])

        assert answer == Go(0.3, needs_provider=True)
        assert [wish.key for wish in rates.wishes] == ["sender:+14155550100"]

    async def test_tells_a_full_provider_from_a_full_sender(self) -> None:
        rates = ScriptedRates([Slot(0.0), Denied(1.0)])
        pace = Pace(rates, [self.CONFIG])
        (answer,) = await pace.ask([self.PLACE])

        assert isinstance(answer, OverProviderRate)
        assert 0.5 < pace.wait_s("a", Priority.NORMAL) <= 1.0
        assert pace.room(["a"], Priority.NORMAL) == 0
        assert pace.room(["a"], Priority.URGENT) > 0  # it may reserve further ahead

    async def test_those_sent_away_come_back_one_after_the_other_each_priority_in_a_line_of_its_own(self) -> None:
        pace = Pace(ScriptedRates([]), [self.CONFIG])
        bulk = [pace.place_in_line("all", Priority.BULK, 2.0).total_seconds() for _ in range(3)]
        urgent = [pace.place_in_line("all", Priority.URGENT, 3.0).total_seconds() for _ in range(3)]

        # As soon as their places lie within reach: 0.2 s for bulk, 2 s for urgent ones.
        assert [round(each, 1) for each in bulk] == [0.1, 1.8, 3.8]
        assert [round(each, 1) for each in urgent] == [0.1, 1.0, 4.0]
        for _ in range(1_000):
            last = pace.place_in_line("all", Priority.BULK, 2.0)
        assert last <= timedelta(minutes=5)


class TestMissedSlot:
    @pytest.mark.parametrize("answer", [Denied(0.001), RatesUnavailableError("away")])
    async def test_is_no_failure_of_message_or_provider_and_the_message_waits_for_another(
        self, database: Database, database_url: DatabaseUrl, answer: Outcome | Exception
    ) -> None:
        """Its attempt is written too late for its slot, and there is no other: it was never called."""
        (id_,) = await accept(database, request())
        rates = ScriptedRates([])
        async with (
            http_providers(a := HttpProvider("a", {"rate_per_s": 50})),
            sending(database_url, [a], rates=rates, is_running=False) as process,
        ):
            for _ in range(7):  # more often than there are retries
                rates.answers = [Slot(0.0), answer]
                await self._run_late(database, process)
                (row,) = await work_rows(database)
                assert row["state"] == "due"
                assert row["pause"] <= timedelta(seconds=1)
                await make_due(database)
            assert (await status(database, id_), a.handed) == ("queued", [])
            assert (await process.states.read())["a"].consecutive_failures == 0
            a.answer = refusing("busy", 503)  # the first failure there is
            await process.run(await process.claim())
            (row,) = await work_rows(database)
            assert (row["state"], row["pause"] <= timedelta(seconds=2)) == ("due", True)
            a.answer = take
            await make_due(database)
            await process.run(await process.claim())

        assert await outcomes(database, id_) == [("a", "failed")] * 8 + [("a", "sent")]
        assert [row["error_code"] for row in await attempts(database, id_)] == ["not_called"] * 7 + ["busy", None]

    async def _run_late(self, database: Database, process: Sending) -> None:
        """Hold the message for a little longer than a slot may be late when its attempt is to be written."""
        work = await process.claim()
        async with database.transaction() as lock:
            await lock.execute("SELECT FROM sms_messages FOR UPDATE")
            running = asyncio.create_task(process.run(work))
            await asyncio.sleep(0.15)
        await running


class TestWaiting:
    @pytest.mark.parametrize("priority", list(Priority))
    async def test_for_a_closed_rate_does_not_spin_the_database(
        self, database: Database, database_url: DatabaseUrl, priority: Priority
    ) -> None:
        await accept(database, *(request(phone, priority=priority) for phone in phones(500)))
        async with (
            http_providers(a := HttpProvider("a", {"rate_per_s": 1})),
            sending(database_url, [a]) as process,
        ):
            await until_taken_count(database, 1)
            before = process.database.uses
            await asyncio.sleep(1)
            uses = process.database.uses - before

        assert uses < 200  # it looks 20 times a second, a handful of statements each

    async def test_for_providers_that_are_all_away_does_not_spin_the_database(
        self, database: Database, database_url: DatabaseUrl
    ) -> None:
        await accept(database, *(request(phone) for phone in phones(500)))
        await database.pool.execute(
            "INSERT INTO sms_providers (name, circuit, circuit_until) VALUES ('a', 'open', now() + interval '1 hour')"
        )
        async with http_providers(a := HttpProvider("a")), sending(database_url, [a]) as process:

            async def has_begun() -> bool:
                return any(row["last_error"] == "provider_unavailable" for row in await work_rows(database))

            await eventually(has_begun, "the first have been looked at")
            before = process.database.uses
            await asyncio.sleep(1)
            uses = process.database.uses - before

        assert uses < 200
        assert await count_taken(database) == 0
