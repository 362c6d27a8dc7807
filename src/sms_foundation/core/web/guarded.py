"""Routes with a guard in front: it sees a request before its body is read or anything about it is validated."""

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi.routing import APIRoute
from starlette.types import Receive, Scope, Send

Guard = Callable[[Scope, str], Awaitable[None]]
"""Lets a request for the route with this path template pass, or raises what it is answered with."""


class GuardedRoute(APIRoute):
    """A route of an application that has a guard: `app.state.guard`. Without one it answers nobody."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Ask the guard, then do what every route does. A method the route does not have is answered 405 by itself."""
        scope["route"] = self
        if scope["method"] in (self.methods or ()):
            guard: Guard = scope["app"].state.guard
            await guard(scope, self.path)
        await super().handle(scope, receive, send)


def declared_routes(*routers: Any) -> set[tuple[str, str]]:
    """Return method and path template of every route of `routers`. Raises TypeError for one without a guard."""
    found: set[tuple[str, str]] = set()
    for router in routers:
        for route in router.routes:
            if not isinstance(route, GuardedRoute):
                raise TypeError(f"{getattr(route, 'path', route)} is no guarded route")
            found |= {(method, route.path) for method in route.methods or ()}
    return found
