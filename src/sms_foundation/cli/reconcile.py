"""`sms-foundation reconcile`."""

import asyncio
import re
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated

import typer

from sms_foundation.cli.database import open_database
from sms_foundation.core.clock import utc_now
from sms_foundation.core.config import Settings, load_settings
from sms_foundation.core.db import DatabaseUrl, explain_outage, is_outage
from sms_foundation.core.errors import StartupError
from sms_foundation.core.logging import configure_logging
from sms_foundation.core.work import queue
from sms_foundation.enrichment.jobs import LOOK_UP_CONVERSATION
from sms_foundation.enrichment.tasks import enqueue_lookups
from sms_foundation.messaging import facts
from sms_foundation.messaging.outbound.reconcile import Report
from sms_foundation.providers.errors import ErrorKind
from sms_foundation.worker import Core, open_core

commands = typer.Typer(add_completion=False, rich_markup_mode=None)

_PROGRESS_EVERY_S = 1.0
_is_period = re.compile(r"([1-9][0-9]{0,4})([mhd])").fullmatch
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}
_LONGEST_DAYS = 366

_WHAT_TO_DO = {
    ErrorKind.RATE_LIMITED: "asked us to slow down; run it again in a few minutes",
    ErrorKind.ACCOUNT: "refuses our account; check its credentials (PROVIDERS or TWILIO_AUTH_TOKEN)",
    ErrorKind.UNAVAILABLE: "did not answer; run it again once it can be reached",
}


class Part(StrEnum):
    """What can be reconciled."""

    STATUSES = "statuses"
    INBOUND = "inbound"
    TENANTS = "tenants"


@commands.command()
def reconcile(
    since: Annotated[
        str, typer.Option(metavar="PERIOD", help="How far back to look for statuses and texts: 90m, 24h, 7d.")
    ] = "24h",
    only: Annotated[
        list[Part] | None, typer.Option(help="Only this part; may be repeated.  [default: all]", show_default=False)
    ] = None,
    active_days: Annotated[
        int | None, typer.Option(min=1, help="Tenants: only conversations active in so many days. [default: all]")
    ] = None,
    wait: Annotated[
        bool, typer.Option(help="Tenants: look up here and now; --no-wait leaves it to the running processes.")
    ] = True,
) -> None:
    """Find what never reached us. The service does the same by itself now and then.

    \b
    statuses  asks the providers about every message without a final status that went out in the PERIOD
    inbound   stores the texts that the providers received for us in the PERIOD and never delivered
    tenants   looks up the numbers of all conversations without a tenant (needs MONITOR_API_URL)

    Running it twice, or beside the service, stores and sends nothing twice. Example, after an outage of two hours:

        sms-foundation reconcile --since 3h
    """
    period = _read_period(since)
    settings = load_settings()
    parts = set(only or Part)
    if only and Part.TENANTS in parts and settings.monitor_api_url is None:
        raise StartupError("MONITOR_API_URL is not set: there is nobody to ask about tenants")
    # What goes wrong is told at the end, in words.
    configure_logging(level="ERROR", log_format=settings.log_format)
    with open_database(settings) as url:
        asyncio.run(_reconcile(settings, url, parts, since=utc_now() - period, active_days=active_days, waits=wait))


def _read_period(text: str) -> timedelta:
    found = _is_period(text.strip().lower())
    period = timedelta(**{_UNITS[found[2]]: int(found[1])}) if found else timedelta(0)
    if not timedelta(0) < period <= timedelta(days=_LONGEST_DAYS):
        raise typer.BadParameter(f"write it as 90m, 24h or 7d, up to {_LONGEST_DAYS}d", param_hint="--since")
    return period


async def _reconcile(
    settings: Settings,
    url: DatabaseUrl,
    parts: set[Part],
    *,
    since: datetime,
    active_days: int | None,
    waits: bool,
) -> None:
    report = Report()
    async with open_core(settings, url) as core:
        try:
            if parts & {Part.STATUSES, Part.INBOUND}:
                await _ask_providers(core, parts, since, report)
            if Part.TENANTS in parts and settings.monitor_api_url is None:
                print("tenants: left out, MONITOR_API_URL is not set")
            elif Part.TENANTS in parts:
                await _look_up_tenants(core, active_days=active_days, waits=waits)
        except Exception as error:
            if is_outage(error):
                raise StartupError(f"the database at {url.safe_name}: {explain_outage(error)}") from None
            raise
    if report.errors:
        raise StartupError("; ".join(f"{name} {_WHAT_TO_DO[kind]}" for name, kind in sorted(report.errors.items())))


async def _ask_providers(core: Core, parts: set[Part], since: datetime, report: Report) -> None:
    if not core.providers:
        print("statuses and inbound: left out, no provider is configured")
        return
    print(f"asking {', '.join(core.providers)} about everything since {since.astimezone(UTC):%Y-%m-%d %H:%M} UTC")

    async def ask() -> None:
        if Part.STATUSES in parts:
            await core.reconciliation.poll_since(since, report)
        if Part.INBOUND in parts:
            await core.reconciliation.fetch_inbound(since, report)

    asking = asyncio.create_task(ask())
    try:
        while not (await asyncio.wait([asking], timeout=_PROGRESS_EVERY_S))[0]:
            print(f"  {report.asked} statuses and {report.seen_inbound} texts looked at so far", flush=True)
    finally:
        asking.cancel()
    await asking
    if Part.STATUSES in parts:
        unanswered = f", {report.unanswered} without an answer" if report.unanswered else ""
        print(f"statuses: {report.repaired_statuses} repaired of {report.asked} asked about{unanswered}")
    if Part.INBOUND in parts:
        print(f"inbound: {report.repaired_inbound} missed texts stored, of {report.seen_inbound} that providers have")


async def _look_up_tenants(core: Core, *, active_days: int | None, waits: bool) -> None:
    within = None if active_days is None else timedelta(days=active_days)
    total = await enqueue_lookups(core.database, active_within=within)
    print(f"tenants: {total} conversations without one")
    if waits and total:
        await _finish_lookups(core, total)


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
    print(f"tenants: {unknown} conversations are still without one")


async def _open_lookups(core: Core) -> int:
    async with core.database.connection() as connection:
        kinds = await queue.backlog(connection)
    return sum(each.due + each.scheduled + each.leased for each in kinds if each.kind == LOOK_UP_CONVERSATION)
