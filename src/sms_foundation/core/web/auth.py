"""The bearer token of the internal API, until access control by client takes its place."""

import hmac
from collections.abc import Awaitable, Callable

from fastapi import Request

from sms_foundation.core.config import Settings
from sms_foundation.core.errors import NotConfiguredError, UnauthorizedError

CheckAccess = Callable[[Request], Awaitable[None]]


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
