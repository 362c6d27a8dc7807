"""Which database a command works on: the one that DATABASE_URL names, or the embedded one, started when needed."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import structlog

from sms_foundation.core.config import Settings, load_settings
from sms_foundation.core.db import Connection, Database, DatabaseUrl, explain_outage, is_outage, parse_database_url
from sms_foundation.core.errors import SmsFoundationError, StartupError
from sms_foundation.core.local_postgres import LocalPostgres, LocalPostgresError

log = structlog.get_logger(__name__)

T = TypeVar("T")


@contextmanager
def open_database(settings: Settings) -> Iterator[DatabaseUrl]:
    """Yield the database's URL. The embedded server runs until the last command that uses it has left.

    Raises StartupError when the embedded server cannot be started.
    """
    if settings.database_url is not None:
        yield parse_database_url(settings.database_url.get_secret_value(), pooler=settings.database_pooler)
        return
    server = LocalPostgres(settings.sms_data_dir, binaries=settings.local_postgres_bin)
    try:
        server.start()
    except LocalPostgresError as error:
        raise StartupError(str(error)) from None
    stop = threading.Event()
    guard = threading.Thread(target=_keep_running, args=(server, stop), name="local-postgres-guard", daemon=True)
    guard.start()
    try:
        yield parse_database_url(server.url)
    finally:
        stop.set()
        guard.join()
        server.stop()


def _keep_running(server: LocalPostgres, stop: threading.Event) -> None:
    """Start the server again whenever it has died; asking costs a fraction of a millisecond."""
    while not stop.wait(1.0):
        try:
            server.start()
        except LocalPostgresError as error:
            log.warning("local_postgres.cannot_restart", error=str(error).splitlines()[0])


def ask_database(settings: Settings, action: Callable[[Database], Awaitable[T]]) -> T:
    """Run `action` on the database and return its result. Raises StartupError when it cannot be reached."""

    async def run(url: DatabaseUrl) -> T:
        database = Database(url, settings)
        await database.open()
        try:
            return await action(database)
        except Exception as error:
            if is_outage(error):
                raise StartupError(f"the database at {url.safe_name}: {explain_outage(error)}") from None
            raise
        finally:
            await database.close()

    with open_database(settings) as url:
        return asyncio.run(run(url))


def in_transaction(action: Callable[[Connection], Awaitable[T]]) -> T:
    """Run `action` in a transaction on the database of the settings, and return its result.

    Raises StartupError when the database cannot be reached, and with the reason for what `action` refuses to do.
    """

    async def run(database: Database) -> T:
        async with database.transaction() as connection:
            return await action(connection)

    try:
        return ask_database(load_settings(), run)
    except SmsFoundationError as error:
        raise StartupError(error.message) from None
