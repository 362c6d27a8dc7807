"""What access control costs a request, in a process of its own: CPU per call of the gate, with a key and with a token.

`python -m benchmarks.gate DATABASE_URL API_KEY CALLS` prints one JSON object of microseconds per call. The gate is the
service's own, on a real database that it goes on asking every two seconds; limits are off, `access_limits` has them.
"""

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

from sms_foundation.access_rules import RULES
from sms_foundation.auth.control import AccessControl, open_access_control
from sms_foundation.auth.keys.format import digest_of
from sms_foundation.auth.permissions import Permission
from sms_foundation.core.config import Settings
from sms_foundation.core.db import Database, parse_database_url
from sms_foundation.core.rates.postgres import PostgresRates

_ROUTE = ("GET", "/v1/sms")
# What a request of a usual client carries besides its credentials.
_HEADERS = [
    (b"host", b"sms.example.com"),
    (b"user-agent", b"python-httpx/0.28"),
    (b"accept", b"application/json"),
    (b"accept-encoding", b"gzip, deflate"),
    (b"content-type", b"application/json"),
]


def main() -> None:
    """Measure and print."""
    print(json.dumps(asyncio.run(_measure(sys.argv[1], sys.argv[2], int(sys.argv[3])))))


async def _measure(url: str, key: str, calls: int) -> dict[str, float]:
    settings = Settings(_env_file=None, app_env="test", open_access=False, client_limit="off", number_limit="off")  # type: ignore[call-arg]
    database = Database(parse_database_url(url), settings)
    await database.open()
    try:
        async with open_access_control(settings, database, PostgresRates(database), RULES) as control:
            token = await _token(control, key)
            return {
                "key_us": await _cpu_us(_call(control, key), calls),
                "token_us": await _cpu_us(_call(control, token), calls),
            }
    finally:
        await database.close()


async def _token(control: AccessControl, key: str) -> str:
    await control.token_issuer.prepare()
    grant = await control.directory.by_digest(digest_of(key))
    return (await control.token_issuer.for_key(grant, frozenset({Permission.MESSAGES_READ}))).text


def _call(control: AccessControl, credential: str) -> Callable[[], Awaitable[None]]:
    headers = [*_HEADERS, (b"authorization", b"Bearer " + credential.encode())]
    method, path = _ROUTE

    async def call() -> None:
        state: dict[str, Any] = {"request_id": "benchmark", "log": {}}
        scope = {"type": "http", "method": method, "headers": headers, "client": ("192.0.2.7", 1), "state": state}
        await control.gate.check(scope, path)

    return call


async def _cpu_us(call: Callable[[], Awaitable[None]], calls: int) -> float:
    """Return the CPU time of this process per call; building the request's scope, 1 us, is in it."""
    await call()
    started = time.process_time()
    for index in range(calls):
        await call()
        if index % 100 == 0:
            await asyncio.sleep(0)  # so that what is asked beside the requests gets its turn, and is counted
    return (time.process_time() - started) * 1e6 / calls


if __name__ == "__main__":
    main()
