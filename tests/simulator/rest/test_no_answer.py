import asyncio
from typing import Any

import pytest
from starlette.types import Message

from sms_foundation.simulator.rest.no_answer import NoAnswer


class Connection:
    """An ASGI server's side of one request, from which the client hangs up when told to."""

    def __init__(self, *, is_cuttable: bool = True) -> None:
        self.is_cut = False
        self.has_hung_up = asyncio.Event()
        self.disconnects = 0
        self.sent: list[Message] = []
        cut = {"sms_foundation.cut": {"cut": self.cut}}
        self.scope: dict[str, Any] = {"type": "http", "extensions": cut if is_cuttable else {}}

    def cut(self) -> None:
        self.is_cut = True
        asyncio.get_running_loop().call_soon(self.has_hung_up.set)

    async def receive(self) -> Message:
        await self.has_hung_up.wait()
        self.disconnects += 1
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        self.sent.append(message)


class TestNoAnswer:
    async def test_it_cuts_without_a_word(self) -> None:
        connection = Connection()
        await NoAnswer()(connection.scope, connection.receive, connection.send)
        assert (connection.is_cut, connection.sent) == (True, [])

    async def test_it_lasts_until_the_server_has_noticed(self) -> None:
        connection = Connection()
        await NoAnswer()(connection.scope, connection.receive, connection.send)
        assert connection.disconnects == 1

    async def test_it_says_nothing_for_as_long_as_it_should(self) -> None:
        connection = Connection()
        await NoAnswer(0.01)(connection.scope, connection.receive, connection.send)
        assert (connection.is_cut, connection.sent) == (True, [])

    async def test_it_ends_when_the_client_gives_up(self) -> None:
        connection = Connection()
        connection.has_hung_up.set()
        async with asyncio.timeout(10):
            await NoAnswer(3_600)(connection.scope, connection.receive, connection.send)
        assert connection.sent == []

    async def test_on_another_server_it_breaks_off_an_answer_nobody_can_use(self) -> None:
        connection = Connection(is_cuttable=False)
        with pytest.raises(ConnectionAbortedError):
            await NoAnswer()(connection.scope, connection.receive, connection.send)
        assert [message["type"] for message in connection.sent] == ["http.response.start"]
        assert connection.sent[0]["headers"] == [(b"content-length", b"1")]
