"""The Collections Monitor's routes: lookup and language profile as the service sees them, and controls for people."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response, status

from sms_foundation.core.errors import NotFoundError, UnauthorizedError
from sms_foundation.simulator.monitor.faults import FaultKind, FaultPlan
from sms_foundation.simulator.monitor.schemas import (
    Faults,
    FaultsOut,
    LanguageOut,
    LanguageUpdate,
    NewTenant,
    TenantMatch,
    TenantOut,
    TenantPage,
)
from sms_foundation.simulator.monitor.state import Monitor
from sms_foundation.simulator.monitor.tenants import Tenant
from sms_foundation.simulator.people import Language
from sms_foundation.simulator.router import get_simulator


def get_monitor(request: Request) -> Monitor:
    return get_simulator(request).monitor


def require_key(request: Request) -> None:
    """Raises UnauthorizedError unless the configured bearer key, if any, was sent."""
    api_key = get_monitor(request).api_key
    if api_key is not None and request.headers.get("Authorization") != f"Bearer {api_key}":
        raise UnauthorizedError("the Collections Monitor asks for its key: Authorization: Bearer <MONITOR_API_KEY>")


CurrentMonitor = Annotated[Monitor, Depends(get_monitor)]

api = APIRouter(tags=["Collections Monitor"], dependencies=[Depends(require_key)])
controls = APIRouter(tags=["Collections Monitor controls"])


async def misbehave(request: Request) -> Response | None:
    """Wait as long as the fault plan says and return its bad answer; None: answer properly."""
    simulator = get_simulator(request)
    faults = simulator.monitor.faults
    plan, is_failing = faults.plan, faults.next_fails()
    if plan.latency_ms:
        await simulator.timing.sleep(plan.latency_ms / 1000)
    if not is_failing:
        return None
    if plan.kind is FaultKind.HANG:
        await simulator.timing.sleep(plan.hang_s)
    return _bad_answer(plan)


BadAnswer = Annotated[Response | None, Depends(misbehave)]


def _bad_answer(plan: FaultPlan) -> Response:
    match plan.kind:
        case FaultKind.MALFORMED_JSON:
            return Response('{"tenant_id": "tena', media_type="application/json")
        case FaultKind.EMPTY:
            return Response(status_code=status.HTTP_204_NO_CONTENT)
        case FaultKind.HANG:
            return Response(status_code=status.HTTP_504_GATEWAY_TIMEOUT)
        case FaultKind.STATUS:
            headers = {} if plan.retry_after_s is None else {"Retry-After": str(plan.retry_after_s)}
            return Response("out of order", plan.status, headers, media_type="text/plain")


@api.get("/tenants/lookup", summary="Whose number is this?", response_model=TenantMatch)
async def lookup_tenant(
    monitor: CurrentMonitor,
    bad_answer: BadAnswer,
    phone: Annotated[str, Query(max_length=200, description="compared as it is: nothing is normalised")],
) -> Response | TenantMatch:
    """404 when nobody's number was typed in exactly like this."""
    if bad_answer is not None:
        return bad_answer
    tenant = monitor.directory.find_by_number(phone)
    if tenant is None:
        raise NotFoundError("no tenant has this number, in this spelling")
    return TenantMatch(tenant_id=tenant.tenant_id)


@api.put("/tenants/{tenant_id}/language", summary="Remember a tenant's language", response_model=LanguageOut)
async def set_language(
    tenant_id: str, update: LanguageUpdate, monitor: CurrentMonitor, bad_answer: BadAnswer
) -> Response | Tenant:
    """Idempotent. 422 for anything but en, es and pt, 404 for an unknown tenant."""
    return bad_answer or monitor.directory.set_language(tenant_id, update.language)


@api.get("/tenants", summary="Everybody, with the number to text from")
async def list_tenants(
    monitor: CurrentMonitor,
    language: Annotated[Language | None, Query(description="only those who text in this language")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    offset: Annotated[int, Query(ge=0)] = 0,
) -> TenantPage:
    tenants = monitor.directory.list_tenants(language=language, offset=offset, limit=limit)
    return TenantPage(tenants=[TenantOut.model_validate(each) for each in tenants], total=len(monitor.directory))


@api.get("/tenants/{tenant_id}", summary="One tenant", response_model=TenantOut)
async def get_tenant(tenant_id: str, monitor: CurrentMonitor) -> Tenant:
    return monitor.directory.get(tenant_id)


@controls.post("/tenants", summary="Add a tenant", status_code=status.HTTP_201_CREATED, response_model=TenantOut)
async def add_tenant(new: NewTenant, monitor: CurrentMonitor) -> Tenant:
    """The numbers are kept as typed. 409 when the id or a number is taken."""
    tenant = Tenant(
        tenant_id=new.tenant_id,
        name=new.name,
        building=new.building,
        unit=new.unit,
        phone_numbers=tuple(new.phone_numbers),
        texts_from=new.phone_numbers[0],
        texts_in=None,
        language=new.language,
    )
    monitor.directory.add(tenant)
    return tenant


@controls.post("/faults", summary="Misbehave from now on")
async def set_faults(faults: Faults, monitor: CurrentMonitor) -> FaultsOut:
    """Replaces the plan and starts its counters anew; an empty object ends all misbehaviour."""
    monitor.faults.set_plan(FaultPlan(**faults.model_dump()))
    return _show_faults(monitor)


@controls.get("/faults", summary="How it misbehaves, and how often it did")
async def get_faults(monitor: CurrentMonitor) -> FaultsOut:
    return _show_faults(monitor)


def _show_faults(monitor: Monitor) -> FaultsOut:
    faults = monitor.faults
    return FaultsOut(plan=Faults.model_validate(faults.plan), requests=faults.requests, failures=faults.failures)
