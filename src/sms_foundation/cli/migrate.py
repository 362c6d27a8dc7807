"""`sms-foundation migrate`."""

import asyncio
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from sms_foundation.cli.database import open_database
from sms_foundation.core.config import load_settings
from sms_foundation.core.db import parse_database_url
from sms_foundation.core.errors import StartupError
from sms_foundation.core.local_postgres import LocalPostgres, LocalPostgresError
from sms_foundation.migrations import runner
from sms_foundation.migrations.state import FOLDER, head_revision

commands = typer.Typer(add_completion=False, rich_markup_mode=None)


@commands.command()
def migrate(
    revision: Annotated[
        str, typer.Option("--to", help="Revision to end at; an older one undoes migrations, base all.")
    ] = "head",
    check: Annotated[
        bool, typer.Option("--check", help="Compare models and migrations on a throw-away database; 1 if they differ.")
    ] = False,
    autogenerate: Annotated[
        str | None, typer.Option(metavar="WHAT", help="Write the next migration from the models (developers).")
    ] = None,
) -> None:
    """Bring the schema of DATABASE_URL (or of the embedded database) up to date.

    Safe to run from any number of processes at once: one migrates, the others wait and find nothing left to do. Also
    behind a transaction pooler.
    """
    if check or autogenerate:
        _compare(autogenerate)
        return
    with open_database(load_settings()) as url:
        asyncio.run(runner.migrate_to(url, revision=revision))
        print(f"the schema of {url.safe_name} is at {head_revision() if revision == 'head' else revision}")


def _compare(message: str | None) -> None:
    with tempfile.TemporaryDirectory(prefix="sms-foundation-") as folder:
        try:
            server = LocalPostgres(Path(folder) / "postgres", fast=True).start()
        except LocalPostgresError as error:
            raise StartupError(str(error)) from None
        try:
            url = parse_database_url(server.url)
            asyncio.run(runner.upgrade(url))
            if message is not None:
                written = asyncio.run(runner.write_migration(url, message=message))
                print(f"wrote {next(FOLDER.glob(f'versions/{written}_*.py'))}: read it before you commit it")
            elif drift := asyncio.run(runner.find_drift(url)):
                raise StartupError(f"models and migrations differ; `make migration` writes what is missing: {drift}")
            else:
                print("models and migrations agree")
        finally:
            server.stop()
