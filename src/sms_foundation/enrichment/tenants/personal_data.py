"""Whose a number is: read out, and forgotten."""

from collections.abc import Sequence
from typing import Final

from sms_foundation.core.db import Connection

# The key begins with the tenant, and a number may have been several tenants'. All of it is looked through, which takes
# a third of a second for a million numbers and is asked for once in a while.
_TENANTS_OF: Final = "SELECT DISTINCT tenant_id FROM sms_tenant_numbers WHERE phone_number_canonical = ANY($1)"
_EXPORT_NUMBERS: Final = """
SELECT to_jsonb(n)::text FROM sms_tenant_numbers AS n WHERE phone_number_canonical = ANY($1)
ORDER BY tenant_id, phone_number_canonical
"""
_EXPORT_TENANTS: Final = "SELECT to_jsonb(t)::text FROM sms_tenants AS t WHERE tenant_id = ANY($1) ORDER BY tenant_id"
# Locked first: a number that is just becoming the tenant's is seen then, and they stay.
_LOCK_TENANTS: Final = "SELECT FROM sms_tenants WHERE tenant_id = ANY($1) ORDER BY tenant_id FOR UPDATE"
_FORGET_NUMBERS: Final = "DELETE FROM sms_tenant_numbers WHERE tenant_id = ANY($1) AND phone_number_canonical = ANY($2)"
_FORGET_TENANTS: Final = """
DELETE FROM sms_tenants AS t
WHERE tenant_id = ANY($1) AND NOT EXISTS (SELECT FROM sms_tenant_numbers AS n WHERE n.tenant_id = t.tenant_id)
"""


async def find_tenants(connection: Connection, addresses: Sequence[str]) -> list[str]:
    """Return the ids of all tenants that any of these canonical addresses was ever matched with."""
    return sorted(row[0] for row in await connection.fetch(_TENANTS_OF, addresses))


async def export_tenants(connection: Connection, tenant_ids: Sequence[str]) -> list[str]:
    """Return every column of these tenants as JSON objects."""
    return [row[0] for row in await connection.fetch(_EXPORT_TENANTS, tenant_ids)]


async def export_tenant_numbers(connection: Connection, addresses: Sequence[str]) -> list[str]:
    """Return which tenant used these addresses from when to when, as JSON objects."""
    return [row[0] for row in await connection.fetch(_EXPORT_NUMBERS, addresses)]


async def forget_numbers(connection: Connection, tenant_ids: Sequence[str], addresses: Sequence[str]) -> None:
    """Forget that these tenants had these addresses, and those tenants of whom no other is known. Needs a transaction.

    Idempotent. To be called after the conversations of the addresses are locked, as everybody locks them.
    """
    await connection.execute(_LOCK_TENANTS, tenant_ids)
    await connection.execute(_FORGET_NUMBERS, tenant_ids, addresses)
    await connection.execute(_FORGET_TENANTS, tenant_ids)
