"""The Message resource as Twilio writes it: exactly these 20 keys, numbers as strings, dates in RFC 2822.

Source: https://www.twilio.com/docs/messaging/api/message-resource and twilio-oai (November 2026).
"""

from collections.abc import Mapping
from datetime import datetime
from email.utils import format_datetime
from functools import lru_cache
from typing import Final

from sms_foundation.simulator.carrier.messages import Message, Stage
from sms_foundation.simulator.forms import API_VERSION

_PRICE_PER_SEGMENT: Final = 0.0079
_ERROR_MESSAGES: Final[Mapping[int, str]] = {
    30003: "Unreachable destination handset",
    30004: "Message blocked",
    30005: "Unknown destination handset",
    30006: "Landline or unreachable carrier",
    30007: "Message filtered",
    30008: "Unknown error",
}


def collection_path(account_sid: str) -> str:
    return f"/{API_VERSION}/Accounts/{account_sid}/Messages"


def status_word(message: Message) -> str:
    """Return Twilio's word for the stage: a message through a Messaging Service is `accepted` before it is queued."""
    if message.stage is Stage.QUEUED and message.profile is not None:
        return "accepted"
    return message.stage.value


def message_resource(message: Message, account_sid: str) -> dict[str, object]:
    uri = f"{collection_path(account_sid)}/{message.id}"
    has_ended = message.stage in (Stage.DELIVERED, Stage.UNDELIVERED)
    return {
        "account_sid": account_sid,
        "api_version": API_VERSION,
        "body": message.body,
        "date_created": rfc2822(message.accepted_at),
        "date_sent": None if message.sent_at is None else rfc2822(message.sent_at),
        "date_updated": rfc2822(message.updated_at),
        "direction": "inbound" if message.is_inbound else "outbound-api",
        "error_code": message.error_code,
        "error_message": None if message.error_code is None else _ERROR_MESSAGES.get(message.error_code),
        "from": message.sender or None,
        "messaging_service_sid": message.profile,
        "num_media": str(len(message.media_urls)),
        # Twilio itself counts only once a Messaging Service has chosen the sender.
        "num_segments": "0" if status_word(message) == "accepted" else str(message.num_segments),
        "price": f"-{_PRICE_PER_SEGMENT * message.num_segments:.5f}" if has_ended else None,
        "price_unit": "USD",
        "sid": message.id,
        "status": status_word(message),
        "subresource_uris": {"media": f"{uri}/Media.json", "feedback": f"{uri}/Feedback.json"},
        "to": message.recipient,
        "uri": f"{uri}.json",
    }


def rfc2822(moment: datetime) -> str:
    return _rfc2822(moment.replace(microsecond=0))


@lru_cache(maxsize=256)  # at a thousand messages a second most dates have been written before
def _rfc2822(moment: datetime) -> str:
    return format_datetime(moment)
