"""Prepared requests are what Twilio would send: signed, unique, complete."""

from urllib.parse import parse_qsl

import pytest

from benchmarks.requests import (
    ACCOUNT_SID,
    AUTH_TOKEN,
    BASE_URL,
    SMS_PATH,
    STATUS_PATH,
    TextMaker,
    history_read,
    phone_numbers,
    seeded_sid,
    status_callbacks,
)
from sms_foundation.providers.form import parse_form
from sms_foundation.providers.twilio.signature import verify_signature
from sms_foundation.providers.twilio.webhook import parse_inbound, parse_status


def take_apart(request: bytes) -> tuple[str, dict[str, str], bytes]:
    """Return path, headers (names in lower case) and body of a raw request."""
    head, _, body = request.partition(b"\r\n\r\n")
    request_line, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    assert headers.get("content-length", "0") == str(len(body))
    return request_line.split(" ")[1], headers, body


@pytest.fixture(scope="module")
def maker() -> TextMaker:
    return TextMaker()


class TestTexts:
    def test_are_accepted_by_our_verifier(self, maker: TextMaker) -> None:
        for request in maker.texts(50, phones=phone_numbers(10)).requests:
            path, headers, body = take_apart(request)
            pairs = parse_form(body)
            assert verify_signature(AUTH_TOKEN, BASE_URL + path, pairs, headers["x-twilio-signature"])
            assert (path, len(pairs)) == (SMS_PATH, 20)

    def test_carry_the_sids_that_are_handed_out_with_them(self, maker: TextMaker) -> None:
        texts = maker.texts(50, phones=phone_numbers(3))
        read = [parse_inbound(parse_form(take_apart(request)[2])) for request in texts.requests]
        assert [sms.provider_message_id for sms in read] == texts.sids
        assert len(set(texts.sids)) == 50
        assert {sms.sender for sms in read} == set(phone_numbers(3))

    def test_repeat_the_wanted_share_byte_for_byte(self, maker: TextMaker) -> None:
        texts = maker.texts(2000, phones=phone_numbers(10), duplicate_share=0.2)
        assert 0.15 < 1 - len(set(texts.sids)) / 2000 < 0.25
        assert len(set(texts.requests)) == len(set(texts.sids))


class TestStatusCallbacks:
    def test_are_signed_and_follow_each_message(self) -> None:
        read = []
        for request in status_callbacks(["SM1", "SM2"]):
            path, headers, body = take_apart(request)
            pairs = parse_form(body)
            assert verify_signature(AUTH_TOKEN, BASE_URL + STATUS_PATH, pairs, headers["x-twilio-signature"])
            assert (path, dict(parse_qsl(body.decode()))["AccountSid"]) == (STATUS_PATH, ACCOUNT_SID)
            report = parse_status(pairs)
            read.append((report.provider_message_id, report.event_status))
        assert read == [("SM1", "sent"), ("SM1", "delivered"), ("SM2", "sent"), ("SM2", "delivered")]


class TestHistoryRead:
    def test_encodes_the_plus_of_a_number(self) -> None:
        assert take_apart(history_read("+14155550123", "page=2"))[0] == "/conversations/%2B14155550123?page=2"


class TestPhoneNumbers:
    def test_are_different_e164_numbers(self) -> None:
        numbers = phone_numbers(100_000)
        assert len(set(numbers)) == 100_000
        assert {(len(number), number[:2]) for number in numbers} == {(12, "+1")}


class TestSeededSid:
    def test_looks_like_one_of_twilio(self) -> None:
        assert len(seeded_sid(1, family="outgoing")) == 34
        assert seeded_sid(1, family="outgoing") != seeded_sid(2, family="outgoing")
