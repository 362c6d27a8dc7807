"""The routes of operations, and an application that has these and no others."""

import asyncio

from fastapi import APIRouter, FastAPI
from fastapi.responses import Response
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest
from starlette.types import ASGIApp

from sms_foundation.compat.metrics import OldNames
from sms_foundation.core.config import Settings
from sms_foundation.core.stopping import Stopping
from sms_foundation.core.web.context import EdgeLoad, RequestContext
from sms_foundation.core.web.errors import install_error_handlers
from sms_foundation.core.web.guarded import Guard, GuardedRoute
from sms_foundation.core.web.health import health_router
from sms_foundation.core.web.security_headers import SecurityHeaders
from sms_foundation.operations.backlog import BacklogGauges
from sms_foundation.operations.dependencies import dependency_checks
from sms_foundation.operations.metrics import READY
from sms_foundation.operations.readiness import Readiness
from sms_foundation.worker import Core


def operations_routers(settings: Settings, core: Core, stopping: Stopping, *, must_work: bool) -> list[APIRouter]:
    """Return /health, /health/live, /health/ready, /health/startup and /metrics, for any process that has a `core`.

    `must_work`: see `Readiness`.
    """
    readiness = Readiness(core, stopping, must_work=must_work)
    checks = dependency_checks(settings, core)
    health = health_router(checks, not_ready=readiness.not_ready, not_alive=readiness.not_alive)
    return [health, _metrics_router(core, readiness, answers_callers=not must_work)]


def operations_app(settings: Settings, core: Core, stopping: Stopping, guard: Guard) -> ASGIApp:
    """Build the application of a process that does background work alone. Everything else is 404, in the envelope."""
    app = FastAPI(title="SMS Foundation", openapi_url=None, redirect_slashes=False)
    install_error_handlers(app)
    app.state.guard = guard
    for router in operations_routers(settings, core, stopping, must_work=True):
        app.router.routes.extend(router.routes)
    return RequestContext(app, EdgeLoad(), SecurityHeaders(), stopping)


def _metrics_router(core: Core, readiness: Readiness, *, answers_callers: bool) -> APIRouter:
    router = APIRouter(include_in_schema=False, route_class=GuardedRoute)
    backlog = BacklogGauges(core.database)

    @router.get("/metrics")
    async def show_metrics() -> Response:
        """Everything Prometheus wants to know; the backlog is counted at this moment, if the database can be asked."""
        problem, _ = await asyncio.gather(readiness.not_ready(), backlog.refresh())
        READY.labels("api").set(answers_callers and problem is None)
        READY.labels("work").set(core.is_working and problem is None)
        collectors = (REGISTRY, core.saturation, OldNames())
        return Response(b"".join(map(generate_latest, collectors)), media_type=CONTENT_TYPE_LATEST)

    return router
