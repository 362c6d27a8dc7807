"""`sms-foundation clients`."""

from collections.abc import Awaitable, Callable
from typing import Annotated

import typer

from sms_foundation.auth.clients import service
from sms_foundation.auth.clients.schemas import ClientBody, ClientPatch, IdentityBody
from sms_foundation.auth.clients.service import Client, ClientDetails
from sms_foundation.auth.roles.granting import COMMAND_LINE
from sms_foundation.cli.database import in_transaction
from sms_foundation.cli.options import moment, read_options
from sms_foundation.core.db import Connection
from sms_foundation.core.printable import escape_unprintable

commands = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Create, show, change and disable clients: the services that call, and people's accounts.\n\nPeople come by "
    "invitation (`sms-foundation invitations`); everything else here is for both.\n\nA new caller, from nothing to "
    "its first message:\n\n  sms-foundation clients create rent-reminder --role operator\n\n"
    "  sms-foundation keys create rent-reminder production\n\nRunning instances follow within 5 seconds.",
)
Id = Annotated[str, typer.Argument(metavar="ID", help="The client's id.", show_default=False)]
Issuer = Annotated[
    str,
    typer.Argument(
        metavar="ISSUER", help="The issuer, as in OUTSIDE_ISSUERS: https://accounts.google.com", show_default=False
    ),
]
Subject = Annotated[str, typer.Argument(metavar="SUBJECT", help="The value of its subject claim.", show_default=False)]

_PAGE = 1000


@commands.command()
def create(
    client_id: Id,
    role: Annotated[
        list[str], typer.Option(metavar="ROLE", help="A role it has; may be given several times.", show_default=False)
    ],
    display_name: Annotated[str | None, typer.Option(help="What it is, for people.")] = None,
    limit: Annotated[
        str | None, typer.Option(help="Requests it may make, such as 100/1s, or off. [default: CLIENT_LIMIT]")
    ] = None,
) -> None:
    """Create a calling service. It can do nothing before it has a key, or an identity of another issuer.

    For example: sms-foundation clients create rent-reminder --role operator
    """
    asked = read_options(ClientBody, id=client_id, display_name=display_name, roles=role, request_limit=limit)

    async def change(connection: Connection) -> Client:
        return await service.create_client(connection, COMMAND_LINE, asked)

    print(_line(in_transaction(change)))


@commands.command(name="list")
def list_clients() -> None:
    """List clients by id.

    Id, kind, state, roles, request limit, address or name.
    """

    async def fetch(connection: Connection) -> list[Client]:
        clients: list[Client] = []
        while page := await service.list_clients(connection, after=clients[-1].id if clients else "", limit=_PAGE):
            clients += page
        return clients

    for client in in_transaction(fetch):
        print(_line(client))


@commands.command()
def show(client_id: Id) -> None:
    """Show a client and what it may do.

    Its roles and what they allow together, its request limit, its identities at other issuers.
    """

    async def fetch(connection: Connection) -> ClientDetails:
        return await service.describe_client(connection, client_id)

    details = in_transaction(fetch)
    client = details.client
    print(f"{client.id:<16} {client.kind}, {_state(client)}")
    for name, value in (
        ("name", client.display_name),
        ("address", client.email),
        ("roles", ", ".join(client.roles)),
        ("allowed", ", ".join(sorted(details.permissions)) or "nothing"),
        ("request limit", client.request_limit or "as CLIENT_LIMIT says"),
        ("created", moment(client.created_at)),
        ("changed", moment(client.updated_at)),
        *(("identity", f"{each.issuer} {each.subject}") for each in details.identities),
    ):
        if value:
            print(f"{name:<16} {escape_unprintable(value)}")


@commands.command()
def disable(client_id: Id) -> None:
    """Accept nothing of a client any more, and end its log-ins. The last who may manage clients stays enabled."""
    _change(lambda connection: service.disable_client(connection, COMMAND_LINE, client_id))


@commands.command()
def enable(client_id: Id) -> None:
    """Accept a client's keys and identities again; people log in anew."""
    _change(lambda connection: service.enable_client(connection, COMMAND_LINE, client_id))


@commands.command()
def roles(
    client_id: Id,
    role: Annotated[list[str], typer.Argument(metavar="ROLE", help="All the roles it shall have.", show_default=False)],
) -> None:
    """Give a client these roles instead of those it has.

    For example: sms-foundation clients roles rent-reminder viewer
    """
    wanted = read_options(ClientPatch, roles=role).roles or []
    _change(lambda connection: service.set_roles(connection, COMMAND_LINE, client_id, wanted))


@commands.command()
def limit(
    client_id: Id,
    request_limit: Annotated[
        str, typer.Argument(metavar="LIMIT", help="100/1s, 6000/1m, off, or default.", show_default=False)
    ],
) -> None:
    """Limit the requests a client may make.

    A batch counts its messages.

    For example: sms-foundation clients limit rent-reminder 100/1s
    """
    wanted = None if request_limit == "default" else request_limit
    asked = read_options(ClientPatch, request_limit=wanted)
    _change(lambda connection: service.set_limit(connection, COMMAND_LINE, client_id, asked.request_limit))


@commands.command()
def link(client_id: Id, issuer: Issuer, subject: Subject) -> None:
    """Take an outside issuer's tokens as this client's.

    \b
    For example, a service on Cloud Run, by the number of its service account:

        sms-foundation clients link rent-reminder https://accounts.google.com 107517467455664443766
    """
    identity = read_options(IdentityBody, issuer=issuer, subject=subject)

    async def change(connection: Connection) -> Client:
        await service.link_identity(connection, COMMAND_LINE, client_id, identity)
        return await service.get_client(connection, client_id)

    _change(change)


@commands.command()
def unlink(client_id: Id, issuer: Issuer, subject: Subject) -> None:
    """Take an outside issuer's tokens as this client's no more."""
    identity = read_options(IdentityBody, issuer=issuer, subject=subject)

    async def change(connection: Connection) -> Client:
        await service.unlink_identity(connection, COMMAND_LINE, client_id, identity)
        return await service.get_client(connection, client_id)

    _change(change)


def _change(change: Callable[[Connection], Awaitable[Client]]) -> None:
    print(_line(in_transaction(change)))


def _state(client: Client) -> str:
    return "active" if client.disabled_at is None else f"disabled since {moment(client.disabled_at)}"


def _line(client: Client) -> str:
    limit = client.request_limit or "default"
    name = escape_unprintable(client.email or client.display_name or "")
    return f"{client.id}\t{client.kind}\t{_state(client)}\t{','.join(client.roles)}\t{limit}\t{name}"
