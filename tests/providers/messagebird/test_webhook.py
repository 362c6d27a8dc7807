import json

import pytest

from sms_foundation.providers.base import MessageStatus, Price
from sms_foundation.providers.errors import ErrorKind, WebhookParseError
from sms_foundation.providers.json_object import JsonObject
from sms_foundation.providers.messagebird.errors import kind_of_delivery_error
from sms_foundation.providers.messagebird.webhook import parse_inbound, parse_status

REPORT = {"id": "1", "reference": "ref.1", "recipient": "14155550123", "status": "sent"}
TEXT = {"id": "1", "originator": "14155550123", "recipient": "15005550006", "body": " Hola \n"}


class TestParseStatus:
    @pytest.mark.parametrize(
        ("word", "status"),
        [
            ("scheduled", MessageStatus.SCHEDULED),
            ("buffered", MessageStatus.QUEUED),
            ("sent", MessageStatus.SENT),
            ("Delivered", MessageStatus.DELIVERED),
            ("expired", MessageStatus.UNDELIVERED),
            ("delivery_failed", MessageStatus.UNDELIVERED),
            ("abducted", None),
        ],
    )
    def test_each_word_has_its_status(self, word: str, status: MessageStatus | None) -> None:
        report = parse_status(JsonObject({**REPORT, "status": word}), provider="mb")

        assert (report.event_status, report.status) == (word.lower(), status)

    def test_error_is_read_when_there_is_one(self) -> None:
        failed = parse_status(JsonObject({**REPORT, "statusErrorCode": "1", "statusReason": "gone"}), provider="mb")
        fine = parse_status(JsonObject({**REPORT, "statusErrorCode": "0", "statusReason": "delivered"}), provider="mb")

        assert (failed.error_code, failed.error_message) == ("1", "gone")
        assert (failed.error_kind, fine.error_kind) == (ErrorKind.INVALID_RECIPIENT, None)
        assert (fine.error_code, fine.error_message) == (None, None)

    def test_reference_is_ours_in_either_spelling(self) -> None:
        assert parse_status(JsonObject(REPORT), provider="mb").reference == "ref.1"
        assert parse_status(JsonObject({**REPORT, "reference": "", "ref": "r2"}), provider="mb").reference == "r2"
        assert parse_status(JsonObject({**REPORT, "reference": "x" * 41}), provider="mb").reference is None

    def test_price_is_read_from_a_form(self) -> None:
        report = parse_status(JsonObject({**REPORT, "price[amount]": "0.075", "price[currency]": "EUR"}), provider="mb")

        assert report.price == Price(75_000, "EUR")

    @pytest.mark.parametrize("missing", ["id", "status"])
    def test_what_must_be_there_is_named(self, missing: str) -> None:
        with pytest.raises(WebhookParseError, match=missing):
            parse_status(JsonObject({**REPORT, missing: " "}), provider="mb")


class TestParseInbound:
    def test_body_stays_as_it_is_and_numbers_get_their_plus(self) -> None:
        sms = parse_inbound(JsonObject(TEXT), provider="mb")

        assert (sms.provider, sms.provider_message_id, sms.body) == ("mb", "1", " Hola \n")
        assert (sms.sender, sms.recipient) == ("+14155550123", "+15005550006")
        assert json.loads(sms.raw) == TEXT

    @pytest.mark.parametrize("sender", ["12345", "Bank"])
    def test_short_codes_and_names_get_none(self, sender: str) -> None:
        assert parse_inbound(JsonObject({**TEXT, "originator": sender}), provider="mb").sender == sender

    @pytest.mark.parametrize("missing", ["id", "originator", "body"])
    def test_what_must_be_there_is_named(self, missing: str) -> None:
        with pytest.raises(WebhookParseError, match=missing):
            parse_inbound(JsonObject({name: value for name, value in TEXT.items() if name != missing}), provider="mb")

    def test_nul_reaches_no_string(self) -> None:
        sms = parse_inbound(JsonObject({**TEXT, "body": "a\0b", "originator": "+1\0"}), provider="mb")

        assert "\0" not in sms.body + sms.sender
        assert "\\u0000" not in sms.raw


class TestKindOfDeliveryError:
    @pytest.mark.parametrize(
        ("code", "kind"),
        [("1", ErrorKind.INVALID_RECIPIENT), ("27", ErrorKind.UNAVAILABLE), ("34", ErrorKind.UNAVAILABLE), ("0", None)],
    )
    def test_follows_the_table(self, code: str, kind: ErrorKind | None) -> None:
        assert kind_of_delivery_error(code) is kind
