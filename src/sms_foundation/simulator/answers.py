"""What Twilio makes of a webhook's answer: nothing to complain about, or an entry in its debugger.

Sources: https://www.twilio.com/docs/api/errors (codes), https://www.twilio.com/docs/messaging/twiml (content types),
https://www.twilio.com/docs/messaging/guides/track-outbound-message-status (read November 2026).
"""

from dataclasses import dataclass
from enum import IntEnum
from xml.etree import ElementTree

from sms_foundation.simulator.overrides import RetryOn

MAX_TWIML_BYTES = 64 * 1024
_TWIML_TYPES = frozenset({"text/xml", "application/xml", "text/html"})


class DebuggerCode(IntEnum):
    """Twilio's error codes for webhooks; https://www.twilio.com/docs/api/errors/<code> explains each."""

    INVALID_URL = 11100
    HTTP_RETRIEVAL_FAILURE = 11200
    CONNECTION_FAILURE = 11205
    PROTOCOL_VIOLATION = 11206
    HOST_NOT_FOUND = 11210
    TLS_FAILURE = 11220
    BODY_TOO_LARGE = 11750
    DOCUMENT_PARSE_FAILURE = 12100
    INVALID_CONTENT_TYPE = 12300


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer; `body` holds at most `MAX_TWIML_BYTES` + 1 bytes of it."""

    status_code: int
    content_type: str = ""
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Twilio's view of one try. `code` None: all is well."""

    code: DebuggerCode | None = None
    reason: str | None = None
    """In plain words, without anything of the message."""
    retry_on: RetryOn | None = None
    """The policy that must be set for this to be tried again; None: it never is."""
    replies: tuple[str, ...] = ()
    """Texts the answer sends back to the phone."""


def judge_inbound(answer: Answer) -> Verdict:
    """Judge the answer to an inbound message: 2xx with TwiML or plain text (a reply), or an empty 204."""
    if failure := _http_failure(answer):
        return failure
    if answer.status_code == 204 and not answer.body:
        return Verdict()
    media_type = answer.content_type.partition(";")[0].strip().lower()
    if not media_type:
        return Verdict(DebuggerCode.HTTP_RETRIEVAL_FAILURE, "the answer has no Content-Type")
    if len(answer.body) > MAX_TWIML_BYTES:
        return Verdict(DebuggerCode.BODY_TOO_LARGE, f"the answer is larger than {MAX_TWIML_BYTES // 1024} KiB")
    if media_type == "text/plain":
        text = answer.body.decode("utf-8", "replace")
        return Verdict(replies=(text,) if text.strip() else ())
    if media_type not in _TWIML_TYPES:
        return Verdict(DebuggerCode.INVALID_CONTENT_TYPE, f"Content-Type {media_type[:80]} is not TwiML (text/xml)")
    return _judge_twiml(answer.body)


def judge_callback(answer: Answer) -> Verdict:
    """Judge the answer to a status callback: any 2xx will do, its content is not read."""
    return _http_failure(answer) or Verdict()


def _http_failure(answer: Answer) -> Verdict | None:
    status = answer.status_code
    if 200 <= status < 300:
        return None
    retry_on = {4: RetryOn.CLIENT_ERROR, 5: RetryOn.SERVER_ERROR}.get(status // 100)
    # Twilio follows redirects; here one is reported, since a route that redirects a POST is a mistake in its spelling.
    reason = "a redirect" if 300 <= status < 400 else "the answer was not 2xx"
    return Verdict(DebuggerCode.HTTP_RETRIEVAL_FAILURE, f"{reason} (HTTP {status})", retry_on)


def _judge_twiml(body: bytes) -> Verdict:
    try:
        root = ElementTree.fromstring(body)  # noqa: S314  # the service's own answer, at most 64 KiB
    except ElementTree.ParseError as error:
        return Verdict(DebuggerCode.DOCUMENT_PARSE_FAILURE, f"the answer is not XML ({error})")
    if root.tag != "Response":
        return Verdict(DebuggerCode.DOCUMENT_PARSE_FAILURE, "the root element is not <Response>")
    replies = ("".join(message.itertext()).strip() for message in root.iter("Message"))
    return Verdict(replies=tuple(reply for reply in replies if reply))
