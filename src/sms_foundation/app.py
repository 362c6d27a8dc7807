"""The HTTP service: the edge on top of `worker.Core`. The only file that knows every router."""

import asyncio
import gc
import sys
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import timedelta

import structlog
from fastapi import APIRouter, FastAPI
from fastapi.responses import RedirectResponse
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
from sms_foundation.core.stopping import Stopping
from sms_foundation.core.tracing.opening import open_tracer
from sms_foundation.core.web.context import EdgeLoad, RequestContext
from sms_foundation.core.web.cors import allow_origins
from sms_foundation.core.web.direct import direct_routes
from sms_foundation.core.web.errors import install_error_handlers
from sms_foundation.core.web.guarded import GuardedRoute, declared_routes
from sms_foundation.core.web.once import Once
from sms_foundation.core.web.openapi import document_api
from sms_foundation.core.web.security_headers import SecurityHeaders
from sms_foundation.enrichment.language import detect
from sms_foundation.messaging.ingest import MessageStore
from sms_foundation.messaging.outbound.accept import MessageAcceptor
from sms_foundation.messaging.outbound.recipients import Recipients, read_countries
from sms_foundation.messaging.outbound.requests import SendingLimits
from sms_foundation.messaging.outbound.router import sending_router
from sms_foundation.messaging.outbound.service import SendingService
from sms_foundation.messaging.router import history_router
from sms_foundation.migrations.child import migrate_in_child
from sms_foundation.migrations.state import schema_problem
from sms_foundation.operations.router import operations_routers
from sms_foundation.webhooks.openapi import webhook_paths
from sms_foundation.webhooks.router import webhook_routes
from sms_foundation.worker import Core, closing_tracer, keep_recurring_work, open_core

log = structlog.get_logger(__name__)

_MIGRATION_PATIENCE_S = 30.0
_LOOK_EVERY_S = 0.1  # whether to stop; a signal comes when it wants
_DATABASE_PATIENCE_S = 3.0

_DESCRIPTION = """One service through which an organisation's every text message comes in and goes out.

Every error has the same shape, `{"error": {"code", "message", "details"?, "timestamp", "request_id"}}`; `code` is made
for programs and never changes its meaning. Send `X-Request-ID` to find your call in the logs."""


def _tell_operator(text: str) -> None:
    """Write past the log, which must not hold secrets."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def create_app(
    settings: Settings,
    url: DatabaseUrl,
    *,
    announce: Callable[[str], None] = _tell_operator,
    stopping: Stopping | None = None,
) -> ASGIApp:
    """Build the service. It starts without a reachable database and gets ready by itself once there is one.

    `announce` is given what a person must see once: the first admin's key. `stopping` is begun by whoever gets the
    signal to end, which is long before the server ends the application. Raises StartupError for settings that make no
    sense.
    """
    check_admin_key(settings.admin_api_key)
    countries = read_countries(settings.sending_countries)
    load = EdgeLoad()
    stopping = stopping or Stopping()
    tracer = open_tracer(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with (
            closing_tracer(tracer),
            open_core(settings, url, is_edge_busy=load.is_busy, tracer=tracer) as core,
            open_access_control(settings, core.database, core.rates, RULES, core.saturation) as access,
        ):
            messages, acceptor = _install_edge(app, hot_paths, settings, core, access, stopping, countries)
            schema = await _start_migrating(core.database, stopping) if settings.should_migrate else None
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
                stopping.begin()
                recurring.cancel()
                first.cancel()
                warming.cancel()
                if schema is not None:
                    schema.cancel()
                with suppress(TimeoutError):  # whoever still waits for a silent database was answered already
                    async with asyncio.timeout(settings.shutdown_timeout_s * 0.05):
                        await asyncio.gather(messages.close(), core.receipts.close(), acceptor.close())
                await core.stop(settings.shutdown_timeout_s * 0.35)
                log.info("service.stopped")

    hot_paths: dict[str, ASGIApp] = {}

    app = FastAPI(
        title="SMS Foundation",
        version=__version__,
        lifespan=lifespan,
        redirect_slashes=False,  # a redirected webhook would carry a signature of another URL
        # Spans are our own affair: FastAPI's hold paths, and its log records what callers sent.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    install_error_handlers(app)
    is_https = settings.public_base_url is not None and settings.public_base_url.startswith("https://")
    inner = allow_origins(_HotPathsFirst(hot_paths, app), settings.allowed_origins)
    return RequestContext(inner, load, SecurityHeaders(is_https=is_https), stopping, tracer=tracer)


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


async def _start_migrating(database: Database, stopping: Stopping) -> asyncio.Task[None]:
    """Bring the schema up to date, normally before the first request; what fails is tried again beside the requests."""
    has_tried = asyncio.Event()
    task = asyncio.create_task(_bring_schema_up_to_date(database, has_tried))
    first_try = asyncio.create_task(has_tried.wait())
    for _ in range(round(_MIGRATION_PATIENCE_S / _LOOK_EVERY_S)):
        await asyncio.wait([first_try], timeout=_LOOK_EVERY_S)
        if first_try.done() or stopping.has_begun:
            break
    first_try.cancel()
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
    stopping: Stopping,
    countries: Collection[str] | None,
) -> tuple[MessageStore, MessageAcceptor]:
    database = core.database
    messages = MessageStore(
        database,
        lease_token=core.runner.lease_token,
        lease=core.runner.lease,
        room=lambda: core.runner.room,
        timeout_s=settings.webhook_timeout_s,
    )
    recipients = Recipients(access.number_rules, access.limiter, countries=countries)
    acceptor = MessageAcceptor(
        database,
        timeout_s=settings.webhook_timeout_s,
        on_accepted=core.sender.wake,
        limit=recipients if access.limiter.limits_numbers else None,
    )
    passwords = Passwords()
    core.saturation.watch_pool("passwords", passwords.use)
    core.saturation.watch_queues({"inbound": messages.use, "outbound": acceptor.use})
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
        people_router(database, access, once, passwords, log_in_lasts=timedelta(days=settings.refresh_token_days)),
        invitations_router(database, once, lifetime=timedelta(hours=settings.invitation_hours)),
        *operations_routers(settings, core, stopping, must_work=False),
        _root_router(),
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


def _root_router() -> APIRouter:
    router = APIRouter(include_in_schema=False, route_class=GuardedRoute)

    @router.get("/")
    async def show_docs() -> RedirectResponse:
        return RedirectResponse("/docs")

    return router
