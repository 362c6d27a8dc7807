"""The bearer token of the internal API, until access control by client takes its place."""

import hmac
import re
from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Request
from pydantic import AfterValidator

from sms_foundation.core.config import Settings
from sms_foundation.core.errors import NotConfiguredError, UnauthorizedError

DEFAULT_CLIENT = "internal"
_is_client_id = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}").fullmatch

CheckAccess = Callable[[Request], Awaitable[None]]


def _check_client_id(name: str) -> str:
    if not _is_client_id(name):
        raise ValueError("must be 1 to 64 lower-case letters, digits or . _ -")
    return name


ClientId = Annotated[str, AfterValidator(_check_client_id)]
"""Which service calls, as it says in X-Client-ID; all of them hold the same token."""


def internal_access(settings: Settings) -> CheckAccess:
    """Return the check that guards internal routes: a dependency, or called directly where every microsecond counts.

    With INTERNAL_API_TOKEN it asks for that token. Without it, routes are open on a developer's machine and closed
    everywhere else.
    """
    expected = settings.internal_api_token.get_secret_value().encode() if settings.internal_api_token else None

    async def check_access(request: Request) -> None:
        if expected is None:
            if settings.is_local:
                return
            raise NotConfiguredError("INTERNAL_API_TOKEN is not set; the internal API is closed")
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        # Headers are bytes that ASGI servers hand over as latin-1; bytes also keep compare_digest from raising.
        is_right = hmac.compare_digest(token.strip().encode("latin-1", "replace"), expected)
        if scheme.lower() != "bearer" or not is_right:
            raise UnauthorizedError("a valid bearer token is required")

    return check_access
