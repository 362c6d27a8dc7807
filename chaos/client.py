"""Speaking HTTP to the services, which come and go, and to the simulator, which stays."""

import asyncio
import contextlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

import aiohttp
import orjson

from chaos.errors import ChaosError
from chaos.record import Evidence

_SERVICE_TIMEOUT: Final = aiohttp.ClientTimeout(total=20, connect=3)
_SIMULATOR_TIMEOUT: Final = aiohttp.ClientTimeout(total=120)  # a text with all its retries and the fallback takes 30 s
_PAUSE_S: Final = 0.3
_TRY_AGAIN: Final = 503  # the one refusal that says: nothing was done, ask again


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes

    def json(self) -> Any:  # Any: JSON, read by the caller that knows its shape
        return orjson.loads(self.body)


class Client:
    """A caller of both services, in turns, and of the simulator's control API; an async context manager."""

    def __init__(self, service_urls: Sequence[str], simulator_url: str, api_key: str, evidence: Evidence) -> None:
        self._turns = itertools.cycle(service_urls)
        self._service_urls = service_urls
        self._simulator_url = simulator_url
        self._headers = {"Authorization": f"Bearer {api_key}", "Content-Type": "application/json"}
        self._evidence = evidence

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=256, keepalive_timeout=2),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def ask(
        self, method: str, path: str, body: object = None, *, key: str | None = None, expected: Sequence[int] = (200,)
    ) -> Answer | None:
        """Ask one of the services once. None: no answer, or 503; anything unexpected is noted, and None as well."""
        headers = self._headers if key is None else {**self._headers, "Idempotency-Key": key}
        data = None if body is None else orjson.dumps(body)
        try:
            async with self._session.request(
                method, next(self._turns) + path, data=data, headers=headers, timeout=_SERVICE_TIMEOUT
            ) as response:
                answer = Answer(response.status, await response.read())
        except (aiohttp.ClientError, TimeoutError):
            return None
        if answer.status in expected:
            return answer
        if answer.status != _TRY_AGAIN:
            words = answer.body[:200].decode(errors="replace")
            self._evidence.refusals.append(f"{method} {path}: {answer.status} {words}")
        return None

    async def insist(
        self, method: str, path: str, body: object = None, *, key: str | None = None, expected: Sequence[int] = (200,)
    ) -> Answer:
        """Ask again, and again, until there is an expected answer, as a client does that means it."""
        while True:
            answer = await self.ask(method, path, body, key=key, expected=expected)
            if answer is not None:
                return answer
            await asyncio.sleep(_PAUSE_S)

    async def simulator(self, method: str, path: str, body: object = None) -> Any:  # Any: JSON
        """Ask the simulator; None for an answer without a body. Raises ChaosError: it is not meant to fail."""
        headers = {"Content-Type": "application/json"}
        data = None if body is None else orjson.dumps(body)
        try:
            async with self._session.request(
                method, self._simulator_url + path, data=data, headers=headers, timeout=_SIMULATOR_TIMEOUT
            ) as response:
                content = await response.read()
                if response.status >= 400:
                    raise ChaosError(f"the simulator refuses {method} {path}: {content[:300].decode()}")
        except (aiohttp.ClientError, TimeoutError) as error:
            raise ChaosError(f"the simulator does not answer {method} {path}: {type(error).__name__}") from None
        return orjson.loads(content) if content else None

    async def metrics(self) -> Mapping[str, float]:
        """Return what the first service that answers says at /metrics: value by name and labels."""
        while True:
            for url in self._service_urls:
                with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                    async with self._session.get(f"{url}/metrics", timeout=_SERVICE_TIMEOUT) as response:
                        if response.status == 200:
                            return _read_metrics(await response.text())
            await asyncio.sleep(_PAUSE_S)


def _read_metrics(text: str) -> Mapping[str, float]:
    pairs = (line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#"))
    return {name: float(value) for name, value in pairs}
