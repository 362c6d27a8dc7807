"""Reading messages back: one with everything that happened to it, and pages of many."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from sms_foundation.core.config import LOCAL_PHONE_NUMBER, Settings
from sms_foundation.core.db import Database, DatabaseUrl
from sms_foundation.core.ids import new_id
from sms_foundation.core.web.pagination import encode_cursor
from sms_foundation.messaging.outbound.schemas import SmsDetail, SmsList
from sms_foundation.providers.twilio.signature import sign
from tests.support.access import bearer, make_client, make_key
from tests.support.api import Json, refused
from tests.support.service import (
    BASE_URL,
    TENANT_PHONE,
    Service,
    encode_form,
    make_settings,
    running_service,
    status_form,
)
from tests.support.twilio_account import TwilioAccount, refusal, running_account


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
    async with running_service(make_settings(providers=account.providers), database_url, database) as service:
        yield service


async def accept(
    api: httpx.AsyncClient, message: str = "Hello", *, headers: dict[str, str] | None = None, **changes: object
) -> str:
    body = {"to": TENANT_PHONE, "message": message, **changes}
    response = await api.post("/v1/sms/send", json=body, headers=headers)
    assert response.status_code == 202, response.text
    return str(response.json()["request_id"])


async def detail(api: httpx.AsyncClient, message_id: str) -> Json:
    response = await api.get(f"/v1/sms/{message_id}")
    assert response.status_code == 200, response.text
    SmsDetail.model_validate_json(response.content, extra="forbid")
    return dict(response.json())


async def page(api: httpx.AsyncClient, **params: Any) -> Json:
    response = await api.get("/v1/sms", params=params)
    assert response.status_code == 200, response.text
    SmsList.model_validate_json(response.content, extra="forbid")
    return dict(response.json())


async def listed(api: httpx.AsyncClient, **params: Any) -> list[str]:
    return [each["message"] for each in (await page(api, **params))["messages"]]


async def call_back(service: Service, form: dict[str, str], status: str, **more: str) -> None:
    """Report a status at the StatusCallback that was given along with the message."""
    url = urlsplit(form["StatusCallback"])
    path = f"{url.path}?{url.query}"
    pairs = status_form(f"SM{1:032d}", status, **more)
    response = await service.post(
        path, encode_form(pairs), signature=sign("local-simulator-token", BASE_URL + path, pairs)
    )
    assert response.status_code == 200, response.text


class TestFind:
    async def test_message_that_was_delivered_tells_its_whole_story(
        self, sending: Service, account: TwilioAccount
    ) -> None:
        message = await accept(sending.client, metadata={"case": "1"}, media_urls=["https://example.com/1"])
        await sending.finish_work("send_message")
        for status in ("sent", "delivered"):
            await call_back(sending, account.sent[0], status)
        shown = await detail(sending.client, message)

        assert [(each["event_status"], each["provider"]) for each in shown["events"]] == [
            ("accepted", None),
            ("queued", "twilio"),
            ("sent", "twilio"),
            ("delivered", "twilio"),
        ]
        [attempt] = shown["attempts"]
        assert attempt.pop("started_at") <= attempt.pop("finished_at")
        assert 0 <= attempt.pop("latency_ms") < 60_000
        assert attempt == {
            "number": 1,
            "provider": "twilio",
            "sender": LOCAL_PHONE_NUMBER,
            "outcome": "sent",
            "twilio_sid": f"SM{1:032d}",
            "error_kind": None,
            "error_code": None,
            "error_message": None,
            "http_status": None,
            "reasons": {"twilio": "chosen"},
            "weights": {"twilio": 100},
        }
        times = [shown[name] for name in ("created_at", "sent_at", "ended_at", "updated_at")]
        assert times == sorted(times)
        expected = {
            "status": "delivered",
            "twilio_sid": f"SM{1:032d}",
            "provider": "twilio",
            "from_number": LOCAL_PHONE_NUMBER,
            "to_number": TENANT_PHONE,
            "num_segments": 2,
            "encoding": "GSM-7",
            "direction": "outbound",
            "client_id": "local",
            "priority": "normal",
            "metadata": {"case": "1"},
            "media_urls": ["https://example.com/1"],
            "error_code": None,
            "price": None,
        }
        assert {name: shown[name] for name in expected} == expected

    async def test_message_that_was_refused_says_why(self, sending: Service, account: TwilioAccount) -> None:
        account.answers.append(refusal(21211, 400))
        message = await accept(sending.client)
        await sending.finish_work("send_message")
        shown = await detail(sending.client, message)
        [attempt] = shown["attempts"]
        assert (attempt["outcome"], attempt["error_kind"], attempt["error_code"], attempt["http_status"]) == (
            "refused",
            "invalid_recipient",
            "21211",
            400,
        )
        assert (shown["status"], shown["error_code"], shown["twilio_sid"]) == ("failed", "21211", None)
        assert [each["event_status"] for each in shown["events"]] == ["accepted", "failed"]
        assert shown["events"][1]["error_code"] == "21211"

    async def test_provider_that_was_not_chosen_says_why(
        self, account: TwilioAccount, database_url: DatabaseUrl, database: Database
    ) -> None:
        providers = (
            account.providers[:-1]
            + ","
            + account.providers[1:].replace('"name":"twilio"', '"name":"abroad","countries":["GB"],"weight":50')
        )
        async with running_service(make_settings(providers=providers), database_url, database) as service:
            message = await accept(service.client)
            await service.finish_work("send_message")
            [attempt] = (await detail(service.client, message))["attempts"]
        assert attempt["provider"] == "twilio"
        assert attempt["reasons"]["twilio"] == "chosen"
        assert set(attempt["reasons"]) == {"twilio", "abroad"}
        assert attempt["reasons"]["abroad"] != "chosen"

    async def test_price_is_exact(self, api: httpx.AsyncClient, database: Database) -> None:
        message = await accept(api)
        for micros, amount in ((7900, "0.0079"), (0, "0"), (1, "0.000001"), (20_000_000, "20")):
            await database.pool.execute("UPDATE sms_messages SET price_micros = $1, price_currency = 'USD'", micros)
            assert (await detail(api, message))["price"] == {"amount": amount, "currency": "USD"}

    async def test_text_that_came_in_is_read_the_same_way(self, service: Service) -> None:
        await service.text("SM1", "Hola", NumMedia="1", MediaUrl0="https://m/0")
        [summary] = (await page(service.client))["messages"]
        shown = await detail(service.client, summary["id"])
        assert {name: shown[name] for name in summary} == summary
        assert (shown["direction"], shown["status"], shown["encoding"], shown["priority"]) == (
            "inbound",
            "received",
            None,
            None,
        )
        assert ([each["event_status"] for each in shown["events"]], shown["attempts"]) == (["received"], [])

    async def test_unknown_id_is_404_and_nonsense_400(self, api: httpx.AsyncClient) -> None:
        refused(await api.get(f"/v1/sms/{new_id()}"), 404, "sms.not_found")
        for wrong in ("7", "x" * 500, "%00"):
            refused(await api.get(f"/v1/sms/{wrong}"), 400, "sms.validation_error", "request_id")


class TestListMessages:
    async def test_every_filter_and_all_of_them_together(self, service: Service, database: Database) -> None:
        api = service.client
        await service.text("SM1", "in")
        await accept(api, "out")
        await accept(api, "rent", headers=bearer(await make_key(database, await make_client(database, "rent"))))
        await accept(api, "other phone", to="+14155550199")
        await database.pool.execute(
            "UPDATE sms_messages SET delivery_status = 'failed', provider = 'telnyx' WHERE message_content = 'rent'"
        )
        assert await listed(api) == ["other phone", "rent", "out", "in"]
        assert await listed(api, status="failed") == ["rent"]
        assert await listed(api, status="accepted") == ["other phone", "out"]
        assert await listed(api, provider="telnyx") == ["rent"]
        assert await listed(api, provider="twilio") == ["in"]
        assert await listed(api, direction="inbound") == ["in"]
        assert await listed(api, direction="outbound") == ["other phone", "rent", "out"]
        assert await listed(api, client_id="rent") == ["rent"]
        for spelling in (TENANT_PHONE, "(415) 555-0123", " 14155550123"):
            assert await listed(api, number=spelling) == ["rent", "out", "in"]
        assert await listed(api, number="+14155550100") == []
        assert await listed(
            api, status="failed", provider="telnyx", direction="outbound", client_id="rent", number=TENANT_PHONE
        ) == ["rent"]

    async def test_since_is_included_and_until_is_not(self, api: httpx.AsyncClient, database: Database) -> None:
        start = datetime(2026, 11, 1, tzinfo=UTC)
        for hour in range(4):  # the clock that makes an id is sometimes ahead, sometimes behind
            message = await accept(api, str(hour))
            await database.pool.execute(
                "UPDATE sms_messages SET id = $1, created_at = $2 WHERE id = $3::text::uuid",
                _id_at(start + timedelta(hours=hour, seconds=5 - 10 * (hour % 2))),
                start + timedelta(hours=hour),
                message,
            )

        def at(hour: float) -> str:
            return (
                (start + timedelta(hours=hour))
                .astimezone(datetime.fromisoformat("2026-01-01T00-08:00").tzinfo)
                .isoformat()
            )

        assert await listed(api, since=at(1)) == ["3", "2", "1"]
        assert await listed(api, until=at(2)) == ["1", "0"]
        assert await listed(api, since=at(1), until=at(3)) == ["2", "1"]
        assert await listed(api, since=at(1.01), until=at(1.99)) == []

    async def test_time_at_the_end_of_the_calendar_is_a_time(self, api: httpx.AsyncClient) -> None:
        await accept(api)
        for early in ("0001-01-01T00:00:00Z", "1969-12-31T23:59:59Z", "1970-01-01T00:00:00Z"):
            assert await listed(api, since=early) == ["Hello"]
            assert await listed(api, until=early) == []
        for late in ("9999-12-31T23:59:59Z", "2100-01-01T00:00:00Z"):
            assert await listed(api, since=late) == []
            assert await listed(api, until=late) == ["Hello"]

    async def test_wrong_parameter_is_400_and_named(self, api: httpx.AsyncClient) -> None:
        for field, value in [
            ("limit", "0"),
            ("limit", "101"),
            ("status", "lost"),
            ("direction", "up"),
            ("provider", "\x00"),
            ("client_id", "x" * 201),
            ("number", "1" * 401),
            ("since", "yesterday"),
            ("since", "2026-11-20T10:00:00"),
            ("until", "0001-01-01T00:00:00+14:00"),
            ("until", "9999-12-31T23:59:59-14:00"),
            ("cursor", "x"),
            ("cursor", encode_cursor("x")),
            ("cursor", encode_cursor(5)),
        ]:
            refused(await api.get("/v1/sms", params={field: value}), 400, "sms.validation_error", field)
        response = await api.get("/v1/sms", params={"limit": "x", "status": "lost", "since": "never"})
        refused(response, 400, "sms.validation_error", "limit", "status", "since")

    async def test_pages_have_everything_once_while_more_arrives(
        self, api: httpx.AsyncClient, database: Database
    ) -> None:
        wanted = [await accept(api, str(number)) for number in range(25)]
        seen: list[str] = []
        cursor: str | None = None
        is_first = True
        while (is_first or cursor is not None) and len(seen) <= 100:
            is_first = False
            found = await page(api, limit=4, **({} if cursor is None else {"cursor": cursor}))
            seen += [each["id"] for each in found["messages"]]
            cursor = found["next_cursor"]
            await asyncio.gather(*(accept(api, "new") for _ in range(3)))
        assert seen == wanted[::-1]

    @given(size=st.integers(1, 12), limit=st.integers(1, 5))
    @hypothesis_settings(max_examples=15)
    async def test_pages_of_any_size_put_together_are_the_list(
        self, api: httpx.AsyncClient, database: Database, size: int, limit: int
    ) -> None:
        await database.pool.execute("TRUNCATE sms_messages, sms_conversations, work CASCADE")
        wanted = [await accept(api, str(number)) for number in range(size)]
        seen: list[str] = []
        cursor: dict[str, str] = {}
        while len(seen) <= size:
            found = await page(api, limit=limit, **cursor)
            assert len(found["messages"]) <= limit == found["limit"]
            seen += [each["id"] for each in found["messages"]]
            if found["next_cursor"] is None:
                break
            cursor = {"cursor": found["next_cursor"]}
        assert seen == wanted[::-1]


def _id_at(at: datetime) -> Any:
    id_ = new_id()
    return type(id_)(int=(int(at.timestamp() * 1000) << 80) | (id_.int & (2**80 - 1)))
