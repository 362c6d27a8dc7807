"""/v1/number-rules: which numbers may be texted."""

from collections.abc import Mapping
from typing import Annotated, Any
from uuid import UUID

import asyncpg
from fastapi import APIRouter, Path, Request
from fastapi.responses import Response

from sms_foundation.auth.audit.content_reads import ContentReads
from sms_foundation.auth.numbers import repository, service
from sms_foundation.auth.numbers.current import CurrentRules
from sms_foundation.auth.numbers.matching import is_whole_number, parse_prefix
from sms_foundation.auth.numbers.schemas import NumberRule, NumberRuleBody, NumberRuleList
from sms_foundation.auth.permissions import Permission
from sms_foundation.auth.principal import Principal, actor_of, principal_of
from sms_foundation.core.db import Connection, Database
from sms_foundation.core.errors import ValidationError
from sms_foundation.core.web.answers import json_response
from sms_foundation.core.web.errors import ErrorEnvelope
from sms_foundation.core.web.guarded import GuardedRoute
from sms_foundation.core.web.once import Once
from sms_foundation.core.web.pagination import Cursor, Limit, decode_cursor, encode_cursor

_WRONG: dict[int | str, dict[str, Any]] = {400: {"model": ErrorEnvelope, "description": "That is no prefix"}}
_NOT_FOUND: dict[int | str, dict[str, Any]] = {404: {"model": ErrorEnvelope, "description": "No such rule"}}
Prefix = Annotated[str, Path(max_length=40, description="The rule's prefix; a + in it as it is, or as %2B")]


def number_rules_router(database: Database, rules: CurrentRules, once: Once, reads: ContentReads) -> APIRouter:
    """Return the routes of the rules for numbers; `reads` notes who saw whole ones."""
    router = APIRouter(prefix="/v1/number-rules", tags=["numbers"], responses=_WRONG, route_class=GuardedRoute)

    @router.get("", response_model=NumberRuleList, summary="List the rules")
    async def list_rules(request: Request, limit: Limit = 20, cursor: Cursor = None) -> Response:
        """Return them, last made first. The longest prefix of a number decides about it."""
        after = None if cursor is None else _list_key(cursor)
        async with database.connection() as connection:
            rows = await repository.list_rules(connection, after=after, limit=limit)
        caller = principal_of(request.scope)
        whole = [row["id"] for row in rows if is_whole_number(row["prefix"])]
        if whole and _sees_numbers(caller):
            which = {"count": len(whole), "newest": whole[0], "oldest": whole[-1]}
            await reads.note(actor_of(request.scope), "number_rules", "list", which)
        following = encode_cursor(str(rows[-1]["id"])) if len(rows) == limit else None
        return json_response({"rules": [_show(row, caller) for row in rows], "limit": limit, "next_cursor": following})

    @router.post("", response_model=NumberRule, summary="Allow or deny numbers")
    async def set_rule(request: Request, body: NumberRuleBody) -> Response:
        """Set the rule for a prefix, in place of one there is. Instances that answer you go by it at once, others
        within 4 seconds. As soon as one rule allows something, only what a rule allows may be texted."""

        async def change(connection: Connection) -> Response:
            row = await service.set_rule(
                connection,
                actor_of(request.scope),
                prefix=body.prefix,
                is_allowed=body.is_allowed,
                note=body.note,
            )
            return json_response(_show(row, principal_of(request.scope)))

        response = await once.run(request, change)
        rules.forget()
        prefix = parse_prefix(body.prefix)
        if is_whole_number(prefix) and _sees_numbers(principal_of(request.scope)):
            await reads.note(actor_of(request.scope), "number_rule", service.public_name(prefix))
        return response

    @router.delete("/{prefix}", status_code=204, responses=_NOT_FOUND, summary="Delete a rule")
    async def delete_rule(request: Request, prefix: Prefix) -> Response:
        """Have nothing said about a prefix any more."""
        async with database.transaction() as connection:
            await service.delete_rule(connection, actor_of(request.scope), prefix=prefix)
        rules.forget()
        return Response(status_code=204)

    return router


def _show(row: asyncpg.Record, caller: Principal) -> Mapping[str, Any]:
    return {
        "prefix": row["prefix"] if _sees_numbers(caller) else service.public_name(row["prefix"]),
        **{name: row[name] for name in ("is_allowed", "note", "created_by", "created_at")},
    }


def _sees_numbers(caller: Principal) -> bool:
    return caller.may(Permission.MESSAGES_READ_CONTENT)


def _list_key(cursor: str) -> UUID:
    try:
        return UUID(str(decode_cursor(cursor, str)[0]))
    except ValueError:
        raise ValidationError.of_field("cursor", "is not one of ours") from None
