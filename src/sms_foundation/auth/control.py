"""The parts of access control, put together for one process."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from sms_foundation.auth.address import operations_networks
from sms_foundation.auth.directory import Directory
from sms_foundation.auth.gate import Gate, OpenAccess, Rules
from sms_foundation.auth.limits.failures import FailureLimit
from sms_foundation.auth.limits.limiter import Limiter
from sms_foundation.auth.tokens.verifying import Tokens
from sms_foundation.core.config import Settings
from sms_foundation.core.db import Database
from sms_foundation.core.errors import StartupError
from sms_foundation.core.rates.base import Rates


@dataclass(frozen=True, slots=True)
class AccessControl:
    """What routes and the composition root need of access control."""

    gate: Gate
    directory: Directory
    tokens: Tokens
    limiter: Limiter
    failures: FailureLimit


@asynccontextmanager
async def open_access_control(
    settings: Settings, database: Database, rates: Rates, rules: Rules
) -> AsyncIterator[AccessControl]:
    """Build it and close it; needs no reachable database. Raises StartupError for settings that make no sense."""
    try:
        networks = operations_networks(settings.operations_networks)
    except ValueError as error:
        raise StartupError(f"OPERATIONS_NETWORKS: {error}") from None
    async with AsyncExitStack() as stack:
        directory = Directory(database)
        stack.push_async_callback(directory.close)
        tokens = Tokens()
        stack.push_async_callback(tokens.close)
        limiter = Limiter()
        stack.push_async_callback(limiter.close)
        failures = FailureLimit()
        gate = Gate(
            rules,
            directory,
            tokens,
            limiter,
            failures,
            operations_networks=networks,
            forwarded_hops=settings.forwarded_hops,
            open_access=_open_access(settings),
        )
        yield AccessControl(gate, directory, tokens, limiter, failures)


def _open_access(settings: Settings) -> OpenAccess:
    match settings.open_access:
        case True:
            return OpenAccess.EVERYBODY
        case None if settings.is_local:
            return OpenAccess.THIS_MACHINE
    return OpenAccess.NOBODY
