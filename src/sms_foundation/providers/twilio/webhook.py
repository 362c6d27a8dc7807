"""Twilio's webhooks, parsed: form pairs in, `InboundSms` or `StatusReport` out.

Sources: https://www.twilio.com/docs/messaging/guides/webhook-request (parameters of an inbound message) and
https://www.twilio.com/docs/messaging/guides/track-outbound-message-status (status callbacks), read November 2026.
"""

import base64

import orjson

from sms_foundation.providers.base import InboundSms, Media, StatusReport
from sms_foundation.providers.base import parse_status as word_to_status
from sms_foundation.providers.errors import WebhookParseError
from sms_foundation.providers.form import Pairs, printable
from sms_foundation.providers.twilio.errors import kind_of_delivery_error

PROVIDER = "twilio"

# Longer ones are no address or SID of any kind, and would not fit an index.
_MAX_ID_LENGTH = 128
# Source: https://www.twilio.com/docs/glossary/what-is-a-sid (two letters and 32 hexadecimal digits)
_SID_LENGTH = 34
_MAX_ADDRESS_LENGTH = 320
_MAX_MEDIA = 100  # Twilio sends at most 10
_STATUS_FIELDS = ("MessageStatus", "SmsStatus")
# Twilio signs names and values one after another with nothing in between, so whoever has one signed webhook can cut it
# elsewhere: a SID that is longer, or shorter, with its rest at the beginning of the next name, would be another message
# for each cut. Names of Twilio's begin with capitals; a digit would sort before MessageSid and break the signature.
_REST_OF_SID = frozenset("abcdef")


def parse_inbound(pairs: Pairs, *, provider: str = PROVIDER) -> InboundSms:
    """Read an inbound message for the configured account `provider`.

    Of a repeated field the first value counts; `raw` keeps them all. Raises WebhookParseError when MessageSid or From
    is missing, blank or absurdly long.
    """
    fields = _first_values(pairs)
    return InboundSms(
        provider=provider,
        provider_message_id=_message_sid(fields),
        sender=_address(fields, "From", is_required=True),
        recipient=_address(fields, "To", is_required=False),
        body=printable(fields.get("Body", "")),
        media=_media(fields),
        num_segments=_count(fields.get("NumSegments", ""), least=1, most=1000),
        raw=_raw_json(pairs, fields),
    )


def parse_status(pairs: Pairs, *, provider: str = PROVIDER, reference: str | None = None) -> StatusReport:
    """Read a status callback. A status Twilio has not documented is reported with `status=None`.

    `provider`: the configured account; `reference`: ours, from the URL that was called.

    Raises WebhookParseError when MessageSid or every status field is missing, blank or absurdly long.
    """
    fields = _first_values(pairs)
    sid = _message_sid(fields)
    error_code = _error_code(fields)
    word = next((fields[name] for name in _STATUS_FIELDS if fields.get(name, "").strip()), "")
    word = printable(word).strip().lower()
    if not word or len(word) > _MAX_ID_LENGTH:
        raise WebhookParseError("missing_status", "MessageStatus is missing")
    return StatusReport(
        provider=provider,
        provider_message_id=sid,
        event_status=word,
        status=word_to_status(word),
        error_code=error_code,
        error_message=_error_message(fields),
        raw=_raw_json(pairs, fields),
        reference=reference,
        error_kind=None if error_code is None else kind_of_delivery_error(error_code),
    )


def account_sid(pairs: Pairs) -> str:
    """Return the AccountSid of a webhook, "" when it has none."""
    return next((value for name, value in pairs if name == "AccountSid"), "")


def _first_values(pairs: Pairs) -> dict[str, str]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        fields = dict(reversed(pairs))
    return fields


def _message_sid(fields: dict[str, str]) -> str:
    sid = printable(fields.get("MessageSid", "")).strip()
    if not sid:
        raise WebhookParseError("missing_message_sid", "MessageSid is missing")
    if len(sid) > _SID_LENGTH:
        raise WebhookParseError("bad_message_sid", f"MessageSid is longer than {_SID_LENGTH} characters")
    if len(sid) < _SID_LENGTH and any(name[:1] in _REST_OF_SID for name in fields):
        raise WebhookParseError("bad_message_sid", "MessageSid is cut short")
    return sid


def _address(fields: dict[str, str], name: str, *, is_required: bool) -> str:
    address = printable(fields.get(name, "")).strip()
    # Controls and direction marks alone would leave nothing to file the conversation under.
    if is_required and not any(each.isprintable() and each != " " for each in address):
        raise WebhookParseError("missing_from", f"{name} is missing")
    if len(address) > _MAX_ADDRESS_LENGTH:
        raise WebhookParseError("bad_address", f"{name} is longer than {_MAX_ADDRESS_LENGTH} characters")
    return address


def _media(fields: dict[str, str]) -> tuple[Media, ...]:
    """Read MediaUrl0, MediaUrl1, ... up to NumMedia; numbering is zero-based."""
    number = _count(fields.get("NumMedia", ""), least=0, most=_MAX_MEDIA)
    return tuple(
        Media(printable(url), printable(fields.get(f"MediaContentType{index}", "")))
        for index in range(number)
        if (url := fields.get(f"MediaUrl{index}"))
    )


def _count(text: str, *, least: int, most: int) -> int:
    return min(max(int(text), least), most) if text.isascii() and text.isdigit() and len(text) < 10 else least


def _error_code(fields: dict[str, str]) -> str | None:
    code = printable(fields.get("ErrorCode", "")).strip()[:32]
    return None if code in ("", "0") else code  # some callbacks carry ErrorCode=0 for "none"


def _error_message(fields: dict[str, str]) -> str | None:
    # Text messages carry ErrorMessage, RCS and other channels ChannelStatusMessage.
    text = fields.get("ErrorMessage") or fields.get("ChannelStatusMessage", "")
    return printable(text).strip()[:500] or None


def _raw_json(pairs: Pairs, fields: dict[str, str]) -> str:
    """Write all pairs as a JSON object: a value is a string, a repeated name's a list of them.

    What no JSON text in PostgreSQL can hold (NUL, bytes that were not UTF-8) is kept exactly as {"base64": ...}; such a
    name is written with escapes.
    """
    if len(fields) == len(pairs):
        try:
            text = orjson.dumps(fields).decode()
        except orjson.JSONEncodeError:
            pass
        else:
            if "\\u0000" not in text:  # may also be a literal backslash-u-0000, which the slow road handles as well
                return text
    collected: dict[str, list[str | dict[str, str]]] = {}
    for name, value in pairs:
        collected.setdefault(_json_name(name), []).append(_json_value(value))
    return orjson.dumps({name: v[0] if len(v) == 1 else v for name, v in collected.items()}).decode()


def _json_name(name: str) -> str:
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace").replace("\0", "\\x00")


def _json_value(value: str) -> str | dict[str, str]:
    exact = value.encode("utf-8", "surrogateescape")
    if b"\0" not in exact:
        try:
            return exact.decode("utf-8")
        except UnicodeDecodeError:
            pass
    return {"base64": base64.b64encode(exact).decode()}
