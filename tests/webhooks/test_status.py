"""POST /webhook/twilio/status, through the whole service."""

import asyncio
from itertools import permutations
from typing import Any

import pytest
from prometheus_client import REGISTRY

from sms_foundation.core.config import LOCAL_AUTH_TOKEN, LOCAL_PHONE_NUMBER
from sms_foundation.core.ids import new_id
from sms_foundation.providers.twilio.signature import sign
from tests.support.service import (
    BASE_URL,
    SMS_PATH,
    STATUS_PATH,
    TENANT_PHONE,
    Service,
    encode_form,
    status_form,
)

WAY = ("queued", "sending", "sent", "delivered")
ORDERS = list(permutations(WAY))


def counted(outcome: str) -> float:
    labels = {"provider": "twilio", "kind": "status", "outcome": outcome}
    return REGISTRY.get_sample_value("sms_webhooks_total", labels) or 0.0


async def sent(service: Service, *sids: str, status: str = "accepted") -> None:
    """Put messages into the table that have just been handed to Twilio."""
    async with service.database.transaction() as connection:
        conversation = new_id()
        await connection.execute(
            "INSERT INTO sms_conversations (id, phone_number_canonical, phone_number_original, message_count) "
            "VALUES ($1, $2, $2, $3)",
            conversation,
            TENANT_PHONE,
            len(sids),
        )
        await connection.executemany(
            "INSERT INTO sms_messages (id, conversation_id, conversation_seq, direction, provider, "
            "provider_message_id, from_number, to_number, message_content, delivery_status) "
            "VALUES ($1, $2, $3, 'outbound', 'twilio', $4, $5, $6, 'Hello', $7)",
            [
                (new_id(), conversation, seq, sid, LOCAL_PHONE_NUMBER, TENANT_PHONE, status)
                for seq, sid in enumerate(sids, 1)
            ],
        )


async def message(service: Service, sid: str = "SM1") -> dict[str, Any]:
    """Read a message with its events through the API."""
    response = await service.client.get(f"/messages/{sid}")
    assert response.status_code == 200, response.text
    return dict(response.json())


async def state(service: Service, sid: str = "SM1") -> tuple[str, str | None, str | None]:
    found = await message(service, sid)
    return found["delivery_status"], found["error_code"], found["error_message"]


async def waiting_events(service: Service) -> int:
    number: int = await service.database.pool.fetchval(
        "SELECT count(*) FROM sms_message_status_events WHERE message_id IS NULL"
    )
    return number


async def hurry(service: Service) -> None:
    """Let all work be due now, and wait until none is left."""
    await service.database.pool.execute("UPDATE work SET run_at = now() WHERE kind = 'receipt_unmatched'")
    await service.finish_work("receipt_unmatched")


class TestOrder:
    @pytest.mark.parametrize("repeats", [1, 2])
    async def test_all_24_orders_end_in_delivered(self, service: Service, repeats: int) -> None:
        sids = [f"SM{number}" for number in range(len(ORDERS))]
        await sent(service, *sids)

        for step in range(len(WAY)):
            for _ in range(repeats):
                answers = await asyncio.gather(
                    *(service.status(sid, order[step]) for sid, order in zip(sids, ORDERS, strict=True))
                )
                assert {answer.status_code for answer in answers} == {200}

        for sid in sids:
            found = await message(service, sid)
            assert found["delivery_status"] == "delivered", sid
            assert sorted(event["event_status"] for event in found["status_events"]) == sorted(WAY)

    async def test_all_orders_end_in_delivered_when_everything_comes_again_at_the_end(self, service: Service) -> None:
        sids = [f"SM{number}" for number in range(len(ORDERS))]
        await sent(service, *sids)

        for sid, order in zip(sids, ORDERS, strict=True):
            for status in (*order, *reversed(order)):
                await service.status(sid, status)

        statuses = await service.database.pool.fetch("SELECT DISTINCT delivery_status FROM sms_messages")
        assert [row[0] for row in statuses] == ["delivered"]

    async def test_all_statuses_at_once_end_in_delivered(self, service: Service) -> None:
        sids = [f"SM{number}" for number in range(len(ORDERS))]
        await sent(service, *sids)

        answers = await asyncio.gather(
            *(service.status(sid, status) for sid, order in zip(sids, ORDERS, strict=True) for status in order * 2)
        )

        assert {answer.status_code for answer in answers} == {200}
        rows = await service.database.pool.fetch(
            "SELECT m.delivery_status, count(*) FROM sms_messages AS m "
            "JOIN sms_message_status_events AS e ON e.message_id = m.id GROUP BY m.id"
        )
        assert [tuple(row) for row in rows] == [("delivered", 4)] * 24

    async def test_late_status_is_kept_as_an_event_only(self, service: Service) -> None:
        await sent(service, "SM1")
        before = counted("applied"), counted("late")

        for status in ("sent", "queued", "sending"):
            await service.status("SM1", status)

        found = await message(service)
        assert found["delivery_status"] == "sent"
        assert [event["event_status"] for event in found["status_events"]] == ["sent", "queued", "sending"]
        assert (counted("applied"), counted("late")) == (before[0] + 1, before[1] + 2)

    async def test_read_follows_delivered_and_nothing_else_does(self, service: Service) -> None:
        await sent(service, "SM1", "SM2")

        for status in ("delivered", "failed", "undelivered", "canceled", "partially_delivered"):
            await service.status("SM1", status)
        assert await state(service) == ("delivered", None, None)

        await service.status("SM1", "read")
        await service.status("SM1", "delivered")
        assert await state(service) == ("read", None, None)


class TestError:
    @pytest.mark.parametrize("end", ["failed", "undelivered"])
    async def test_first_code_is_kept_whatever_comes_later(self, service: Service, end: str) -> None:
        await sent(service, "SM1")

        await service.status("SM1", end, ErrorCode="30003", ErrorMessage="Unreachable")
        assert await state(service) == (end, "30003", "Unreachable")
        for status in ("sent", "delivered", "read", "canceled", end, "undelivered", "failed"):
            await service.status("SM1", status)
            await service.status("SM1", status, ErrorCode="30005", ErrorMessage="Unknown")

        assert await state(service) == (end, "30003", "Unreachable")

    async def test_code_that_comes_with_a_second_report_of_the_same_end_is_taken(self, service: Service) -> None:
        await sent(service, "SM1")

        await service.status("SM1", "failed")
        await service.status("SM1", "failed", ErrorCode="30003", ErrorMessage="Unreachable")
        await service.status("SM1", "failed", ErrorCode="30005")

        assert await state(service) == ("failed", "30003", "Unreachable")
        assert [event["error_code"] for event in (await message(service))["status_events"]] == [None, "30003", "30005"]

    async def test_code_that_came_on_the_way_is_not_wiped_by_what_follows(self, service: Service) -> None:
        await sent(service, "SM1")

        await service.status("SM1", "sent", ErrorCode="30026", ErrorMessage="Warned")
        await service.status("SM1", "delivered")

        assert await state(service) == ("delivered", "30026", "Warned")

    async def test_late_failure_does_not_mark_a_delivered_message(self, service: Service) -> None:
        await sent(service, "SM1")

        await service.status("SM1", "delivered")
        await service.status("SM1", "failed", ErrorCode="30003")

        assert await state(service) == ("delivered", None, None)

    async def test_code_zero_is_no_error(self, service: Service) -> None:
        await sent(service, "SM1")

        await service.status("SM1", "sent", ErrorCode="0")

        assert await state(service) == ("sent", None, None)


class TestRepeat:
    async def test_is_answered_the_same_counted_and_kept_once(self, service: Service) -> None:
        await sent(service, "SM1")
        before = counted("applied"), counted("duplicate")

        answers = [await service.status("SM1", "sent") for _ in range(3)]

        assert {(each.status_code, each.text, each.headers["content-type"]) for each in answers} == {
            (200, '<?xml version="1.0" encoding="UTF-8"?><Response/>', "text/xml; charset=utf-8")
        }
        assert (counted("applied"), counted("duplicate")) == (before[0] + 1, before[1] + 2)
        assert len((await message(service))["status_events"]) == 1

    async def test_ten_at_once_are_one_event(self, service: Service) -> None:
        await sent(service, "SM1")

        answers = await asyncio.gather(*(service.status("SM1", "delivered") for _ in range(10)))

        assert {answer.status_code for answer in answers} == {200}
        assert len((await message(service))["status_events"]) == 1


class TestUnknownMessage:
    async def test_is_answered_200_counted_and_kept(self, service: Service) -> None:
        before = counted("unmatched")

        answers = [await service.status("SM1", "sent"), await service.status("SM1", "delivered")]

        assert {answer.status_code for answer in answers} == {200}
        assert counted("unmatched") == before + 2
        assert await waiting_events(service) == 2

    async def test_is_matched_when_the_message_comes_later(self, service: Service) -> None:
        await service.status("SM1", "delivered")
        await service.status("SM1", "sent")
        # Nobody waits any more: only the message itself can bring them together.
        await service.database.pool.execute("DELETE FROM work WHERE kind = 'receipt_unmatched'")

        assert (await service.text("SM1")).status_code == 200
        await service.finish_work("receipt_unmatched")

        found = await message(service)
        assert found["delivery_status"] == "delivered"
        assert {event["event_status"] for event in found["status_events"]} == {"sent", "delivered"}
        assert await waiting_events(service) == 0

    async def test_is_matched_by_its_work_when_both_were_committed_at_the_same_time(self, service: Service) -> None:
        await service.status("SM1", "undelivered", ErrorCode="30003", ErrorMessage="Unreachable")
        await sent(service, "SM1")  # by a transaction that could not see the event
        await hurry(service)

        assert await state(service) == ("undelivered", "30003", "Unreachable")
        assert await waiting_events(service) == 0

    async def test_work_waits_while_there_is_no_message(self, service: Service) -> None:
        await service.status("SM1", "sent")
        pool = service.database.pool
        await pool.execute("UPDATE work SET run_at = now() WHERE kind = 'receipt_unmatched'")
        for _ in range(400):
            if await pool.fetchval("SELECT last_error FROM work WHERE kind = 'receipt_unmatched' AND state = 'due'"):
                break
            await asyncio.sleep(0.025)

        await sent(service, "SM1")
        await hurry(service)

        assert (await state(service))[0] == "sent"

    async def test_work_gives_up_in_the_end_and_leaves_the_event(self, service: Service) -> None:
        await service.status("SM1", "sent")
        await service.database.pool.execute("UPDATE work SET attempts = 9 WHERE kind = 'receipt_unmatched'")

        await hurry(service)

        assert await waiting_events(service) == 1
        assert await service.database.pool.fetchval("SELECT count(*) FROM work WHERE state = 'dead'") == 0

    async def test_kept_events_are_applied_by_the_same_rule(self, service: Service) -> None:
        for status, code in (("failed", None), ("failed", "30003"), ("delivered", "30005"), ("teleported", "30006")):
            await service.status("SM1", status, **({"ErrorCode": code} if code else {}))
        await sent(service, "SM1", status="sent")

        await hurry(service)

        assert await state(service) == ("failed", "30003", None)

    async def test_status_after_the_match_goes_on_from_there(self, service: Service) -> None:
        await service.status("SM1", "sent")
        await sent(service, "SM1")
        await service.status("SM1", "delivered")
        await hurry(service)

        assert (await state(service))[0] == "delivered"
        assert await waiting_events(service) == 0


class TestUnknownWord:
    async def test_is_kept_as_an_event_and_changes_nothing(self, service: Service) -> None:
        await sent(service, "SM1", status="sent")

        assert (await service.status("SM1", "teleported", ErrorCode="30003")).status_code == 200

        found = await message(service)
        assert (found["delivery_status"], found["error_code"]) == ("sent", None)
        assert [event["event_status"] for event in found["status_events"]] == ["teleported"]


class TestPayload:
    async def test_event_shows_every_parameter_as_it_was_sent(self, service: Service) -> None:
        await sent(service, "SM1")
        pairs = [*status_form("SM1", "delivered", RawDlrDoneDate="2611200930", Extra=""), ("To", "second")]
        pairs.append(("x", b"\0\xff".decode("utf-8", "surrogateescape")))

        assert (await service.post_signed(STATUS_PATH, pairs)).status_code == 200

        raw = (await message(service))["status_events"][0]["raw_webhook_data"]
        assert raw == {
            **dict(status_form("SM1", "delivered", RawDlrDoneDate="2611200930", Extra="")),
            "To": [TENANT_PHONE, "second"],
            "x": {"base64": "AP8="},
        }

    async def test_statuses_of_one_message_and_of_many_go_together(self, service: Service) -> None:
        await sent(service, "SM1", "SM2")

        answers = await asyncio.gather(
            *(service.status(sid, status) for status in (*WAY, "teleported") for sid in ("SM1", "SM2", "SM3"))
        )

        assert {answer.status_code for answer in answers} == {200}
        assert [(await state(service, sid))[0] for sid in ("SM1", "SM2")] == ["delivered", "delivered"]
        assert await waiting_events(service) == 5


class TestRefused:
    async def test_callback_without_sid_or_status(self, service: Service) -> None:
        cases: list[tuple[dict[str, str | None], str]] = [
            ({"MessageSid": None}, "missing_message_sid"),
            ({"MessageSid": ""}, "missing_message_sid"),
            ({"MessageStatus": None, "SmsStatus": None}, "missing_status"),
            ({"MessageStatus": "", "SmsStatus": " "}, "missing_status"),
            ({"MessageStatus": "x" * 129}, "missing_status"),
        ]
        for changes, reason in cases:
            form = {**dict(status_form("SM1", "sent")), **changes}
            before = counted(reason)

            response = await service.post_signed(STATUS_PATH, [(n, v) for n, v in form.items() if v is not None])

            assert (response.status_code, response.json()["error"]["code"]) == (400, "sms.validation_error"), changes
            assert counted(reason) == before + 1
        assert await waiting_events(service) == 0

    async def test_forged_callback(self, service: Service) -> None:
        pairs = status_form("SM1", "delivered")
        other = [(name, "AC9" if name == "AccountSid" else value) for name, value in pairs]
        right = sign(LOCAL_AUTH_TOKEN, BASE_URL + STATUS_PATH, pairs)

        for form, signature in (
            (pairs, None),
            (pairs, "é"),
            (pairs, sign(LOCAL_AUTH_TOKEN, BASE_URL + SMS_PATH, pairs)),
            (status_form("SM1", "failed"), right),
            ([*pairs, ("MessageSid", "SM2")], right),
            (other, sign(LOCAL_AUTH_TOKEN, BASE_URL + STATUS_PATH, other)),
        ):
            response = await service.client.post(
                STATUS_PATH,
                content=encode_form(form),
                headers=[
                    (b"content-type", b"application/x-www-form-urlencoded"),
                    *([] if signature is None else [(b"x-twilio-signature", signature.encode())]),
                ],
            )
            assert response.status_code == 403
        assert await waiting_events(service) == 0

    async def test_our_own_id_in_the_query_is_signed_with_the_rest(self, service: Service) -> None:
        pairs = status_form("SM1", "delivered")
        path = f"{STATUS_PATH}?message=0195-7"

        assert (await service.post_signed(path, pairs)).status_code == 200
        forged = await service.post(
            f"{STATUS_PATH}?message=0195-8",
            encode_form(pairs),
            signature=sign(LOCAL_AUTH_TOKEN, BASE_URL + path, pairs),
        )
        assert forged.status_code == 403
