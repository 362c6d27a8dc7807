"""Routes that are answered in front of FastAPI: passing through it costs more than everything the hottest ones do.

They stay declared as its routes, for the API document; here their endpoints are called directly.
"""

from collections.abc import Awaitable, Callable, Collection

from fastapi import APIRouter, Request
from fastapi.responses import Response
from fastapi.routing import APIRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from sms_foundation.core.errors import MethodNotAllowedError
from sms_foundation.core.web.errors import as_public_error, error_response
from sms_foundation.core.web.guarded import Guard


def direct_routes(router: APIRouter, paths: Collection[str], guard: Guard) -> dict[str, ASGIApp]:
    """Return those of a router's endpoints that have `paths`, to be called directly, after `guard`.

    They take the request as their only parameter and return a response; nothing FastAPI declares around them is done.
    Raises ValueError for a path the router does not have.
    """
    found = {route.path: route for route in router.routes if isinstance(route, APIRoute) and route.path in paths}
    if missing := sorted({*paths} - found.keys()):
        raise ValueError(f"no such routes: {', '.join(missing)}")
    return {path: _Direct(path, route.endpoint, frozenset(route.methods or ()), guard) for path, route in found.items()}


class _Direct:
    """One endpoint, an ASGI application."""

    def __init__(
        self, path: str, endpoint: Callable[[Request], Awaitable[Response]], methods: frozenset[str], guard: Guard
    ) -> None:
        self.path = path  # the label of this route in logs and metrics
        self._endpoint = endpoint
        self._methods = methods
        self._guard = guard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["route"] = self
        try:
            if scope["method"] not in self._methods:
                allowed = ", ".join(sorted(self._methods))
                raise MethodNotAllowedError(f"this route is for {allowed}", allowed=allowed)
            await self._guard(scope, self.path)
            response = await self._endpoint(Request(scope, receive))
        except Exception as error:  # noqa: BLE001  # every failure has an answer
            response = error_response(as_public_error(error), scope["state"]["request_id"])
        await response(scope, receive, send)
