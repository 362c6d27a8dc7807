"""`sms-foundation doctor`."""

import asyncio
import sys
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Annotated

import orjson
import typer

from sms_foundation.cli.database import open_database
from sms_foundation.cli.options import moment, read_span
from sms_foundation.core.clock import monotonic, utc_now
from sms_foundation.core.config import Settings, load_settings
from sms_foundation.core.db import Database, DatabaseUrl
from sms_foundation.core.errors import StartupError
from sms_foundation.core.logging import configure_logging
from sms_foundation.doctor.examination import examine
from sms_foundation.doctor.findings import Finding, Report, Severity

commands = typer.Typer(add_completion=False, rich_markup_mode=None)

_LONGEST = timedelta(days=3650)
_PROGRESS_EVERY_S = 1.0
_CANNOT_CHECK = 2


@commands.command()
def doctor(
    since: Annotated[
        str, typer.Option(metavar="PERIOD", help="How far back messages and receipts are looked at: 90m, 24h, 7d.")
    ] = "24h",
    everything: Annotated[bool, typer.Option("--all", help="Look at all of them, however old.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Look the database and its surroundings over, and say what to do.

    \b
    settings    what contradicts, what is a test's in production; Twilio's webhooks; does PUBLIC_BASE_URL lead here
    server      schema, indexes, vacuum, clock, pooler
    keys        that are old, end soon or are never used
    messages    statuses that their events do not explain, attempts left open, receipts without a message
    places      counts, times and gaps of conversations
    work        dead, late, held by the dead, about nothing; messages that have none

    It only reads, in short steps with pauses, and can run beside a busy service with the service's own settings.
    Exit status 0: all well, 1: something is wrong, 2: something could not be checked. Progress goes to standard error.

    \b
        sms-foundation doctor --since 7d
        sms-foundation doctor --json | jq '.findings[] | select(.severity == "wrong")'
    """
    begin = None if everything else utc_now() - read_span(since, "--since", longest=_LONGEST)
    try:
        settings = load_settings()
        configure_logging(level="ERROR", log_format=settings.log_format)
        with open_database(settings) as url:
            report = asyncio.run(_examine(settings, url, begin))
    except StartupError as error:
        if as_json:
            print(orjson.dumps({"status": _CANNOT_CHECK, "error": str(error)}).decode())
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(_CANNOT_CHECK) from None
    if as_json:
        print(_as_json(report, begin))
    else:
        _print(report, begin)
    raise typer.Exit(report.exit_status)


async def _examine(settings: Settings, url: DatabaseUrl, since: datetime | None) -> Report:
    database = Database(url, settings)
    await database.open()
    try:
        return await examine(settings, database, since=since, progress=_Progress())
    finally:
        await database.close()


class _Progress:
    """Prints a line now and then: a short run says nothing."""

    def __init__(self) -> None:
        self._printed_at = monotonic()

    def __call__(self, line: str) -> None:
        if monotonic() - self._printed_at >= _PROGRESS_EVERY_S:
            self._printed_at = monotonic()
            print(f"  {line}", file=sys.stderr, flush=True)


def _as_json(report: Report, since: datetime | None) -> str:
    return orjson.dumps(
        {
            "status": report.exit_status,
            "since": since,
            "findings": [asdict(each) for each in report.findings],
            "unchecked": [asdict(each) for each in report.unchecked],
            "looked_at": report.looked_at,
        },
        option=orjson.OPT_UTC_Z,
    ).decode()


def _print(report: Report, since: datetime | None) -> None:
    order = [Severity.WRONG, Severity.NOTICE]
    for finding in sorted(report.findings, key=lambda each: order.index(each.severity)):
        _print_finding(finding)
    for unchecked in report.unchecked:
        print(f"could not check {unchecked.name}: {unchecked.reason}\n")
    looked_at = ", ".join(f"{count:,} {what}" for what, count in report.looked_at.items())
    print(f"looked at {looked_at or 'nothing in the database'}; since {moment(since, never='the beginning')}")
    wrong = sum(each.severity is Severity.WRONG for each in report.findings)
    notices = len(report.findings) - wrong
    verdict = f"{wrong} wrong" if wrong else "nothing is wrong" if report.unchecked else "all well"
    more = [f"{notices} worth knowing"] if notices else []
    more += [f"{len(report.unchecked)} could not be checked"] if report.unchecked else []
    print(", ".join([verdict, *more]))


def _print_finding(finding: Finding) -> None:
    print(f"{finding.severity.upper():7} {finding.name}: {finding.count:,}")
    if finding.details:
        print(f"        {', '.join(f'{count:,} {what}' for what, count in finding.details.items())}")
    if finding.examples:
        print(f"        such as {', '.join(finding.examples)}")
    print(f"        why: {finding.why}")
    print(f"        do:  {finding.do}\n")
