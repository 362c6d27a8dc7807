"""The parts of access control, put together for one process."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

from sms_foundation.auth.address import operations_networks
from sms_foundation.auth.audit.content_reads import ContentReads
from sms_foundation.auth.directory import Directory
from sms_foundation.auth.gate import Gate, OpenAccess, Rules
from sms_foundation.auth.limits.failures import FailureLimit
from sms_foundation.auth.limits.limiter import Limiter
from sms_foundation.auth.limits.logins import LoginLimit
from sms_foundation.auth.limits.meter import Meter
from sms_foundation.auth.numbers.current import CurrentRules
from sms_foundation.auth.tokens.issuing import TokenIssuer
from sms_foundation.auth.tokens.key_ring import KeyRing
from sms_foundation.auth.tokens.opening import open_tokens
from sms_foundation.auth.tokens.verifying import Tokens
from sms_foundation.core.config import Settings
from sms_foundation.core.db import Database
from sms_foundation.core.errors import StartupError
from sms_foundation.core.rates.base import Rates
from sms_foundation.core.saturation import Saturation


@dataclass(frozen=True, slots=True)
class AccessControl:
    """What routes and the composition root need of access control."""

    gate: Gate
    directory: Directory
    tokens: Tokens
    limiter: Limiter
    failures: FailureLimit
    logins: LoginLimit
    number_rules: CurrentRules
    content_reads: ContentReads
    token_issuer: TokenIssuer
    key_ring: KeyRing


@asynccontextmanager
async def open_access_control(
    settings: Settings, database: Database, rates: Rates, rules: Rules, saturation: Saturation
) -> AsyncIterator[AccessControl]:
    """Build it and close it; needs no reachable database. Raises StartupError for settings that make no sense."""
    try:
        networks = operations_networks(settings.operations_networks)
    except ValueError as error:
        raise StartupError(f"OPERATIONS_NETWORKS: {error}") from None
    async with AsyncExitStack() as stack:
        directory = Directory(database)
        stack.push_async_callback(directory.close)
        parts = await stack.enter_async_context(open_tokens(settings, database))
        meter = Meter(rates)
        stack.push_async_callback(meter.close)
        limiter = Limiter(meter, client_limit=settings.client_limit, number_limit=settings.number_limit)
        content_reads = ContentReads(database)
        stack.push_async_callback(content_reads.close)
        saturation.watch_queues({"limits": meter.use, "content_reads": content_reads.use})
        failures = FailureLimit(meter, settings.failure_limit)
        logins = LoginLimit(meter, settings.login_limit)
        number_rules = CurrentRules(database)
        stack.push_async_callback(number_rules.close)
        gate = Gate(
            rules,
            directory,
            parts.tokens,
            limiter,
            failures,
            operations_networks=networks,
            forwarded_hops=settings.forwarded_hops,
            open_access=_open_access(settings),
            own_hosts=frozenset(urlsplit(url).hostname or "" for url in settings.public_base_urls),
        )
        yield AccessControl(
            gate,
            directory,
            parts.tokens,
            limiter,
            failures,
            logins,
            number_rules,
            content_reads=content_reads,
            token_issuer=parts.issuer,
            key_ring=parts.key_ring,
        )


def _open_access(settings: Settings) -> OpenAccess:
    match settings.open_access:
        case True:
            return OpenAccess.EVERYBODY
        case None if settings.is_local:
            return OpenAccess.THIS_MACHINE
    return OpenAccess.NOBODY
