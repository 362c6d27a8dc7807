"""`sms-foundation providers`."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated

import asyncpg
import typer

from sms_foundation.cli.database import ask_database
from sms_foundation.core.config import load_settings
from sms_foundation.core.db import Database
from sms_foundation.messaging.outbound import provider_states
from sms_foundation.messaging.outbound.health import (
    RULES,
    CircuitState,
    ProviderState,
    ReceiptWindow,
    Window,
    is_healthy,
)
from sms_foundation.messaging.outbound.provider_states import ProviderStates
from sms_foundation.providers.config import ProviderConfig
from sms_foundation.providers.configured import configured_providers

commands = typer.Typer(add_completion=False, rich_markup_mode=None)

_NOTHING = (Window(0, 0), ReceiptWindow(0, 0))


@commands.command()
def providers(
    changes: Annotated[int, typer.Option(min=0, max=1000, help="How many of the last changes to show.")] = 10,
) -> None:
    """Show the configured providers: who gets messages now, who does not and why, and what changed lately.

    The state is the one all processes share. It changes by itself: a circuit is tried again 30 seconds after it opened,
    a rest ends after five minutes.
    """
    settings = load_settings()
    configs = configured_providers(settings)
    if not configs:
        print("no provider is configured: set PROVIDERS, or TWILIO_ACCOUNT_SID and TWILIO_AUTH_TOKEN")
        return
    names = [config.name for config in configs]

    async def fetch(database: Database) -> list[str]:
        states = ProviderStates(database, names)
        known = await states.read()
        async with database.connection() as connection:
            counts = await provider_states.count_recent(connection, names)
            last = await provider_states.list_changes(connection, limit=changes)
        shown = [
            line
            for config in configs
            for line in _describe(config, known[config.name], counts.get(config.name, _NOTHING), states.now())
        ]
        return shown + (_describe_changes(last) if changes else [])

    for line in ask_database(settings, fetch):
        print(line)


def _describe(
    config: ProviderConfig, state: ProviderState, counts: tuple[Window, ReceiptWindow], now: datetime
) -> list[str]:
    sends, receipts = counts
    rate = "any rate" if config.rate_per_s is None else f"{config.rate_per_s:g} segments/s"
    weight = f"weight {config.weight}" + ("" if state.weight_percent == 100 else f", {state.weight_percent} % of it")
    return [
        f"{config.name:<16} {_condition(config, state, now)}",
        f"{'':<16} {weight}; {rate}; {len(config.senders)} senders",
        f"{'':<16} last {RULES.window.seconds // 60} minutes: {sends.attempts} attempts, {sends.failures} failed; "
        f"{receipts.receipts} receipts, {receipts.late} late",
    ]


def _condition(config: ProviderConfig, state: ProviderState, now: datetime) -> str:
    if not is_healthy(state, now):
        return f"has a rest until {_clock(state.unhealthy_until)}: too many attempts failed"
    match state.circuit:
        case CircuitState.OPEN:
            return f"circuit open: tried again with one message at {_clock(state.circuit_until)}"
        case CircuitState.PROBING:
            return "circuit open: one message is on its way to try it"
        case CircuitState.CLOSED if config.weight == 0:
            return "receives only (weight 0)"
        case CircuitState.CLOSED:
            return "takes messages"


def _describe_changes(changes: Sequence[asyncpg.Record]) -> list[str]:
    if not changes:
        return ["no changes yet"]
    return [
        "last changes, newest first:",
        *(
            f"  {_moment(row['created_at'])}  {row['provider']:<16} {row['what']}: {row['old']} -> {row['new']} "
            f"({row['reason']})"
            for row in changes
        ),
    ]


def _clock(at: datetime | None) -> str:
    return "any moment" if at is None else f"{at.astimezone(UTC):%H:%M:%S} UTC"


def _moment(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%SZ}"
