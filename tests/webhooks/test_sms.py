"""POST /webhook/twilio/sms, through the whole service."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import datetime
from itertools import count
from typing import Any

import asyncpg
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from sms_foundation.core.config import LOCAL_ACCOUNT_SID, LOCAL_AUTH_TOKEN, LOCAL_PHONE_NUMBER, Settings
from sms_foundation.core.db import Database, DatabaseUrl, parse_database_url
from sms_foundation.providers.form import parse_form
from sms_foundation.providers.twilio.signature import sign
from tests.support.service import (
    BASE_URL,
    SMS_PATH,
    STATUS_PATH,
    TENANT_PHONE,
    Pairs,
    Service,
    encode_form,
    make_settings,
    running_service,
    text_form,
)
from tests.support.tcp_gate import TcpGate

TWIML = '<?xml version="1.0" encoding="UTF-8"?><Response/>'

_numbers = count()


def new_sid() -> str:
    return f"SM{next(_numbers):032x}"


def counted(outcome: str, name: str = "sms_webhooks_total", **labels: str) -> float:
    labels = {"provider": "twilio", "outcome": outcome, **({"kind": "sms"} if name == "sms_webhooks_total" else {})}
    return REGISTRY.get_sample_value(name, labels) or 0.0


def signature_of(pairs: Pairs, path: str = SMS_PATH, auth_token: str = LOCAL_AUTH_TOKEN) -> str:
    return sign(auth_token, BASE_URL + path, pairs)


def surrogates(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


async def message(service: Service, sid: str) -> dict[str, Any]:
    """Read a message, with its raw payload, through the API."""
    response = await service.client.get(f"/messages/{sid}")
    assert response.status_code == 200, response.text
    return dict(response.json())


async def stored(database: Database) -> int:
    number: int = await database.pool.fetchval("SELECT count(*) FROM sms_messages")
    return number


class TestInboundText:
    async def test_is_answered_with_empty_twiml_after_it_was_stored(self, service: Service) -> None:
        response = await service.text("SM1", "Hola, no hay agua")

        assert (response.status_code, response.headers["content-type"]) == (200, "text/xml; charset=utf-8")
        assert response.text == TWIML
        assert await service.database.pool.fetchval("SELECT message_content FROM sms_messages") == "Hola, no hay agua"

    async def test_delivered_ten_times_at_once_is_one_message(self, service: Service) -> None:
        responses = await asyncio.gather(*(service.text("SM1") for _ in range(10)))

        assert {(each.status_code, each.text) for each in responses} == {(200, responses[0].text)}
        conversation = await service.conversation()
        assert conversation["total"] == 1

    async def test_gets_its_language_in_the_background(self, service: Service) -> None:
        await service.text("SM1", "Hola, no hay agua caliente en mi apartamento")
        await service.finish_work()

        conversation = await service.conversation()
        assert conversation["language_detected"] == "es"

    async def test_shows_every_parameter_as_it_was_sent(self, service: Service) -> None:
        pairs = text_form("SM1", "¡Sí! 🙂", FromCity="", ChannelMetadata='{"a": "\\u0000"}', OptOutType="STOP")

        await service.post_signed(SMS_PATH, pairs)

        assert (await message(service, "SM1"))["raw_webhook_data"] == dict(pairs)

    async def test_sender_of_any_kind_has_a_conversation(self, service: Service) -> None:
        for sender, canonical in (
            ("+14155550123", "+14155550123"),
            ("whatsapp:+14155550123", "whatsapp:+14155550123"),
            ("WhatsApp:+1 415 555 0123", "whatsapp:+14155550123"),
            ("rcs:acme_agent", "rcs:acme_agent"),
            ("72345", "72345"),
            ("ACME", "ACME"),
            ("😀", "😀"),
        ):
            sid = new_sid()

            assert (await service.text(sid, "Hi", sender=sender)).status_code == 200

            found = await message(service, sid)
            assert (found["from_number"], found["phone_number_canonical"]) == (sender, canonical)

    async def test_empty_body_is_a_text_like_any_other(self, service: Service) -> None:
        assert (await service.text("SM1", "")).status_code == 200
        without = [(name, value) for name, value in text_form("SM2") if name not in ("Body", "To", "NumSegments")]
        assert (await service.post_signed(SMS_PATH, without)).status_code == 200

        await service.finish_work()
        conversation = await service.conversation()
        assert [each["content"] for each in conversation["messages"]] == ["", ""]  # type: ignore[attr-defined]

    async def test_pictures_are_kept_with_their_types(self, service: Service) -> None:
        media = {
            "NumMedia": "2",
            "MediaUrl0": "https://m/0",
            "MediaContentType0": "image/jpeg",
            "MediaUrl1": "https://m/1",
        }
        pairs = [pair for pair in text_form("MM1", "") if pair[0] != "NumMedia"] + list(media.items())

        assert (await service.post_signed(SMS_PATH, pairs)).status_code == 200

        assert (await message(service, "MM1"))["media"] == [
            {"url": "https://m/0", "content_type": "image/jpeg"},
            {"url": "https://m/1", "content_type": ""},
        ]

    async def test_text_to_a_messaging_service_is_accepted_like_any_other(self, service: Service) -> None:
        response = await service.text("SM1", MessagingServiceSid="MG" + "0" * 32)

        assert response.status_code == 200
        assert (await message(service, "SM1"))["to_number"] == LOCAL_PHONE_NUMBER

    async def test_very_long_emoji_text_is_kept_whole(self, service: Service) -> None:
        body = "👩‍👩‍👧‍👦🏳️‍🌈" * 150

        assert (await service.text("SM1", body)).status_code == 200
        assert (await message(service, "SM1"))["content"] == body

    async def test_bytes_that_cannot_be_stored_are_marked_in_the_text_and_exact_in_the_payload(
        self, service: Service
    ) -> None:
        response = await service.text("SM1", surrogates(b"a\0b\xe9\xed\xa0\x80"))

        assert response.status_code == 200
        found = await message(service, "SM1")
        assert found["content"] == "a\ufffdb\ufffd\ufffd\ufffd\ufffd"
        assert found["raw_webhook_data"]["Body"] == {"base64": "YQBi6e2ggA=="}

    async def test_nul_alone_is_no_obstacle(self, service: Service) -> None:
        assert (await service.text("SM1", "a\0b")).status_code == 200

        found = await message(service, "SM1")
        assert (found["content"], found["raw_webhook_data"]["Body"]) == ("a\ufffdb", {"base64": "YQBi"})

    async def test_twenty_thousand_parameters_are_all_kept(self, service: Service) -> None:
        more = {f"p{number}": "" for number in range(20_000)}

        assert (await service.text("SM1", **more)).status_code == 200
        assert (await message(service, "SM1"))["raw_webhook_data"].keys() == {*dict(text_form("SM1")), *more}

    async def test_of_a_repeated_signed_field_the_first_counts_and_all_are_shown(self, service: Service) -> None:
        pairs = [*text_form("SM1", "first"), ("Body", "second"), ("From", "+19995550123")]

        assert (await service.post_signed(SMS_PATH, pairs)).status_code == 200

        found = await message(service, "SM1")
        assert (found["content"], found["from_number"]) == ("first", TENANT_PHONE)
        assert found["raw_webhook_data"]["Body"] == ["first", "second"]
        assert found["raw_webhook_data"]["From"] == [TENANT_PHONE, "+19995550123"]


class TestIncompleteText:
    async def test_is_refused_and_counted(self, service: Service) -> None:
        cases: list[tuple[dict[str, str | None], str]] = [
            ({"MessageSid": None}, "missing_message_sid"),
            ({"MessageSid": " "}, "missing_message_sid"),
            ({"MessageSid": "x" * 129}, "bad_message_sid"),
            ({"From": None}, "missing_from"),
            ({"From": ""}, "missing_from"),
            ({"From": "\x01"}, "missing_from"),
            ({"From": "4" * 321}, "bad_address"),
            ({"To": "4" * 321}, "bad_address"),
        ]
        for changes, reason in cases:
            form = {**dict(text_form("SM1")), **changes}
            before = counted(reason)

            response = await service.post_signed(
                SMS_PATH, [(name, value) for name, value in form.items() if value is not None]
            )

            assert (response.status_code, response.json()["error"]["code"]) == (400, "sms.validation_error"), reason
            assert counted(reason) == before + 1
        assert await stored(service.database) == 0

    async def test_signed_form_without_any_parameter_is_refused(self, service: Service) -> None:
        assert (await service.post_signed(SMS_PATH, [])).status_code == 400


class TestForgedText:
    async def refuse(self, service: Service, pairs: Pairs, signature: str | None, reason: str, **headers: str) -> None:
        before = counted(reason)

        response = await service.post(SMS_PATH, encode_form(pairs), signature=signature, **headers)

        assert (response.status_code, response.json()["error"]["code"]) == (403, "sms.forbidden")
        assert counted(reason) == before + 1
        assert await stored(service.database) == 0

    async def test_without_signature_is_refused(self, service: Service) -> None:
        await self.refuse(service, text_form("SM1"), None, "missing_signature")
        await self.refuse(service, text_form("SM1"), "", "missing_signature")

    async def test_with_a_wrong_signature_is_refused(self, service: Service) -> None:
        pairs = text_form("SM1")
        right = signature_of(pairs)

        for wrong in ("x", right[:-1], right.lower(), f"{right},{right}", "0" * 28, "=" * 9_000):
            await self.refuse(service, pairs, wrong, "invalid_signature")

    async def test_with_a_signature_that_is_no_text_is_refused(self, service: Service) -> None:
        for signature in (b"\xe9", b"\xff\xfe", "é".encode()):
            response = await service.client.post(
                SMS_PATH,
                content=encode_form(text_form("SM1")),
                headers=[
                    (b"content-type", b"application/x-www-form-urlencoded"),
                    (b"x-twilio-signature", signature),
                ],
            )
            assert response.status_code == 403, signature

    async def test_signed_with_another_token_is_refused(self, service: Service) -> None:
        pairs = text_form("SM1")

        await self.refuse(service, pairs, signature_of(pairs, auth_token="another"), "invalid_signature")
        await self.refuse(service, pairs, signature_of(pairs, auth_token=""), "invalid_signature")

    async def test_with_an_unsigned_extra_sender_is_refused_wherever_it_stands(self, service: Service) -> None:
        pairs = text_form("SM1")
        extra = ("From", "+19995550123")

        await self.refuse(service, [*pairs, extra], signature_of(pairs), "invalid_signature")
        await self.refuse(service, [extra, *pairs], signature_of(pairs), "invalid_signature")

    async def test_with_a_field_changed_added_or_left_out_is_refused(self, service: Service) -> None:
        pairs = text_form("SM1", "Hello")
        signature = signature_of(pairs)

        for forged in (
            text_form("SM1", "Hello "),
            text_form("SM2", "Hello"),
            text_form("SM1", "Hello", Extra=""),
            [pair for pair in pairs if pair != ("ToCity", "")],
        ):
            await self.refuse(service, forged, signature, "invalid_signature")

    async def test_signed_for_another_path_is_refused(self, service: Service) -> None:
        pairs = text_form("SM1")

        await self.refuse(service, pairs, signature_of(pairs, STATUS_PATH), "invalid_signature")
        await self.refuse(
            service, pairs, sign(LOCAL_AUTH_TOKEN, f"http://testserver{SMS_PATH}", pairs), "invalid_signature"
        )

    async def test_signed_for_the_host_it_names_itself_is_refused(self, service: Service) -> None:
        pairs = text_form("SM1")
        signature = sign(LOCAL_AUTH_TOKEN, f"https://evil.example.net{SMS_PATH}", pairs)
        headers = {"Host": "evil.example.net", "X-Forwarded-Host": "evil.example.net", "X-Forwarded-Proto": "https"}

        await self.refuse(service, pairs, signature, "invalid_signature", **headers)

    async def test_that_announces_another_algorithm_is_refused(self, service: Service) -> None:
        pairs = text_form("SM1")
        announced = {"X-Twilio-Webhooks-Signature-Settings": "key=k1,algorithm=HMAC_SHA256"}

        await self.refuse(service, pairs, signature_of(pairs), "unsupported_algorithm", **announced)

    async def test_of_another_account_is_refused_although_its_signature_is_right(self, service: Service) -> None:
        pairs = [(name, "AC" + "9" * 32 if name == "AccountSid" else value) for name, value in text_form("SM1")]

        await self.refuse(service, pairs, signature_of(pairs), "unknown_account")

    async def test_answer_does_not_tell_what_was_wrong(self, service: Service) -> None:
        pairs = text_form("SM1")
        other = [(name, "AC9" if name == "AccountSid" else value) for name, value in pairs]

        answers = [
            await service.post(SMS_PATH, encode_form(pairs), signature=None),
            await service.post(SMS_PATH, encode_form(pairs), signature="x"),
            await service.post(SMS_PATH, encode_form(other), signature=signature_of(other)),
        ]

        assert len({answer.json()["error"]["message"] for answer in answers}) == 1

    async def test_query_string_is_part_of_what_is_signed(self, service: Service) -> None:
        pairs = text_form("SM1")
        path = f"{SMS_PATH}?tenant=7&x=a+b%2Fc"

        assert (await service.post_signed(path, pairs)).status_code == 200
        for other in (SMS_PATH, f"{SMS_PATH}?tenant=8&x=a+b%2Fc", f"{SMS_PATH}?x=a+b%2Fc&tenant=7"):
            response = await service.post(other, encode_form(pairs), signature=signature_of(pairs, path))
            assert response.status_code == 403, other

    async def test_replayed_genuine_one_is_only_a_duplicate(self, service: Service) -> None:
        pairs = text_form("SM1")
        body, signature = encode_form(pairs), signature_of(pairs)

        answers = [await service.post(SMS_PATH, body, signature=signature) for _ in range(3)]

        assert [answer.status_code for answer in answers] == [200] * 3
        assert await stored(service.database) == 1


class TestTokenRotation:
    @pytest.fixture
    def settings(self) -> Settings:
        return make_settings(
            twilio_auth_token="new", twilio_auth_token_previous="old", twilio_account_sid=f"AC1, {LOCAL_ACCOUNT_SID}"
        )

    async def test_both_tokens_and_every_configured_account_are_accepted(self, service: Service) -> None:
        first, second = text_form("SM1"), text_form("SM2")
        second = [(name, "AC1" if name == "AccountSid" else value) for name, value in second]

        assert (await service.post_signed(SMS_PATH, first, auth_token="new")).status_code == 200
        assert (await service.post_signed(SMS_PATH, second, auth_token="old")).status_code == 200
        assert (await service.post_signed(SMS_PATH, second, auth_token=LOCAL_AUTH_TOKEN)).status_code == 403


class TestWithoutToken:
    @pytest.fixture
    def settings(self) -> Settings:
        return make_settings(app_env="staging", auto_migrate=False)

    async def test_outside_local_development_there_is_no_webhook(self, service: Service) -> None:
        for path in (SMS_PATH, STATUS_PATH):
            for token in (LOCAL_AUTH_TOKEN, ""):
                response = await service.post_signed(path, text_form("SM1"), auth_token=token)

                assert (response.status_code, response.json()["error"]["code"]) == (404, "sms.not_found")
        assert await stored(service.database) == 0


_field_names = st.sampled_from(
    ["MessageSid", "From", "To", "Body", "AccountSid", "NumMedia", "MediaUrl0", "MediaContentType0", "NumSegments", "x"]
)
_values = st.one_of(
    st.binary(max_size=40),
    st.sampled_from([b"", b"1", b"\0", b"\xff", b"\\u0000", b"\xed\xa0\x80", b"SM1", b"+14155550123", b"whatsapp:"]),
    st.text(max_size=20).map(lambda text: text.encode("utf-8", "replace")),
)


class TestAnyBytes:
    ANSWERS = frozenset({200, 400, 403, 413, 415})

    @given(st.binary(max_size=300), st.binary(max_size=40), st.binary(max_size=40))
    @hypothesis_settings(max_examples=60)
    async def test_unsigned_never_lead_to_a_server_error(
        self, service: Service, body: bytes, signature: bytes, settings_header: bytes
    ) -> None:
        headers = [
            (b"content-type", b"application/x-www-form-urlencoded"),
            (b"x-twilio-signature", signature),
            (b"x-twilio-webhooks-signature-settings", settings_header),
        ]

        response = await service.client.post(SMS_PATH, content=body, headers=headers)

        assert response.status_code == 403

    @given(st.binary(max_size=300))
    @hypothesis_settings(max_examples=40)
    async def test_signed_never_lead_to_a_server_error(self, service: Service, body: bytes) -> None:
        for path in (SMS_PATH, STATUS_PATH):
            response = await service.post(path, body, signature=signature_of(parse_form(body), path))

            assert response.status_code in (200, 400)

    @given(st.lists(st.tuples(_field_names, _values), max_size=10), st.booleans())
    @hypothesis_settings(max_examples=80)
    async def test_in_signed_fields_never_lead_to_a_server_error_and_what_was_sent_is_shown(
        self, service: Service, fields: list[tuple[str, bytes]], is_complete: bool
    ) -> None:
        sid = new_sid()
        required = (
            [("MessageSid", sid), ("From", TENANT_PHONE), ("AccountSid", LOCAL_ACCOUNT_SID)] if is_complete else []
        )
        pairs = [*required, *((name, surrogates(value)) for name, value in fields)]

        response = await service.post_signed(SMS_PATH, pairs)

        assert response.status_code in ({200} if is_complete else self.ANSWERS)
        if is_complete:
            raw = (await message(service, sid))["raw_webhook_data"]
            assert raw.keys() == {name for name, _ in pairs}


class TestDuplicate:
    async def test_is_answered_the_same_and_counted(self, service: Service) -> None:
        stored_before, before = counted("stored"), counted("duplicate")
        in_store = counted("duplicate", "sms_messages_stored_total")

        answers = [await service.text("SM1") for _ in range(3)]

        assert {(each.status_code, each.text, each.headers["content-type"]) for each in answers} == {
            (200, TWIML, "text/xml; charset=utf-8")
        }
        assert (counted("stored"), counted("duplicate")) == (stored_before + 1, before + 2)
        assert counted("duplicate", "sms_messages_stored_total") == in_store + 2

    async def test_leaves_the_conversation_as_it_was_and_makes_no_work(self, service: Service) -> None:
        async def state() -> list[asyncpg.Record]:
            rows: list[asyncpg.Record] = await service.database.pool.fetch(
                "SELECT message_count, last_message_at, updated_at, phone_number_original FROM sms_conversations"
            )
            return rows

        await service.text("SM1", "first")
        await service.finish_work()
        before = await state()
        answers = [await service.text("SM1", "other words", sender=TENANT_PHONE) for _ in range(3)]
        answers.append(await service.text("SM1", "of somebody else", sender="+14155550999"))

        assert {each.status_code for each in answers} == {200}
        assert await state() == before
        assert (await service.conversation())["total"] == 1
        assert await service.database.pool.fetchval("SELECT count(*) FROM work WHERE kind = 'message_received'") == 0

    async def test_at_two_instances_at_once_is_one_message_with_exact_counters(
        self, service: Service, settings: Settings, database_url: DatabaseUrl, database: Database
    ) -> None:
        before = counted("stored")
        sids = [new_sid() for _ in range(30)]
        async with running_service(settings, database_url, database) as other:
            answers = await asyncio.gather(
                *(each.text(sid) for sid in sids for each in (service, other, other, service))
            )

        assert {(each.status_code, each.text) for each in answers} == {(200, TWIML)}
        assert await stored(database) == 30
        assert counted("stored") == before + 30
        rows = await database.pool.fetch("SELECT conversation_seq FROM sms_messages ORDER BY 1")
        assert [row[0] for row in rows] == list(range(1, 31))
        assert (await service.conversation())["total"] == 30


class TestDatabaseAway:
    @pytest.fixture
    async def gate(self, database_url: DatabaseUrl) -> AsyncIterator[TcpGate]:
        async with TcpGate(database_url) as gate:
            yield gate

    @pytest.fixture
    def settings(self) -> Settings:
        return make_settings(auto_migrate=False, webhook_timeout_s=1.0, work_in_process=False)

    @pytest.fixture
    async def service(self, settings: Settings, gate: TcpGate, database: Database) -> AsyncIterator[Service]:
        await gate.open()
        async with running_service(settings, parse_database_url(gate.url), database) as service:
            yield service

    async def test_text_that_could_not_be_stored_is_never_answered_200_and_is_stored_when_it_comes_again(
        self, service: Service, gate: TcpGate
    ) -> None:
        await service.text("SM1")
        await gate.close()
        before = counted("unavailable")

        refused = [await service.text("SM2"), *await asyncio.gather(*(service.text(f"SM{n}") for n in range(3, 9)))]

        assert {(each.status_code, each.json()["error"]["code"]) for each in refused} == {(503, "sms.unavailable")}
        assert all(int(each.headers["retry-after"]) > 0 for each in refused)
        assert counted("unavailable") == before + 7
        assert await stored(service.database) == 1

        await gate.open()
        assert (await service.text("SM2")).status_code == 200
        assert await stored(service.database) == 2

    async def test_broken_connection_is_replaced_without_anybody_noticing(
        self, service: Service, gate: TcpGate
    ) -> None:
        await service.text("SM1")
        await gate.cut()

        answers = await asyncio.gather(*(service.text(f"SM{number}") for number in range(2, 8)))

        assert {each.status_code for each in answers} == {200}
        assert await stored(service.database) == 7

    async def test_session_ended_in_the_middle_of_a_statement_never_makes_an_answer_lie(self, service: Service) -> None:
        pool = service.database.pool
        async with service.database.transaction() as blocker:
            await blocker.execute("LOCK TABLE sms_conversations IN ACCESS EXCLUSIVE MODE")
            text = asyncio.create_task(service.text("SM1"))
            for _ in range(400):
                if await pool.fetchval(
                    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND wait_event_type = 'Lock'"
                ):
                    break
                await asyncio.sleep(0.01)
        answer = await text

        assert answer.status_code in (200, 503)
        assert await stored(service.database) == (1 if answer.status_code == 200 else 0)
        assert (await service.text("SM1")).status_code == 200
        assert await stored(service.database) == 1

    async def test_database_that_does_not_answer_in_time_is_a_503_and_stores_nothing(self, service: Service) -> None:
        await service.text("SM1")
        before = counted("timeout")
        async with service.database.transaction() as blocker:
            await blocker.execute("LOCK TABLE sms_conversations IN ACCESS EXCLUSIVE MODE")
            refused = await asyncio.gather(service.text("SM2"), service.text("SM3"))

        assert [each.status_code for each in refused] == [503, 503]
        assert counted("timeout") == before + 2
        assert (await service.text("SM2")).status_code == 200
        assert await stored(service.database) == 2

    async def test_status_callbacks_are_refused_the_same_way(self, service: Service, gate: TcpGate) -> None:
        await gate.close()
        assert (await service.status("SM1", "sent")).status_code == 503

        await gate.open()
        assert (await service.status("SM1", "sent")).status_code == 200

    async def test_database_that_does_not_exist_is_a_503(
        self, settings: Settings, database: Database, gate: TcpGate
    ) -> None:
        await gate.open()
        url = parse_database_url(f"{gate.url}_missing")
        async with running_service(settings, url, database) as service:
            response = await service.text("SM1")

        assert (response.status_code, response.json()["error"]["code"]) == (503, "sms.unavailable")


class TestLog:
    async def test_neither_text_nor_number_nor_signature_is_logged(self, service: Service) -> None:
        secret = "Mi clave es tulipán"
        pairs = text_form("SM1", secret)
        with capture_logs() as lines:
            await service.post_signed(SMS_PATH, pairs)
            await service.post_signed(SMS_PATH, pairs)
            await service.post(SMS_PATH, encode_form(pairs), signature="forged-signature")
            await service.post_signed(SMS_PATH, [pair for pair in pairs if pair[0] != "MessageSid"])
            await service.post_signed(f"{SMS_PATH}?phone={TENANT_PHONE[1:]}", text_form("SM2", secret))
            await service.status("SM1", "failed", ErrorMessage=f"{TENANT_PHONE}: {secret}")
            await service.finish_work()

        text = json.dumps(lines, default=repr, ensure_ascii=False)
        requests = [line for line in lines if line["event"] == "http.request"]
        assert [(line["status"], line["outcome"]) for line in requests] == [
            (200, "stored"),
            (200, "duplicate"),
            (403, "invalid_signature"),
            (400, "missing_message_sid"),
            (200, "stored"),
            (200, "applied"),
        ]
        assert (requests[0]["twilio_sid"], requests[0]["phone"]) == ("SM1", "***0123")
        for word in (
            secret,
            "tulip",
            TENANT_PHONE[1:],
            LOCAL_PHONE_NUMBER[1:],
            "forged-signature",
            signature_of(pairs),
        ):
            assert word not in text


class TestReceivedTime:
    async def test_last_message_at_is_when_the_newest_text_was_received(self, service: Service) -> None:
        await service.text("SM1")
        await service.text("SM2")

        conversation = await service.conversation()
        newest = conversation["messages"][0]  # type: ignore[index]
        assert newest["twilio_sid"] == "SM2"
        assert datetime.fromisoformat(str(conversation["last_message_at"])) == datetime.fromisoformat(
            newest["created_at"]
        )
