import pytest

from sms_foundation.providers.base import Media, MessageStatus
from sms_foundation.providers.errors import ErrorKind, WebhookParseError
from sms_foundation.providers.json_object import JsonObject
from sms_foundation.providers.telnyx.errors import kind_of_delivery_error
from sms_foundation.providers.telnyx.webhook import parse_inbound, parse_status


def event(event_type: str, **payload: object) -> JsonObject:
    return JsonObject({"data": {"event_type": event_type, "payload": payload}})


def received(**changes: object) -> JsonObject:
    text = {"id": "1", "from": {"phone_number": "+1"}, "to": [{"phone_number": "+2"}], "text": "Hola", "parts": 1}
    return event("message.received", **{**text, **changes})


class TestParseStatus:
    @pytest.mark.parametrize(
        ("word", "status"),
        [
            ("queued", MessageStatus.QUEUED),
            ("sending", MessageStatus.SENDING),
            ("sent", MessageStatus.SENT),
            ("expired", MessageStatus.UNDELIVERED),
            ("sending_failed", MessageStatus.FAILED),
            ("delivery_unconfirmed", MessageStatus.SENT),
            ("delivered", MessageStatus.DELIVERED),
            ("delivery_failed", MessageStatus.UNDELIVERED),
            ("abducted", None),
        ],
    )
    @pytest.mark.parametrize("event_type", ["message.sent", "message.finalized"])
    def test_each_word_has_its_status(self, event_type: str, word: str, status: MessageStatus | None) -> None:
        report = parse_status(event(event_type, id="1", to=[{"status": word}]), provider="t")

        assert (report.event_status, report.status) == (word, status)

    @pytest.mark.parametrize(
        "wrong", [event("message.received", id="1", to=[{"status": "sent"}]), JsonObject({}), JsonObject({"data": 1})]
    )
    def test_other_events_are_refused(self, wrong: JsonObject) -> None:
        with pytest.raises(WebhookParseError, match="event"):
            parse_status(wrong, provider="t")

    @pytest.mark.parametrize("payload", [{"id": "1"}, {"to": [{"status": "sent"}]}, {"id": "1", "to": "x"}])
    def test_what_must_be_there_is_named(self, payload: dict[str, object]) -> None:
        with pytest.raises(WebhookParseError, match="is missing"):
            parse_status(event("message.sent", **payload), provider="t")

    def test_error_has_its_kind(self) -> None:
        def report(**error: object) -> ErrorKind | None:
            fields = {"id": "1", "to": [{"status": "delivery_failed"}], "errors": [error]}
            return parse_status(event("message.finalized", **fields), provider="t").error_kind

        assert report(code="40300", title="Blocked due to STOP message", detail="A rule.") is ErrorKind.OPTED_OUT
        assert report(code="40001", title="Not routable") is ErrorKind.INVALID_RECIPIENT
        assert report() is None


class TestParseInbound:
    def test_pictures_are_kept_with_their_type(self) -> None:
        media = [{"url": "https://example.com/1", "content_type": "image/png"}, {"url": None}, {"content_type": None}]

        sms = parse_inbound(received(text=None, media=media), provider="t")

        assert sms.media == (Media("https://example.com/1", "image/png"),)
        assert sms.body == ""

    def test_other_events_are_refused(self) -> None:
        with pytest.raises(WebhookParseError, match=r"message\.received"):
            parse_inbound(event("message.sent", id="1"), provider="t")

    @pytest.mark.parametrize("changes", [{"id": None}, {"from": {}}, {"from": "+1"}, {"from": {"phone_number": " "}}])
    def test_what_must_be_there_is_named(self, changes: dict[str, object]) -> None:
        with pytest.raises(WebhookParseError, match="is missing"):
            parse_inbound(received(**changes), provider="t")

    @pytest.mark.parametrize(("parts", "segments"), [(3, 3), (None, 1), (-1, 1), (10**8, 1), ("2", 2)])
    def test_parts_are_counted_when_they_are_not_told(self, parts: object, segments: int) -> None:
        assert parse_inbound(received(parts=parts), provider="t").num_segments == segments


class TestKindOfDeliveryError:
    @pytest.mark.parametrize(
        ("code", "kind"),
        [
            ("40300", ErrorKind.OPTED_OUT),
            ("40001", ErrorKind.INVALID_RECIPIENT),
            ("40002", ErrorKind.CONTENT_REJECTED),
            ("40006", ErrorKind.UNAVAILABLE),
            ("1", None),
        ],
    )
    def test_follows_the_table(self, code: str, kind: ErrorKind | None) -> None:
        assert kind_of_delivery_error(code, "Blocked due to STOP message") is kind

    def test_block_for_another_reason_is_no_opt_out(self) -> None:
        text = "The from number is not assigned to a messaging profile"

        assert kind_of_delivery_error("40300", text) is ErrorKind.INVALID_SENDER
