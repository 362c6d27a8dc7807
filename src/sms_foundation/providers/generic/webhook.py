"""A configured provider's answers and webhooks, parsed by their configured paths."""

from sms_foundation.core.segments import count_segments
from sms_foundation.providers.base import InboundSms, MessageStatus, SendReceipt, StatusReport
from sms_foundation.providers.callback import as_reference, reference_in_url
from sms_foundation.providers.errors import WebhookParseError
from sms_foundation.providers.generic.config import InboundConfig, StatusConfig
from sms_foundation.providers.json_object import JsonObject
from sms_foundation.providers.webhook_fields import (
    is_message_id,
    message_id,
    recipient_address,
    sender_address,
    status_word,
    with_plus,
)


def read_receipt(answer: JsonObject, message_id_path: str) -> SendReceipt | None:
    """Read an answer as the proof that the provider has the message, None when it names no message."""
    provider_message_id = answer.text(message_id_path)
    if not is_message_id(provider_message_id):
        return None
    return SendReceipt(
        provider_message_id=provider_message_id,
        event_status="accepted",
        status=MessageStatus.QUEUED,
        raw=answer.raw(),
    )


def parse_inbound(fields: JsonObject, paths: InboundConfig, *, provider: str) -> InboundSms:
    """Read a message that came in.

    Raises WebhookParseError when id, sender or body is missing: a wrong path must show, not store texts without words.
    """
    body = fields.exact_text(paths.body_path)
    if body is None:
        raise WebhookParseError("missing_body", f"{paths.body_path} is missing")
    return InboundSms(
        provider=provider,
        provider_message_id=message_id(fields, paths.message_id_path),
        sender=with_plus(sender_address(fields, paths.sender_path)),
        recipient=with_plus(recipient_address(fields, paths.recipient_path)),
        body=body,
        media=(),
        num_segments=count_segments(body)[1],
        raw=fields.raw(),
    )


def parse_status(fields: JsonObject, paths: StatusConfig, *, path_and_query: str, provider: str) -> StatusReport:
    """Read a status report. Raises WebhookParseError when id or status is missing."""
    word = status_word(fields, paths.status_path)
    reference = (
        as_reference(fields.text(paths.reference_path)) if paths.reference_path else reference_in_url(path_and_query)
    )
    code = fields.text(paths.error_code_path)[:32]
    return StatusReport(
        provider=provider,
        provider_message_id=message_id(fields, paths.message_id_path),
        event_status=word,
        status=paths.statuses.get(word),
        error_code=code or None,
        error_message=fields.text(paths.error_text_path)[:500] or None,
        raw=fields.raw(),
        reference=reference,
        error_kind=paths.kinds_by_error_code.get(code),
    )
