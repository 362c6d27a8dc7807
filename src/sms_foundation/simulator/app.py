"""The simulator as one ASGI application: control API under /simulator, Collections Monitor under /monitor."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from starlette.exceptions import HTTPException

from sms_foundation import __version__
from sms_foundation.core.clock import utc_now
from sms_foundation.core.errors import MalformedRequestError, SmsFoundationError
from sms_foundation.core.ids import new_id
from sms_foundation.simulator.monitor import router as monitor_router
from sms_foundation.simulator.monitor.tenants import example_tenant
from sms_foundation.simulator.router import get_simulator
from sms_foundation.simulator.router import router as control_router
from sms_foundation.simulator.schemas import ErrorOut
from sms_foundation.simulator.settings import SimulatorSettings
from sms_foundation.simulator.state import make_simulator
from sms_foundation.simulator.timing import Timing

_DESCRIPTION = """\
A Twilio that runs here. Phones text the organisation, messages report their statuses, a generated crowd talks in three
languages: all as signed webhooks over HTTP, with Twilio's retries. Nothing leaves this machine.

Under `/monitor` stands a Collections Monitor with made-up tenants, for `MONITOR_API_URL` and `TENANT_PROFILE_API_URL`.
"""

_INDEX = """\
A Twilio that runs here, with a stand-in for the Collections Monitor. Nothing leaves this machine.

Webhooks go to   {service_url}
  messages       {sms_url}
  statuses       {status_url}
Account          {account_sid}, number {phone_number}

Text the organisation:
  curl {own_url}/simulator/texts -H 'Content-Type: application/json' \\
    -d '{{"from": "{tenant}", "body": "Hola, no hay agua caliente"}}'

What is where:
  POST /simulator/texts            a phone texts the organisation
  POST /simulator/statuses         a message reports its statuses
  POST /simulator/crowd            a generated crowd texts; GET shows its progress, DELETE stops it
  GET  /simulator/deliveries       what was delivered, and what Twilio would have complained about
  GET  /simulator/phones/{{number}}  what a virtual phone sent
  GET  /monitor/tenants            the made-up tenants, with the numbers to text from
  GET  /monitor/tenants/lookup     Collections Monitor: whose number is this?
  PUT  /monitor/tenants/{{id}}/language
  POST /monitor/tenants            add a tenant
  POST /monitor/faults             let the Collections Monitor be slow or fail
  GET  /docs                       all of it in detail
"""


def build_app(settings: SimulatorSettings, timing: Timing | None = None) -> FastAPI:
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
        responses={"4XX": {"model": ErrorOut, "description": "What is wrong with the request"}},
    )
    app.state.simulator = simulator
    app.add_exception_handler(SmsFoundationError, _answer_known_error)
    app.add_exception_handler(RequestValidationError, _answer_malformed)
    app.add_exception_handler(HTTPException, _answer_http_error)
    app.add_exception_handler(Exception, _answer_unexpected)
    app.include_router(control_router)
    app.include_router(monitor_router.api, prefix="/monitor")
    app.include_router(monitor_router.controls, prefix="/monitor")
    app.add_api_route("/", show_index, response_class=PlainTextResponse, include_in_schema=False)
    return app


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


async def _answer_known_error(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, SmsFoundationError):
        raise error
    return _envelope(request, error.status, error.code, error.message, error.details)


async def _answer_malformed(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, RequestValidationError):
        raise error
    # Where and why, never what: the input may hold a message.
    fields = [{"field": ".".join(str(part) for part in each["loc"]), "problem": each["msg"]} for each in error.errors()]
    message = "the request cannot be read: " + "; ".join(f"{each['field']}: {each['problem']}" for each in fields)
    return _envelope(request, MalformedRequestError.status, MalformedRequestError.code, message, {"fields": fields})


async def _answer_http_error(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, HTTPException):
        raise error
    if error.status_code == 400:  # FastAPI's word for a body whose bytes are no text
        return _envelope(request, MalformedRequestError.status, MalformedRequestError.code, "the body is not JSON")
    code = {404: "sms.not_found", 405: "sms.method_not_allowed"}.get(error.status_code, "sms.http_error")
    return _envelope(request, error.status_code, code, str(error.detail), headers=error.headers)


async def _answer_unexpected(request: Request, _: Exception) -> JSONResponse:
    # Starlette raises the error once more after this answer, so that the server logs it.
    return _envelope(request, 500, SmsFoundationError.code, "the simulator failed; its log says why")


def _envelope(
    request: Request,
    status: int,
    code: str,
    message: str,
    details: Mapping[str, object] | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    request_id = request.headers.get("X-Request-ID") or str(new_id())
    error: dict[str, object] = {"code": code, "message": message}
    if details is not None:
        error["details"] = dict(details)
    error |= {"timestamp": utc_now().isoformat(), "request_id": request_id}
    return JSONResponse({"error": error}, status, {**(headers or {}), "X-Request-ID": request_id})
