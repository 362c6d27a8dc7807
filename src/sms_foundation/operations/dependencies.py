"""Every dependency of the process, asked one by one, and how each is shown at /health."""

import asyncio
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from sms_foundation.core.config import Settings
from sms_foundation.core.rates.base import RatesUnavailableError
from sms_foundation.core.web.health import Check, CheckResult, State
from sms_foundation.core.work import queue
from sms_foundation.enrichment.tenants.lookup import MonitorState
from sms_foundation.messaging.jobs import SEND_TEST_MESSAGE
from sms_foundation.messaging.outbound.health import ProviderState, is_available
from sms_foundation.migrations.state import schema_problem
from sms_foundation.worker import Core

# Work that has been due for longer is a reason to look.
_OLD_WORK_S = 60.0
# For those without whom the service still does its work: less than the limit of a check, after which it counts as down.
_PATIENCE_S = 1.5


def dependency_checks(settings: Settings, core: Core) -> dict[str, Check]:
    """Return one check per dependency, in the order in which they are shown."""
    return {
        "database": lambda: _check_database(core),
        "twilio": lambda: _check_twilio(settings, core),
        "providers": lambda: _check_providers(core),
        "collections_monitor": lambda: _check_monitor(settings, core),
        "redis": lambda: _check_redis(settings, core),
        "work": lambda: _check_work(core),
    }


async def _check_database(core: Core) -> CheckResult:
    async with core.database.connection() as connection:
        problem = await schema_problem(connection)
    use = core.database.use()
    pool = {"limit": use.limit, "in_use": use.in_use, "waiting": use.waiting}
    if problem is not None:
        return CheckResult(State.DOWN, {"error": problem, "pool": pool})
    return CheckResult(State.OK, {"pool": pool})


async def _check_twilio(settings: Settings, core: Core) -> CheckResult:
    """Tell whether every Twilio account took its last messages. That the database is away is not Twilio's trouble."""
    accounts = [config for config in core.configs if config.kind == "twilio"]
    if not accounts:
        return CheckResult(State.NOT_CONFIGURED)
    details = {"credentials": "simulator" if settings.uses_simulator else "configured"}
    try:
        async with asyncio.timeout(_PATIENCE_S):
            states = await core.states.read()
    except Exception:  # noqa: BLE001  # whatever it is, the database's own check says it
        return CheckResult(State.OK, {**details, "last_messages": "unknown"})
    now = core.states.now()
    if all(is_available(states[config.name], now) for config in accounts if config.weight):
        return CheckResult(State.OK, {**details, "last_messages": "ok"})
    return CheckResult(State.DEGRADED, {**details, "last_messages": "in_trouble"})


async def _check_providers(core: Core) -> CheckResult:
    """Tell what their last messages said. Nobody is called: a look at this page must not use up a provider's rate."""
    states = await core.states.read()
    now = core.states.now()
    sending = {config.name: states[config.name] for config in core.configs if config.weight}
    if not sending:
        return CheckResult(State.NOT_CONFIGURED)
    is_any_in_trouble = not all(is_available(state, now) for state in sending.values())
    details = {name: _show_provider(state, now) for name, state in sending.items()}
    return CheckResult(State.DEGRADED if is_any_in_trouble else State.OK, {"providers": details})


def _show_provider(state: ProviderState, now: datetime) -> Mapping[str, Any]:
    shown: dict[str, Any] = {
        "state": "available" if is_available(state, now) else "in_trouble",
        "circuit": state.circuit,
        "consecutive_failures": state.consecutive_failures,
        "weight_percent": state.weight_percent,
    }
    if state.circuit_until is not None and state.circuit_until > now:
        shown["circuit_until"] = state.circuit_until
    if state.unhealthy_until is not None and state.unhealthy_until > now:
        shown["unhealthy_until"] = state.unhealthy_until
    return shown


async def _check_monitor(settings: Settings, core: Core) -> CheckResult:
    """See whether a connection can be opened now, and tell how the last lookup went: nobody is looked up for this."""
    if settings.monitor_api_url is None:
        return CheckResult(State.NOT_CONFIGURED)
    health = core.lookup.health()
    details: dict[str, Any] = {"last_lookup": health.state}
    if health.latency_s is not None:
        details["last_lookup_ms"] = round(health.latency_s * 1000, 1)
    try:
        await _connect(settings.monitor_api_url)
    except OSError as error:  # TimeoutError is one; its text names addresses, which are nobody's business here
        return CheckResult(State.DEGRADED, {**details, "error": type(error).__name__})
    is_up = health.state is not MonitorState.UNAVAILABLE
    return CheckResult(State.OK if is_up else State.DEGRADED, details)


async def _connect(url: str) -> None:
    """Open a connection to the host of `url` and close it. Raises OSError."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    async with asyncio.timeout(_PATIENCE_S):
        _, writer = await asyncio.open_connection(parts.hostname, port)
    writer.transport.abort()


async def _check_redis(settings: Settings, core: Core) -> CheckResult:
    """Read a rate. Without Redis nothing is sent and nobody is limited, while texts still come in: not down."""
    if settings.redis_url is None:
        return CheckResult(State.NOT_CONFIGURED)
    try:
        async with asyncio.timeout(_PATIENCE_S):
            await core.rates.read(["health"])
    except RatesUnavailableError as error:  # its text may quote the URL
        return CheckResult(State.DEGRADED, {"error": type(error.__cause__).__name__})
    except TimeoutError:
        return CheckResult(State.DEGRADED, {"error": "TimeoutError"})
    return CheckResult(State.OK)


async def _check_work(core: Core) -> CheckResult:
    """Count what waits. Tests that fail are somebody's intention, not ours to be in trouble about."""
    async with core.database.connection() as connection:
        kinds = [each for each in await queue.backlog(connection) if each.kind != SEND_TEST_MESSAGE]
    oldest_s = max((each.oldest_due_s for each in kinds), default=0.0)
    dead = sum(each.dead for each in kinds)
    details = {
        "due": sum(each.due for each in kinds),
        "oldest_due_s": round(oldest_s, 1),
        "dead": dead,
        "runs_here": core.is_working,
    }
    if core.has_stopped_working:
        return CheckResult(State.DOWN, {**details, "error": "background work has ended by itself"})
    return CheckResult(State.DEGRADED if dead or oldest_s > _OLD_WORK_S else State.OK, details)
