"""Calls to a provider's API: what every adapter does alike, so that each says the same of the same failure.

    response = await send_once(http, "POST", url, headers=headers, body=form_body(pairs))
    answer = read_object(response)

A *send* may have acted although no answer came, or none that can be read: UNKNOWN_OUTCOME. Asking (look-ups, statuses,
lists) changes nothing, so whatever fails there is UNAVAILABLE. Nothing is repeated here.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import urlencode

import orjson

from sms_foundation.core.clock import utc_now
from sms_foundation.core.http import HttpCallError, HttpClient, HttpResponse, RequestNotSentError
from sms_foundation.providers.errors import ErrorKind, ProviderError
from sms_foundation.providers.json_object import JsonObject

_LONGEST_RETRY_AFTER_S: Final = 3600.0
_LONGEST_TEXT: Final = 500

_KINDS_OF_4XX: Final = {
    401: ErrorKind.ACCOUNT,
    402: ErrorKind.ACCOUNT,
    403: ErrorKind.ACCOUNT,
    408: ErrorKind.UNKNOWN_OUTCOME,  # the server gave up on reading the request, or a gateway on its answer
    429: ErrorKind.RATE_LIMITED,
}


async def send_once(
    http: HttpClient, method: str, url: str, *, headers: Mapping[str, str] | None = None, body: bytes | None = None
) -> HttpResponse:
    """Make a call that sends a message, once, and return the response of any status.

    Raises ProviderError: UNAVAILABLE when the request certainly never left, otherwise UNKNOWN_OUTCOME.
    """
    try:
        return await http.request(method, url, headers=headers, body=body)
    except RequestNotSentError as error:
        raise ProviderError(ErrorKind.UNAVAILABLE, provider_text=str(error)) from None
    except HttpCallError as error:
        raise ProviderError(ErrorKind.UNKNOWN_OUTCOME, provider_text=str(error)) from None


async def ask(
    http: HttpClient, method: str, url: str, *, headers: Mapping[str, str] | None = None, body: bytes | None = None
) -> HttpResponse:
    """Make a call that may be repeated at will, once, and return the response of any status.

    Raises ProviderError (UNAVAILABLE) when none came.
    """
    try:
        return await http.request(method, url, headers=headers, body=body)
    except HttpCallError as error:
        raise ProviderError(ErrorKind.UNAVAILABLE, provider_text=str(error)) from None


def kind_of_status(status: int) -> ErrorKind:
    """Return what an HTTP status means for a send when no documented code says more.

    A 5xx may come from a gateway behind which the message was taken, a redirect from one that took it, and a 2xx whose
    body tells nothing was taken most likely: all three are UNKNOWN_OUTCOME.
    """
    if 400 <= status < 500:
        return _KINDS_OF_4XX.get(status, ErrorKind.INVALID_REQUEST)
    return ErrorKind.UNKNOWN_OUTCOME


def kind_when_asking(kind: ErrorKind) -> ErrorKind:
    """Return what `kind` means for a call that sends nothing: its outcome cannot be unknown, only absent."""
    return ErrorKind.UNAVAILABLE if kind is ErrorKind.UNKNOWN_OUTCOME else kind


def refusal(
    response: HttpResponse, kind: ErrorKind, *, code: str | None = None, text: str | None = None
) -> ProviderError:
    """Return the error for a response that is no success; `code` and `text` are the provider's own."""
    return ProviderError(
        kind,
        provider_code=code[:32] if code else None,
        provider_text=text[:_LONGEST_TEXT] if text else None,
        status_code=response.status,
        retry_after_s=retry_after_s(response.headers.get("Retry-After", "")),
    )


def read_object(response: HttpResponse) -> JsonObject:
    """Return the body as a JSON object, an empty one when it is anything else (HTML, half a body, a list).

    An empty object lacks what every answer must have, so an adapter has one case less to tell apart.
    """
    try:
        value = orjson.loads(response.body)
    except orjson.JSONDecodeError:
        return JsonObject({})
    return JsonObject(value if isinstance(value, dict) else {})


def retry_after_s(value: str, *, now: Callable[[], datetime] = utc_now) -> float | None:
    """Read a Retry-After header, seconds or an HTTP date, as 0 to 3600 seconds; None when it is neither.

    Source: RFC 9110, section 10.2.3.
    """
    value = value.strip()
    if value.isascii() and value.isdigit():
        return _LONGEST_RETRY_AFTER_S if len(value) > 6 else min(float(value), _LONGEST_RETRY_AFTER_S)
    try:
        at = parsedate_to_datetime(value)
        # "-0000" is read as a time without zone; HTTP dates are always GMT.
        seconds = ((at if at.tzinfo else at.replace(tzinfo=UTC)) - now()).total_seconds()
    except (ValueError, OverflowError):
        return None
    return min(max(seconds, 0.0), _LONGEST_RETRY_AFTER_S)


def form_body(pairs: Iterable[tuple[str, str]]) -> bytes:
    """Encode an urlencoded form; a repeated name is how forms spell a list.

    Raises ProviderError (INVALID_REQUEST) for a text that UTF-8 cannot hold: nothing was sent.
    """
    try:
        return urlencode(list(pairs)).encode("ascii")
    except UnicodeEncodeError:
        raise ProviderError(ErrorKind.INVALID_REQUEST, provider_text="the text is not valid Unicode") from None


def json_body(value: Mapping[str, object] | Sequence[object]) -> bytes:
    """Encode JSON. Raises ProviderError (INVALID_REQUEST) for a text that UTF-8 cannot hold: nothing was sent."""
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:
        raise ProviderError(ErrorKind.INVALID_REQUEST, provider_text="the text is not valid Unicode") from None
