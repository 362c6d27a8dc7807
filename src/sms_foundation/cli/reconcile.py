"""`sms-foundation reconcile`."""

import asyncio
from datetime import timedelta
from typing import Annotated

import typer

from sms_foundation.cli.database import open_database
from sms_foundation.core.config import Settings, load_settings
from sms_foundation.core.db import DatabaseUrl, explain_outage, is_outage
from sms_foundation.core.errors import StartupError
from sms_foundation.core.logging import configure_logging
from sms_foundation.core.work import queue
from sms_foundation.enrichment.jobs import LOOK_UP_CONVERSATION
from sms_foundation.enrichment.tasks import enqueue_lookups
from sms_foundation.messaging import facts
from sms_foundation.worker import Core, open_core

commands = typer.Typer(add_completion=False)


@commands.command()
def reconcile(
    active_days: Annotated[
        int | None, typer.Option(min=1, help="Only conversations active in the last so many days. [default: all]")
    ] = None,
    wait: Annotated[
        bool, typer.Option(help="Look up here and now; --no-wait leaves it to the running processes.")
    ] = True,
) -> None:
    """Look up the numbers of all conversations without a tenant again, as the service does by itself now and then.

    Running it twice, or beside the service, looks nothing up twice at the same time.
    """
    settings = load_settings()
    configure_logging(level="WARNING", log_format=settings.log_format)
    if settings.monitor_api_url is None:
        raise StartupError("MONITOR_API_URL is not set: there is nobody to ask")
    with open_database(settings) as url:
        asyncio.run(_reconcile(settings, url, active_days=active_days, waits=wait))


async def _reconcile(settings: Settings, url: DatabaseUrl, *, active_days: int | None, waits: bool) -> None:
    async with open_core(settings, url) as core:
        try:
            within = None if active_days is None else timedelta(days=active_days)
            total = await enqueue_lookups(core.database, active_within=within)
            print(f"{total} conversations without a tenant")
            if waits and total:
                await _finish_lookups(core, total)
        except Exception as error:
            if is_outage(error):
                raise StartupError(f"the database at {url.safe_name}: {explain_outage(error)}") from None
            raise


async def _finish_lookups(core: Core, total: int) -> None:
    core.runner.start()
    try:
        while left := await _open_lookups(core):
            print(f"  {max(total - left, 0)} of {total} looked up", flush=True)
            await asyncio.sleep(0.5)
    finally:
        await core.runner.stop(5.0)
    async with core.database.connection() as connection:
        unknown = await facts.count_without_tenant(connection)
    print(f"done: {unknown} conversations are still without a tenant")


async def _open_lookups(core: Core) -> int:
    async with core.database.connection() as connection:
        kinds = await queue.backlog(connection)
    return sum(each.due + each.scheduled + each.leased for each in kinds if each.kind == LOOK_UP_CONVERSATION)
