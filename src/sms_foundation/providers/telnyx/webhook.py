"""Telnyx's messages and events, parsed: webhooks and answers hold the same message object.

Sources: https://developers.telnyx.com/docs/messaging/messages/receiving-webhooks,
https://developers.telnyx.com/api-reference/callbacks/inbound-message and .../delivery-update, November 2026.
"""

from typing import Final

from sms_foundation.core.segments import count_segments
from sms_foundation.providers.base import InboundSms, Media, MessageStatus, Price, SendReceipt, StatusReport
from sms_foundation.providers.callback import reference_in_url
from sms_foundation.providers.errors import WebhookParseError
from sms_foundation.providers.json_object import JsonObject, read_price
from sms_foundation.providers.telnyx.errors import kind_of_delivery_error
from sms_foundation.providers.webhook_fields import (
    is_message_id,
    message_id,
    recipient_address,
    sender_address,
    status_word,
)

_RECEIVED: Final = "message.received"
_OUTBOUND_EVENTS: Final = frozenset({"message.sent", "message.finalized"})

STATUSES: Final = {
    "queued": MessageStatus.QUEUED,
    "scheduled": MessageStatus.SCHEDULED,
    "sending": MessageStatus.SENDING,
    "sent": MessageStatus.SENT,
    "expired": MessageStatus.UNDELIVERED,
    "sending_failed": MessageStatus.FAILED,
    "delivery_unconfirmed": MessageStatus.SENT,  # the last word when no carrier ever tells
    "delivered": MessageStatus.DELIVERED,
    "delivery_failed": MessageStatus.UNDELIVERED,
    "cancelled": MessageStatus.CANCELED,
}
_RECIPIENT_STATUS: Final = "to.0.status"  # every message of ours has one recipient
_LONGEST_WORD: Final = 128
_MOST_SEGMENTS: Final = 1000
_MOST_MEDIA: Final = 100


def read_receipt(answer: JsonObject) -> SendReceipt | None:
    """Read an answer as the proof that Telnyx has the message, None when it holds no message."""
    message = answer.child("data")
    provider_message_id = message.text("id")
    if not is_message_id(provider_message_id):
        return None
    word = message.text(_RECIPIENT_STATUS)[:_LONGEST_WORD] or "accepted"
    return SendReceipt(
        provider_message_id=provider_message_id,
        event_status=word,
        status=STATUSES.get(word, MessageStatus.QUEUED),
        num_segments=_segments(message),
        price=_price(message),
        raw=answer.raw(),
    )


def read_message_status(answer: JsonObject, *, provider: str) -> StatusReport:
    """Read how far the message of an answer is. Raises WebhookParseError when it holds none."""
    return _report(answer.child("data"), answer, provider=provider)


def parse_inbound(event: JsonObject, *, provider: str) -> InboundSms:
    """Read the event that a message came in. Raises WebhookParseError for another event, without id or sender."""
    if event.text("data.event_type") != _RECEIVED:
        raise WebhookParseError("wrong_event", f"the event is not {_RECEIVED}")
    message = event.child("data.payload")
    body = message.exact_text("text") or ""  # a picture may come without words
    return InboundSms(
        provider=provider,
        provider_message_id=message_id(message, "id"),
        sender=sender_address(message, "from.phone_number"),
        recipient=recipient_address(message, "to.0.phone_number"),
        body=body,
        media=_media(message),
        num_segments=_segments(message) or count_segments(body)[1],
        raw=event.raw(),
    )


def parse_status(event: JsonObject, *, provider: str) -> StatusReport:
    """Read the event that a message got on. Raises WebhookParseError for another event, without id or status."""
    if event.text("data.event_type") not in _OUTBOUND_EVENTS:
        raise WebhookParseError("wrong_event", "the event is neither message.sent nor message.finalized")
    return _report(event.child("data.payload"), event, provider=provider)


def _report(message: JsonObject, whole: JsonObject, *, provider: str) -> StatusReport:
    word = status_word(message, _RECIPIENT_STATUS)
    error = message.child("errors.0")
    code, text = error.text("code")[:32], error.text("detail") or error.text("title")
    return StatusReport(
        provider=provider,
        provider_message_id=message_id(message, "id"),
        event_status=word,
        status=STATUSES.get(word),
        error_code=code or None,
        error_message=text[:500] or None,
        raw=whole.raw(),
        # From the message, which is signed, and not from the URL that was called, which is not.
        reference=reference_in_url(message.text("webhook_url")),
        price=_price(message),
        error_kind=kind_of_delivery_error(code, f"{error.text('title')} {text}"),
    )


def _media(message: JsonObject) -> tuple[Media, ...]:
    media = message.children("media") or []
    found = (Media(each.text("url"), each.text("content_type")) for each in media[:_MOST_MEDIA])
    return tuple(each for each in found if each.url)


def _segments(message: JsonObject) -> int | None:
    parts = message.whole_number("parts")
    return parts if parts and 0 < parts <= _MOST_SEGMENTS else None


def _price(message: JsonObject) -> Price | None:
    return read_price(message.value("cost.amount"), message.text("cost.currency"))
