"""The parts that make and read tokens, put together for one process."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from importlib import import_module
from typing import cast

from sms_foundation.auth.tokens.issuers import OutsideIssuer, outside_issuers, own_issuer
from sms_foundation.auth.tokens.issuing import TokenIssuer
from sms_foundation.auth.tokens.key_ring import KeyRing
from sms_foundation.auth.tokens.outside import IssuerKeys, OutsideTokens
from sms_foundation.auth.tokens.private_keys import open_private_keys
from sms_foundation.auth.tokens.signing import Signer
from sms_foundation.auth.tokens.verifying import Tokens
from sms_foundation.core.config import Settings
from sms_foundation.core.db import Database
from sms_foundation.core.errors import StartupError


@dataclass(frozen=True, slots=True)
class TokenParts:
    """What reads tokens, what makes them, and the keys that are published."""

    tokens: Tokens
    issuer: TokenIssuer
    key_ring: KeyRing


@asynccontextmanager
async def open_tokens(settings: Settings, database: Database) -> AsyncIterator[TokenParts]:
    """Build them and close them; needs no reachable database. Raises StartupError for settings that make no sense."""
    grace = timedelta(hours=settings.signing_key_grace_h)
    if grace.total_seconds() < settings.access_token_s:
        raise StartupError(
            "SIGNING_KEY_GRACE_H must be at least as long as ACCESS_TOKEN_S, or tokens end before their time"
        )
    issuers = outside_issuers(settings)
    private_keys = open_private_keys(settings)
    name = own_issuer(settings)
    async with AsyncExitStack() as stack:
        ring = KeyRing(database)
        stack.push_async_callback(ring.close)
        outside = OutsideTokens(issuers, await stack.enter_async_context(_open_issuer_keys(issuers)))
        signer = Signer(private_keys, ring, database, grace=grace)
        stack.push_async_callback(signer.close)
        issuer = TokenIssuer(signer, issuer=name, lifetime_s=settings.access_token_s)
        yield TokenParts(Tokens(name, ring, outside), issuer, ring)


def _open_issuer_keys(
    issuers: Mapping[str, OutsideIssuer],
) -> AbstractAsyncContextManager[Mapping[str, IssuerKeys]]:
    if not issuers:
        return nullcontext({})
    jwks = import_module("sms_foundation.auth.tokens.jwks")  # and with it httpx, 40 ms of a start that needs neither
    return cast(AbstractAsyncContextManager[Mapping[str, IssuerKeys]], jwks.open_jwks(issuers))
