"""Changing which numbers may be texted."""

import asyncpg

from sms_foundation.auth.audit.log import Action, record
from sms_foundation.auth.numbers import repository
from sms_foundation.auth.numbers.matching import is_whole_number, parse_prefix
from sms_foundation.auth.principal import Actor
from sms_foundation.core.db import Connection
from sms_foundation.core.errors import NotFoundError, ValidationError
from sms_foundation.core.ids import new_id
from sms_foundation.core.phone import mask

MAX_NOTE = 500


async def set_rule(
    connection: Connection, actor: Actor, *, prefix: str, is_allowed: bool, note: str = ""
) -> asyncpg.Record:
    """Allow or deny numbers, whatever was said about this prefix before; returns the rule's row. Audited.

    What was accepted before goes out all the same. Raises ValidationError for what is no prefix.
    """
    prefix = _parse(prefix)
    row = await repository.set_rule(
        connection, new_id(), prefix=prefix, is_allowed=is_allowed, note=note, created_by=actor.client_id
    )
    await record(
        connection,
        actor,
        Action.NUMBER_RULE_SET,
        target_kind="number_rule",
        target=public_name(prefix),
        details={"is_allowed": is_allowed},
    )
    return row


async def delete_rule(connection: Connection, actor: Actor, *, prefix: str) -> None:
    """Have nothing said about a prefix any more. Audited. Raises ValidationError, NotFoundError."""
    prefix = _parse(prefix)
    if not await repository.delete_rule(connection, prefix):
        raise NotFoundError("no rule with this prefix")
    await record(connection, actor, Action.NUMBER_RULE_DELETE, target_kind="number_rule", target=public_name(prefix))


def public_name(prefix: str) -> str:
    """Return a rule's prefix as everybody may see it: of a whole number the last four digits."""
    return mask(prefix) if is_whole_number(prefix) else prefix


def _parse(prefix: str) -> str:
    try:
        return parse_prefix(prefix)
    except ValueError as error:
        raise ValidationError.of_field("prefix", str(error)) from None
