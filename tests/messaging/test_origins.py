"""What messages and their work say about where they come from, with nothing recorded anywhere else."""

import asyncio
from datetime import UTC, datetime, timedelta

import asyncpg
import httpx
import pytest

from sms_foundation.core.config import Settings
from sms_foundation.core.db import Database, DatabaseUrl
from sms_foundation.core.ids import NIL
from sms_foundation.core.tracing.context import TraceContext
from sms_foundation.core.work import queue
from tests.support.monitor import running_monitor
from tests.support.service import TENANT_PHONE, Service, make_settings, running_service
from tests.support.twilio_account import refusal, running_account

CALLER = TraceContext("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", is_sampled=True)
OTHER = TraceContext("a" * 32, "b" * 16)


@pytest.fixture
def settings() -> Settings:
    """Nothing is done in the background, unless a test says so."""
    return make_settings(work_in_process=False)


@pytest.fixture(autouse=True)
def named(service: Service) -> None:
    """Every request of a test comes from the same place, and is called the same."""
    service.client.headers.update({"traceparent": CALLER.traceparent, "X-Request-ID": "req-1"})


async def messages(database: Database) -> list[asyncpg.Record]:
    return list(await database.pool.fetch("SELECT * FROM sms_messages ORDER BY id"))


async def work(database: Database) -> list[asyncpg.Record]:
    """What is open, but for what recurs."""
    return list(await database.pool.fetch("SELECT * FROM work WHERE ref_id <> $1 ORDER BY id", NIL))


def origin_of(row: asyncpg.Record) -> tuple[str, str]:
    return row["trace_context"], row["request_id"]


async def send(client: httpx.AsyncClient, **more: object) -> str:
    response = await client.post("/v1/sms/send", json={"to": TENANT_PHONE, "message": "Hello", **more})
    assert response.status_code == 202, response.text
    return str(response.json()["id"])


CALLED = (CALLER.traceparent, "req-1")


class TestText:
    async def test_and_its_work_have_that_of_the_webhook(self, service: Service, database: Database) -> None:
        await service.text("SM1")

        (message,) = await messages(database)
        (row,) = await work(database)
        assert origin_of(message) == origin_of(row) == CALLED

    async def test_of_a_batch_has_its_own(self, service: Service, database: Database) -> None:
        others = [TraceContext(f"{number:032x}", f"{number:016x}") for number in range(1, 11)]

        async def text(number: int, context: TraceContext) -> None:
            async with service.calling_from("127.0.0.1") as client:
                client.headers.update({"traceparent": context.traceparent, "X-Request-ID": f"req-{number}"})
                other = Service(client, service.settings, database, service._app)
                assert (await other.text(f"SM{number}")).status_code == 200

        await asyncio.gather(*(text(number, context) for number, context in enumerate(others, start=1)))

        found = {row["provider_message_id"]: origin_of(row) for row in await messages(database)}
        assert found == {
            f"SM{number}": (context.traceparent, f"req-{number}") for number, context in enumerate(others, start=1)
        }
        enriching = {row["ref_id"]: origin_of(row) for row in await work(database)}
        assert enriching == {row["id"]: origin_of(row) for row in await messages(database)}

    async def test_without_a_caller_in_a_trace_begins_one(self, service: Service, database: Database) -> None:
        service.client.headers["traceparent"] = "broken"
        await service.text("SM1")

        shown = (await service.client.get("/messages/SM1")).json()
        (message,) = await messages(database)
        assert message["trace_context"] == f"00-{shown['trace_id']}-{message['trace_context'][36:52]}-00"
        assert shown["trace_id"] != CALLER.trace_id

    async def test_the_languages_that_follow_are_told_each_in_its_own_trace(
        self, service: Service, database_url: DatabaseUrl, database: Database
    ) -> None:
        others = {f"+1415556020{number}": TraceContext(f"{number:032x}", f"{number:016x}") for number in range(1, 6)}
        for number, (phone, context) in enumerate(others.items(), start=1):
            service.client.headers["traceparent"] = context.traceparent
            await service.text(f"SM{number}", "Hola, no hay agua en la cocina desde ayer por la tarde", sender=phone)
        async with running_monitor() as monitor:
            for phone in others:
                await monitor.add_tenant(f"t-{phone[1:]}", phone)
            settings = make_settings(monitor_api_url=monitor.url, tenant_profile_api_url=monitor.url)
            async with running_service(settings, database_url, database) as working:
                with monitor.holding_puts():
                    await working.finish_work("message_received")  # what was found out is written down together
                    told = await database.pool.fetch(
                        "SELECT t.tenant_id, w.* FROM work AS w JOIN sms_tenants AS t ON t.id = w.ref_id "
                        "WHERE w.kind = 'tell_language'"
                    )

        assert {row["tenant_id"]: origin_of(row) for row in told} == {
            f"t-{phone[1:]}": (context.traceparent, "req-1") for phone, context in others.items()
        }
        assert sorted(monitor.traceparents) == sorted(context.traceparent for context in others.values())


class TestReceipt:
    async def test_that_waits_for_its_message_has_that_of_the_callback(
        self, service: Service, database: Database
    ) -> None:
        await service.status("SM9", "delivered")

        (row,) = await work(database)
        assert (row["kind"], origin_of(row)) == ("receipt_unmatched", CALLED)


class TestSend:
    @pytest.mark.parametrize("path", ["/v1/sms/send", "/v1/sms/send/batch", "/sms/send"])
    async def test_and_its_work_have_that_of_the_request(self, service: Service, database: Database, path: str) -> None:
        one = {"to": TENANT_PHONE, "message": "Hello"}
        response = await service.client.post(path, json={"messages": [one]} if path.endswith("batch") else one)
        assert response.status_code in (200, 202), response.text

        (message,) = await messages(database)
        (row,) = await work(database)
        assert origin_of(message) == origin_of(row) == CALLED

    async def test_is_shown_with_it(self, service: Service) -> None:
        id_ = await send(service.client)

        one = (await service.client.get(f"/v1/sms/{id_}")).json()
        (listed,) = (await service.client.get("/v1/sms")).json()["messages"]
        in_history = (await service.client.get(f"/messages/{id_}")).json()
        for shown, name in ((one, "x_request_id"), (listed, "x_request_id"), (in_history, "request_id")):
            assert (shown["trace_id"], shown[name]) == (CALLER.trace_id, "req-1")
        assert one["request_id"] == id_

    async def test_of_before_it_was_kept_is_shown_without(self, service: Service, database: Database) -> None:
        id_ = await send(service.client)
        await database.pool.execute("UPDATE sms_messages SET trace_context = NULL, request_id = NULL")

        one = (await service.client.get(f"/v1/sms/{id_}")).json()
        in_history = (await service.client.get(f"/messages/{id_}")).json()
        assert (one["trace_id"], one["x_request_id"]) == (in_history["trace_id"], in_history["request_id"])
        assert one["trace_id"] is None

    async def test_repeated_keeps_that_of_the_first(self, service: Service, database: Database) -> None:
        await send(service.client, idempotency_key="one")
        service.client.headers.update({"traceparent": OTHER.traceparent, "X-Request-ID": "req-2"})
        await send(service.client, idempotency_key="one")

        (message,) = await messages(database)
        assert origin_of(message) == CALLED

    async def test_for_later_keeps_it_until_its_time_has_come(
        self, service: Service, database_url: DatabaseUrl, database: Database
    ) -> None:
        later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
        await send(service.client, send_at=later)
        (waiting,) = await work(database)
        assert (waiting["kind"], origin_of(waiting)) == ("release_message", CALLED)

        await database.pool.execute("UPDATE work SET run_at = now()")
        async with database.connection() as connection:
            lanes = [queue.Lane("release_message", priority, 1) for priority in queue.Priority]
            (claimed,) = await queue.claim(
                connection, lanes=lanes, limit=1, lease_token=waiting["ref_id"], lease=timedelta(seconds=9)
            )
        assert tuple(claimed.cause) == CALLED

    async def test_put_back_by_its_client_goes_on_in_its_own_trace(
        self, service: Service, database_url: DatabaseUrl, database: Database
    ) -> None:
        async with running_account() as account:
            account.answers.append(refusal(21211, 400))
            async with running_service(make_settings(providers=account.providers), database_url, database) as sending:
                sending.client.headers.update(service.client.headers)
                id_ = await send(sending.client)
                await sending.finish_work("send_message")
        assert [row for row in await work(database) if row["kind"] == "send_message"] == []
        service.client.headers.update({"traceparent": OTHER.traceparent, "X-Request-ID": "req-2"})
        response = await service.client.post(f"/v1/sms/{id_}/retry")
        assert response.status_code == 200, response.text

        (row,) = [row for row in await work(database) if row["kind"] == "send_message"]
        assert origin_of(row) == CALLED
