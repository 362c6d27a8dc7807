"""`sms-foundation numbers`."""

from typing import Annotated

import typer

from sms_foundation.auth.numbers import repository, service
from sms_foundation.auth.numbers.matching import RuleSet
from sms_foundation.auth.principal import COMMAND_LINE
from sms_foundation.cli.database import in_transaction
from sms_foundation.core.config import load_settings
from sms_foundation.core.db import Connection
from sms_foundation.core.errors import StartupError
from sms_foundation.core.phone import is_phone_number, is_short_code, spoken_address
from sms_foundation.core.printable import escape_unprintable
from sms_foundation.messaging.outbound.recipients import is_within, read_countries

commands = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Say which numbers may be texted.\n\nThe rule with the longest prefix decides about a number. One that no "
    "rule is about may be texted, unless there is a rule that allows something: then only what is allowed may be.\n\n"
    "For example, texts to North America but not to its premium numbers:\n\n"
    "  sms-foundation numbers allow +1\n\n  sms-foundation numbers deny +1900 --note 'premium numbers'",
)
Prefix = Annotated[
    str, typer.Argument(help="A number, what numbers begin with (+1900), or a short code.", show_default=False)
]
Note = Annotated[str, typer.Option(help="Why, for people.")]


@commands.command(name="list")
def list_rules() -> None:
    """List the rules: what is said about which prefix, by whom, since when, why."""

    async def fetch(connection: Connection) -> list[str]:
        lines: list[str] = []
        after = None
        while rows := await repository.list_rules(connection, after=after, limit=1000):
            after = rows[-1]["id"]
            lines += [
                f"{row['prefix']}\t{_word(row['is_allowed'])}\t{row['created_by']}\t"
                f"{row['created_at']:%Y-%m-%dT%H:%M:%SZ}\t{escape_unprintable(row['note'])}"
                for row in rows
            ]
        return lines

    for line in in_transaction(fetch) or ["no rules: every number may be texted"]:
        print(line)


@commands.command()
def allow(prefix: Prefix, note: Note = "") -> None:
    """Allow numbers. With the first such rule, only what a rule allows may be texted.

    For example: sms-foundation numbers allow +44
    """
    _set(prefix, note, is_allowed=True)


@commands.command()
def deny(prefix: Prefix, note: Note = "") -> None:
    """Deny numbers: asking to text them is answered 403. What was accepted before goes out all the same.

    For example: sms-foundation numbers deny +1900 --note 'premium numbers'
    """
    _set(prefix, note, is_allowed=False)


@commands.command()
def remove(prefix: Prefix) -> None:
    """Remove the rule for a prefix.

    For example: sms-foundation numbers remove +1900
    """

    async def change(connection: Connection) -> None:
        await service.delete_rule(connection, COMMAND_LINE, prefix=prefix)

    in_transaction(change)
    print("removed")


@commands.command()
def check(number: Annotated[str, typer.Argument(help="A phone number or a short code.", show_default=False)]) -> None:
    """Say whether a number may be texted, and which rule decides.

    For example: sms-foundation numbers check +14155550123
    """
    settings = load_settings()
    address = spoken_address(number, settings.default_region)
    if not (is_phone_number(address) or is_short_code(address)):
        raise StartupError("that is no phone number; write it as +14155550123")

    async def fetch(connection: Connection) -> RuleSet:
        return RuleSet(await repository.read_all(connection))

    if not is_within(address, read_countries(settings.sending_countries)):
        print(f"{address}: denied, it is of none of SENDING_COUNTRIES")
        return
    decision = in_transaction(fetch).decide(address)
    reason = "no rule is about it" if decision.prefix is None else f"by the rule for {decision.prefix}"
    if decision.prefix is None and not decision.is_allowed:
        reason += ", and only what a rule allows may be texted"
    print(f"{address}: {_word(decision.is_allowed)}, {reason}")


def _set(prefix: str, note: str, *, is_allowed: bool) -> None:
    if len(note) > service.MAX_NOTE:
        raise StartupError(f"a note has {service.MAX_NOTE} characters at most")

    async def change(connection: Connection) -> str:
        row = await service.set_rule(connection, COMMAND_LINE, prefix=prefix, is_allowed=is_allowed, note=note)
        return str(row["prefix"])

    print(f"{in_transaction(change)}: {_word(is_allowed)}; running instances know within 4 seconds")


def _word(is_allowed: bool) -> str:
    return "allowed" if is_allowed else "denied"
