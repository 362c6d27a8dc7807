"""The HTTP service: the edge on top of `worker.Core`. The only file that knows every router."""

import asyncio
import gc
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import timedelta

import structlog
from fastapi import APIRouter, FastAPI
from fastapi.responses import RedirectResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.types import ASGIApp, Receive, Scope, Send

from sms_foundation import __version__
from sms_foundation.access_rules import RULES, check_rules, demands
from sms_foundation.auth.audit.router import audit_router
from sms_foundation.auth.bootstrap import check_admin_key, introduce_first_admin
from sms_foundation.auth.clients.router import clients_router
from sms_foundation.auth.control import AccessControl, open_access_control
from sms_foundation.auth.keys.router import keys_router
from sms_foundation.auth.numbers.router import number_rules_router
from sms_foundation.auth.people.inviting.router import invitations_router
from sms_foundation.auth.people.passwords import Passwords
from sms_foundation.auth.people.router import people_router
from sms_foundation.auth.roles.router import roles_router
from sms_foundation.auth.tokens.router import tokens_router
from sms_foundation.compat.router import compat_router
from sms_foundation.core.config import Settings
from sms_foundation.core.db import Database, DatabaseUrl, explain_outage
from sms_foundation.core.web.context import EdgeLoad, RequestContext
from sms_foundation.core.web.cors import allow_origins
from sms_foundation.core.web.direct import direct_routes
from sms_foundation.core.web.errors import install_error_handlers
from sms_foundation.core.web.guarded import GuardedRoute, declared_routes
from sms_foundation.core.web.health import Check, CheckResult, State, health_router
from sms_foundation.core.web.once import Once
from sms_foundation.core.web.openapi import document_api
from sms_foundation.core.web.security_headers import SecurityHeaders
from sms_foundation.core.work import queue
from sms_foundation.core.work.metrics import WORK_BACKLOG, WORK_OLDEST_DUE_SECONDS
from sms_foundation.enrichment.language import detect
from sms_foundation.enrichment.tenants.lookup import MonitorState, TenantLookup
from sms_foundation.messaging.ingest import MessageStore
from sms_foundation.messaging.jobs import SEND_TEST_MESSAGE
from sms_foundation.messaging.outbound.accept import MessageAcceptor
from sms_foundation.messaging.outbound.health import is_available
from sms_foundation.messaging.outbound.recipients import Recipients
from sms_foundation.messaging.outbound.requests import SendingLimits
from sms_foundation.messaging.outbound.router import sending_router
from sms_foundation.messaging.outbound.service import SendingService
from sms_foundation.messaging.router import history_router
from sms_foundation.migrations.child import migrate_in_child
from sms_foundation.migrations.state import schema_problem
from sms_foundation.webhooks.openapi import webhook_paths
from sms_foundation.webhooks.router import webhook_routes
from sms_foundation.worker import Core, keep_recurring_work, open_core

log = structlog.get_logger(__name__)

_MIGRATION_PATIENCE_S = 30.0
_DATABASE_PATIENCE_S = 3.0

_DESCRIPTION = """One service through which an organisation's every text message comes in and goes out.

Every error has the same shape, `{"error": {"code", "message", "details"?, "timestamp", "request_id"}}`; `code` is made
for programs and never changes its meaning. Send `X-Request-ID` to find your call in the logs."""


def _tell_operator(text: str) -> None:
    """Write past the log, which must not hold secrets."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def create_app(settings: Settings, url: DatabaseUrl, *, announce: Callable[[str], None] = _tell_operator) -> ASGIApp:
    """Build the service. It starts without a reachable database and gets ready by itself once there is one.

    `announce` is given what a person must see once: the first admin's key. Raises StartupError for settings that make
    no sense.
    """
    check_admin_key(settings.admin_api_key)
    load = EdgeLoad()
    readiness = _Readiness()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with (
            open_core(settings, url, is_edge_busy=load.is_busy) as core,
            open_access_control(settings, core.database, core.rates, RULES) as access,
        ):
            messages, acceptor = _install_edge(app, hot_paths, settings, core, access, readiness)
            schema = await _start_migrating(core.database) if settings.should_migrate else None
            recurring = asyncio.create_task(keep_recurring_work(core.database))
            first = asyncio.create_task(introduce_first_admin(core.database, settings.admin_api_key, announce))
            warming = asyncio.create_task(_warm_up(core.database))
            if settings.work_in_process:
                core.start()
            else:
                core.states.start()
            # What has been loaded stays: the collector need not walk through it again and again, 20 ms each time.
            gc.collect()
            gc.freeze()
            log.info("service.started", version=__version__, app_env=settings.app_env, database=url.safe_name)
            try:
                yield
            finally:
                readiness.is_stopping = True
                recurring.cancel()
                first.cancel()
                warming.cancel()
                if schema is not None:
                    schema.cancel()
                with suppress(TimeoutError):  # whoever still waits for a silent database was answered already
                    async with asyncio.timeout(settings.shutdown_timeout_s * 0.05):
                        await asyncio.gather(messages.close(), core.receipts.close(), acceptor.close())
                await core.stop(settings.shutdown_timeout_s * 0.4)
                log.info("service.stopped")

    hot_paths: dict[str, ASGIApp] = {}

    app = FastAPI(
        title="SMS Foundation",
        version=__version__,
        lifespan=lifespan,
        redirect_slashes=False,  # a redirected webhook would carry a signature of another URL
    )
    install_error_handlers(app)
    is_https = settings.public_base_url is not None and settings.public_base_url.startswith("https://")
    inner = allow_origins(_HotPathsFirst(hot_paths, app), settings.allowed_origins)
    return RequestContext(inner, load, SecurityHeaders(is_https=is_https))


class _HotPathsFirst:
    """Hands webhooks and sends to their endpoints by exact path, everything else to FastAPI."""

    def __init__(self, endpoints: Mapping[str, ASGIApp], rest: ASGIApp) -> None:
        self._endpoints = endpoints
        self._rest = rest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        endpoint = self._endpoints.get(scope["path"]) if scope["type"] == "http" else None
        if endpoint is None:
            await self._rest(scope, receive, send)
        else:
            await endpoint(scope, receive, send)


async def _warm_up(database: Database) -> None:
    """Have connections and the lexicon ready before the first text asks for them."""
    detect("hola")
    with suppress(Exception):  # an unreachable database is everybody else's to report
        await database.warm_up()


async def _start_migrating(database: Database) -> asyncio.Task[None]:
    """Bring the schema up to date, normally before the first request; what fails is tried again beside the requests."""
    has_tried = asyncio.Event()
    task = asyncio.create_task(_bring_schema_up_to_date(database, has_tried))
    with suppress(TimeoutError):
        async with asyncio.timeout(_MIGRATION_PATIENCE_S):
            await has_tried.wait()
    return task


async def _bring_schema_up_to_date(database: Database, has_tried: asyncio.Event) -> None:
    pause_s = 1.0
    while True:
        try:
            async with asyncio.timeout(_DATABASE_PATIENCE_S), database.connection() as connection:
                problem = await schema_problem(connection)
            if problem is not None:
                log.info("schema.migrating", reason=problem)
                await migrate_in_child(database.url)
        except Exception as error:  # noqa: BLE001  # the database may come back, and the next try may find it done
            log.warning("schema.not_current", error=explain_outage(error), retry_in_s=pause_s)
            has_tried.set()
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, 10.0)
        else:
            has_tried.set()
            return


def _install_edge(
    app: FastAPI,
    hot_paths: dict[str, ASGIApp],
    settings: Settings,
    core: Core,
    access: AccessControl,
    readiness: "_Readiness",
) -> tuple[MessageStore, MessageAcceptor]:
    database = core.database
    messages = MessageStore(
        database,
        lease_token=core.runner.lease_token,
        lease=core.runner.lease,
        room=lambda: core.runner.room,
        timeout_s=settings.webhook_timeout_s,
    )
    recipients = Recipients(access.number_rules, access.limiter)
    acceptor = MessageAcceptor(
        database,
        timeout_s=settings.webhook_timeout_s,
        on_accepted=core.sender.wake,
        limit=recipients if access.limiter.limits_numbers else None,
    )
    sending = SendingService(database, acceptor, _sending_limits(settings, core), recipients, wake=core.sender.wake)
    providers = list(core.providers.values()) if settings.public_base_urls else []
    hot_paths.update(
        webhook_routes(
            providers,
            messages,
            core.receipts,
            run_soon=core.runner.offer,
            max_bytes=settings.max_webhook_bytes,
            default_region=settings.default_region,
        )
    )
    if not providers:
        log.warning("webhooks.off", reason="no provider is configured, or PUBLIC_BASE_URL is not set")
    once = Once(database, keep_hours=settings.idempotency_hours)
    sends = sending_router(database, sending, once, access.content_reads, access.limiter)
    old_sends = compat_router(sending)
    routers = [
        history_router(database, once, access.content_reads, default_region=settings.default_region),
        sends,
        old_sends,
        number_rules_router(database, access.number_rules, once, access.content_reads),
        clients_router(database, once, forget=access.directory.forget),
        keys_router(database, once, forget=access.directory.forget),
        roles_router(database, forget=access.directory.forget),
        audit_router(database),
        tokens_router(access, once),
        people_router(database, access, once, Passwords(), log_in_lasts=timedelta(days=settings.refresh_token_days)),
        invitations_router(database, once, lifetime=timedelta(hours=settings.invitation_hours)),
        health_router(_checks(settings, core), is_ready=lambda: readiness.problem(database)),
        _operations_router(database),
    ]
    check_rules(declared_routes(*routers))
    app.state.guard = access.gate.check
    for router in routers:
        app.router.routes.extend(router.routes)  # `include_router` would build each once more, with the first request
    hot_paths.update(direct_routes(sends, ["/v1/sms/send"], access.gate.check))
    hot_paths.update(direct_routes(old_sends, ["/sms/send"], access.gate.check))
    app.openapi = document_api(  # type: ignore[method-assign]  # FastAPI's own way
        app, webhook_paths(providers), demands(), description=_DESCRIPTION
    )
    return messages, acceptor


def _sending_limits(settings: Settings, core: Core) -> SendingLimits:
    validity_s = settings.message_validity_s
    return SendingLimits(
        default_region=settings.default_region,
        providers=frozenset(core.providers),
        allows_short_codes=any(config.allows_short_codes for config in core.configs),
        encodes_smartly=settings.smart_encoding,
        validity=timedelta(seconds=validity_s) if validity_s else None,
    )


class _Readiness:
    """Should this process get requests? Remembers that the schema is current once it was."""

    def __init__(self) -> None:
        self.is_stopping = False
        self._is_schema_current = False

    async def problem(self, database: Database) -> str | None:
        if self.is_stopping:
            return "stopping"
        try:
            async with asyncio.timeout(2), database.connection() as connection:
                if self._is_schema_current:
                    await connection.execute("SELECT 1")
                    return None
                problem = await schema_problem(connection)
        except Exception as error:  # noqa: BLE001  # whatever it is, the answer is "not ready"
            return f"database: {explain_outage(error)}"
        self._is_schema_current = problem is None
        return problem


def _checks(settings: Settings, core: Core) -> dict[str, Check]:
    async def check_database() -> CheckResult:
        async with core.database.connection() as connection:
            problem = await schema_problem(connection)
        return CheckResult(State.OK) if problem is None else CheckResult(State.DOWN, {"error": problem})

    async def check_twilio() -> CheckResult:
        if not any(config.kind == "twilio" for config in core.configs):
            return CheckResult(State.NOT_CONFIGURED)
        return CheckResult(State.OK, {"credentials": "simulator" if settings.uses_simulator else "configured"})

    async def check_providers() -> CheckResult:
        states = await core.states.read()
        now = core.states.now()
        sending = {config.name: is_available(states[config.name], now) for config in core.configs if config.weight}
        if not sending:
            return CheckResult(State.NOT_CONFIGURED)
        details = {name: "available" if is_up else "in_trouble" for name, is_up in sending.items()}
        return CheckResult(State.OK if all(sending.values()) else State.DEGRADED, {"providers": details})

    async def check_backlog() -> CheckResult:
        async with core.database.connection() as connection:
            # Tests that fail are somebody's intention, not ours to be in trouble about.
            kinds = [each for each in await queue.backlog(connection) if each.kind != SEND_TEST_MESSAGE]
        oldest_s = max((each.oldest_due_s for each in kinds), default=0.0)
        dead = sum(each.dead for each in kinds)
        details = {"due": sum(each.due for each in kinds), "oldest_due_s": round(oldest_s, 1), "dead": dead}
        return CheckResult(State.DEGRADED if dead or oldest_s > 60 else State.OK, details)

    return {
        "database": check_database,
        "twilio": check_twilio,
        "providers": check_providers,
        "collections_monitor": lambda: _check_monitor(core.lookup),
        "work": check_backlog,
    }


async def _check_monitor(lookup: TenantLookup) -> CheckResult:
    health = lookup.health()
    details = None if health.latency_s is None else {"last_lookup_ms": round(health.latency_s * 1000, 1)}
    match health.state:
        case MonitorState.NOT_CONFIGURED:
            return CheckResult(State.NOT_CONFIGURED)
        case MonitorState.UNAVAILABLE:
            return CheckResult(State.DEGRADED, details)
        case MonitorState.OK | MonitorState.UNTRIED:
            return CheckResult(State.OK, details)


def _operations_router(database: Database) -> APIRouter:
    router = APIRouter(include_in_schema=False, route_class=GuardedRoute)

    @router.get("/metrics")
    async def show_metrics() -> Response:
        """Everything Prometheus wants to know; the backlog is counted at this moment, if the database can be asked."""
        try:
            async with asyncio.timeout(2), database.connection() as connection:
                kinds = await queue.backlog(connection)
        except Exception as error:  # noqa: BLE001  # metrics matter most when something is wrong
            log.warning("metrics.no_backlog", error=explain_outage(error))
        else:
            _set_backlog(kinds)
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    @router.get("/")
    async def show_docs() -> RedirectResponse:
        return RedirectResponse("/docs")

    return router


def _set_backlog(kinds: list[queue.Backlog]) -> None:
    WORK_BACKLOG.clear()
    WORK_OLDEST_DUE_SECONDS.clear()
    for each in kinds:
        for state in ("due", "scheduled", "leased", "dead"):
            WORK_BACKLOG.labels(each.kind, state).set(getattr(each, state))
        WORK_OLDEST_DUE_SECONDS.labels(each.kind).set(each.oldest_due_s)
