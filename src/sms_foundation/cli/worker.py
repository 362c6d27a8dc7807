"""`sms-foundation worker`."""

import typer
import uvloop

from sms_foundation.cli.database import open_database
from sms_foundation.cli.ending import end_on_signals
from sms_foundation.core.config import load_settings
from sms_foundation.core.logging import configure_logging
from sms_foundation.worker import run_worker

commands = typer.Typer(add_completion=False, rich_markup_mode=None)


@commands.command()
def worker() -> None:
    """Run background work alone: sending, tenant lookups, languages, receipts that came too early, reconciliation.

    Any number of workers and services share one database; each piece of work is run by one of them. With workers apart,
    services can be started with WORK_IN_PROCESS=false. Give both the same settings: providers report to the services
    under the PUBLIC_BASE_URL of whoever sent. SIGTERM finishes or hands back what is under way.
    """
    end_on_signals()
    settings = load_settings()
    configure_logging(level=settings.log_level, log_format=settings.log_format)
    with open_database(settings) as url:
        uvloop.run(run_worker(settings, url))
