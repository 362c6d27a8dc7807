"""Vonage's answers and webhooks, parsed.

Source: https://developer.vonage.com/en/api/sms, https://developer.vonage.com/messaging/sms/guides/delivery-receipts and
https://developer.vonage.com/en/messaging/sms/guides/inbound-sms, November 2026.
"""

from collections.abc import Sequence
from typing import Final

from sms_foundation.core.segments import count_segments
from sms_foundation.providers.base import InboundSms, MessageStatus, Price, SendReceipt, StatusReport
from sms_foundation.providers.callback import as_reference
from sms_foundation.providers.json_object import JsonObject, read_price
from sms_foundation.providers.vonage.errors import ACCEPTED, kind_of_delivery_error, text_of_delivery_error
from sms_foundation.providers.webhook_fields import (
    is_message_id,
    message_id,
    recipient_address,
    sender_address,
    status_word,
    with_plus,
)

_CURRENCY: Final = "EUR"  # the SMS API knows no other and does not say so

STATUSES: Final = {
    "accepted": MessageStatus.SENT,
    "buffered": MessageStatus.SENT,  # kept by the carrier
    "delivered": MessageStatus.DELIVERED,
    "expired": MessageStatus.UNDELIVERED,  # kept by the carrier for too long
    "failed": MessageStatus.UNDELIVERED,
    "rejected": MessageStatus.UNDELIVERED,
    # "unknown" tells nothing and stays an event
}


def read_receipt(answer: JsonObject, parts: Sequence[JsonObject]) -> SendReceipt | None:
    """Read the parts of an answer as the proof that Vonage has the message, None when no part was accepted.

    A text of which some parts were accepted and others refused has gone out in part, and cannot be called back: it
    counts as sent, because sending it again would bring the accepted parts twice. The refusal stays visible in `raw`,
    and `num_segments` and `price` are those of the accepted parts.
    """
    accepted = [part for part in parts if part.text("status") == ACCEPTED and is_message_id(part.text("message-id"))]
    if not accepted:
        return None
    return SendReceipt(
        provider_message_id=accepted[0].text("message-id"),
        event_status="accepted",
        status=MessageStatus.QUEUED,
        num_segments=len(accepted),
        price=_sum([read_price(part.value("message-price"), _CURRENCY) for part in accepted]),
        raw=answer.raw(),
    )


def parse_inbound(fields: JsonObject, *, provider: str) -> InboundSms:
    """Read a message that came in. Vonage hands on the parts of a long text one by one, each as a message of its own.

    Raises WebhookParseError when messageId or msisdn is missing. A binary message has no text, and its body is "".
    """
    body = fields.exact_text("text") or ""
    return InboundSms(
        provider=provider,
        provider_message_id=message_id(fields, "messageId"),
        sender=with_plus(sender_address(fields, "msisdn")),
        recipient=with_plus(recipient_address(fields, "to")),
        body=body,
        media=(),
        num_segments=count_segments(body)[1],
        raw=fields.raw(),
    )


def parse_status(fields: JsonObject, *, provider: str) -> StatusReport:
    """Read a delivery receipt, which is about one part; the reference is that of the message.

    Raises WebhookParseError when messageId or status is missing.
    """
    word = status_word(fields, "status")
    code = fields.text("err-code")[:32]
    has_error = code not in ("", "0")
    return StatusReport(
        provider=provider,
        provider_message_id=message_id(fields, "messageId"),
        event_status=word,
        status=STATUSES.get(word),
        error_code=code if has_error else None,
        error_message=text_of_delivery_error(code) if has_error else None,
        raw=fields.raw(),
        reference=as_reference(fields.text("client-ref")),
        price=read_price(fields.value("price"), _CURRENCY),
        error_kind=kind_of_delivery_error(code),
    )


def _sum(prices: Sequence[Price | None]) -> Price | None:
    known = [price.micros for price in prices if price is not None]
    return Price(sum(known), _CURRENCY) if len(known) == len(prices) else None
