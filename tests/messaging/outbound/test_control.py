"""Changing one's mind about a message: before it goes out, just when it does, and after."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import asyncpg
import httpx
import pytest

from sms_foundation.core.config import LOCAL_PHONE_NUMBER, Settings
from sms_foundation.core.db import Database, DatabaseUrl
from sms_foundation.core.ids import new_id
from tests.support.api import Json, refused
from tests.support.service import TENANT_PHONE, Service, make_settings, running_service
from tests.support.twilio_account import TwilioAccount, refusal, running_account

LATER = timedelta(hours=1)


@pytest.fixture
def settings() -> Settings:
    """Nothing is sent, unless a test says so."""
    return make_settings(work_in_process=False)


@pytest.fixture
def api(service: Service) -> httpx.AsyncClient:
    return service.client


@pytest.fixture
async def account() -> AsyncIterator[TwilioAccount]:
    async with running_account() as account:
        yield account


@pytest.fixture
async def sending(account: TwilioAccount, database_url: DatabaseUrl, database: Database) -> AsyncIterator[Service]:
    """A service that sends, through `account`."""
    settings = make_settings(providers=account.providers, unknown_settle_s=0.2)
    async with running_service(settings, database_url, database) as service:
        yield service


async def accept(api: httpx.AsyncClient, message: str = "Hello", **changes: object) -> str:
    response = await api.post("/v1/sms/send", json={"to": TENANT_PHONE, "message": message, **changes})
    assert response.status_code == 202, response.text
    return str(response.json()["request_id"])


def done(response: httpx.Response) -> Json:
    assert response.status_code == 200, response.text
    return dict(response.json())


def in_future(delay: timedelta = LATER) -> datetime:
    return datetime.now(UTC) + delay


async def work_of(database: Database, message_id: str) -> list[asyncpg.Record]:
    rows: list[asyncpg.Record] = await database.pool.fetch(
        "SELECT * FROM work WHERE ref_id = $1::text::uuid", message_id
    )
    return rows


async def set_status(database: Database, message_id: str, status: str) -> None:
    await database.pool.execute(
        "UPDATE sms_messages SET delivery_status = $2, error_code = 'x', error_message = 'y', ended_at = now() "
        "WHERE id = $1::text::uuid",
        message_id,
        status,
    )


async def add_attempt(database: Database, message_id: str, outcome: str | None) -> None:
    await database.pool.execute(
        "INSERT INTO sms_send_attempts (message_id, number, provider, sender, reasons, outcome) "
        "VALUES ($1::text::uuid, 1, 'twilio', $2, $3, $4)",
        message_id,
        LOCAL_PHONE_NUMBER,
        '{"reasons": {"twilio": "chosen"}, "weights": {"twilio": 100}}',
        outcome,
    )


class TestCancel:
    async def test_message_that_waits_is_taken_back_with_its_work(
        self, api: httpx.AsyncClient, database: Database
    ) -> None:
        for changes in ({}, {"send_at": in_future().isoformat()}, {"priority": "bulk"}):
            message = await accept(api, **changes)
            shown = done(await api.post(f"/v1/sms/{message}/cancel"))
            assert shown["status"] == "canceled"
            assert shown["ended_at"] is not None
            assert [each["event_status"] for each in shown["events"]] == ["accepted", "canceled"]
            assert await work_of(database, message) == []

    async def test_twice_is_once(self, api: httpx.AsyncClient) -> None:
        message = await accept(api)
        first = done(await api.post(f"/v1/sms/{message}/cancel"))
        assert done(await api.post(f"/v1/sms/{message}/cancel")) == first

    async def test_those_behind_it_go_out(self, sending: Service, account: TwilioAccount) -> None:
        account.is_open.clear()
        await accept(sending.client, "first")
        second = await accept(sending.client, "second")
        await accept(sending.client, "third")
        done(await sending.client.post(f"/v1/sms/{second}/cancel"))
        account.is_open.set()
        await sending.finish_work("send_message")
        assert [form["Body"] for form in account.sent] == ["first", "third"]

    async def test_what_a_provider_has_or_may_have_stays(
        self, sending: Service, account: TwilioAccount, database: Database
    ) -> None:
        message = await accept(sending.client)
        await sending.finish_work("send_message")
        refused(await sending.client.post(f"/v1/sms/{message}/cancel"), 409, "sms.conflict")
        await database.pool.execute("UPDATE sms_messages SET provider_message_id = NULL")
        for status in ("sending", "unknown", "sent", "delivered", "undelivered", "failed", "expired"):
            await set_status(database, message, status)
            refused(await sending.client.post(f"/v1/sms/{message}/cancel"), 409, "sms.conflict")
        assert len(account.sent) == 1

    async def test_waits_for_whoever_is_just_taking_the_message(
        self, api: httpx.AsyncClient, database: Database
    ) -> None:
        message = await accept(api)
        async with database.transaction() as connection:
            await connection.execute("UPDATE sms_messages SET delivery_status = 'sending'")
            canceling = asyncio.create_task(api.post(f"/v1/sms/{message}/cancel"))
            await asyncio.sleep(0.2)
            assert not canceling.done()
        refused(await canceling, 409, "sms.conflict")
        assert (await api.get(f"/v1/sms/{message}")).json()["status"] == "sending"

    async def test_message_waiting_for_its_next_try_is_taken_back(
        self, sending: Service, account: TwilioAccount, database: Database
    ) -> None:
        account.answers.append(refusal(20429, 429))
        message = await accept(sending.client)
        for _ in range(400):
            if (await sending.client.get(f"/v1/sms/{message}")).json()["status"] == "queued":
                break
            await asyncio.sleep(0.01)
        assert done(await sending.client.post(f"/v1/sms/{message}/cancel"))["status"] == "canceled"
        assert await work_of(database, message) == []

    async def test_racing_with_the_dispatcher_it_is_either_sent_or_canceled(
        self, sending: Service, account: TwilioAccount
    ) -> None:
        """Every message is one or the other, as the answer said, and never both."""

        async def accept_and_cancel(number: int) -> tuple[str, bool]:
            message = await accept(sending.client, f"{number}", to=f"+1415555{number:04d}")
            await asyncio.sleep(number % 10 * 0.002)
            response = await sending.client.post(f"/v1/sms/{message}/cancel")
            assert response.status_code in (200, 409)
            return str(number), response.status_code == 200

        answers = dict(await asyncio.gather(*(accept_and_cancel(number) for number in range(60))))
        await sending.finish_work("send_message")
        sent = [form["Body"] for form in account.sent]
        assert sorted(sent) == sorted(name for name, is_canceled in answers.items() if not is_canceled)

    async def test_only_outbound_messages_that_exist(self, service: Service) -> None:
        await service.text("SM1")
        inbound = (await service.client.get("/v1/sms")).json()["messages"][0]["id"]
        for message in (str(new_id()), inbound):
            for path in ("cancel", "retry"):
                refused(await service.client.post(f"/v1/sms/{message}/{path}"), 404, "sms.not_found")
            patch = {"send_at": in_future().isoformat()}
            refused(await service.client.patch(f"/v1/sms/{message}", json=patch), 404, "sms.not_found")
        refused(await service.client.post("/v1/sms/7/cancel"), 400, "sms.validation_error", "request_id")


class TestReschedule:
    async def test_moves_message_work_and_expiry(self, api: httpx.AsyncClient, database: Database) -> None:
        send_at = in_future().replace(microsecond=0)
        message = await accept(api, send_at=send_at.isoformat(), validity_s=60)
        for delay in (LATER, -LATER / 2):
            there = (send_at + delay).astimezone(datetime.fromisoformat("2026-01-01T00:00:00+05:30").tzinfo)
            shown = done(await api.patch(f"/v1/sms/{message}", json={"send_at": there.isoformat()}))
            assert datetime.fromisoformat(shown["send_at"]) == there
            assert datetime.fromisoformat(shown["expires_at"]) == there + timedelta(seconds=60)
            assert [(row["kind"], row["run_at"]) for row in await work_of(database, message)] == [
                ("release_message", there)
            ]

    async def test_moved_to_the_past_it_goes_out_at_once(self, sending: Service, account: TwilioAccount) -> None:
        message = await accept(sending.client, send_at=in_future().isoformat())
        done(await sending.client.patch(f"/v1/sms/{message}", json={"send_at": "2020-01-01T00:00:00Z"}))
        await sending.finish_work("release_message", "send_message")
        assert len(account.sent) == 1
        patch = {"send_at": in_future().isoformat()}
        refused(await sending.client.patch(f"/v1/sms/{message}", json=patch), 409, "sms.conflict")

    async def test_moved_message_can_be_canceled(self, api: httpx.AsyncClient, database: Database) -> None:
        message = await accept(api, send_at=in_future().isoformat())
        patch = {"send_at": in_future(2 * LATER).isoformat()}
        done(await api.patch(f"/v1/sms/{message}", json=patch))
        done(await api.patch(f"/v1/sms/{message}", json=patch))
        done(await api.post(f"/v1/sms/{message}/cancel"))
        assert await work_of(database, message) == []
        refused(await api.patch(f"/v1/sms/{message}", json=patch), 409, "sms.conflict")

    async def test_message_that_was_not_scheduled_stays(self, api: httpx.AsyncClient) -> None:
        message = await accept(api)
        patch = {"send_at": in_future().isoformat()}
        refused(await api.patch(f"/v1/sms/{message}", json=patch), 409, "sms.conflict")

    async def test_wrong_time_is_named(self, api: httpx.AsyncClient) -> None:
        message = await accept(api, send_at=in_future().isoformat())
        for wrong in (None, 5, "tomorrow", "2026-11-20T10:00:00", "9999-12-31T23:59:59Z"):
            response = await api.patch(f"/v1/sms/{message}", json={"send_at": wrong})
            refused(response, 400, "sms.validation_error", "send_at")
        response = await api.patch(f"/v1/sms/{message}", json={"to": "+14155550199"})
        refused(response, 400, "sms.validation_error", "send_at", "to")


class TestRetry:
    async def test_failed_message_goes_out_after_all(self, sending: Service, account: TwilioAccount) -> None:
        account.answers.append(refusal(21211, 400))
        message = await accept(sending.client)
        await sending.finish_work("send_message")
        shown = (await sending.client.get(f"/v1/sms/{message}")).json()
        assert (shown["status"], shown["error_code"]) == ("failed", "21211")
        again = done(await sending.client.post(f"/v1/sms/{message}/retry"))
        assert (again["status"], again["error_code"], again["ended_at"]) == ("queued", None, None)
        await sending.finish_work("send_message")
        shown = (await sending.client.get(f"/v1/sms/{message}")).json()
        assert [each["outcome"] for each in shown["attempts"]] == ["refused", "sent"]
        assert shown["twilio_sid"] is not None
        refused(await sending.client.post(f"/v1/sms/{message}/retry"), 409, "sms.conflict")

    async def test_dead_row_is_used_again(self, api: httpx.AsyncClient, database: Database) -> None:
        message = await accept(api)
        await set_status(database, message, "failed")
        await database.pool.execute("UPDATE work SET state = 'dead', attempts = 12")
        done(await api.post(f"/v1/sms/{message}/retry"))
        [work] = await work_of(database, message)
        assert (work["state"], work["attempts"], work["order_key"]) == ("due", 0, f"{TENANT_PHONE}/1")

    async def test_twice_at_once_is_once(self, api: httpx.AsyncClient, database: Database) -> None:
        message = await accept(api)
        await set_status(database, message, "failed")
        await database.pool.execute("DELETE FROM work WHERE ref_id = $1::text::uuid", message)
        answers = await asyncio.gather(*(api.post(f"/v1/sms/{message}/retry") for _ in range(5)))
        assert sorted(each.status_code for each in answers) == [200, 409, 409, 409, 409]
        assert len(await work_of(database, message)) == 1

    async def test_message_of_unknown_fate_needs_somebodys_word(
        self, sending: Service, account: TwilioAccount, database: Database
    ) -> None:
        message = await accept(sending.client, send_at=in_future().isoformat())
        await database.pool.execute(
            "UPDATE work SET kind = 'send_message', state = 'due' WHERE run_at > now() + '1 min'"
        )
        await set_status(database, message, "unknown")
        await add_attempt(database, message, "unknown")
        path = f"/v1/sms/{message}/retry"
        refused(await sending.client.post(path, json={"was_not_sent": True}), 409, "sms.unknown_outcome")
        await database.pool.execute("UPDATE work SET state = 'dead' WHERE ref_id = $1::text::uuid", message)
        for body in (None, {}, {"was_not_sent": False}):
            response = await (sending.client.post(path) if body is None else sending.client.post(path, json=body))
            refused(response, 409, "sms.unknown_outcome")
        assert account.sent == []
        done(await sending.client.post(path, json={"was_not_sent": True}))
        await sending.finish_work("send_message")
        shown = (await sending.client.get(f"/v1/sms/{message}")).json()
        assert [each["outcome"] for each in shown["attempts"]] == ["absent", "sent"]
        assert len(account.sent) == 1

    async def test_message_whose_time_is_over_stays(self, api: httpx.AsyncClient, database: Database) -> None:
        message = await accept(api)
        await set_status(database, message, "failed")
        await database.pool.execute("UPDATE sms_messages SET expires_at = now() - interval '1 second'")
        refused(await api.post(f"/v1/sms/{message}/retry"), 400, "sms.validation_error", "request_id")

    async def test_only_what_was_given_up(self, api: httpx.AsyncClient, database: Database) -> None:
        message = await accept(api)
        for status in ("accepted", "queued", "sending", "sent", "delivered", "undelivered", "expired", "canceled"):
            await set_status(database, message, status)
            refused(await api.post(f"/v1/sms/{message}/retry"), 409, "sms.conflict")

    async def test_wrong_word_is_named(self, api: httpx.AsyncClient) -> None:
        message = await accept(api)
        for wrong in ({"was_not_sent": "perhaps"}, {"was_not_sent": None}):
            refused(await api.post(f"/v1/sms/{message}/retry", json=wrong), 400, "sms.validation_error", "was_not_sent")
        refused(await api.post(f"/v1/sms/{message}/retry", json={"sure": True}), 400, "sms.validation_error", "sure")
