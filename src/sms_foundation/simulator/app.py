"""The simulator as one ASGI application: REST APIs of the providers, control API, Collections Monitor."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.responses import PlainTextResponse
from starlette.types import ASGIApp

from sms_foundation import __version__
from sms_foundation.core.web.context import EdgeLoad, RequestContext
from sms_foundation.core.web.errors import ErrorEnvelope, install_error_handlers
from sms_foundation.core.web.openapi import document_api
from sms_foundation.core.web.security_headers import SecurityHeaders
from sms_foundation.simulator.faults.router import router as faults_router
from sms_foundation.simulator.monitor import router as monitor_router
from sms_foundation.simulator.monitor.tenants import example_tenant
from sms_foundation.simulator.received.router import router as received_router
from sms_foundation.simulator.rest.app import ProvidersFirst
from sms_foundation.simulator.router import get_simulator
from sms_foundation.simulator.router import router as control_router
from sms_foundation.simulator.settings import SimulatorSettings
from sms_foundation.simulator.state import make_simulator
from sms_foundation.simulator.timing import Timing

_DESCRIPTION = """\
A Twilio that runs here. Phones text the organisation, messages report their statuses, a generated crowd talks in three
languages: all as signed webhooks over HTTP, with Twilio's retries. Nothing leaves this machine.

Twilio's, MessageBird's, Vonage's and Telnyx's REST APIs take what the service sends: it reaches made-up phones, reports
back, and enters a true record. Providers misbehave on demand (`/simulator/faults`).

Under `/monitor` stands a Collections Monitor with made-up tenants, for `MONITOR_API_URL` and `TENANT_PROFILE_API_URL`.
"""

_INDEX = """\
A Twilio that runs here, with a stand-in for the Collections Monitor. Nothing leaves this machine.

Webhooks go to   {service_url}
  messages       {sms_url}
  statuses       {status_url}
Account          {account_sid}, number {phone_number}
Sends come to    {own_url}/2010-04-01/Accounts/{account_sid}/Messages.json
                 {own_url}/messagebird/messages, /vonage/sms/json, /telnyx/v2/messages

Text the organisation:
  curl {own_url}/simulator/texts -H 'Content-Type: application/json' \\
    -d '{{"from": "{tenant}", "body": "Hola, no hay agua caliente"}}'

What is where:
  POST /simulator/texts            a phone texts the organisation
  POST /simulator/statuses         a message reports its statuses
  POST /simulator/crowd            a generated crowd texts; GET shows its progress, DELETE stops it
  GET  /simulator/deliveries       what was delivered, and what Twilio would have complained about
  GET  /simulator/phones/{{number}}  what a virtual phone sent and received
  GET  /simulator/received         the true record: everything providers accepted, and when it reached its phone
  GET  /simulator/received/summary totals, busiest second, doubled messages; DELETE /simulator/received starts anew
  POST /simulator/faults           let a provider be slow, refuse, hang up, lose receipts; GET lists, DELETE ends
  GET  /monitor/tenants            the made-up tenants, with the numbers to text from
  GET  /monitor/tenants/lookup     Collections Monitor: whose number is this?
  PUT  /monitor/tenants/{{id}}/language
  POST /monitor/tenants            add a tenant
  POST /monitor/faults             let the Collections Monitor be slow or fail
  GET  /docs                       all of it in detail
"""


def build_app(settings: SimulatorSettings, timing: Timing | None = None) -> ASGIApp:
    """Return the application; it opens no connection before it delivers, and closes them when its lifespan ends.

    `timing` replaces clocks and waiting (for tests).
    """
    simulator = make_simulator(settings, timing or Timing())

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await simulator.close()

    app = FastAPI(
        title="SMS Foundation simulator",
        version=__version__,
        description=_DESCRIPTION,
        lifespan=lifespan,
        responses={"4XX": {"model": ErrorEnvelope, "description": "What is wrong with the request"}},
    )
    app.state.simulator = simulator
    app.openapi = document_api(app, {}, {}, description=_DESCRIPTION)  # type: ignore[method-assign]
    install_error_handlers(app)
    app.include_router(control_router)
    app.include_router(received_router)
    app.include_router(faults_router)
    app.include_router(monitor_router.api, prefix="/monitor")
    app.include_router(monitor_router.controls, prefix="/monitor")
    app.add_api_route("/", show_index, response_class=PlainTextResponse, include_in_schema=False)
    return ProvidersFirst(simulator.apis, RequestContext(app, EdgeLoad(), SecurityHeaders()))


async def show_index(request: Request) -> str:
    """Explain in plain text what is where."""
    settings = get_simulator(request).settings
    return _INDEX.format(
        service_url=settings.service_url,
        sms_url=settings.sms_url,
        status_url=settings.status_url,
        account_sid=settings.account_sid,
        phone_number=settings.phone_number,
        own_url=settings.own_url,
        tenant=example_tenant().texts_from,
    )
