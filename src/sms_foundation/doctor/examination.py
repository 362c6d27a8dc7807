"""All checks, one after the other: one that cannot be made does not keep the others from being made."""

from collections.abc import Awaitable, Callable
from datetime import datetime

import asyncpg

from sms_foundation.core.config import Settings
from sms_foundation.core.db import Database, explain_outage
from sms_foundation.doctor.access import check_access
from sms_foundation.doctor.configuration import check_settings
from sms_foundation.doctor.context import Context
from sms_foundation.doctor.conversations import check_conversations
from sms_foundation.doctor.findings import Finding, Report, Unchecked
from sms_foundation.doctor.limits import Limits
from sms_foundation.doctor.messages import findings_of, walk_messages
from sms_foundation.doctor.public_url import check_public_url
from sms_foundation.doctor.reading import Progress, Reader
from sms_foundation.doctor.receipts import check_receipts
from sms_foundation.doctor.server import check_clock, check_pooler, check_server, pooler_not_known
from sms_foundation.doctor.webhooks import WebhooksUnaskedError, check_webhooks
from sms_foundation.doctor.work import check_work
from sms_foundation.migrations.state import schema_problem
from sms_foundation.providers.configured import configured_providers

Check = Callable[[Context], Awaitable[list[Finding]]]

_SURROUNDINGS: dict[str, Check] = {
    "settings": check_settings,
    "public_url": check_public_url,
    "webhooks": check_webhooks,
}
_SERVER: dict[str, Check] = {"pooler": check_pooler, "clock": check_clock}


async def examine(
    settings: Settings,
    database: Database,
    *,
    since: datetime | None,
    limits: Limits | None = None,
    progress: Progress = lambda _line: None,
) -> Report:
    """Make every check and return what they came to. `since`: how far back walks go, None: to the beginning.

    Writes nothing, here or elsewhere. A database that cannot be asked is `Unchecked`, not an error.
    """
    report = Report()
    context = Context(
        settings=settings,
        configs=configured_providers(settings),
        reader=Reader(database, progress),
        since=since,
        limits=limits or Limits.of(settings),
        report=report,
    )
    for name, check in _SURROUNDINGS.items():
        await _make(name, check, context)
    if not await _is_reachable(context):
        return report
    for name, check in _SERVER.items():
        await _make(name, check, context)
    if await _has_schema(context):
        for name, check in _inside().items():
            await _make(name, check, context)
    return report


def _inside() -> dict[str, Check]:
    return {"server": check_server, "access": check_access, "receipts": check_receipts, "messages": _check_messages}


async def _check_messages(context: Context) -> list[Finding]:
    """Messages first: which of them need work, and which conversations there are, is known from them."""
    walked = await walk_messages(context)
    return [
        *findings_of(walked),
        *await check_conversations(context, walked),
        *await check_work(context, walked.waiting),
    ]


async def _make(name: str, check: Check, context: Context) -> None:
    try:
        context.report.findings += await check(context)
    except WebhooksUnaskedError as error:
        context.report.unchecked.append(Unchecked(name, str(error)))
    except Exception as error:  # noqa: BLE001  # whatever it is, the other checks are worth making
        context.report.unchecked.append(Unchecked(name, explain_outage(error)))


async def _is_reachable(context: Context) -> bool:
    try:
        await context.reader.fetch("SELECT 1")
    except asyncpg.PostgresError as error:
        if "unsupported startup parameter" in str(error):
            context.report.findings.append(pooler_not_known())
        context.report.unchecked.append(Unchecked("database", explain_outage(error)))
        return False
    except Exception as error:  # noqa: BLE001
        context.report.unchecked.append(Unchecked("database", explain_outage(error)))
        return False
    return True


async def _has_schema(context: Context) -> bool:
    """Tell whether what is inside can be looked at; a schema that is behind is a finding."""
    try:
        async with context.reader.transaction() as connection:
            problem = await schema_problem(connection)
    except Exception as error:  # noqa: BLE001
        context.report.unchecked.append(Unchecked("schema", explain_outage(error)))
        return False
    if problem is None:
        return True
    context.report.findings.append(
        Finding(name="schema_behind", why=problem.partition(":")[0], do="`sms-foundation migrate`")
    )
    context.report.unchecked += [Unchecked(name, "the schema is behind") for name in _inside()]
    return False
