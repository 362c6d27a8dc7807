"""The form parameters of Twilio's webhooks, as they go over the wire: names, order, blanks.

Pure functions; every value a test may want to fix is an argument.
Sources: https://www.twilio.com/docs/messaging/guides/webhook-request,
https://www.twilio.com/docs/messaging/guides/outbound-message-status-in-status-callbacks (read November 2026).
"""

import mimetypes
import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from sms_foundation.core.segments import count_segments
from sms_foundation.simulator.numbers import channel_of, place_of

Pairs = tuple[tuple[str, str], ...]

API_VERSION = "2010-04-01"
STATUSES = (
    "accepted", "scheduled", "queued", "sending", "sent", "delivered", "undelivered", "failed", "canceled", "read",
)  # fmt: skip
"""Statuses an outgoing message can report, in the order of its life."""
DEFAULT_ERROR_CODES: Mapping[str, str] = {"undelivered": "30003", "failed": "30008"}
"""ErrorCode unless the caller names one: unreachable handset, unknown error."""


def new_message_sid(*, has_media: bool = False) -> str:
    """Return a new SID as Twilio makes them: SM (a text) or MM (with media) and 32 hexadecimal digits."""
    return ("MM" if has_media else "SM") + secrets.token_hex(16)


def inbound_form(
    *,
    message_sid: str,
    account_sid: str,
    sender: str,
    recipient: str,
    body: str,
    media_urls: Sequence[str] = (),
    messaging_service_sid: str | None = None,
    extra: Mapping[str, str] | None = None,
) -> Pairs:
    """Return the parameters of an inbound message.

    `sender` and `recipient` are addresses as `numbers.parse_address` returns them. SMS and MMS carry the geographic
    parameters, blank where nothing is known; WhatsApp and RCS carry a profile instead. `extra` replaces parameters of
    the same name and adds the others at the end (OptOutType, ButtonPayload, whatever Twilio thinks of next).
    """
    channel = channel_of(sender)
    form = {} if channel else _places(sender, recipient)
    form |= {"SmsMessageSid": message_sid, "NumMedia": str(len(media_urls))}
    if channel == "whatsapp":
        form |= {"ProfileName": "", "MessageType": "image" if media_urls else "text"}
        form["WaId"] = sender.partition(":")[2].lstrip("+")
    form |= {"SmsSid": message_sid, "SmsStatus": "received", "Body": body, "To": recipient}
    if messaging_service_sid:
        form["MessagingServiceSid"] = messaging_service_sid
    form |= {
        "NumSegments": "1" if channel else str(count_segments(body)[1]),
        "MessageSid": message_sid,
        "AccountSid": account_sid,
        "From": sender,
        "ApiVersion": API_VERSION,
    }
    for place, url in enumerate(media_urls):
        form |= {f"MediaUrl{place}": url, f"MediaContentType{place}": _media_type(url)}
    return tuple((form | dict(extra or {})).items())


def status_form(
    *,
    message_sid: str,
    account_sid: str,
    status: str,
    sender: str,
    recipient: str | None,
    now: datetime,
    error_code: str | None = None,
    messaging_service_sid: str | None = None,
) -> Pairs:
    """Return the parameters of a status callback of an outgoing message.

    `recipient` None leaves out To, as Twilio's shortest documented form does. ErrorCode goes only with `failed` and
    `undelivered` (there `error_code` or the usual one), the carrier's date RawDlrDoneDate (from `now`) only with
    `delivered` and `undelivered` of SMS and MMS; WhatsApp and RCS say their channel instead.
    """
    form = {"SmsSid": message_sid, "SmsStatus": status, "MessageStatus": status}
    channel = channel_of(recipient or "") or channel_of(sender)
    if status in DEFAULT_ERROR_CODES:
        form["ErrorCode"] = error_code or DEFAULT_ERROR_CODES[status]
    if channel:
        form |= {"ChannelPrefix": channel, "ChannelInstallSid": "XE" + message_sid[2:]}
        if status in DEFAULT_ERROR_CODES:
            form["ChannelStatusMessage"] = "The channel could not deliver the message."
        if status == "read":
            form["EventType"] = "READ"
    elif status in ("delivered", "undelivered"):
        form["RawDlrDoneDate"] = now.strftime("%y%m%d%H%M")
    if recipient is not None:
        form["To"] = recipient
    if messaging_service_sid:
        form["MessagingServiceSid"] = messaging_service_sid
    form |= {"MessageSid": message_sid, "AccountSid": account_sid, "From": sender, "ApiVersion": API_VERSION}
    return tuple(form.items())


def _places(sender: str, recipient: str) -> dict[str, str]:
    origin, destination = place_of(sender), place_of(recipient)
    return {
        "ToCountry": destination.country,
        "ToState": destination.state,
        "ToCity": destination.city,
        "ToZip": "",
        "FromZip": "",
        "FromState": origin.state,
        "FromCity": origin.city,
        "FromCountry": origin.country,
    }


def _media_type(url: str) -> str:
    try:
        path = urlsplit(url).path
    except ValueError:  # a broken IPv6 literal: the service, not we, has to cope with such a URL
        path = ""
    return mimetypes.types_map.get(PurePosixPath(path).suffix.lower(), "image/jpeg")
