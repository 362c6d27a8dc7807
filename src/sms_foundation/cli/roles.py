"""`sms-foundation roles`."""

from typing import Annotated

import typer

from sms_foundation.auth.permissions import MEANING
from sms_foundation.auth.roles import service
from sms_foundation.auth.roles.granting import COMMAND_LINE
from sms_foundation.auth.roles.schemas import RoleBody, RoleName
from sms_foundation.auth.roles.service import Role
from sms_foundation.cli.database import in_transaction
from sms_foundation.cli.options import read_options
from sms_foundation.core.db import Connection
from sms_foundation.core.printable import escape_unprintable

commands = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Show roles and permissions; make roles of your own.\n\nBuilt in are viewer, operator and admin, each "
    "including the one before. A client may have several roles, and is allowed what any of them allows.\n\n"
    "For example, a role that sends and sees nothing, and a client that has it:\n\n"
    "  sms-foundation roles set sender messages:send --description 'sends only'\n\n"
    "  sms-foundation clients create rent-reminder --role sender\n\nRunning instances follow within 5 seconds.",
)
Name = Annotated[str, typer.Argument(metavar="NAME", help="The role's name.", show_default=False)]


@commands.command(name="list")
def list_roles() -> None:
    """List roles with what they allow, and all permissions with what they mean."""

    async def fetch(connection: Connection) -> list[Role]:
        return await service.list_roles(connection)

    for role in in_transaction(fetch):
        print(_line(role))
    print("\npermissions:")
    for permission, meaning in MEANING.items():
        print(f"  {permission:<24} {meaning}")


@commands.command(name="set")
def set_role(
    name: Name,
    permission: Annotated[
        list[str], typer.Argument(metavar="PERMISSION", help="All the permissions it shall have.", show_default=False)
    ],
    description: Annotated[str, typer.Option(help="What it is for.")] = "",
) -> None:
    """Make a role of your own, or change it for everybody who has it.

    For example: sms-foundation roles set sender messages:send messages:read --description 'sends and looks'
    """
    asked = read_options(RoleBody, permissions=permission, description=description)
    named = read_options(RoleName, name=name)

    async def change(connection: Connection) -> Role:
        return await service.set_role(connection, COMMAND_LINE, named.name, asked)

    print(_line(in_transaction(change)))


@commands.command()
def delete(name: Name) -> None:
    """Delete a role of your own that no client has and no open invitation promises."""

    async def change(connection: Connection) -> None:
        await service.delete_role(connection, COMMAND_LINE, name)

    in_transaction(change)
    print("deleted")


def _line(role: Role) -> str:
    return f"{role.name}\t{','.join(sorted(role.permissions))}\t{escape_unprintable(role.description)}"
