"""Hypothesis runs in a thread of its own, the service in the test's event loop."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import httpx
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from tests.fuzz.budget import examples
from tests.support.access import bearer

Result = TypeVar("Result")
_STEPS = 40


class Bridge:
    """Calls the service from the thread in which a state machine runs."""

    def __init__(self, client: httpx.AsyncClient, loop: asyncio.AbstractEventLoop) -> None:
        self._client = client
        self._loop = loop

    def wait(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Do something in the event loop, and wait for it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def call(
        self, method: str, path: str, json: object = None, *, key: str | None = None, name: str | None = None
    ) -> httpx.Response:
        """Call the API with a key or token; `name` is the Idempotency-Key."""
        return self.wait(self._call(method, path, json, key, name))

    def call_twice(
        self, method: str, path: str, json: object = None, *, key: str | None = None, name: str | None = None
    ) -> list[httpx.Response]:
        """Make the same call twice at once."""

        async def both() -> list[httpx.Response]:
            return list(await asyncio.gather(*(self._call(method, path, json, key, name) for _ in range(2))))

        return self.wait(both())

    async def _call(self, method: str, path: str, json: object, key: str | None, name: str | None) -> httpx.Response:
        headers = {} if key is None else bearer(key)
        if name is not None:
            headers["Idempotency-Key"] = name
        response = await self._client.request(method, path, json=json, headers=headers)
        assert response.status_code < 500, response.text
        return response


async def run_machine(make: Callable[[], RuleBasedStateMachine], *, usual: int) -> None:
    """Let a machine take its steps, so many times or FUZZ times as many."""
    budget = settings(max_examples=examples(usual), stateful_step_count=_STEPS, database=None)
    await asyncio.to_thread(run_state_machine_as_test, make, settings=budget)
