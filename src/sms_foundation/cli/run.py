"""`sms-foundation run`: everything at once, for a developer."""

import contextlib
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from sms_foundation.cli.database import open_database
from sms_foundation.cli.ending import end_on_signals
from sms_foundation.cli.serve import bind, serve_on
from sms_foundation.core.config import Settings, child_environment, load_settings
from sms_foundation.core.errors import StartupError
from sms_foundation.core.logging import configure_logging
from sms_foundation.simulator.monitor.tenants import STRANGER_NUMBER, example_tenant

commands = typer.Typer(add_completion=False, rich_markup_mode=None)

_PORT = 8000
_SIMULATOR_PORT = 8001

_WELCOME = """
SMS Foundation is starting. Nothing leaves this machine.

  service     http://127.0.0.1:{port}         API under /docs, /health, /metrics
  simulator   http://127.0.0.1:{simulator_port}         four SMS providers and a Collections Monitor that run here
  database    {database}

Let somebody text you, from another terminal in this folder. A tenant, who writes Spanish:

  {command} simulator{option} text --from {tenant} "Hola, no hay agua caliente"
  curl -s http://127.0.0.1:{port}/conversations/{tenant} | python3 -m json.tool

A number nobody knows:

  {command} simulator{option} text --from {stranger} "Buenas tardes, ¿todavía está libre el apartamento?"
  curl -s http://127.0.0.1:{port}/conversations/{stranger} | python3 -m json.tool

Text somebody and watch it go out, then look at the phone:

  {command} send{url} --to {tenant} "Your plumber comes at 10."
  {command} simulator{option} phone {tenant}

The same by hand:

  curl -s http://127.0.0.1:{port}/v1/sms/send -d '{{"to": "{stranger}", "message": "Yes, it is. Call us!"}}'
  curl -s 'http://127.0.0.1:{port}/v1/sms?number={stranger}' | python3 -m json.tool

Let a provider fail, text some more, and see how the others take over:

  {command} simulator{option} faults set account_suspended --provider twilio
  {command} providers

Stop with Ctrl-C; the texts stay.
"""


@commands.command()
def run(
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="The service's port. [default: PORT, 8000]")
    ] = None,
    simulator_port: Annotated[int, typer.Option(min=1, max=65535, help="The simulator's port.")] = _SIMULATOR_PORT,
) -> None:
    """Start the service and, beside it, the simulator: no account, no Docker, no server to install.

    The database is the embedded one unless DATABASE_URL is set. Unknown numbers are looked up at the simulator's
    Collections Monitor unless MONITOR_API_URL is set. Messages go out through the simulator's Twilio, MessageBird,
    Vonage and Telnyx.
    """
    end_on_signals()
    settings = load_settings(**({"port": port} if port else {}))
    if not settings.uses_simulator:
        raise StartupError("`run` is for a developer's machine without TWILIO_AUTH_TOKEN; use `sms-foundation serve`")
    configure_logging(level=settings.log_level, log_format=settings.log_format)
    listener = bind(settings.host, settings.port)
    _check_port_is_free(simulator_port)
    monitor_url = f"http://127.0.0.1:{simulator_port}/monitor"
    settings.simulator_url = f"http://127.0.0.1:{simulator_port}"
    settings.monitor_api_url = settings.monitor_api_url or monitor_url
    settings.tenant_profile_api_url = settings.tenant_profile_api_url or monitor_url
    with open_database(settings) as url, _simulator(settings, simulator_port):
        print(
            _WELCOME.format(
                port=settings.port,
                simulator_port=simulator_port,
                database=url.safe_name if settings.database_url else f"embedded, in {settings.sms_data_dir}",
                command=_own_command(),
                tenant=example_tenant().texts_from,
                stranger=STRANGER_NUMBER,
                option=_options(settings.port, simulator_port),
                url="" if settings.port == _PORT else f" --url http://127.0.0.1:{settings.port}",
            ),
            flush=True,
        )
        serve_on(listener, settings, url)


def _own_command() -> str:
    """Return what to type for `sms-foundation` in another shell, where our virtual environment may not be active."""
    if Path(sys.argv[0]).name == "sms-foundation":
        return shlex.quote(sys.argv[0])
    return f"{shlex.quote(sys.executable)} -m sms_foundation"


def _options(port: int, simulator_port: int) -> str:
    """Return the simulator's options for a shell that knows nothing of our ports."""
    service_url = "" if port == _PORT else f" --service-url http://127.0.0.1:{port}"
    return service_url if simulator_port == _SIMULATOR_PORT else f" --port {simulator_port}{service_url}"


def _check_port_is_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise StartupError(f"port {port}: {error.strerror}; choose another with --simulator-port") from None


@contextlib.contextmanager
def _simulator(settings: Settings, port: int) -> Iterator[None]:
    """Run the simulator as a process of its own, so that what passes between the two is real HTTP."""
    process = subprocess.Popen(
        [sys.executable, "-m", "sms_foundation", "simulator", "--port", str(port)],
        env=child_environment(PORT=str(settings.port)),
    )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
