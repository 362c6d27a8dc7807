import pytest

from sms_foundation.providers.base import MessageStatus, Price
from sms_foundation.providers.errors import ErrorKind, WebhookParseError
from sms_foundation.providers.json_object import JsonObject
from sms_foundation.providers.vonage.errors import kind_of_delivery_error, kind_of_part_status
from sms_foundation.providers.vonage.webhook import parse_inbound, parse_status

REPORT = {"messageId": "1", "msisdn": "14155550123", "status": "delivered", "err-code": "0", "price": "0.0333"}
TEXT = {"messageId": "1", "msisdn": "14155550123", "to": "15005550006", "text": "Hola"}


class TestParseStatus:
    @pytest.mark.parametrize(
        ("word", "status"),
        [
            ("accepted", MessageStatus.SENT),
            ("buffered", MessageStatus.SENT),
            ("delivered", MessageStatus.DELIVERED),
            ("expired", MessageStatus.UNDELIVERED),
            ("failed", MessageStatus.UNDELIVERED),
            ("rejected", MessageStatus.UNDELIVERED),
            ("unknown", None),
            ("abducted", None),
        ],
    )
    def test_each_word_has_its_status(self, word: str, status: MessageStatus | None) -> None:
        report = parse_status(JsonObject({**REPORT, "status": word}), provider="v")

        assert (report.event_status, report.status) == (word, status)

    def test_error_gets_its_name_because_receipts_carry_none(self) -> None:
        failed = parse_status(JsonObject({**REPORT, "status": "failed", "err-code": "9"}), provider="v")
        unheard_of = parse_status(JsonObject({**REPORT, "status": "failed", "err-code": "77"}), provider="v")

        assert (failed.error_code, failed.error_message) == ("9", "illegal number")
        assert (failed.error_kind, unheard_of.error_kind) == (ErrorKind.OPTED_OUT, None)
        assert (unheard_of.error_code, unheard_of.error_message) == ("77", None)

    def test_code_zero_is_no_error(self) -> None:
        report = parse_status(JsonObject(REPORT), provider="v")

        assert (report.error_code, report.error_message) == (None, None)
        assert report.price == Price(33_300, "EUR")

    @pytest.mark.parametrize("missing", ["messageId", "status"])
    def test_what_must_be_there_is_named(self, missing: str) -> None:
        with pytest.raises(WebhookParseError, match=missing):
            parse_status(JsonObject({**REPORT, missing: " "}), provider="v")


class TestParseInbound:
    def test_binary_message_has_an_empty_body(self) -> None:
        binary = {"messageId": "1", "msisdn": "14155550123", "type": "binary", "data": "0011"}

        assert parse_inbound(JsonObject(binary), provider="v").body == ""

    @pytest.mark.parametrize("missing", ["messageId", "msisdn"])
    def test_what_must_be_there_is_named(self, missing: str) -> None:
        with pytest.raises(WebhookParseError, match=missing):
            parse_inbound(
                JsonObject({**TEXT, missing: "\u200e"} if missing == "msisdn" else {"msisdn": "1"}), provider="v"
            )


class TestKinds:
    @pytest.mark.parametrize(
        ("code", "kind"),
        [
            ("2", ErrorKind.UNAVAILABLE),
            ("3", ErrorKind.INVALID_RECIPIENT),
            ("6", ErrorKind.CONTENT_REJECTED),
            ("9", ErrorKind.OPTED_OUT),
            ("1", None),
            ("77", None),
        ],
    )
    def test_delivery_errors_follow_the_table(self, code: str, kind: ErrorKind | None) -> None:
        assert kind_of_delivery_error(code) is kind

    @pytest.mark.parametrize("status", ["", "ok", "-1", "1.0", "٣", "0"])
    def test_status_that_is_no_refusal_leaves_the_outcome_unknown(self, status: str) -> None:
        assert kind_of_part_status(status) is ErrorKind.UNKNOWN_OUTCOME
