"""Setting, listing and ending faults over HTTP."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, status

from sms_foundation.core.errors import NotFoundError
from sms_foundation.simulator.faults.book import FaultBook
from sms_foundation.simulator.faults.schemas import FaultIn, FaultOut, FaultsOut
from sms_foundation.simulator.router import get_simulator


def get_faults(request: Request) -> FaultBook:
    return get_simulator(request).carrier.faults


CurrentFaults = Annotated[FaultBook, Depends(get_faults)]

router = APIRouter(prefix="/simulator/faults", tags=["Faults"])


@router.post("", summary="Misbehave from now on", status_code=status.HTTP_201_CREATED)
async def add_fault(fault: FaultIn, faults: CurrentFaults) -> FaultOut:
    """Adds a rule to those in force."""
    return FaultOut.of(faults.add(fault.to_rule()))


@router.get("", summary="How the providers misbehave")
async def list_faults(faults: CurrentFaults) -> FaultsOut:
    """Spent rules stay in the list until they are deleted."""
    return FaultsOut(faults=[FaultOut.of(active) for active in faults.list_rules()])


@router.delete("", summary="Behave again", status_code=status.HTTP_204_NO_CONTENT)
async def clear_faults(
    faults: CurrentFaults,
    seed: Annotated[int | None, Query(description="makes what is drawn from now on repeatable")] = None,
) -> None:
    """Ends all rules. Receipts that are late already stay late."""
    faults.clear(seed)


@router.delete("/{fault_id}", summary="End one fault", status_code=status.HTTP_204_NO_CONTENT)
async def remove_fault(fault_id: int, faults: CurrentFaults) -> None:
    """404 when there is no such rule."""
    if not faults.remove(fault_id):
        raise NotFoundError("there is no such fault")
