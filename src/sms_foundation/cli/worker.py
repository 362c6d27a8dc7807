"""`sms-foundation worker`."""

from typing import Annotated

import typer
import uvloop

from sms_foundation.cli.database import open_database
from sms_foundation.cli.ending import end_on_signals
from sms_foundation.cli.serve import bind
from sms_foundation.core.config import load_settings
from sms_foundation.core.logging import configure_logging
from sms_foundation.operations.port import operations_port
from sms_foundation.worker import OpenPort, no_port, run_worker

commands = typer.Typer(add_completion=False, rich_markup_mode=None)


@commands.command()
def worker(
    host: Annotated[str | None, typer.Option(help="Address of that port. [default: HOST, 127.0.0.1]")] = None,
    port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="Answer /health and /metrics on this port. [default: WORKER_PORT, none]"),
    ] = None,
) -> None:
    """Run background work alone: sending, tenant lookups, languages, receipts that came too early, reconciliation.

    Any number of workers and services share one database; each piece of work is run by one of them. With workers apart,
    services can be started with WORK_IN_PROCESS=false. Give both the same settings: providers report to the services
    under the PUBLIC_BASE_URL of whoever sent. SIGTERM finishes or hands back what is under way, and ends with exit
    status 0.

    With a port it answers /health, /health/live, /health/ready, /health/startup and /metrics, and nothing else, to
    whom the service would answer them: sms-foundation worker --port 8080
    """
    end_on_signals()
    settings = load_settings(**{k: v for k, v in {"host": host, "worker_port": port}.items() if v is not None})
    configure_logging(
        level=settings.log_level, log_format=settings.log_format, google_cloud_project=settings.google_cloud_project
    )
    open_port: OpenPort = no_port
    if settings.worker_port is not None:
        open_port = operations_port(settings, bind(settings.host, settings.worker_port))
    with open_database(settings) as url:
        uvloop.run(run_worker(settings, url, open_port=open_port))
