"""What the simulator's commands share: their settings, asking a running simulator, and giving up in words."""

from collections.abc import Mapping
from typing import Annotated, Any, NoReturn

import typer

from sms_foundation.simulator.control_client import ControlError, NoSimulatorError, call_simulator
from sms_foundation.simulator.settings import SimulatorSettings

SimulatorUrl = Annotated[
    str | None, typer.Option(help="Address of a running simulator. [default: --host and --port]", show_default=False)
]


def settings_of(context: typer.Context) -> SimulatorSettings:
    """Return what the group's options say."""
    settings: SimulatorSettings = context.obj
    return settings


def ask(
    url: str,
    method: str,
    path: str,
    *,
    json: Mapping[str, object] | None = None,
    params: Mapping[str, str | int] | None = None,
) -> dict[str, Any]:
    """Return the running simulator's answer ({} for an empty one), or end the command with what is wrong."""
    try:
        answer: dict[str, Any] = call_simulator(url, method, path, json=json, params=params)
    except NoSimulatorError:
        fail(f"no simulator answers at {url}: start it with `sms-foundation simulator`, or all of it with `make run`")
    except ControlError as error:
        fail(str(error))
    return answer


def fail(message: str) -> NoReturn:
    """End the command with exit status 1."""
    typer.echo(f"error: {message}", err=True)
    raise typer.Exit(1)
