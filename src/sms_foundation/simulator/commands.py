"""`sms-foundation simulator`: serve it, or let a phone, a message, a crowd or a provider do something."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Annotated, Any
from urllib.parse import quote

import structlog
import typer
import uvicorn

from sms_foundation.core.errors import SmsFoundationError, StartupError
from sms_foundation.core.logging import configure_logging
from sms_foundation.simulator.account import SimulatedAccount, StatusSequence, Text
from sms_foundation.simulator.app import build_app
from sms_foundation.simulator.command_line import SimulatorUrl, ask, fail, settings_of
from sms_foundation.simulator.control_client import ControlError, NoSimulatorError, call_simulator
from sms_foundation.simulator.fault_commands import build_fault_commands
from sms_foundation.simulator.journal import Delivery
from sms_foundation.simulator.monitor.tenants import make_tenants
from sms_foundation.simulator.numbers import parse_address
from sms_foundation.simulator.people import LANGUAGES
from sms_foundation.simulator.plain_words import describe
from sms_foundation.simulator.rest.no_answer import CuttableProtocol
from sms_foundation.simulator.scenario import Scenario, list_shipped, read_scenario
from sms_foundation.simulator.schemas import DeliveriesOut
from sms_foundation.simulator.settings import SimulatorSettings
from sms_foundation.simulator.state import make_courier
from sms_foundation.simulator.timing import Timing

_HELP = """\
A Twilio that runs here: signs and delivers texts, statuses and crowds to the service, over real HTTP.

Without a command it serves the control API, the REST APIs of Twilio, MessageBird, Vonage and Telnyx, and a Collections
Monitor with made-up tenants. The commands use a simulator that is already running; `text` and `statuses` also work
without one. Options such as --service-url stand before the command:

\b
    sms-foundation simulator --scenario rough-day
    sms-foundation simulator --service-url http://127.0.0.1:9000 text --from +13125550100 "Hola, no hay agua"

A scenario file makes the providers misbehave, the same way every time. All of it is optional; the fields of a fault are
those of POST /simulator/faults and of `simulator faults set`:

\b
    seed = 7
    [travel]
    shortest_s = 0.2
    longest_s = 1.0
    [[faults]]
    kind = "server_error"
    provider = "twilio"
    share = 0.3
    after_s = 60
    for_s = 30
"""

_CROWD_POLL_S = 0.5


def build_commands(defaults: SimulatorSettings) -> typer.Typer:
    """Return the command group; its options fall back on `defaults`, never on the environment."""
    commands = typer.Typer(
        help=_HELP,
        no_args_is_help=False,
        rich_markup_mode=None,
        add_completion=False,
        pretty_exceptions_show_locals=False,
    )

    @commands.callback(invoke_without_command=True)
    def simulator(
        context: typer.Context,
        host: Annotated[str, typer.Option(help="Address to listen on, or where a running simulator listens.")] = (
            defaults.host
        ),
        port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = defaults.port,
        service_url: Annotated[str, typer.Option(help="Where the service listens.")] = defaults.service_url,
        public_base_url: Annotated[
            str | None, typer.Option(help="URL that is signed, as configured at Twilio. [default: --service-url]")
        ] = defaults.public_base_url,
        sms_path: Annotated[str, typer.Option(help="Path of the inbound webhook.")] = defaults.sms_path,
        status_path: Annotated[str, typer.Option(help="Path of the status callback.")] = defaults.status_path,
        fallback_url: Annotated[
            str | None, typer.Option(help="Tried when the inbound webhook fails.")
        ] = defaults.fallback_url,
        account_sid: Annotated[str, typer.Option(help="Account to play.")] = defaults.account_sid,
        auth_token: Annotated[str, typer.Option(help="Token to sign with.", show_default=False)] = defaults.auth_token,
        from_number: Annotated[
            str, typer.Option("--from-number", "--phone-number", help="The organisation's number.")
        ] = defaults.phone_number,
        messaging_service_sid: Annotated[
            str | None, typer.Option(help="Messaging Service of that number.")
        ] = defaults.messaging_service_sid,
        monitor_api_key: Annotated[
            str | None, typer.Option(help="Key the Collections Monitor asks for.", show_default=False)
        ] = defaults.monitor_api_key,
        scenario: Annotated[
            str | None,
            typer.Option(
                help="Faults and travel times to start with: a TOML or JSON file, or one that comes along: "
                f"{', '.join(list_shipped())}.",
                show_default=False,
            ),
        ] = None,
    ) -> None:
        context.obj = replace(
            defaults,
            host=host,
            port=port,
            service_url=service_url.rstrip("/"),
            public_base_url=public_base_url,
            sms_path=sms_path,
            status_path=status_path,
            fallback_url=fallback_url,
            account_sid=account_sid,
            auth_token=auth_token,
            phone_number=from_number,
            messaging_service_sid=messaging_service_sid,
            monitor_api_key=monitor_api_key,
            scenario=defaults.scenario if scenario is None else _read_scenario(scenario),
        )
        if context.invoked_subcommand is None:
            _serve(context.obj)

    commands.command("text")(text)
    commands.command("statuses")(statuses)
    commands.command("crowd")(crowd)
    commands.command("phone")(phone)
    commands.add_typer(build_fault_commands(), name="faults")
    commands.command("tenants")(tenants)
    return commands


def text(
    context: typer.Context,
    body: Annotated[str, typer.Argument(help="What the text says.")] = "",
    sender: Annotated[
        str, typer.Option("--from", help="Phone that texts: +13125550100, a short code, whatsapp:+13125550100.")
    ] = "",
    recipient: Annotated[
        str | None, typer.Option("--to", help="Number texted. [default: the organisation's]", show_default=False)
    ] = None,
    media: Annotated[list[str] | None, typer.Option(help="URL of a picture; may be repeated.")] = None,
    provider: Annotated[
        str, typer.Option(help="Through twilio, messagebird, vonage or telnyx; the others need a running simulator.")
    ] = "twilio",
    simulator_url: SimulatorUrl = None,
) -> None:
    """Text the organisation from a phone, and say what came of it.

    Example: sms-foundation simulator text --from +13125550100 "Hola, no hay agua"
    """
    settings = settings_of(context)
    if not sender:
        fail("whose phone? add --from +13125550100 (`simulator tenants` lists numbers)")
    url = simulator_url or settings.own_url
    request = {"from": sender, "to": recipient, "body": body, "media": media or [], "provider": provider}
    if provider == "twilio":
        said = Text(sender=sender, recipient=recipient, body=body, media_urls=media or [])
        outcome = _ask_or_do(url, "/simulator/texts", request, settings, lambda account: account.send_text(said))
    else:
        outcome = ask(url, "POST", "/simulator/texts", json=request)
    for line in describe(outcome, settings):
        typer.echo(line)
    if not outcome["is_delivered"]:
        raise typer.Exit(1)
    typer.echo(f"read it back: curl '{settings.service_url}/conversations/{parse_address(sender)}'")


def statuses(
    context: typer.Context,
    message_sid: Annotated[str, typer.Argument(metavar="SID", help="Message SID: SM or MM and 32 hex digits.")],
    names: Annotated[list[str], typer.Argument(metavar="STATUS...", help="Such as: sent delivered.")],
    recipient: Annotated[
        str | None, typer.Option("--to", help="Phone the message went to.", show_default=False)
    ] = None,
    error_code: Annotated[
        str | None, typer.Option(help="Sent with failed and undelivered.", show_default=False)
    ] = None,
    simulator_url: SimulatorUrl = None,
) -> None:
    """Report statuses of a message, in the order given.

    Example: sms-foundation simulator statuses SM0123456789abcdef0123456789abcdef sent delivered
    """
    settings = settings_of(context)
    outcome = _ask_or_do(
        simulator_url or settings.own_url,
        "/simulator/statuses",
        {"message_sid": message_sid, "statuses": names, "to": recipient, "error_code": error_code},
        settings,
        lambda account: account.report_statuses(
            StatusSequence(message_sid=message_sid, statuses=names, recipient=recipient, error_code=error_code)
        ),
    )
    for line in describe(outcome, settings):
        typer.echo(line)
    if not outcome["is_delivered"]:
        raise typer.Exit(1)


def crowd(
    context: typer.Context,
    count: Annotated[int, typer.Option(min=1, help="Texts in all.")] = 100,
    rate: Annotated[float, typer.Option(min=0.1, help="Texts per second.")] = 10,
    seed: Annotated[int, typer.Option(help="The same seed says the same things.")] = 1,
    simulator_url: SimulatorUrl = None,
) -> None:
    """Let tenants and strangers text in English, Spanish and Portuguese, until COUNT texts are out.

    Example: sms-foundation simulator crowd --count 200 --rate 20
    """
    url = simulator_url or settings_of(context).own_url
    run = ask(url, "POST", "/simulator/crowd", json={"count": count, "rate_per_s": rate, "seed": seed})
    while run["state"] == "running":
        typer.echo(f"{run['sent']} of {count} sent")
        time.sleep(_CROWD_POLL_S)
        run = ask(url, "GET", "/simulator/crowd")
    languages = ", ".join(f"{number} {name}" for name, number in sorted(run["by_language"].items()))
    typer.echo(f"{run['state']}: {run['delivered']} delivered, {run['failed']} failed ({languages})")
    if run["latency_ms"]["p50"] is not None:
        typer.echo(f"answered within {run['latency_ms']['p50']} ms (half), {run['latency_ms']['p99']} ms (99 %)")
    if run["failed"] or run["state"] != "finished":
        typer.echo(f"what went wrong: curl '{url}/simulator/deliveries?is_delivered=false&limit=5'", err=True)
        raise typer.Exit(1)


def tenants(
    context: typer.Context,
    language: Annotated[
        str | None, typer.Option(help="Only those who text in en, es or pt.", show_default=False)
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many.")] = 12,
    simulator_url: SimulatorUrl = None,
) -> None:
    """List made-up tenants the Collections Monitor knows, with the numbers to text from."""
    settings = settings_of(context)
    if language not in (None, *LANGUAGES):
        fail(f"--language takes {', '.join(LANGUAGES)}")
    params: dict[str, str | int] = {"limit": limit} | ({"language": language} if language else {})
    try:
        found = call_simulator(
            simulator_url or settings.own_url,
            "GET",
            "/monitor/tenants",
            params=params,
            bearer_key=settings.monitor_api_key,
        )["tenants"]
    except NoSimulatorError:
        typer.echo("no simulator is running; these are the tenants it starts with", err=True)
        known = [each for each in make_tenants() if language in (None, each.texts_in)][:limit]
        found = [
            {"texts_from": each.texts_from, "texts_in": each.texts_in, "name": each.name, "tenant_id": each.tenant_id}
            for each in known
        ]
    except ControlError as error:
        fail(str(error))
    for each in found:
        typer.echo(f"{each['texts_from']:<15} {each['texts_in'] or '-':<3} {each['tenant_id']:<13} {each['name']}")


def phone(
    context: typer.Context,
    number: Annotated[str, typer.Argument(help="Such as +15125550142.")],
    simulator_url: SimulatorUrl = None,
) -> None:
    """Show what a phone received and sent, oldest first, as its screen would.

    Example: sms-foundation simulator phone +15125550142
    """
    url = simulator_url or settings_of(context).own_url
    shown = ask(url, "GET", f"/simulator/phones/{quote(number)}")
    lines = [(text["arrived_at"], f"<- {text['sender']}", text) for text in shown["received"]]
    lines += [(text["sent_at"], f"-> {text['recipient']}", text) for text in shown["sent"]]
    for moment, whom, text in sorted(lines, key=lambda line: line[0]):
        pictures = "".join(f" [{url}]" for url in text["media_urls"])
        typer.echo(f"{moment[:19].replace('T', ' ')}  {whom:<16} {text['body']}{pictures}")


def _read_scenario(name: str) -> Scenario:
    try:
        return read_scenario(name)
    except StartupError as error:
        fail(str(error))


def _serve(settings: SimulatorSettings) -> None:
    configure_logging(level=settings.log_level, log_format=settings.log_format)
    # ws and the access log off: there are no websockets here, and request lines would hold phone numbers.
    uvicorn.run(
        build_app(settings),
        host=settings.host,
        port=settings.port,
        http=CuttableProtocol,
        ws="none",
        access_log=False,
        log_config=None,
        timeout_graceful_shutdown=3,
    )


def _ask_or_do(
    url: str,
    path: str,
    request: Mapping[str, object],
    settings: SimulatorSettings,
    do: Callable[[SimulatedAccount], Awaitable[list[Delivery]]],
) -> dict[str, Any]:
    """Let the running simulator at `url` deliver, so that it remembers; without one, deliver from here."""
    try:
        given = {name: value for name, value in request.items() if value is not None}
        answer: dict[str, Any] = call_simulator(url, "POST", path, json=given)
    except NoSimulatorError:
        typer.echo(f"no simulator answers at {url}; delivering straight to {settings.service_url}", err=True)
        return asyncio.run(_deliver_from_here(settings, do))
    except ControlError as error:
        fail(str(error))
    return answer


async def _deliver_from_here(
    settings: SimulatorSettings, do: Callable[[SimulatedAccount], Awaitable[list[Delivery]]]
) -> dict[str, Any]:
    # What came of it is told in words; log lines between them would only confuse.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    timing = Timing()
    async with make_courier(settings, timing) as courier:
        try:
            deliveries = await do(SimulatedAccount(settings, courier, timing))
        except SmsFoundationError as error:
            fail(error.message)
    return DeliveriesOut.of(deliveries).model_dump(mode="json")
