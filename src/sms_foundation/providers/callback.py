"""Being called back: at which URL, with which reference, and how long ago it was signed."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from sms_foundation.providers.base import WebhookRequest
from sms_foundation.providers.errors import NotAuthenticError
from sms_foundation.providers.webhook_fields import query_fields

_LONGEST_REFERENCE: Final = 40  # OutboundSms.reference


def status_url(base_urls: Sequence[str], name: str) -> str:
    """Return where the provider `name` reports what became of a message; `base_urls` are ours, the first is shown.

    Without any the URL lacks its host, which no provider can call.
    """
    base_url = base_urls[0].rstrip("/") if base_urls else ""
    return f"{base_url}/webhook/{name}/status"


def status_url_for(base_urls: Sequence[str], name: str, reference: str) -> str:
    """Return the status URL of one message, for providers that take one per message: it carries our reference."""
    return f"{status_url(base_urls, name)}?ref={reference}"


def reference_in_url(path_and_query: str) -> str | None:
    """Return the reference that `status_url_for` put into a URL, None when there is none."""
    return as_reference(query_fields(path_and_query).text("ref"))


def as_reference(text: str) -> str | None:
    """Return `text` as a reference, None when it cannot be one of ours."""
    return text if 0 < len(text) <= _LONGEST_REFERENCE else None


def signed_urls(base_urls: Sequence[str], request: WebhookRequest) -> list[str]:
    """Return the full URLs under which the provider may have signed `request`: below each of our base URLs."""
    return [base.rstrip("/") + request.path_and_query for base in base_urls]


def check_recent(timestamp: str, *, now: datetime, tolerance_s: float) -> None:
    """Return when a signed Unix time (whole seconds) is at most `tolerance_s` away from `now`, in either direction.

    Raises NotAuthenticError. Call it once the signature is known to cover `timestamp`.
    """
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 12):
        raise NotAuthenticError("invalid_timestamp")
    if abs(now.timestamp() - int(timestamp)) > tolerance_s:
        raise NotAuthenticError("stale_timestamp")
