import base64
import json
from urllib.parse import parse_qsl, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sms_foundation.providers.base import InboundSms, Media, MessageStatus, StatusReport
from sms_foundation.providers.errors import WebhookParseError
from sms_foundation.providers.form import Pairs, parse_form, printable
from sms_foundation.providers.twilio.webhook import (
    PROVIDER,
    account_sid,
    parse_inbound,
    parse_status,
)

SID = "SM" + "0123456789abcdef" * 2
REQUIRED = [("MessageSid", SID), ("From", "+14155550123")]

form_like = st.text(st.sampled_from("&=+%;0aAfF9zZ. \x00\x7f"), max_size=120) | st.text(
    st.characters(max_codepoint=127), max_size=120
)


def inbound(*pairs: tuple[str, str], **fields: str) -> InboundSms:
    return parse_inbound([*REQUIRED, *pairs, *fields.items()])


def status(**fields: str) -> StatusReport:
    return parse_status(list({"MessageSid": "SM1", **fields}.items()))


def refusal(pairs: Pairs) -> str:
    with pytest.raises(WebhookParseError) as caught:
        parse_inbound(pairs)
    return caught.value.reason


def shown(raw: str) -> dict[str, list[bytes]]:
    """Read back from a raw payload which values, byte for byte, each name had."""
    payload = json.loads(raw)
    return {
        name: [
            base64.b64decode(value["base64"]) if isinstance(value, dict) else value.encode()
            for value in (values if isinstance(values, list) else [values])
        ]
        for name, values in payload.items()
    }


def grouped(form: list[tuple[str, bytes]]) -> dict[str, list[bytes]]:
    values: dict[str, list[bytes]] = {}
    for name, value in form:
        values.setdefault(name, []).append(value)
    return values


class TestParseForm:
    @given(form_like)
    def test_reads_what_the_standard_library_reads(self, body: str) -> None:
        assert parse_form(body.encode()) == parse_qsl(body, keep_blank_values=True, errors="surrogateescape")

    @given(st.lists(st.tuples(st.binary(max_size=60), st.binary(max_size=60)), max_size=8))
    def test_every_byte_survives(self, form: list[tuple[bytes, bytes]]) -> None:
        body = "&".join(f"{quote_plus(name)}={quote_plus(value)}" for name, value in form).encode()

        pairs = parse_form(body)

        assert [tuple(part.encode("utf-8", "surrogateescape") for part in pair) for pair in pairs] == form

    @given(st.binary(max_size=200))
    def test_reads_any_bytes_whatsoever(self, body: bytes) -> None:
        for name, value in parse_form(body):
            (name + value).encode("utf-8", "surrogateescape")

    def test_keeps_blanks_repeats_and_order(self) -> None:
        body = b"b=&a&=x&b=2&&b=1&=&"

        assert parse_form(body) == [("b", ""), ("a", ""), ("", "x"), ("b", "2"), ("b", "1"), ("", "")]

    def test_a_plus_is_a_space_and_an_escaped_plus_is_none(self) -> None:
        assert parse_form(b"From=%2B1415+555") == [("From", "+1415 555")]

    def test_bytes_that_nobody_escaped_are_kept(self) -> None:
        assert parse_form("Body=¡Hola!".encode()) == [("Body", "¡Hola!")]

    def test_takes_twenty_thousand_parameters(self) -> None:
        body = "&".join(f"p{number}={number}" for number in range(20_000)).encode()

        assert parse_form(body) == [(f"p{number}", str(number)) for number in range(20_000)]


class TestParseInbound:
    def test_reads_an_ordinary_text(self) -> None:
        sms = inbound(To="+15005550006", Body="No hay agua 💧", NumMedia="0", NumSegments="2", ToCity="")

        assert sms[:8] == (PROVIDER, SID, "+14155550123", "+15005550006", "No hay agua 💧", (), 2, sms.raw)

    @pytest.mark.parametrize(
        "sender",
        [
            "+14155550123",
            "whatsapp:+14155550123",
            "rcs:acme_agent",
            "messenger:1234567890",
            "72345",
            "ACME",
            "sim:DE0123456789",
        ],
    )
    def test_keeps_an_address_of_any_kind_as_it_was_written(self, sender: str) -> None:
        sms = parse_inbound([("MessageSid", "SM1"), ("From", sender), ("To", sender)])

        assert (sms.sender, sms.recipient) == (sender, sender)

    @pytest.mark.parametrize("pairs", [[], [("Body", "x")]])
    def test_text_without_body_or_recipient_is_an_empty_one(self, pairs: Pairs) -> None:
        sms = parse_inbound([*REQUIRED, *pairs])

        assert (sms.body, sms.recipient) == (dict(pairs).get("Body", ""), "")

    @pytest.mark.parametrize("sid", [None, "", " ", "\t\n"])
    def test_missing_or_blank_sid_is_refused(self, sid: str | None) -> None:
        pairs = [("From", "+14155550123"), ("SmsSid", "SM1"), *([] if sid is None else [("MessageSid", sid)])]

        assert refusal(pairs) == "missing_message_sid"

    @pytest.mark.parametrize("sender", [None, "", " ", "\t\n", "\x01\x7f", "\x01 \x01", "\u200b\u202e"])
    def test_missing_blank_or_invisible_sender_is_refused(self, sender: str | None) -> None:
        pairs = [("MessageSid", "SM1"), ("To", "+15005550006"), *([] if sender is None else [("From", sender)])]

        assert refusal(pairs) == "missing_from"

    def test_overlong_sid_and_addresses_are_refused(self) -> None:
        assert refusal([("MessageSid", "x" * 35), ("From", "+14155550123")]) == "bad_message_sid"
        assert refusal([("MessageSid", "SM1"), ("From", "x" * 321)]) == "bad_address"
        assert refusal([*REQUIRED, ("To", "x" * 321)]) == "bad_address"
        assert parse_inbound([("MessageSid", "x" * 34), ("From", "y" * 320)]).sender == "y" * 320

    def test_sid_that_goes_on_in_the_next_name_is_refused(self) -> None:
        for length in range(2, 34):
            if SID[length] in "abcdef":
                cut = [("From", "+14155550123"), ("MessageSid", SID[:length]), (SID[length:] + "NumMedia0", "")]
                assert refusal(cut) == "bad_message_sid"

    def test_refusal_does_not_repeat_what_was_sent(self) -> None:
        with pytest.raises(WebhookParseError) as caught:
            parse_inbound([("MessageSid", "SM1"), ("From", "4155550123" * 40)])

        assert "4155550123" not in str(caught.value)

    def test_of_a_repeated_field_the_first_counts_and_all_are_shown(self) -> None:
        sms = inbound(("Body", "first"), ("Body", "second"), ("From", "+19995550123"))

        assert (sms.body, sms.sender) == ("first", "+14155550123")
        assert shown(sms.raw)["Body"] == [b"first", b"second"]
        assert shown(sms.raw)["From"] == [b"+14155550123", b"+19995550123"]

    @pytest.mark.parametrize(
        ("given_count", "expected"),
        [("3", 3), ("", 1), ("0", 1), ("-1", 1), ("x", 1), ("٣", 1), ("9" * 5000, 1), ("99999", 1000)],
    )
    def test_count_of_segments_is_bounded(self, given_count: str, expected: int) -> None:
        assert inbound(NumSegments=given_count).num_segments == expected

    @given(st.dictionaries(st.sampled_from(["Body", "To", "MediaUrl0", "MediaContentType0", "x"]), st.binary()))
    def test_no_field_holds_what_postgresql_cannot_store(self, fields: dict[str, bytes]) -> None:
        sms = parse_inbound(
            [*REQUIRED, ("NumMedia", "1")]
            + [(name, value.decode("utf-8", "surrogateescape")) for name, value in fields.items() if len(value) <= 80]
        )

        for text in (
            sms.sender,
            sms.recipient,
            sms.body,
            sms.raw,
            *(part for m in sms.media for part in (m.url, m.content_type)),
        ):
            assert "\0" not in text
            text.encode()


class TestMedia:
    def test_each_attachment_has_its_address_and_type(self) -> None:
        sms = inbound(
            NumMedia="2",
            MediaUrl0="https://a/0",
            MediaContentType0="image/jpeg",
            MediaUrl1="https://a/1",
            MediaUrl10="x",
        )

        assert sms.media == (Media("https://a/0", "image/jpeg"), Media("https://a/1", ""))

    def test_text_with_no_attachment_says_so_by_a_count_of_zero(self) -> None:
        assert inbound(NumMedia="0", MediaUrl0="https://a/0").media == ()
        assert inbound(MediaUrl0="https://a/0").media == ()

    def test_announced_attachment_that_is_missing_is_left_out(self) -> None:
        assert inbound(NumMedia="3", MediaUrl2="https://a/2").media == (Media("https://a/2", ""),)

    @pytest.mark.parametrize("number", ["-1", "x", "", "1e9", "²"])
    def test_count_that_is_no_number_is_none(self, number: str) -> None:
        assert inbound(NumMedia=number, MediaUrl0="https://a/0").media == ()

    def test_absurd_count_costs_nothing(self) -> None:
        assert inbound(NumMedia="999999999", MediaUrl0="https://a/0").media == (Media("https://a/0", ""),)


class TestRawPayload:
    @given(
        st.lists(
            st.tuples(
                st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=6),
                st.binary(max_size=20) | st.sampled_from([b"\\u0000", b"\0", b"\xed\xa0\x80", b"", b"{}"]),
            ),
            max_size=8,
        )
    )
    def test_shows_what_was_sent_byte_for_byte(self, form: list[tuple[str, bytes]]) -> None:
        form = [*[(name, value.encode()) for name, value in REQUIRED], *form]

        sms = parse_inbound([(name, value.decode("utf-8", "surrogateescape")) for name, value in form])

        assert shown(sms.raw) == grouped(form)

    @pytest.mark.parametrize(
        ("value", "written"),
        [
            (b"plain", "plain"),
            ("¡Sí! 🙂".encode(), "¡Sí! 🙂"),
            (b"\\u0000", "\\u0000"),
            (b"a\0b", {"base64": "YQBi"}),
            (b"caf\xe9", {"base64": "Y2Fm6Q=="}),
            (b"\xed\xa0\x80", {"base64": "7aCA"}),  # a lone surrogate
        ],
    )
    def test_writes_text_as_text_and_other_bytes_as_base64(self, value: bytes, written: object) -> None:
        sms = inbound(Body=value.decode("utf-8", "surrogateescape"))

        assert json.loads(sms.raw)["Body"] == written

    def test_writes_a_name_that_no_json_can_hold_with_escapes(self) -> None:
        sms = inbound(("a\0", "1"), (b"b\xff".decode("utf-8", "surrogateescape"), "2"), ("", "3"))

        assert shown(sms.raw) == {
            **grouped([(n, v.encode()) for n, v in REQUIRED]),
            "a\\x00": [b"1"],
            "b\\xff": [b"2"],
            "": [b"3"],
        }

    def test_holds_twenty_thousand_parameters(self) -> None:
        sms = inbound(*[(f"p{number % 10_000}", str(number)) for number in range(20_000)])

        payload = json.loads(sms.raw)
        assert len(payload) == 10_002
        assert payload["p7"] == ["7", "10007"]


class TestParseStatus:
    def test_reads_an_ordinary_callback(self) -> None:
        report = status(MessageStatus="undelivered", ErrorCode="30003", ErrorMessage="Unreachable", RawDlrDoneDate="")

        assert report[:7] == (
            PROVIDER,
            "SM1",
            "undelivered",
            MessageStatus.UNDELIVERED,
            "30003",
            "Unreachable",
            report.raw,
        )

    @pytest.mark.parametrize("known", sorted(set(MessageStatus) - {MessageStatus.UNKNOWN, MessageStatus.EXPIRED}))
    def test_knows_every_documented_status(self, known: MessageStatus) -> None:
        assert status(MessageStatus=known.value).status is known

    def test_unknown_word_is_kept_without_a_status(self) -> None:
        report = status(MessageStatus="teleported")

        assert (report.event_status, report.status) == ("teleported", None)

    def test_case_and_surrounding_space_do_not_matter(self) -> None:
        assert status(MessageStatus=" Delivered\n").status is MessageStatus.DELIVERED

    def test_older_name_is_read_when_the_newer_is_missing_or_blank(self) -> None:
        assert status(SmsStatus="sent").status is MessageStatus.SENT
        assert status(MessageStatus=" ", SmsStatus="sent").status is MessageStatus.SENT
        assert status(MessageStatus="delivered", SmsStatus="sent").status is MessageStatus.DELIVERED

    @pytest.mark.parametrize(
        ("fields", "reason"),
        [
            ({}, "missing_status"),
            ({"MessageStatus": "", "SmsStatus": " "}, "missing_status"),
            ({"MessageStatus": "x" * 129}, "missing_status"),
            ({"MessageSid": "", "MessageStatus": "sent"}, "missing_message_sid"),
            ({"MessageSid": "x" * 129, "MessageStatus": "sent"}, "bad_message_sid"),
        ],
    )
    def test_callback_without_sid_or_status_is_refused(self, fields: dict[str, str], reason: str) -> None:
        with pytest.raises(WebhookParseError) as caught:
            status(**fields)

        assert caught.value.reason == reason

    @pytest.mark.parametrize(
        ("code", "expected"), [("30003", "30003"), ("", None), ("0", None), (" ", None), ("x" * 99, "x" * 32)]
    )
    def test_error_code_is_short_or_none(self, code: str, expected: str | None) -> None:
        assert status(MessageStatus="failed", ErrorCode=code).error_code == expected

    def test_error_message_is_cut(self) -> None:
        assert status(MessageStatus="failed", ErrorMessage="x" * 600).error_message == "x" * 500


class TestAccountSid:
    def test_is_the_first_or_nothing(self) -> None:
        assert account_sid([("a", "b"), ("AccountSid", "AC1"), ("AccountSid", "AC2")]) == "AC1"
        assert account_sid([("accountsid", "AC1")]) == ""


class TestPrintable:
    @given(st.binary())
    def test_result_can_be_stored_and_is_printable_already(self, data: bytes) -> None:
        text = printable(data.decode("utf-8", "surrogateescape"))

        assert "\0" not in text
        text.encode()
        assert printable(text) == text

    @given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
    def test_text_that_can_be_stored_is_not_changed(self, text: str) -> None:
        assert printable(text) == text

    def test_what_cannot_be_stored_is_marked(self) -> None:
        assert printable(b"a\0b\xe9c".decode("utf-8", "surrogateescape")) == "a\ufffdb\ufffdc"
