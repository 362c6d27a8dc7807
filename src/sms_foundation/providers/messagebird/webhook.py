"""MessageBird's messages and status reports, parsed: the REST API and the webhooks share most names.

Source: https://developers.messagebird.com/api/sms-messaging/ (the message object, handling status reports, inbound),
read November 2026.
"""

from typing import Final

from sms_foundation.core.segments import count_segments
from sms_foundation.providers.base import InboundSms, MessageStatus, Price, SendReceipt, StatusReport
from sms_foundation.providers.callback import as_reference
from sms_foundation.providers.errors import WebhookParseError
from sms_foundation.providers.json_object import JsonObject, read_price
from sms_foundation.providers.messagebird.errors import kind_of_delivery_error
from sms_foundation.providers.webhook_fields import (
    is_message_id,
    message_id,
    recipient_address,
    sender_address,
    status_word,
    with_plus,
)

STATUSES: Final = {
    "scheduled": MessageStatus.SCHEDULED,
    "buffered": MessageStatus.QUEUED,
    "sent": MessageStatus.SENT,
    "delivered": MessageStatus.DELIVERED,
    "expired": MessageStatus.UNDELIVERED,  # no delivery report within the validity: it did go out
    "delivery_failed": MessageStatus.UNDELIVERED,
}
_FIRST_RECIPIENT: Final = "recipients.items.0"  # every message of ours has one
_LONGEST_WORD: Final = 128
_MOST_SEGMENTS: Final = 1000


def read_receipt(message: JsonObject) -> SendReceipt | None:
    """Read a message object as the proof that MessageBird has it, None when it is no such object."""
    provider_message_id = message.text("id")
    if not is_message_id(provider_message_id):
        return None
    recipient = message.child(_FIRST_RECIPIENT)
    word = recipient.text("status")[:_LONGEST_WORD] or "accepted"
    segments = recipient.whole_number("messagePartCount")
    return SendReceipt(
        provider_message_id=provider_message_id,
        event_status=word,
        status=STATUSES.get(word, MessageStatus.QUEUED),
        num_segments=segments if segments and 0 < segments <= _MOST_SEGMENTS else None,
        price=_price(recipient),
        raw=message.raw(),
    )


def read_message_status(message: JsonObject, *, provider: str) -> StatusReport:
    """Read how far a message object is. Raises WebhookParseError when it is no such object."""
    return _report(
        message, message.child(_FIRST_RECIPIENT), provider=provider, reference=as_reference(message.text("reference"))
    )


def parse_status(fields: JsonObject, *, provider: str) -> StatusReport:
    """Read a status report. Raises WebhookParseError when its id or status is missing."""
    reference = as_reference(fields.text("reference")) or as_reference(fields.text("ref"))
    return _report(fields, fields, provider=provider, reference=reference)


def parse_inbound(fields: JsonObject, *, provider: str) -> InboundSms:
    """Read a message that came in, from a webhook or a list.

    Raises WebhookParseError when id, originator or body is missing: a text without its words is no text.
    """
    body = fields.exact_text("body")
    if body is None:
        raise WebhookParseError("missing_body", "body is missing")
    to = "recipient" if fields.text("recipient") else f"{_FIRST_RECIPIENT}.recipient"
    return InboundSms(
        provider=provider,
        provider_message_id=message_id(fields, "id"),
        sender=with_plus(sender_address(fields, "originator")),
        recipient=with_plus(recipient_address(fields, to)),
        body=body,
        media=(),
        num_segments=count_segments(body)[1],
        raw=fields.raw(),
    )


def _report(message: JsonObject, recipient: JsonObject, *, provider: str, reference: str | None) -> StatusReport:
    word = status_word(recipient, "status")
    code = recipient.text("statusErrorCode")[:32]
    return StatusReport(
        provider=provider,
        provider_message_id=message_id(message, "id"),
        event_status=word,
        status=STATUSES.get(word),
        error_code=None if code in ("", "0") else code,
        error_message=(recipient.text("statusReason")[:500] or None) if code not in ("", "0") else None,
        raw=message.raw(),
        reference=reference,
        price=_price(recipient),
        error_kind=kind_of_delivery_error(code),
    )


def _price(recipient: JsonObject) -> Price | None:
    if (nested := read_price(recipient.value("price.amount"), recipient.text("price.currency"))) is not None:
        return nested
    return read_price(recipient.value("price[amount]"), recipient.text("price[currency]"))
