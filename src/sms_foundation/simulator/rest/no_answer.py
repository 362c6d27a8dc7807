"""Not answering: how a connection is cut under an ASGI server, which has no word for it.

ASGI knows only answers; an application that raises gets a 500 written for it. So the server itself is asked: `serve`
with `CuttableProtocol` puts a function into the scope's extensions that cuts this request's connection.
"""

import asyncio
from contextlib import suppress
from typing import Final

from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_EXTENSION: Final = "sms_foundation.cut"


class CuttableProtocol(HttpToolsProtocol):
    """uvicorn's own protocol, with `scope["extensions"]["sms_foundation.cut"]`: a function without arguments."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {_EXTENSION: {"cut": self.transport.abort}}


class NoAnswer(Response):
    """In place of a response: say nothing for `hold_s` (or until the client gives up), then cut the connection."""

    def __init__(self, hold_s: float = 0.0) -> None:
        super().__init__()
        self._hold_s = hold_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._hold_s:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._hold_s):
                    await _wait_for_disconnect(receive)
        extension = scope.get("extensions", {}).get(_EXTENSION)
        if extension is not None:
            extension["cut"]()
            # Until the server has noticed, too: a handler that ends before looks to it like a broken one.
            await _wait_for_disconnect(receive)
            return
        # Another server: begin an answer and break it off. The client sees headers, but nothing it could use.
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1")]})
        raise ConnectionAbortedError("this answer is broken off on purpose")


async def _wait_for_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
