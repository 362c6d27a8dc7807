"""The true record: read it page by page, in figures, or start anew."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, status

from sms_foundation.simulator.carrier.carrier import Carrier
from sms_foundation.simulator.numbers import parse_address
from sms_foundation.simulator.received.schemas import ReceivedSummary, RecordedPage
from sms_foundation.simulator.router import get_simulator


def get_carrier(request: Request) -> Carrier:
    return get_simulator(request).carrier


CurrentCarrier = Annotated[Carrier, Depends(get_carrier)]

router = APIRouter(prefix="/simulator/received", tags=["True record"])


@router.get("", summary="What providers accepted, and what reached the phones")
async def list_received(
    carrier: CurrentCarrier,
    number: Annotated[str | None, Query(description="the phone")] = None,
    provider: str | None = None,
    after: Annotated[int, Query(ge=-1, description="number of the last row of the page before")] = -1,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1_000,
) -> RecordedPage:
    """In the order of acceptance. Rows are never forgotten until the record is cleared."""
    phone = parse_address(number) if number else None
    texts = carrier.record.list_texts(after=after, limit=limit, number=phone, provider=provider)
    return RecordedPage.of(texts, limit)


@router.get("/summary", summary="The record in figures")
async def summarize_received(carrier: CurrentCarrier) -> ReceivedSummary:
    """Cheap however long the record is: everything is counted as it happens."""
    return ReceivedSummary.of(carrier)


@router.delete("", summary="Start a new record", status_code=status.HTTP_204_NO_CONTENT)
async def clear_received(carrier: CurrentCarrier) -> None:
    """Messages on their way still arrive and report, but enter no record. Numbers go on counting."""
    carrier.record.clear()
