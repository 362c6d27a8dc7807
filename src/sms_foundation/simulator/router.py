"""The control API: texts, statuses and crowds on demand, and the record of what came of them."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request, status

from sms_foundation.core.errors import NotFoundError
from sms_foundation.simulator.account import SimulatedAccount, StatusSequence, Text
from sms_foundation.simulator.crowd.runs import CrowdPlan
from sms_foundation.simulator.journal import EventKind
from sms_foundation.simulator.numbers import parse_address
from sms_foundation.simulator.schemas import (
    CrowdIn,
    CrowdOut,
    DeliveriesOut,
    DeliveryOut,
    JournalOut,
    PhoneOut,
    ReceivedTextOut,
    SentTextOut,
    StatusesIn,
    TextIn,
)
from sms_foundation.simulator.state import Simulator


def get_simulator(request: Request) -> Simulator:
    """Return the running simulator that `app.build_app` put into the application's state."""
    simulator: Simulator = request.app.state.simulator
    return simulator


def get_account(request: Request) -> SimulatedAccount:
    return get_simulator(request).account


CurrentSimulator = Annotated[Simulator, Depends(get_simulator)]
CurrentAccount = Annotated[SimulatedAccount, Depends(get_account)]

router = APIRouter(prefix="/simulator", tags=["Simulator"])


@router.post("/texts", summary="Text the organisation from a phone")
async def send_text(text: TextIn, simulator: CurrentSimulator) -> DeliveriesOut:
    """Delivers the signed webhook, Twilio's with its retries, and returns when the last attempt ended."""
    said = Text(
        sender=text.sender,
        body=text.body,
        recipient=text.recipient,
        media_urls=text.media,
        message_sid=text.message_sid,
        copies=text.copies,
        extra=text.parameters,
    )
    if text.provider == "twilio":
        return DeliveriesOut.of(await simulator.account.send_text(said))
    return DeliveriesOut.of(await simulator.apis.send_text(text.provider, said))


@router.post("/statuses", summary="Report the statuses of a message")
async def report_statuses(statuses: StatusesIn, account: CurrentAccount) -> DeliveriesOut:
    """Delivers one signed status callback after the other and returns when the last one ended."""
    return DeliveriesOut.of(await account.report_statuses(StatusSequence(**statuses.model_dump())))


@router.get("/deliveries", summary="What was delivered, newest first")
async def list_deliveries(
    account: CurrentAccount,
    kind: EventKind | None = None,
    message_sid: str | None = None,
    number: Annotated[str | None, Query(description="sender or recipient, as delivered")] = None,
    is_delivered: Annotated[bool | None, Query(description="false: only what the service did not take")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
) -> JournalOut:
    """The last 10,000 deliveries are kept, in memory."""
    found = account.journal.find(
        limit=limit,
        kind=kind,
        message_sid=message_sid,
        number=parse_address(number) if number else None,
        is_delivered=is_delivered,
    )
    return JournalOut(deliveries=[DeliveryOut.model_validate(each) for each in found])


@router.get("/phones/{number}", summary="What a virtual phone sent and received")
async def get_phone(
    number: Annotated[str, Path(max_length=210, examples=["+15125550142"])], account: CurrentAccount
) -> PhoneOut:
    """404 for a phone that neither texted nor was texted."""
    number = parse_address(number)
    sent, received = account.phones.texts_of(number), account.phones.received_by(number)
    if not sent and not received:
        raise NotFoundError("nothing was sent from or to this phone yet")
    return PhoneOut(
        number=number,
        sent=[SentTextOut.model_validate(text) for text in sent],
        received=[ReceivedTextOut.model_validate(text) for text in received],
    )


@router.post("/crowd", summary="Let a crowd text", status_code=status.HTTP_202_ACCEPTED)
async def start_crowd(crowd: CrowdIn, simulator: CurrentSimulator) -> CrowdOut:
    """Starts in the background, one at a time (409); watch it with GET, stop it with DELETE."""
    return CrowdOut.of(simulator.crowds.start(CrowdPlan(**crowd.model_dump())))


@router.get("/crowd", summary="How the crowd is doing")
async def get_crowd(simulator: CurrentSimulator) -> CrowdOut:
    """The run that goes on, or the last one; 404 before the first."""
    if simulator.crowds.last is None:
        raise NotFoundError("no crowd was started yet: POST /simulator/crowd")
    return CrowdOut.of(simulator.crowds.last)


@router.delete("/crowd", summary="Stop the crowd")
async def stop_crowd(simulator: CurrentSimulator) -> CrowdOut:
    """Returns the figures it ended with; a crowd that has ended already stays as it is."""
    await simulator.crowds.close()
    return await get_crowd(simulator)
