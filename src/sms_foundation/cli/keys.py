"""`sms-foundation keys`."""

from datetime import timedelta
from typing import Annotated
from uuid import UUID

import typer

from sms_foundation.auth.keys import service
from sms_foundation.auth.keys.format import generate_key
from sms_foundation.auth.keys.schemas import KeyBody, RotateBody
from sms_foundation.auth.keys.service import CreatedKey
from sms_foundation.auth.keys.states import ApiKey
from sms_foundation.auth.roles.granting import COMMAND_LINE
from sms_foundation.cli.database import in_transaction
from sms_foundation.cli.options import moment, read_options, read_span
from sms_foundation.core.clock import utc_now
from sms_foundation.core.db import Connection
from sms_foundation.core.printable import escape_unprintable

commands = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Create, show, replace and revoke API keys.\n\nA key is shown once, when it is made: only its SHA-256 is "
    "stored. Callers send it as `Authorization: Bearer sf_live_...` or `X-API-Key`.\n\nFor example, a key for sending "
    "from one network, and its replacement a year later, with a day to change over:\n\n"
    "  sms-foundation keys create rent-reminder production --scope messages:send --network 203.0.113.0/24 "
    "--expires 365d\n\n  sms-foundation keys rotate sf_live_k3J9x2Qa --grace 24h\n\n"
    "Running instances follow within 5 seconds.",
)
Key = Annotated[
    str, typer.Argument(help="The key's id, or its prefix: sf_live_k3J9x2Qa.", show_default=False, metavar="KEY")
]

_PAGE = 1000
_LONGEST = timedelta(days=3650)
_LONGEST_GRACE = timedelta(days=30)


@commands.command()
def create(
    client_id: Annotated[str, typer.Argument(metavar="CLIENT", help="Whose key it is.", show_default=False)],
    name: Annotated[str, typer.Argument(metavar="NAME", help="What it is for.", show_default=False)],
    test: Annotated[bool, typer.Option("--test", help="Its sends go to the simulated provider alone.")] = False,
    scope: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PERMISSION", help="A permission it is confined to; several times. [default: its client's]"
        ),
    ] = None,
    network: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NETWORK", help="Where it may be used: 203.0.113.0/24; several times. [default: anywhere]"
        ),
    ] = None,
    expires: Annotated[str | None, typer.Option(help="It ends after: 12h, 90d. [default: never]")] = None,
) -> None:
    """Create a key and print it, this once.

    The key stands alone on standard output; what is said about it goes to standard error. For example:

        export SMS_API_KEY=$(sms-foundation keys create rent-reminder production)
    """
    asked = read_options(
        KeyBody,
        client_id=client_id,
        name=name,
        is_test=test,
        scopes=scope or None,
        networks=network or [],
        expires_at=None if expires is None else utc_now() + read_span(expires, "--expires", longest=_LONGEST),
    )

    async def change(connection: Connection) -> CreatedKey:
        return await service.create_key(connection, COMMAND_LINE, asked)

    _print_new(in_transaction(change))


@commands.command(name="list")
def list_keys(
    client_id: Annotated[str | None, typer.Option("--client", help="Only the keys of this client.")] = None,
) -> None:
    """List keys, newest first, without their secrets.

    Prefix, id, client, state, end, last use, what it is confined to, name. A key is expiring in its last week, and
    while it is being replaced.
    """

    async def fetch(connection: Connection) -> list[ApiKey]:
        keys: list[ApiKey] = []
        while page := await service.list_keys(
            connection, client_id=client_id, before=keys[-1].id if keys else None, limit=_PAGE
        ):
            keys += page
        return keys

    keys = in_transaction(fetch)
    for key in keys:
        print(_line(key))
    if not keys:
        print("no keys")


@commands.command()
def revoke(key: Key) -> None:
    """Accept a key no more, also one that is being replaced.

    For example: sms-foundation keys revoke sf_live_k3J9x2Qa
    """

    async def change(connection: Connection) -> ApiKey:
        return await service.revoke_key(connection, COMMAND_LINE, await _find(connection, key))

    print(_line(in_transaction(change)))


@commands.command()
def rotate(
    key: Key,
    grace: Annotated[str, typer.Option(help="How long the old one stays valid: 90m, 24h, 7d; 0: not at all.")] = "24h",
    expires: Annotated[
        str | None, typer.Option(help="The new one ends after: 12h, 90d. [default: as long as the old one was given]")
    ] = None,
) -> None:
    """Replace a key: make one like it and print that, this once.

    The new key has the same client, name, scopes and networks. The old one stays valid for a while, so that callers can
    change over. For example: sms-foundation keys rotate sf_live_k3J9x2Qa --grace 7d
    """
    asked = read_options(
        RotateBody,
        grace_s=read_span(grace, "--grace", longest=_LONGEST_GRACE, none_is_allowed=True) // timedelta(seconds=1),
        expires_at=None if expires is None else utc_now() + read_span(expires, "--expires", longest=_LONGEST),
    )

    async def change(connection: Connection) -> CreatedKey:
        return await service.rotate_key(connection, COMMAND_LINE, await _find(connection, key), asked)

    _print_new(in_transaction(change))


@commands.command()
def generate() -> None:
    """Print a key that is stored nowhere.

    For a secret store, from which the first start gets it as ADMIN_API_KEY.
    """
    print(generate_key(is_test=False).text)


async def _find(connection: Connection, key: str) -> UUID:
    try:
        return UUID(key)
    except ValueError:
        return await service.id_of_prefix(connection, key)


def _print_new(made: CreatedKey) -> None:
    """The key alone on standard output, so that it can go where it belongs without being seen."""
    typer.echo(_line(made.key), err=True)
    typer.echo("this key is shown this once:", err=True)
    print(made.text)


def _line(key: ApiKey) -> str:
    ends = [at for at in (key.expires_at, key.revoked_at) if at is not None]
    confined = [*(key.scopes or ()), *key.networks]
    return "\t".join(
        (
            key.prefix,
            str(key.id),
            key.client_id,
            key.state(utc_now()),
            f"ends {moment(min(ends, default=None))}",
            f"used {moment(key.last_used_at)}",
            ",".join(confined) or "not confined",
            escape_unprintable(key.name),
        )
    )
