"""Alembic's entry: runs the migrations on the connection that `runner` hands over, or that DATABASE_URL names."""

import asyncio

from alembic import context
from sqlalchemy import Connection

from sms_foundation.auth import models as _auth
from sms_foundation.core.config import load_settings
from sms_foundation.core.db import parse_database_url
from sms_foundation.core.errors import StartupError
from sms_foundation.core.rates import models as _rates
from sms_foundation.core.schema import metadata
from sms_foundation.core.web import models as _web
from sms_foundation.core.work import models as _work
from sms_foundation.enrichment.tenants import models as _tenants
from sms_foundation.messaging import models as _messaging
from sms_foundation.migrations.runner import locked_connection

__all__ = [
    "_auth",
    "_messaging",
    "_rates",
    "_tenants",
    "_web",
    "_work",
]  # imported so that their tables stand in `metadata`


def _run(connection: Connection) -> None:
    context.configure(connection=connection, target_metadata=metadata, compare_server_default=True)
    with context.begin_transaction():
        context.run_migrations()


async def _run_by_url() -> None:
    settings = load_settings()
    if settings.database_url is None:
        raise StartupError("set DATABASE_URL for the plain alembic command, or use `sms-foundation migrate`")
    async with locked_connection(parse_database_url(settings.database_url.get_secret_value())) as connection:
        await connection.run_sync(_run)


handed_over: Connection | None = context.config.attributes.get("connection")
if handed_over is not None:
    _run(handed_over)
else:
    asyncio.run(_run_by_url())
