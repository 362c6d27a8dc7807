"""Why an application could not start, kept for whoever runs the server, which would only log it as a traceback."""

from collections.abc import Awaitable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sms_foundation.core.errors import StartupError


class Startup:
    """Outermost layer under a server. After the server has ended, `problem` is why it could not start."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.problem: StartupError | None = None

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        # Hands requests on without a frame of its own.
        return self._app(scope, receive, send) if scope["type"] != "lifespan" else self._live(scope, receive, send)

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        failed: list[Message] = []

        async def hold_back_failure(message: Message) -> None:
            if message["type"] == "lifespan.startup.failed":
                failed.append(message)
            else:
                await send(message)

        try:
            await self._app(scope, receive, hold_back_failure)
        except StartupError as error:
            self.problem = error
            await send({"type": "lifespan.startup.failed", "message": ""})
        except BaseException:
            for message in failed:
                await send(message)
            raise
