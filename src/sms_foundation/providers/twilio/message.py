"""Twilio's Message resource: our types to request parameters, and its JSON to our types. Pure.

Source: https://www.twilio.com/docs/messaging/api/message-resource (read November 2026).
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

from sms_foundation.providers.base import InboundSms, MessageStatus, OutboundSms, SendReceipt, SentQuery, StatusReport
from sms_foundation.providers.base import parse_status as word_to_status
from sms_foundation.providers.json_object import JsonObject, read_price
from sms_foundation.providers.twilio.errors import kind_of_delivery_error

_LONGEST_SID: Final = 128
_LONGEST_VALIDITY_S: Final = 36_000
# Twilio retries a webhook by default only when it could not connect: five times and for every failure instead.
# Source: https://www.twilio.com/docs/usage/webhooks/webhooks-connection-overrides
_CALLBACK_OVERRIDES: Final = "#rc=5&rp=all"
# Twilio puts a sentence that begins so in front of every body of a trial account; how it goes on is not documented.
_TRIAL_PREFIX: Final = "Sent from your Twilio trial account"


def create_parameters(
    sms: OutboundSms, *, status_url: str, messaging_service_sid: str | None
) -> Iterator[tuple[str, str]]:
    """Yield the parameters of a create request. A list is a repeated name.

    With a Messaging Service, a sender that is the service itself leaves the choice of the number to Twilio; any other
    must be in the service's pool.
    """
    yield "To", sms.recipient
    if messaging_service_sid is not None:
        yield "MessagingServiceSid", messaging_service_sid
    if sms.sender and sms.sender != messaging_service_sid:
        yield "From", sms.sender
    if sms.body or not sms.media_urls:
        yield "Body", sms.body
    for url in sms.media_urls:
        yield "MediaUrl", url
    if sms.validity_s is not None:
        yield "ValidityPeriod", str(min(max(sms.validity_s, 1), _LONGEST_VALIDITY_S))
    yield "StatusCallback", f"{status_url}?ref={sms.reference}{_CALLBACK_OVERRIDES}"


def message_sid(message: JsonObject) -> str:
    """Return the SID, "" when there is none that can be one."""
    sid = (message.exact_text("sid") or "").strip()
    return sid if len(sid) <= _LONGEST_SID else ""


def read_receipt(message: JsonObject) -> SendReceipt:
    """Read a message that Twilio has. The caller has seen to it that `message_sid` is not blank."""
    word = message.text("status").lower()
    num_segments = message.whole_number("num_segments")
    return SendReceipt(
        provider_message_id=message_sid(message),
        event_status=word or MessageStatus.ACCEPTED.value,
        status=word_to_status(word) or MessageStatus.ACCEPTED,
        # "0" at first when a Messaging Service chooses the sender.
        num_segments=num_segments if num_segments is not None and num_segments > 0 else None,
        price=read_price(message.value("price"), message.text("price_unit")),
        raw=_without_body(message).raw(),
    )


def read_report(message: JsonObject, *, provider: str) -> StatusReport:
    """Read how far a message is. The caller has seen to it that `message_sid` and the status are not blank."""
    word = message.text("status").lower()
    code = message.text("error_code")[:32]
    return StatusReport(
        provider=provider,
        provider_message_id=message_sid(message),
        event_status=word,
        status=word_to_status(word),
        error_code=None if code in ("", "0") else code,
        error_message=message.text("error_message")[:500] or None,
        raw=_without_body(message).raw(),
        price=read_price(message.value("price"), message.text("price_unit")),
        error_kind=kind_of_delivery_error(code),
    )


def read_inbound(message: JsonObject, *, provider: str) -> InboundSms:
    """Read a message that came in, as if its webhook had just arrived.

    Without its media: the list holds only their number, and each would cost one more call. `raw` says how many there
    are and where to ask for them.
    """
    return InboundSms(
        provider=provider,
        provider_message_id=message_sid(message),
        sender=message.text("from"),
        recipient=message.text("to"),
        body=message.exact_text("body") or "",
        media=(),
        num_segments=max(message.whole_number("num_segments") or 1, 1),
        raw=message.raw(),
    )


def is_inbound(message: JsonObject) -> bool:
    return message.text("direction") == "inbound"


def may_be(message: JsonObject, query: SentQuery, *, created_after: datetime) -> bool:
    """Tell whether a listed message may be the one of `query`; Twilio keeps no reference of ours to know it by.

    The sender is compared once Twilio has one: a Messaging Service chooses it later.
    """
    created_at = read_time(message.text("date_created"))
    sender = message.text("from")
    return (
        message.text("direction") == "outbound-api"
        and _is_body(message.exact_text("body"), query.body)
        and (not sender or not query.sender or query.sender.startswith("MG") or sender == query.sender)
        and (created_at is None or created_at >= created_after)
    )


def _is_body(listed: str | None, sent: str) -> bool:
    return listed == sent or (listed is not None and listed.startswith(_TRIAL_PREFIX) and listed.endswith(sent))


def read_time(text: str) -> datetime | None:
    """Read an RFC 2822 date, such as `Thu, 24 Aug 2023 05:01:45 +0000`, as UTC; None when it is none."""
    try:
        at = parsedate_to_datetime(text)
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _without_body(message: JsonObject) -> JsonObject:
    """What is stored with an attempt or a status must not outlive the body it belongs to."""
    return JsonObject({name: value for name, value in message.fields.items() if name != "body"})
