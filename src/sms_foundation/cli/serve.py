"""`sms-foundation serve`."""

import socket
from typing import Annotated

import typer

from sms_foundation.app import create_app
from sms_foundation.cli.database import open_database
from sms_foundation.cli.ending import end_on_signals
from sms_foundation.core.config import Settings, load_settings
from sms_foundation.core.db import DatabaseUrl
from sms_foundation.core.errors import StartupError
from sms_foundation.core.logging import configure_logging
from sms_foundation.core.stopping import Stopping
from sms_foundation.core.web.server import Server
from sms_foundation.core.web.startup import Startup

commands = typer.Typer(add_completion=False, rich_markup_mode=None)


@commands.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on. [default: HOST, 127.0.0.1]")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port; 0 takes any. [default: PORT, 8000]")] = None,
) -> None:
    """Start the service alone: webhooks, history API and background work.

    Without DATABASE_URL it brings its own PostgreSQL, whose files live in SMS_DATA_DIR. With APP_ENV=local, the default
    on your machine, the schema is brought up to date first and the simulator's signatures are trusted while no
    TWILIO_AUTH_TOKEN is set. SIGTERM answers what was asked, finishes or hands back what is under way, and ends with
    exit status 0.
    """
    end_on_signals()
    settings = load_settings(**{k: v for k, v in {"host": host, "port": port}.items() if v is not None})
    configure_logging(
        level=settings.log_level, log_format=settings.log_format, google_cloud_project=settings.google_cloud_project
    )
    listener = bind(settings.host, settings.port)
    settings.port = listener.getsockname()[1]
    with open_database(settings) as url:
        serve_on(listener, settings, url)


def bind(host: str, port: int) -> socket.socket:
    """Take the port, before anything slow is started. Raises StartupError when somebody has it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        raise StartupError(f"cannot listen on {host}:{port}: {error.strerror}; choose another with --port") from None
    return listener


def serve_on(listener: socket.socket, settings: Settings, url: DatabaseUrl) -> None:
    """Serve until SIGTERM or SIGINT.

    Of SHUTDOWN_TIMEOUT_S, requests get two fifths and background work a little less; the rest is for closing. Raises
    StartupError when the service cannot start as it is configured.
    """
    stopping = Stopping()
    app = Startup(create_app(settings, url, stopping=stopping))
    try:
        Server(app, stopping, closing_s=settings.shutdown_timeout_s * 0.4).run(sockets=[listener])
    finally:  # the server leaves by SystemExit when the application does not start
        if app.problem is not None:
            raise app.problem
