"""`sms-foundation invitations`."""

import sys
from datetime import timedelta
from typing import Annotated
from uuid import UUID

import typer

from sms_foundation.auth.people import invitations
from sms_foundation.auth.people.invitations import Invitation, NewInvitation
from sms_foundation.auth.people.schemas import InvitationBody
from sms_foundation.auth.roles.granting import COMMAND_LINE
from sms_foundation.cli.database import in_transaction
from sms_foundation.cli.options import moment, read_options
from sms_foundation.core.clock import utc_now
from sms_foundation.core.config import load_settings
from sms_foundation.core.db import Connection

commands = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Invite people, and help those who have lost their password.\n\nAn invitation is shown once; give it to the "
    "person, who accepts it with POST /auth/register and a password. For an address that has an account it sets a new "
    "password and ends all log-ins.\n\nFor example:\n\n"
    "  sms-foundation invitations create ana@example.com --role viewer\n\n"
    "  sms-foundation invitations create ana@example.com",
)
_PAGE = 1000


@commands.command()
def create(
    email: Annotated[str, typer.Argument(help="The person's address.", show_default=False)],
    role: Annotated[
        list[str] | None,
        typer.Option(help="A role they will have; several times. [default: those of the account there is]"),
    ] = None,
) -> None:
    """Make an invitation and print it, this once, on a line by itself; what it is goes to standard error."""
    asked = read_options(InvitationBody, email=email, roles=role or None)
    lifetime = timedelta(hours=load_settings().invitation_hours)

    async def change(connection: Connection) -> NewInvitation:
        return await invitations.create_invitation(
            connection, COMMAND_LINE, email=asked.email, roles=asked.roles, lifetime=lifetime
        )

    made = in_transaction(change)
    purpose = "sets a new password and ends all log-ins" if made.is_reset else "makes an account"
    print(made.text)
    print(
        f"{made.invitation.id} {purpose}; roles {', '.join(made.invitation.roles)}; "
        f"until {moment(made.invitation.expires_at)}",
        file=sys.stderr,
    )


@commands.command(name="list")
def list_all() -> None:
    """List invitations, newest first: id, address, roles, what became of it, by whom it was made."""

    async def fetch(connection: Connection) -> list[Invitation]:
        found: list[Invitation] = []
        while page := await invitations.list_invitations(
            connection, before=found[-1].id if found else None, limit=_PAGE
        ):
            found += page
        return found

    for each in (found := in_transaction(fetch)):
        print(f"{each.id}\t{each.email}\t{','.join(each.roles)}\t{_condition(each)}\t{each.created_by}")
    if not found:
        print("nobody was invited")


@commands.command()
def revoke(invitation_id: Annotated[UUID, typer.Argument(metavar="ID", help="The id from `list`.")]) -> None:
    """Make an invitation useless.

    For example: sms-foundation invitations revoke 01938c7a-7d0a-7d52-8a4c-0b54a3c5f1aa
    """

    async def change(connection: Connection) -> None:
        await invitations.revoke_invitation(connection, COMMAND_LINE, invitation_id)

    in_transaction(change)
    print("revoked")


def _condition(invitation: Invitation) -> str:
    state = invitation.state(utc_now())
    return f"{state} until {moment(invitation.expires_at)}" if state == "open" else state
