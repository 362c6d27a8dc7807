"""Twilio's errors: code, HTTP status and text, in the body its SDKs understand.

Source: https://www.twilio.com/docs/api/errors (each code has a page; read November 2026).
"""

from dataclasses import dataclass
from typing import Final

import orjson
from starlette.responses import Response


@dataclass(frozen=True, slots=True)
class TwilioError:
    """What a request can be refused with."""

    code: int
    message: str
    status: int = 400

    @property
    def response(self) -> Response:
        return error_response(self)


class RefusedError(Exception):
    """Ends the handling of a request with a TwilioError."""

    def __init__(self, error: TwilioError) -> None:
        super().__init__(error.code)
        self.error = error


def error_response(error: TwilioError, *, retry_after_s: int | None = None) -> Response:
    body = {
        "code": error.code,
        "message": error.message,
        "more_info": f"https://www.twilio.com/docs/errors/{error.code}",
        "status": error.status,
    }
    headers = {} if retry_after_s is None else {"Retry-After": str(retry_after_s)}
    return Response(orjson.dumps(body), error.status, headers, "application/json")


AUTHENTICATE: Final = TwilioError(20003, "Authenticate", 401)
SUSPENDED: Final = TwilioError(20003, "Authentication Error - Your account is suspended", 401)
TOO_MANY_REQUESTS: Final = TwilioError(20429, "Too Many Requests", 429)
IN_PROGRESS: Final = TwilioError(20009, "Cannot delete because it is in progress", 409)
NOT_CANCELABLE: Final = TwilioError(30409, "Message is not in a cancelable state", 409)
NO_TO: Final = TwilioError(21604, "A 'To' phone number is required.")
NO_FROM: Final = TwilioError(21603, "A 'From' phone number is required.")
NO_CONTENT: Final = TwilioError(21602, "Message body is required.")
TOO_LONG: Final = TwilioError(21617, "The concatenated message body exceeds the 1600 character limit.")
TOO_MANY_MEDIA: Final = TwilioError(21623, "Number of media files exceeds allowed limit.")
OPTED_OUT: Final = TwilioError(21610, "Attempt to send to unsubscribed recipient")
BAD_VALIDITY: Final = TwilioError(30045, "Validity Period out of range")
BAD_STATUS_CALLBACK: Final = TwilioError(21609, "The 'StatusCallback' URL is not a valid URL.")
NO_SCHEDULE_SERVICE: Final = TwilioError(35118, "MessagingServiceSid is required to schedule a message")
BAD_SEND_AT: Final = TwilioError(35114, "SendAt time must be a valid ISO 8601 date and time in the future")
NOT_AN_UPDATE: Final = TwilioError(20001, "Unknown parameters")


def bad_recipient(to: str) -> TwilioError:
    return TwilioError(21211, f"Invalid 'To' Phone Number: {to[:4]}XXXX")


def bad_sender(sender: str) -> TwilioError:
    return TwilioError(21212, f"Invalid From Number (caller ID): {sender[:4]}XXXX")


def not_found(path: str) -> TwilioError:
    return TwilioError(20404, f"The requested resource {path} was not found", 404)


def internal(status: int) -> TwilioError:
    """20500 or 20503, the documented ones; another status keeps its own number with 20500."""
    if status == 503:
        return TwilioError(20503, "Service Unavailable", 503)
    return TwilioError(20500, "Internal Server Error", status)
