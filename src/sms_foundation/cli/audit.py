"""`sms-foundation audit`."""

from datetime import UTC, datetime
from typing import Annotated

import asyncpg
import typer

from sms_foundation.auth.audit.log import Action
from sms_foundation.auth.audit.reading import AuditFilter, list_entries
from sms_foundation.cli.database import ask_database
from sms_foundation.core.config import load_settings
from sms_foundation.core.db import Database
from sms_foundation.core.printable import escape_unprintable

commands = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    help="Show who did what to clients, keys, roles and messages' content.",
)
_TIMES = ["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"]


@commands.command()
def audit(
    actor: Annotated[str | None, typer.Option(help="Only what this client did; or command-line, service.")] = None,
    action: Annotated[Action | None, typer.Option(help="Only this action.", metavar="ACTION")] = None,
    target: Annotated[str | None, typer.Option(help="Only what was done to this: the id of a client, key, ...")] = None,
    since: Annotated[datetime | None, typer.Option(formats=_TIMES, help="Done at or after this time, UTC.")] = None,
    until: Annotated[datetime | None, typer.Option(formats=_TIMES, help="Done before this time, UTC.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many at most.")] = 100,
) -> None:
    """List entries of the audit log, newest first: time, who, with what, from where, action, to what, details.

    Example: sms-foundation audit --action key.create --since 2026-11-01
    """
    wanted = AuditFilter(actor=actor, action=action, target=target, since=_in_utc(since), until=_in_utc(until))

    async def fetch(database: Database) -> list[asyncpg.Record]:
        async with database.connection() as connection:
            return await list_entries(connection, wanted, after=None, limit=limit)

    rows = ask_database(load_settings(), fetch)
    for row in rows:
        print(_line(row))
    if not rows:
        print("no entries")


def _in_utc(at: datetime | None) -> datetime | None:
    return None if at is None else at.replace(tzinfo=UTC)


def _line(row: asyncpg.Record) -> str:
    at = row["created_at"].astimezone(UTC)
    done = [row["action"], f"{row['target_kind']} {row['target']}", row["details"]]
    shown = [row["actor"], row["credential"], row["address"] or "-", *done]
    return "\t".join([f"{at:%Y-%m-%dT%H:%M:%SZ}", *map(escape_unprintable, shown)])
