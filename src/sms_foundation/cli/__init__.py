"""The `sms-foundation` command. A subcommand's module is loaded when it is asked for: serving must start fast."""

import importlib
import sys
from collections.abc import Sequence
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from sms_foundation import __version__
from sms_foundation.core.errors import StartupError

# In the order in which a newcomer needs them.
_COMMANDS = {
    "run": "Start the service and the simulator together, with everything they need.",
    "serve": "Start the service alone.",
    "worker": "Run background work alone, without HTTP.",
    "migrate": "Bring the database schema up to date.",
    "simulator": "A Twilio that runs here: send texts and statuses to the service.",
    "send": "Send a text through the running service and watch it go out.",
    "providers": "Show the providers: who gets messages, who does not and why.",
    "clients": "Create, show, change and disable the services and people that may call.",
    "keys": "Create, show, replace and revoke API keys.",
    "invitations": "Invite people, and help those who have lost their password.",
    "roles": "Show roles and permissions; make roles of your own.",
    "numbers": "Say which numbers may be texted.",
    "signing-keys": "Show and replace the keys that sign our tokens.",
    "reconcile": "Find what never reached us: statuses, texts, tenants.",
    "audit": "Show who did what.",
    "privacy": "Read out or erase what is stored about one person.",
    "doctor": "Look the database and its surroundings over, and say what to do.",
    "dead": "Show and replay work that failed for good.",
}


class _LazyGroup(TyperGroup):
    """Knows the names and one line of help of its commands; loads a command to run it."""

    def list_commands(self, *_: Any) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, _ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"sms_foundation.cli.{cmd_name.replace('-', '_')}")
        command = typer.main.get_command(module.commands)
        command.name = cmd_name
        return command

    def format_commands(self, _ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


_app = typer.Typer(
    cls=_LazyGroup,
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="One service through which an organisation's every text message comes in and goes out.\n\n"
    "Settings come from the environment and .env; .env.example lists them all.",
)


def _show_version(is_wanted: bool) -> None:
    if is_wanted:
        print(f"sms-foundation {__version__}")
        raise typer.Exit


@_app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


def _check_arguments(arguments: Sequence[str]) -> None:
    """Raise StartupError for an argument that is no text: nothing could store it, or print it."""
    for place, argument in enumerate(arguments, start=1):
        try:
            argument.encode()
        except UnicodeEncodeError:
            raise StartupError(f"argument {place} is not UTF-8 text") from None
        if "\0" in argument:
            raise StartupError(f"argument {place} holds a NUL")


def main() -> NoReturn:
    """Run the command line; a StartupError becomes one line on standard error and exit status 1."""
    try:
        _check_arguments(sys.argv[1:])
        _app(prog_name="sms-foundation")
    except StartupError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    sys.exit(0)
