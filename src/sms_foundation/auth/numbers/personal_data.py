"""What rules say about one number: read out, and forgotten where it does not protect the person."""

from dataclasses import dataclass
from typing import Final

from sms_foundation.auth.numbers import service
from sms_foundation.auth.principal import Actor
from sms_foundation.core.db import Connection

_EXPORT: Final = "SELECT to_jsonb(r)::text FROM auth_number_rules AS r WHERE prefix = $1"
_FIND: Final = "SELECT is_allowed, note FROM auth_number_rules WHERE prefix = $1"
_IS_ALLOWED: Final = "SELECT is_allowed FROM auth_number_rules WHERE prefix = $1 FOR UPDATE"
_FORGET_NOTE: Final = "UPDATE auth_number_rules SET note = '' WHERE prefix = $1 AND NOT is_allowed"


@dataclass(frozen=True, slots=True)
class NumberRule:
    """What a rule says about one number: whether it may be texted, and why."""

    is_allowed: bool
    note: str


async def find_rule(connection: Connection, number: str) -> NumberRule | None:
    """Return the rule about exactly this number; None: there is none."""
    row = await connection.fetchrow(_FIND, number)
    return None if row is None else NumberRule(*row)


async def export_rules(connection: Connection, number: str) -> list[str]:
    """Return the rule about exactly this number, if there is one, as a JSON object."""
    return [row[0] for row in await connection.fetch(_EXPORT, number)]


async def forget_rules(connection: Connection, actor: Actor, number: str) -> None:
    """Delete a rule that allows exactly this number. Audited. Idempotent. Needs a transaction.

    One that denies it stays, like an opt-out: without it the number could be texted again. Its note goes.
    """
    if await connection.fetchval(_IS_ALLOWED, number):
        await service.delete_rule(connection, actor, prefix=number)
    await connection.execute(_FORGET_NOTE, number)
