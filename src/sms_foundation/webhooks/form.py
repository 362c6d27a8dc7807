"""Reading a form body at the edge: bounded, and never trusted to be one."""

from starlette.types import Receive, Scope

from sms_foundation.core.errors import MalformedRequestError, PayloadTooLargeError, UnsupportedMediaError

_FORM = b"application/x-www-form-urlencoded"


class ClientGoneError(MalformedRequestError):
    """The connection broke before the body was complete; nobody reads the answer."""

    status = 400


def header(scope: Scope, name: bytes) -> bytes:
    """Return the value of a request header (lower-case name), b"" when absent, the first when repeated."""
    for each, value in scope["headers"]:
        if each == name:
            return bytes(value)
    return b""


async def read_form_body(scope: Scope, receive: Receive, *, limit_bytes: int) -> bytes:
    """Return the raw body of an urlencoded form POST.

    Raises UnsupportedMediaError for any other or an encoded body, PayloadTooLargeError above the limit (without reading
    on), ClientGoneError when the body never ended.
    """
    content_type = header(scope, b"content-type")
    if content_type.partition(b";")[0].strip().lower() != _FORM:
        raise UnsupportedMediaError(f"the body must be {_FORM.decode()}")
    if header(scope, b"content-encoding") not in (b"", b"identity"):
        raise UnsupportedMediaError("the body must not be compressed")
    too_large = PayloadTooLargeError(f"the body is larger than {limit_bytes} bytes")
    length = header(scope, b"content-length")
    # Only a short cut: whatever is announced, no more is read than the limit. A longer number Python refuses to read.
    if length.isdigit() and (len(length) > 20 or int(length) > limit_bytes):
        raise too_large
    body: bytes = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError("the connection was closed before the body was complete")
        body += message.get("body", b"")
        if len(body) > limit_bytes:
            raise too_large
        if not message.get("more_body", False):
            return body
