"""`sms-foundation simulator faults`: let the providers misbehave, see how they do, end it."""

from collections.abc import Mapping
from typing import Annotated, Any, Final

import typer

from sms_foundation.simulator.command_line import SimulatorUrl, ask, settings_of
from sms_foundation.simulator.faults.rules import FaultKind

_PATH: Final = "/simulator/faults"

_HELP = """\
Let the simulated providers misbehave: set, list, clear. They use a simulator that is already running.

\b
    sms-foundation simulator faults set server_error --provider twilio --share 0.3
    sms-foundation simulator faults set drop_after --count 5
    sms-foundation simulator faults set carrier_error --number +15125550142 --error-code 30005
    sms-foundation simulator faults set late_receipts --delay-s 60 --for-s 300
    sms-foundation simulator faults list
    sms-foundation simulator faults clear

What can go wrong with a request: latency, rate_limit (429), rate (429 above so many per second), server_error,
hang_before, hang_after, drop_before, drop_after (before and after: accepting the message), html, truncated,
account_suspended, stop. With a message: carrier_error. With its receipts: lost_receipts, late_receipts,
doubled_receipts, reordered_receipts.

A whole set of them with a seed is a scenario:

    sms-foundation simulator --scenario rough-day
"""


def build_fault_commands() -> typer.Typer:
    commands = typer.Typer(help=_HELP, no_args_is_help=True, rich_markup_mode=None, add_completion=False)
    commands.command("set")(set_fault)
    commands.command("list")(list_faults)
    commands.command("clear")(clear_faults)
    return commands


def set_fault(
    context: typer.Context,
    kind: Annotated[FaultKind, typer.Argument(metavar="KIND", help="What goes wrong, see `faults --help`.")],
    provider: Annotated[
        str | None, typer.Option(help="twilio, messagebird, vonage or telnyx. [default: all]", show_default=False)
    ] = None,
    number: Annotated[str | None, typer.Option(help="Only messages to this phone.", show_default=False)] = None,
    share: Annotated[float, typer.Option(min=0, max=1, help="Part of what it applies to, drawn at random.")] = 1.0,
    count: Annotated[
        int | None, typer.Option(min=1, help="Strikes until it is spent. [default: no end]", show_default=False)
    ] = None,
    after_s: Annotated[float, typer.Option(min=0, help="Begins so long from now.")] = 0,
    for_s: Annotated[
        float | None, typer.Option(help="Lasts so long. [default: until it is cleared]", show_default=False)
    ] = None,
    on: Annotated[str, typer.Option(help="Requests it applies to: sends, reads or all.")] = "sends",
    latency_ms: Annotated[float | None, typer.Option(help="latency: the wait.", show_default=False)] = None,
    retry_after_s: Annotated[
        int | None, typer.Option(help="rate_limit and rate: sent as Retry-After.", show_default=False)
    ] = None,
    per_second: Annotated[
        int | None, typer.Option(help="rate: more than this in any second is refused.", show_default=False)
    ] = None,
    status: Annotated[int | None, typer.Option(help="server_error and html: 500 to 599.", show_default=False)] = None,
    is_accepted: Annotated[
        bool, typer.Option("--accepted", help="server_error and html: accept the message all the same.")
    ] = False,
    hold_s: Annotated[
        float | None, typer.Option(help="hang_before and hang_after: the silence.", show_default=False)
    ] = None,
    delay_s: Annotated[
        float | None, typer.Option(help="late_receipts and reordered_receipts.", show_default=False)
    ] = None,
    copies: Annotated[int | None, typer.Option(help="doubled_receipts.", show_default=False)] = None,
    error_code: Annotated[int | None, typer.Option(help="carrier_error: 30003 to 30008.", show_default=False)] = None,
    simulator_url: SimulatorUrl = None,
) -> None:
    """Misbehave from now on, on top of the faults that are set already.

    Example: sms-foundation simulator faults set rate_limit --provider twilio --share 0.2 --retry-after-s 3
    """
    given = {
        "kind": kind.value,
        "provider": provider,
        "number": number,
        "share": share,
        "count": count,
        "after_s": after_s,
        "for_s": for_s,
        "on": on,
        "latency_ms": latency_ms,
        "retry_after_s": retry_after_s,
        "per_second": per_second,
        "status": status,
        "is_accepted": is_accepted,
        "hold_s": hold_s,
        "delay_s": delay_s,
        "copies": copies,
        "error_code": error_code,
    }
    values = {name: value for name, value in given.items() if value is not None}
    typer.echo(_describe(ask(_url(context, simulator_url), "POST", _PATH, json=values)))


def list_faults(context: typer.Context, simulator_url: SimulatorUrl = None) -> None:
    """Say how the providers misbehave, oldest fault first, and how often each has struck."""
    faults = ask(_url(context, simulator_url), "GET", _PATH)["faults"]
    for fault in faults:
        typer.echo(_describe(fault))
    if not faults:
        typer.echo("all providers behave")


def clear_faults(
    context: typer.Context,
    fault_id: Annotated[
        int | None, typer.Argument(metavar="[ID]", help="Only this one. [default: all]", show_default=False)
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Makes what is drawn from now on repeatable.", show_default=False)
    ] = None,
    simulator_url: SimulatorUrl = None,
) -> None:
    """Behave again."""
    url = _url(context, simulator_url)
    if fault_id is None:
        ask(url, "DELETE", _PATH, params={} if seed is None else {"seed": seed})
        typer.echo("all providers behave")
    else:
        ask(url, "DELETE", f"{_PATH}/{fault_id}")
        typer.echo(f"fault {fault_id} is over")


def _url(context: typer.Context, simulator_url: str | None) -> str:
    return simulator_url or settings_of(context).own_url


def _describe(fault: dict[str, Any]) -> str:
    """Write a fault on one line: what its kind goes by, and everything else about it that is not usual."""
    rule = fault["rule"]
    own = _OWN_VALUES.get(FaultKind(rule["kind"]), ())
    told = [f"{name}={rule[name]}" for name in own if rule[name] is not None]
    told += [f"{name}={rule[name]}" for name, usual in _USUAL.items() if rule[name] != usual]
    state = "spent" if fault["is_spent"] else f"{fault['strikes']} strikes"
    whom = rule["provider"] or "every provider"
    return f"{fault['id']:>3}  {rule['kind']} at {whom} ({state}) {' '.join(told)}".rstrip()


_USUAL: Final = {"number": None, "share": 1, "count": None, "after_s": 0, "for_s": None, "on": "sends"}
_OWN_VALUES: Final[Mapping[FaultKind, tuple[str, ...]]] = {
    FaultKind.LATENCY: ("latency_ms",),
    FaultKind.RATE_LIMIT: ("retry_after_s",),
    FaultKind.RATE: ("per_second", "retry_after_s"),
    FaultKind.SERVER_ERROR: ("status", "is_accepted"),
    FaultKind.HTML: ("status", "is_accepted"),
    FaultKind.HANG_BEFORE: ("hold_s",),
    FaultKind.HANG_AFTER: ("hold_s",),
    FaultKind.CARRIER_ERROR: ("error_code",),
    FaultKind.LATE_RECEIPTS: ("delay_s",),
    FaultKind.REORDERED_RECEIPTS: ("delay_s",),
    FaultKind.DOUBLED_RECEIPTS: ("copies",),
}
