"""Reading a webhook's body at the edge: bounded, and never trusted to be what it says."""

from collections.abc import Collection, Mapping

from starlette.types import Receive, Scope

from sms_foundation.core.errors import MalformedRequestError, PayloadTooLargeError, UnsupportedMediaError


class ClientGoneError(MalformedRequestError):
    """The connection broke before the body was complete; nobody reads the answer."""

    status = 400


Headers = Mapping[bytes, bytes]


def first_headers(scope: Scope) -> Headers:
    """Return the request's headers by lower-case name; of a repeated one the first counts."""
    return dict(reversed(scope["headers"]))


async def read_body(headers: Headers, receive: Receive, *, content_types: Collection[str], limit_bytes: int) -> bytes:
    """Return the raw body of a request of one of `content_types`.

    Raises UnsupportedMediaError for any other or an encoded body, PayloadTooLargeError above the limit (without reading
    on), ClientGoneError when the body never ended.
    """
    content_type = headers.get(b"content-type", b"").partition(b";")[0].strip().lower().decode("latin-1")
    if content_type not in content_types:
        raise UnsupportedMediaError(f"the body must be {' or '.join(sorted(content_types))}")
    if headers.get(b"content-encoding", b"") not in (b"", b"identity"):
        raise UnsupportedMediaError("the body must not be compressed")
    length = headers.get(b"content-length", b"")
    # Only a short cut: whatever is announced, no more is read than the limit. A longer number Python refuses to read.
    if length.isdigit() and (len(length) > 20 or int(length) > limit_bytes):
        raise _too_large(limit_bytes)
    body: bytes = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError("the connection was closed before the body was complete")
        body += message.get("body", b"")
        if len(body) > limit_bytes:
            raise _too_large(limit_bytes)
        if not message.get("more_body", False):
            return body


def _too_large(limit_bytes: int) -> PayloadTooLargeError:
    return PayloadTooLargeError(f"the body is larger than {limit_bytes} bytes")
