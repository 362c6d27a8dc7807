"""Is it alive, is it ready, and what is the matter: three questions by three different askers."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import orjson
from fastapi import APIRouter
from fastapi.responses import Response

from sms_foundation import __version__
from sms_foundation.core.db import explain_outage
from sms_foundation.core.limited import Limited
from sms_foundation.core.web.guarded import GuardedRoute

_CHECK_TIMEOUT_S = 2.0  # less than any prober's patience


class State(StrEnum):
    """How a dependency is doing."""

    OK = "ok"
    DEGRADED = "degraded"  # the service works without it, or with less of it
    DOWN = "down"  # the service cannot do its work
    NOT_CONFIGURED = "not_configured"


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One dependency, and what else is worth showing about it."""

    state: State
    details: Mapping[str, Any] | None = None


Check = Callable[[], Awaitable[CheckResult]]
NotReady = Callable[[], Awaitable[str | None]]
NotAlive = Callable[[], str | None]


def health_router(
    checks: Mapping[str, Check], *, not_ready: NotReady, not_alive: NotAlive, version: str = __version__
) -> APIRouter:
    """Return the health routes.

    `not_ready` and `not_alive` return None, or in one line why this process should get nothing to do, or be replaced.
    Each check is waited for 2 seconds at most, all of them side by side, and none is run twice at once.
    """
    router = APIRouter(tags=["health"], route_class=GuardedRoute)
    limited = {name: Limited(check, limit_s=_CHECK_TIMEOUT_S) for name, check in checks.items()}

    down: dict[int | str, dict[str, Any]] = {503: {"description": "The same body, with `ok` false"}}

    @router.get("/health", summary="Every dependency, with latencies", responses=down)
    async def show_health() -> Response:
        """200 while the service can do its work, 503 when a dependency it needs is down."""
        results = await asyncio.gather(*(_run(check) for check in limited.values()))
        dependencies = dict(zip(limited, results, strict=True))
        is_ok = all(each["state"] != State.DOWN for each in dependencies.values())
        body = {"ok": is_ok, "version": version, "dependencies": dependencies}
        return _json(body, 200 if is_ok else 503)

    @router.get("/health/live", summary="Is the process alive?", responses=down)
    async def show_liveness() -> Response:
        """503, with the reason, when only a new process helps; a failing database is no reason to restart this one."""
        return _verdict(not_alive())

    has_started = False

    @router.get("/health/startup", summary="Has the process started?", responses=down)
    async def show_startup() -> Response:
        """503, with the reason, until it was ready for the first time; whatever happens later is for the others."""
        nonlocal has_started
        reason = None if has_started else await not_ready()
        has_started = reason is None
        return _verdict(reason)

    @router.get("/health/ready", summary="Should this process get requests?", responses=down)
    async def show_readiness() -> Response:
        """503, with the reason, while the database is unreachable, the schema is behind, or the process is stopping."""
        return _verdict(await not_ready())

    return router


async def _run(check: Check) -> dict[str, Any]:
    started = time.perf_counter()
    try:
        result = await check()
    except Exception as error:  # noqa: BLE001  # a check that fails is an answer
        result = CheckResult(State.DOWN, {"error": explain_outage(error)})
    latency_ms = round((time.perf_counter() - started) * 1000, 2)
    return {"state": result.state, "latency_ms": latency_ms, **(result.details or {})}


def _verdict(problem: str | None) -> Response:
    return _json({"ok": True}, 200) if problem is None else _json({"ok": False, "reason": problem}, 503)


def _json(body: Mapping[str, Any], status: int) -> Response:
    return Response(orjson.dumps(body), status_code=status, media_type="application/json")
