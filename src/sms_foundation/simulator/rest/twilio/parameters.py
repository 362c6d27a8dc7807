"""What a create or update asks for, and whether Twilio would allow it."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final
from urllib.parse import parse_qsl

from sms_foundation.core.errors import ValidationError
from sms_foundation.simulator.carrier.messages import Message
from sms_foundation.simulator.forms import new_message_sid
from sms_foundation.simulator.numbers import parse_address
from sms_foundation.simulator.rest.twilio import errors
from sms_foundation.simulator.rest.twilio.errors import RefusedError

PROVIDER: Final = "twilio"

_MAX_BODY_LENGTH: Final = 1600
_MAX_MEDIA: Final = 10
_VALIDITY_S: Final = range(1, 36_001)

_is_e164 = re.compile(r"\+[1-9][0-9]{6,14}").fullmatch  # nearly every number; spares the parser
_is_url = re.compile(r"https?://[^\s/]+").match
# The client's own reference rides in the callback URL: the API has no field for one.
_find_reference = re.compile(r"[?&]ref=([^&#]*)").search


class Form:
    """The decoded parameters of a request."""

    def __init__(self, pairs: Sequence[tuple[str, str]]) -> None:
        self._pairs = pairs
        self._last = dict(pairs)

    @classmethod
    def read(cls, text: bytes) -> "Form":
        """Read a form or a query; blank values are kept (an empty Body redacts), bytes that are not UTF-8 become
        U+FFFD."""
        return cls(parse_qsl(text.decode("ascii", "replace"), keep_blank_values=True, errors="replace"))

    def get(self, name: str) -> str:
        """Return the last value of `name`, "" when there is none."""
        return self._last.get(name, "")

    def find(self, name: str) -> str | None:
        """Return the last value of `name`, None when there is none."""
        return self._last.get(name)

    def list(self, name: str) -> tuple[str, ...]:
        """Return every value of `name` but the blank ones."""
        return tuple(value for key, value in self._pairs if key == name and value) if name in self._last else ()


def draft_message(form: Form, *, own_number: str, now: datetime) -> Message:
    """Return the message a create request asks for. Raises RefusedError, the first that Twilio would name."""
    if not (to := form.get("To")):
        raise RefusedError(errors.NO_TO)
    service, sender = form.get("MessagingServiceSid") or None, form.get("From")
    if not sender and service is None:
        raise RefusedError(errors.NO_FROM)
    body, media_urls = form.get("Body"), form.list("MediaUrl")
    if not body and not media_urls and not form.get("ContentSid"):
        raise RefusedError(errors.NO_CONTENT)
    if len(body) > _MAX_BODY_LENGTH:
        raise RefusedError(errors.TOO_LONG)
    if len(media_urls) > _MAX_MEDIA:
        raise RefusedError(errors.TOO_MANY_MEDIA)
    callback_url = form.get("StatusCallback") or None
    if callback_url is not None and not _is_url(callback_url):
        raise RefusedError(errors.BAD_STATUS_CALLBACK)
    _check_validity(form.get("ValidityPeriod"))
    reference = _find_reference(callback_url or "")
    return Message(
        provider=PROVIDER,
        id=new_message_sid(has_media=bool(media_urls)),
        sender=_sender(sender or own_number),
        recipient=read_recipient(to),
        body=body,
        media_urls=media_urls,
        reference=reference[1] if reference else None,
        callback_url=callback_url,
        profile=service,
        send_at=_send_at(form, service, now),
    )


def read_recipient(to: str) -> str:
    """Return the phone a To means. Raises RefusedError."""
    if _is_e164(to):
        return to
    try:
        address = parse_address(to)
    except ValidationError:
        raise RefusedError(errors.bad_recipient(to)) from None
    if address[0].isalpha() and ":" not in address:  # an alphanumeric sender receives nothing
        raise RefusedError(errors.bad_recipient(to))
    return address


def _sender(sender: str) -> str:
    if _is_e164(sender):
        return sender
    try:
        return parse_address(sender)
    except ValidationError:
        raise RefusedError(errors.bad_sender(sender)) from None


def _check_validity(text: str) -> None:
    if text and not (text.isascii() and text.isdigit() and len(text) <= 5 and int(text) in _VALIDITY_S):
        raise RefusedError(errors.BAD_VALIDITY)


def _send_at(form: Form, service: str | None, now: datetime) -> datetime | None:
    """Source: https://www.twilio.com/docs/messaging/features/message-scheduling; the window of 5 minutes to 35 days is
    not enforced, so that nobody has to wait for it here."""
    if form.get("ScheduleType") != "fixed":
        return None
    if service is None:
        raise RefusedError(errors.NO_SCHEDULE_SERVICE)
    try:
        send_at = datetime.fromisoformat(form.get("SendAt"))
    except ValueError:
        raise RefusedError(errors.BAD_SEND_AT) from None
    send_at = send_at if send_at.tzinfo else send_at.replace(tzinfo=UTC)
    if send_at <= now:
        raise RefusedError(errors.BAD_SEND_AT)
    return send_at
