"""The bearer token of the internal API, until access control by client takes its place."""

import hmac
from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from sms_foundation.core.config import Settings
from sms_foundation.core.errors import NotConfiguredError, UnauthorizedError

_bearer = HTTPBearer(auto_error=False, description="INTERNAL_API_TOKEN; not needed locally while it is unset")


def internal_access(settings: Settings) -> Callable[..., Awaitable[None]]:
    """Return the dependency that guards internal routes.

    With INTERNAL_API_TOKEN it asks for that token. Without it, routes are open on a developer's machine and closed
    everywhere else.
    """
    expected = settings.internal_api_token.get_secret_value().encode() if settings.internal_api_token else None

    async def require_token(credentials: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)]) -> None:
        if expected is None:
            if settings.is_local:
                return
            raise NotConfiguredError("INTERNAL_API_TOKEN is not set; the internal API is closed")
        given = credentials.credentials.encode("utf-8", "replace") if credentials else b""
        if not hmac.compare_digest(given, expected):
            raise UnauthorizedError("a valid bearer token is required")

    return require_token
