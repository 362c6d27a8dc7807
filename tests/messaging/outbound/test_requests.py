"""What may be asked for, field by field; nothing here needs a database."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from sms_foundation.core.segments import count_segments
from sms_foundation.messaging.outbound.asked import SendRequest
from sms_foundation.messaging.outbound.requests import EXPIRED, Reschedule, SendBody, SendingLimits, make_request

LIMITS = SendingLimits(
    default_region="US",
    providers={"twilio", "telnyx"},
    allows_short_codes=False,
    encodes_smartly=False,
    validity=timedelta(days=1),
)
SMART = replace(LIMITS, encodes_smartly=True)
HELLO = {"to": "+14155550123", "message": "Hello"}


def read(limits: SendingLimits = LIMITS, **changes: object) -> SendBody:
    return SendBody.model_validate(HELLO | changes, context=limits)


def problems(limits: SendingLimits = LIMITS, **changes: object) -> dict[str, str]:
    """Return what is said about each wrong field."""
    with pytest.raises(ValidationError) as caught:
        read(limits, **changes)
    errors = caught.value.errors()
    found = {".".join(str(part) for part in each["loc"]): each["msg"] for each in errors}
    assert len(found) == len(errors), "a field is named twice"
    return found


def request_of(body: SendBody, limits: SendingLimits = LIMITS, **changes: Any) -> SendRequest:
    return make_request(body, client_id="client", limits=limits, **changes)


def at(**from_now: float) -> str:
    return (datetime.now(UTC) + timedelta(**from_now)).isoformat()


class TestEverythingWrong:
    def test_is_named_at_once(self) -> None:
        assert set(
            problems(
                to="nobody",
                message="",
                sender_id="!",
                metadata={"a": 1},
                idempotency_key="",
                conversation_id="7",
                send_at="tomorrow",
                validity_s=0,
                expires_at=5,
                priority="high",
                provider="carrier-pigeon",
                content_retention="never",
                colour="red",
            )
        ) == set(
            "to message sender_id metadata.a idempotency_key conversation_id send_at validity_s expires_at priority "
            "provider content_retention colour".split()
        )

    def test_nothing_at_all_lacks_number_and_text(self) -> None:
        with pytest.raises(ValidationError) as caught:
            SendBody.model_validate({}, context=LIMITS)
        assert [each["loc"] for each in caught.value.errors()] == [("to",), ("message",)]

    @pytest.mark.parametrize("wrong", [None, 5, 1.5, True, [], {}])
    def test_no_field_takes_another_type_for_its_own(self, wrong: object) -> None:
        for field in SendBody.model_fields:
            is_right = (
                (wrong is None and SendBody.model_fields[field].default is None)
                or (wrong == [] and field == "media_urls")
                or (wrong == {} and field == "metadata")
                or (type(wrong) is int and field in ("validity_s", "content_retention"))
            )
            if not is_right:
                assert set(problems(**{field: wrong})) == {field}

    def test_text_twice_is_one_too_many(self) -> None:
        assert set(problems(body="Hello")) == {"body"}

    def test_alias_is_named_as_it_was_given(self) -> None:
        with pytest.raises(ValidationError) as caught:
            SendBody.model_validate({"to": "+14155550123", "body": " \n"}, context=LIMITS)
        assert [each["loc"] for each in caught.value.errors()] == [("body",)]


class TestTo:
    @pytest.mark.parametrize(
        "spelling", ["+1 (415) 555-0123", "415-555-0123", "4155550123", "0014155550123", "tel:+14155550123"]
    )
    def test_any_spelling_becomes_e164(self, spelling: str) -> None:
        assert read(to=spelling).to == "+14155550123"

    @pytest.mark.parametrize(("region", "number"), [("US", "+12079460018"), ("GB", "+442079460018")])
    def test_number_without_country_belongs_to_the_default_region(self, region: str, number: str) -> None:
        spelling = {"US": "2079460018", "GB": "020 7946 0018"}[region]
        assert read(replace(LIMITS, default_region=region), to=spelling).to == number

    @pytest.mark.parametrize(
        "wrong", ["", " ", "nobody", "+", "+1", "+141555", "+0123456789", "1-800-FLOWERS", "+" + "1" * 16, "\x00"]
    )
    def test_what_is_no_number_is_refused(self, wrong: str) -> None:
        assert problems(to=wrong) == {"to": "Value error, is not a phone number; write it as +14155550123"}

    @pytest.mark.parametrize("channel", ["whatsapp:", "messenger:"])
    def test_other_channels_are_refused(self, channel: str) -> None:
        assert set(problems(to=f"{channel}+14155550123")) == {"to"}

    def test_short_code_needs_a_provider_that_sends_to_them(self) -> None:
        assert read(replace(LIMITS, allows_short_codes=True), to="12345").to == "12345"
        assert "short codes" in problems(to="12345")["to"]

    @given(st.text(max_size=30) | st.from_regex(r"\+?[0-9 ().-]{3,20}"))
    def test_whatever_is_taken_is_e164(self, to: str) -> None:
        try:
            recipient = read(to=to).to
        except ValidationError:
            return
        assert recipient[0] == "+"
        assert 7 <= len(recipient) - 1 <= 15
        assert recipient[1:].isdecimal()
        assert read(to=recipient).to == recipient


class TestMessage:
    def test_1600_characters_fit_and_1601_do_not(self) -> None:
        assert len(read(message="x" * 1600).message) == 1600
        assert problems(message="x" * 1601) == {"message": "Value error, has 1601 characters, at most 1600 can be sent"}

    def test_characters_are_counted_not_code_units(self) -> None:
        assert len(read(message="🙂" * 1600).message) == 1600
        assert set(problems(message="🙂" * 1601)) == {"message"}

    @pytest.mark.parametrize(
        "forbidden", [*range(0x0A), 0x0B, 0x0C, *range(0x0E, 0x20), *range(0x7F, 0xA0), 0xD800, 0xDFFF]
    )
    def test_control_characters_and_half_pairs_are_refused_by_their_name(self, forbidden: int) -> None:
        assert f"U+{forbidden:04X}" in problems(message=f"a{chr(forbidden)}b")["message"]

    @pytest.mark.parametrize("text", ["a\nb", "a\r\nb", "\u2028", "Ünïcödé", "👩‍👩‍👧", "مرحبا", "\u200fx", "\ufffd"])
    def test_line_breaks_and_every_script_are_kept_as_they_are(self, text: str) -> None:
        assert read(message=f"{text}.").message == f"{text}."

    @pytest.mark.parametrize("empty", ["", " ", "\n", "\r\n  \n", "\u3000"])
    def test_nothing_but_space_is_empty(self, empty: str) -> None:
        assert problems(message=empty) == {"message": "Value error, is empty"}

    def test_picture_needs_no_text(self) -> None:
        assert read(message="", media_urls=["https://example.com/1.png"]).message == ""

    def test_wrong_picture_is_one_mistake_and_not_two(self) -> None:
        assert set(problems(message="", media_urls=["ftp://example.com"])) == {"media_urls"}

    def test_smart_encoding_is_a_setting(self) -> None:
        assert read(message="“Hi”").message == "“Hi”"
        assert read(SMART, message="“Hi”").message == '"Hi"'

    def test_smart_encoding_never_makes_a_text_too_long(self) -> None:
        text = "…" * 800 + "a" * 800
        assert read(SMART, message=text).message == text

    def test_what_smart_encoding_leaves_nothing_of_is_empty(self) -> None:
        assert set(problems(SMART, message="\u200b")) == {"message"}

    @given(st.text(max_size=1700))
    def test_whatever_is_taken_can_be_stored_and_sent(self, text: str) -> None:
        for limits in (LIMITS, SMART):
            try:
                message = read(limits, message=text).message
            except ValidationError:
                continue
            assert 1 <= len(message.encode().decode()) <= 1600
            assert "\x00" not in message
            assert message.strip()


class TestMedia:
    def test_ten_are_enough(self) -> None:
        urls = [f"https://example.com/{place}.png" for place in range(11)]
        assert read(media_urls=urls[:10]).media_urls == urls[:10]
        assert set(problems(media_urls=urls)) == {"media_urls"}

    @pytest.mark.parametrize(
        "wrong", ["", "x", "ftp://a/b", "https://", "https://a b", "https://a\n", "https://\x00", "https://\ud800"]
    )
    def test_only_what_a_provider_can_fetch(self, wrong: str) -> None:
        assert set(problems(media_urls=["https://example.com/1.png", wrong])) == {"media_urls"}


class TestSenderId:
    @pytest.mark.parametrize(
        ("given_as", "sender"), [("(500) 555-0006", "+15005550006"), ("12345", "12345"), ("ACME Rent", "ACME Rent")]
    )
    def test_number_short_code_or_name(self, given_as: str, sender: str) -> None:
        assert read(sender_id=given_as).sender_id == sender

    @pytest.mark.parametrize("wrong", ["", "A" * 12, "Zoë", "é", "\x00", "1" * 20])
    def test_anything_else_is_refused(self, wrong: str) -> None:
        assert set(problems(sender_id=wrong)) == {"sender_id"}


class TestMetadata:
    def test_strings_by_name_come_through(self) -> None:
        labels = {"case": "4711", "note": "", "año": "🙂" * 500}
        assert read(metadata=labels).metadata == labels

    @pytest.mark.parametrize(
        "wrong", [{"": "x"}, {"a" * 65: "x"}, {"a": "x" * 501}, {"a": "\x00"}, {"\x00": "a"}, {"a": "\ud800"}]
    )
    def test_what_cannot_be_kept_is_refused(self, wrong: dict[str, str]) -> None:
        assert all(field.startswith("metadata.") for field in problems(metadata=wrong))

    def test_fifty_are_enough(self) -> None:
        labels = {str(number): "" for number in range(51)}
        assert set(problems(metadata=labels)) == {"metadata"}
        assert len(read(metadata=dict(list(labels.items())[:50])).metadata or ()) == 50


class TestTimes:
    def test_any_zone_comes_in_and_utc_is_kept(self) -> None:
        tomorrow = (datetime.now(UTC) + timedelta(days=1)).replace(microsecond=0)
        for zone in ("-05:00", "+05:45", "Z", "+00:00"):
            there = tomorrow.astimezone(datetime.fromisoformat(f"2026-01-01T00:00:00{zone}").tzinfo)
            send_at = read(send_at=there.isoformat()).send_at
            assert send_at == tomorrow
            assert send_at.tzinfo is UTC

    @pytest.mark.parametrize(
        "wrong",
        [
            "2026-11-20T10:00:00",
            "2026-11-20",
            "now",
            "",
            "20261120",
            "1790000000",
            1790000000,
            "2026-13-01T00:00:00Z",
            "0001-01-01T00:00:00+14:00",
            "9999-12-31T23:59:59-14:00",
            "9999-12-31T23:59:59Z",
        ],
    )
    def test_time_without_zone_number_or_nonsense_is_refused(self, wrong: object) -> None:
        assert set(problems(send_at=wrong)) == {"send_at"}
        assert set(problems(expires_at=wrong)) == {"expires_at"}
        with pytest.raises(ValidationError):
            Reschedule.model_validate({"send_at": wrong})

    def test_at_most_a_year_ahead(self) -> None:
        assert read(send_at=at(days=365)).send_at is not None
        assert set(problems(send_at=at(days=367))) == {"send_at"}

    def test_time_to_send_that_is_past_means_now(self) -> None:
        assert read(send_at="0001-01-01T00:00:00Z").send_at == datetime(1, 1, 1, tzinfo=UTC)

    def test_expiry_is_ahead_and_after_the_time_to_send(self) -> None:
        assert problems(expires_at=at(seconds=-1)) == {"expires_at": "is in the past"}
        assert set(problems(send_at=at(hours=2), expires_at=at(hours=1))) == {"expires_at"}
        assert read(send_at=at(hours=1), expires_at=at(hours=2)).expires_at is not None

    def test_only_a_repetition_may_be_too_late(self) -> None:
        with pytest.raises(ValidationError) as caught:
            read(expires_at=at(seconds=-1))
        assert [each["type"] for each in caught.value.errors()] == [EXPIRED]
        assert read(replace(LIMITS, tolerates_expired=True), expires_at=at(seconds=-1)).expires_at is not None

    def test_expiry_is_given_once(self) -> None:
        assert set(problems(expires_at=at(hours=1), validity_s=60)) == {"expires_at"}

    @pytest.mark.parametrize("wrong", [0, -1, 31_622_401, 10**30, "60", 60.0, True])
    def test_validity_is_a_number_of_seconds(self, wrong: object) -> None:
        assert set(problems(validity_s=wrong)) == {"validity_s"}


class TestContentRetention:
    @pytest.mark.parametrize("kept", ["full", "hash", 1, 3650])
    def test_full_hash_or_days(self, kept: object) -> None:
        assert request_of(read(content_retention=kept)).content_retention == str(kept)

    @pytest.mark.parametrize("wrong", ["", "7", "FULL", 0, -1, 3651, 7.0, True, None, ["full"]])
    def test_anything_else_is_refused_once(self, wrong: object) -> None:
        assert set(problems(content_retention=wrong)) == {"content_retention"}


class TestMakeRequest:
    def test_expiry_counts_from_the_time_to_send(self) -> None:
        now = datetime.now(UTC)
        for body, starts_at in [
            (read(validity_s=60), now),
            (read(validity_s=60, send_at=at(hours=5)), now + timedelta(hours=5)),
        ]:
            expires_at = request_of(body).expires_at
            assert expires_at is not None
            assert abs(expires_at - starts_at - timedelta(seconds=60)) < timedelta(seconds=10)

    def test_time_to_send_that_is_past_takes_nothing_from_the_validity(self) -> None:
        expires_at = request_of(read(validity_s=60, send_at="2020-01-01T00:00:00Z")).expires_at
        assert expires_at is not None
        assert expires_at > datetime.now(UTC)

    def test_default_validity_is_a_setting(self) -> None:
        expires_at = request_of(read()).expires_at
        assert expires_at is not None
        assert timedelta(hours=23) < expires_at - datetime.now(UTC) <= timedelta(days=1)
        assert request_of(read(), replace(LIMITS, validity=None)).expires_at is None

    def test_longest_times_add_up(self) -> None:
        assert request_of(read(send_at=at(days=365), validity_s=31_622_400)).expires_at is not None

    @given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=400).map("a".__add__))
    def test_segments_are_those_of_the_text_that_is_sent(self, text: str) -> None:
        for limits in (LIMITS, SMART):
            request = request_of(read(limits, message=text), limits)
            assert (request.encoding, request.num_segments) == count_segments(request.content)

    def test_digest_is_of_what_was_asked_for_however_it_was_written(self) -> None:
        plain = request_of(read())
        assert request_of(read(to="(415) 555-0123")).digest == plain.digest
        spelled = SendBody.model_validate({"body": "Hello", "to": "+14155550123"}, context=LIMITS)
        assert request_of(spelled).digest == plain.digest
        assert request_of(read(idempotency_key="k")).digest == plain.digest
        assert (
            request_of(read(metadata={"a": "1", "b": "2"})).digest
            == request_of(read(metadata={"b": "2", "a": "1"})).digest
        )

    @pytest.mark.parametrize(
        "change",
        [
            {"to": "+14155550124"},
            {"message": "Hello."},
            {"sender_id": "ACME"},
            {"metadata": {"a": "1"}},
            {"media_urls": ["https://example.com/1"]},
            {"priority": "urgent"},
            {"provider": "twilio"},
            {"validity_s": 60},
            {"send_at": "2026-01-01T00:00:00Z"},
            {"content_retention": 7},
            {"conversation_id": "01a1f942-d8ca-72d7-8729-30bcf12788d0"},
        ],
    )
    def test_digest_notices_every_change(self, change: dict[str, object]) -> None:
        assert request_of(read(**change)).digest != request_of(read()).digest

    def test_key_may_come_from_the_header(self) -> None:
        assert request_of(read(), idempotency_key="h").idempotency_key == "h"
        assert request_of(read(idempotency_key="b")).idempotency_key == "b"

    def test_content_is_not_in_its_representation(self) -> None:
        assert "Hello" not in repr(request_of(read()))
