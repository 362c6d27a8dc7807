"""`sms-foundation dead`."""

from typing import Annotated

import typer

from sms_foundation.cli.database import ask_database
from sms_foundation.core.config import load_settings
from sms_foundation.core.db import Database
from sms_foundation.core.work import queue
from sms_foundation.core.work.queue import DeadWork

commands = typer.Typer(
    add_completion=False, rich_markup_mode=None, no_args_is_help=True, help="Show and replay work that failed for good."
)


@commands.command(name="list")
def list_dead(
    kind: Annotated[str | None, typer.Option(help="Only this kind of work.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many at most.")] = 100,
) -> None:
    """List dead work, oldest first: id, kind, attempts, what it is about, last error."""

    async def fetch(database: Database) -> list[DeadWork]:
        async with database.connection() as connection:
            return await queue.list_dead(connection, kind=kind, limit=limit)

    rows = ask_database(load_settings(), fetch)
    for row in rows:
        print(
            f"{row.id}\t{row.kind}\t{row.attempts}\t{row.ref_id}\t{row.created_at:%Y-%m-%dT%H:%M:%SZ}\t{row.last_error}"
        )
    if not rows:
        print("no dead work")


@commands.command()
def replay(
    ids: Annotated[list[int] | None, typer.Argument(help="Ids from `dead list`.")] = None,
    kind: Annotated[str | None, typer.Option(help="All dead work of this kind.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All dead work.")] = False,
) -> None:
    """Make dead work due again, with all its attempts back. Name ids, a kind, or --all.

    A message that no provider took (kind send_message) is tried anew. One that may have been sent is looked into again
    and never sent blindly; once you know that it was not: POST /v1/sms/ID/retry with {"was_not_sent": true}.
    """
    if not ids and kind is None and not everything:
        raise typer.BadParameter("name ids, --kind or --all")

    async def run(database: Database) -> int:
        async with database.connection() as connection:
            return await queue.replay_dead(connection, ids=ids or None, kind=kind)

    print(f"{ask_database(load_settings(), run)} due again")
