"""What came of a delivery, in words for the person at the command line."""

from collections.abc import Mapping
from typing import Any

from sms_foundation.simulator.answers import DebuggerCode
from sms_foundation.simulator.settings import SimulatorSettings


def describe(outcome: Mapping[str, Any], settings: SimulatorSettings) -> list[str]:
    """Say in plain words what came of each delivery, and what to do about a failure."""
    lines = []
    for delivery in outcome["deliveries"]:
        status = delivery["message_status"]
        what, done = (f"status {status}", "reported") if status else ("text", "delivered")
        answer = f"HTTP {delivery['status_code']}" if delivery["status_code"] else "no answer"
        tries = f", {len(delivery['attempts'])} tries" if len(delivery["attempts"]) > 1 else ""
        verdict = done if delivery["is_delivered"] else f"NOT {done}"
        lines.append(
            f"{what} {verdict}: {answer} in {delivery['latency_ms']:.0f} ms{tries}, message {delivery['message_sid']}"
        )
        lines.extend(f"the service replied: {reply}" for reply in delivery["replies"])
        if not delivery["is_delivered"]:
            lines.append(f"  Twilio would report {delivery['error_code']}: {delivery['attempts'][-1]['reason']}")
            lines.append(f"  {_advise(delivery['status_code'], delivery['error_code'], settings)}")
    return lines


def _advise(status_code: int | None, error_code: int, settings: SimulatorSettings) -> str:
    by_status = {
        403: "the signature or the account was refused: TWILIO_AUTH_TOKEN, TWILIO_ACCOUNT_SID and PUBLIC_BASE_URL of "
        "the service must be those of the simulator",
        404: f"no such route: is it the service that listens at {settings.service_url}, and has it a Twilio token?",
        429: "the service is limiting: wait a little",
        503: "the service could not store it: look at its log and at /health",
    }
    if status_code in by_status:
        return by_status[status_code]
    if error_code in (DebuggerCode.CONNECTION_FAILURE, DebuggerCode.HOST_NOT_FOUND):
        return f"is the service running at {settings.service_url}? start it with `make run`"
    return "look at the service's log; https://www.twilio.com/docs/api/errors/" + str(error_code)
