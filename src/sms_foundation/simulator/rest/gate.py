"""Every request passes here: the fault rules have their way with it before and after the dialect's own answer."""

from collections.abc import Callable
from typing import Final, Protocol

from starlette.responses import Response

from sms_foundation.simulator.carrier.carrier import Carrier
from sms_foundation.simulator.faults.rules import FaultKind, FaultRule, Operation
from sms_foundation.simulator.rest.no_answer import NoAnswer

_GATEWAY_PAGE: Final = b"""<html>
<head><title>%d Error</title></head>
<body><center><h1>%d Error</h1></center><hr><center>gateway</center></body>
</html>
"""


class Refusals(Protocol):
    """How a dialect says no."""

    def rate_limited(self, retry_after_s: int | None) -> Response: ...

    def server_error(self, status: int) -> Response: ...

    def account_suspended(self) -> Response: ...

    def opted_out(self) -> Response: ...


async def pass_gate(
    carrier: Carrier,
    refusals: Refusals,
    answer: Callable[[], Response],
    *,
    provider: str,
    number: str | None,
    operation: Operation,
) -> Response:
    """Return what the client gets; `answer` does the work and is called at most once, or not at all.

    `number` is the phone the request is about, None when it is about none or cannot be told.
    """
    fate = carrier.faults.judge_request(provider, number, operation)
    if fate.wait_s:
        await carrier.timing.sleep(fate.wait_s)
    if fate.misfortune is None:
        return answer()
    return _suffer(fate.misfortune, refusals, answer)


def _suffer(rule: FaultRule, refusals: Refusals, answer: Callable[[], Response]) -> Response:
    match rule.kind:
        case FaultKind.RATE_LIMIT | FaultKind.RATE:
            return refusals.rate_limited(rule.retry_after_s)
        case FaultKind.ACCOUNT_SUSPENDED:
            return refusals.account_suspended()
        case FaultKind.STOP:
            return refusals.opted_out()
        case FaultKind.HANG_BEFORE:
            return NoAnswer(rule.hold_s)
        case FaultKind.DROP_BEFORE:
            return NoAnswer()
    if rule.is_accepted or rule.kind in (FaultKind.HANG_AFTER, FaultKind.DROP_AFTER, FaultKind.TRUNCATED):
        proper = answer()
        if proper.status_code >= 400:  # refused on its merits: nothing was accepted, so nothing can be lost
            return proper
        if rule.kind is FaultKind.TRUNCATED:
            return _with_half_the_body(proper)
    match rule.kind:
        case FaultKind.HANG_AFTER:
            return NoAnswer(rule.hold_s)
        case FaultKind.DROP_AFTER:
            return NoAnswer()
        case FaultKind.HTML:
            page = _GATEWAY_PAGE % (rule.status, rule.status)
            return Response(page, rule.status, media_type="text/html")
    return refusals.server_error(rule.status)


def _with_half_the_body(response: Response) -> Response:
    body = bytes(response.body)
    return Response(body[: len(body) // 2], response.status_code, media_type=response.media_type)
