"""Routes with a guard in front: it sees a request before its body is read or anything about it is validated."""

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import Request
from fastapi.routing import APIRoute
from starlette.types import Message, Receive, Scope, Send

from sms_foundation.core.web.bodies import read_body

Guard = Callable[[Scope, str], Awaitable[None]]
"""Lets a request for the route with this path template pass, or raises what it is answered with."""


# Several times what the largest body that is declared as a parameter can take. Who needs more reads it by hand.
_MAX_DECLARED_BYTES = 64 * 1024


class GuardedRoute(APIRoute):
    """A route of an application that has a guard: `app.state.guard`. Without one it answers nobody.

    A body that is declared as a parameter, which the framework would read to its end, has at most 64 KiB.
    """

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Ask the guard, then do what every route does. A method the route does not have is answered 405 by itself."""
        scope["route"] = self
        if scope["method"] in (self.methods or ()):
            guard: Guard = scope["app"].state.guard
            await guard(scope, self.path)
            if self.body_field is not None:
                receive = _again(await read_body(Request(scope, receive), limit_bytes=_MAX_DECLARED_BYTES), receive)
        await super().handle(scope, receive, send)


def _again(body: bytes, receive: Receive) -> Receive:
    """Return what gives a body that was read once more, then whatever comes."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> Message:
        return messages.pop() if messages else await receive()

    return receive_again


def declared_routes(*routers: Any) -> set[tuple[str, str]]:
    """Return method and path template of every route of `routers`. Raises TypeError for one without a guard."""
    found: set[tuple[str, str]] = set()
    for router in routers:
        for route in router.routes:
            if not isinstance(route, GuardedRoute):
                raise TypeError(f"{getattr(route, 'path', route)} is no guarded route")
            found |= {(method, route.path) for method in route.methods or ()}
    return found
