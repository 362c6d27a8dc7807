import re
from datetime import UTC, datetime

import pytest

from sms_foundation.simulator.forms import STATUSES, inbound_form, new_message_sid, status_form

SID = "SM" + "0a" * 16
ACCOUNT = "AC" + "1b" * 16
NOW = datetime(2026, 11, 20, 9, 5, tzinfo=UTC)


def inbound(**changes: object) -> dict[str, str]:
    given = {
        "message_sid": SID, "account_sid": ACCOUNT, "sender": "+15125550142", "recipient": "+15005550006",
        "body": "Hola",
    }  # fmt: skip
    return dict(inbound_form(**(given | changes)))  # type: ignore[arg-type]


def status(name: str, **changes: object) -> dict[str, str]:
    given = {
        "message_sid": SID, "account_sid": ACCOUNT, "status": name, "sender": "+15005550006",
        "recipient": "+15125550142", "now": NOW,
    }  # fmt: skip
    return dict(status_form(**(given | changes)))  # type: ignore[arg-type]


class TestNewMessageSid:
    def test_sms_and_mms_have_their_prefix_and_32_hex_digits(self) -> None:
        assert re.fullmatch(r"SM[0-9a-f]{32}", new_message_sid())
        assert re.fullmatch(r"MM[0-9a-f]{32}", new_message_sid(has_media=True))


class TestInboundForm:
    def test_sms_carries_every_documented_parameter_in_the_order_of_the_wire(self) -> None:
        form = inbound()
        assert list(form) == [
            "ToCountry", "ToState", "ToCity", "ToZip", "FromZip", "FromState", "FromCity", "FromCountry",
            "SmsMessageSid", "NumMedia", "SmsSid", "SmsStatus", "Body", "To", "NumSegments", "MessageSid", "AccountSid",
            "From", "ApiVersion",
        ]  # fmt: skip
        assert form["SmsMessageSid"] == form["SmsSid"] == form["MessageSid"] == SID
        assert (form["SmsStatus"], form["ApiVersion"], form["NumMedia"]) == ("received", "2010-04-01", "0")

    def test_unknown_places_are_blank_not_missing(self) -> None:
        form = inbound()
        assert (form["FromCity"], form["FromState"], form["FromCountry"]) == ("AUSTIN", "TX", "US")
        assert form["FromZip"] == form["ToZip"] == form["ToCity"] == form["ToState"] == ""

    def test_media_are_numbered_from_zero_with_their_types(self) -> None:
        form = inbound(media_urls=("https://m.example/a.png", "https://m.example/b.mp4?x=1", "https://[broken"))
        assert form["NumMedia"] == "3"
        assert (form["MediaUrl0"], form["MediaContentType0"]) == ("https://m.example/a.png", "image/png")
        assert (form["MediaUrl1"], form["MediaContentType1"]) == ("https://m.example/b.mp4?x=1", "video/mp4")
        assert (form["MediaUrl2"], form["MediaContentType2"]) == ("https://[broken", "image/jpeg")

    def test_messaging_service_is_named_only_when_there_is_one(self) -> None:
        assert "MessagingServiceSid" not in inbound()
        assert inbound(messaging_service_sid="MG1")["MessagingServiceSid"] == "MG1"

    @pytest.mark.parametrize(("body", "segments"), [("", "1"), ("a" * 161, "2"), ("ñá" * 35, "1"), ("á" * 71, "2")])
    def test_segments_are_those_twilio_bills(self, body: str, segments: str) -> None:
        assert inbound(body=body)["NumSegments"] == segments

    def test_whatsapp_has_a_profile_instead_of_places(self) -> None:
        form = inbound(sender="whatsapp:+15125550142", recipient="whatsapp:+15005550006", body="a" * 400)
        assert form["WaId"] == "15125550142"
        assert form["NumSegments"] == "1"
        assert "ProfileName" in form
        assert "FromCity" not in form

    @pytest.mark.parametrize("sender", ["24273", "MAPLECOURT", "rcs:+15125550142"])
    def test_other_senders_stand_in_from_as_they_are(self, sender: str) -> None:
        assert inbound(sender=sender)["From"] == sender

    def test_extra_parameters_replace_and_add(self) -> None:
        form = inbound(extra={"Body": "STOP", "OptOutType": "STOP"})
        assert form["Body"] == "STOP"
        assert list(form)[-1] == "OptOutType"


class TestStatusForm:
    @pytest.mark.parametrize("name", STATUSES)
    def test_error_code_goes_only_with_failure(self, name: str) -> None:
        form = status(name, error_code="30007")
        assert form["MessageStatus"] == form["SmsStatus"] == name
        assert form["MessageSid"] == form["SmsSid"] == SID
        assert form.get("ErrorCode") == ("30007" if name in ("failed", "undelivered") else None)

    @pytest.mark.parametrize("name", STATUSES)
    def test_carrier_date_goes_only_with_the_carriers_word(self, name: str) -> None:
        assert status(name).get("RawDlrDoneDate") == ("2611200905" if name in ("delivered", "undelivered") else None)

    def test_failure_without_a_given_code_has_the_usual_one(self) -> None:
        assert (status("undelivered")["ErrorCode"], status("failed")["ErrorCode"]) == ("30003", "30008")

    def test_unknown_recipient_is_left_out(self) -> None:
        assert "To" not in status("sent", recipient=None)

    def test_whatsapp_says_its_channel_and_no_carrier_date(self) -> None:
        form = status("read", sender="whatsapp:+15005550006", recipient="whatsapp:+15125550142")
        assert (form["ChannelPrefix"], form["EventType"]) == ("whatsapp", "READ")
        assert "RawDlrDoneDate" not in status("delivered", recipient="whatsapp:+15125550142")
        assert "ChannelStatusMessage" in status("failed", recipient="rcs:+15125550142")
