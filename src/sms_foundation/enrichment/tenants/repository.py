"""The SQL of tenants. Rows are locked in the order of tenant_id, after the conversations."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sms_foundation.core.db import Connection
from sms_foundation.core.ids import new_id

_UPSERT_NUMBERS = """
INSERT INTO sms_tenant_numbers AS n (tenant_id, phone_number_canonical, last_used_at)
SELECT tenant_id, phone, max(used_at)
FROM unnest($1::text[], $2::text[], $3::timestamptz[]) AS t(tenant_id, phone, used_at)
GROUP BY tenant_id, phone ORDER BY tenant_id, phone
ON CONFLICT (tenant_id, phone_number_canonical)
    DO UPDATE SET last_used_at = excluded.last_used_at WHERE excluded.last_used_at > n.last_used_at
"""

_ENSURE = """
INSERT INTO sms_tenants (id, tenant_id)
SELECT id, tenant_id FROM unnest($1::uuid[], $2::text[]) AS t(id, tenant_id) ORDER BY tenant_id
ON CONFLICT (tenant_id) DO NOTHING
"""

_LOCK = """
SELECT id, tenant_id, language_detected, language_confidence::float8, language_at_us, language_told
FROM sms_tenants WHERE tenant_id = ANY($1) ORDER BY tenant_id FOR NO KEY UPDATE
"""

_SAVE_LANGUAGES = """
UPDATE sms_tenants AS t
SET language_detected = f.language, language_confidence = f.confidence, language_at_us = f.at_us, updated_at = now()
FROM unnest($1::uuid[], $2::text[], $3::float8[], $4::bigint[]) AS f(id, language, confidence, at_us)
WHERE t.id = f.id
"""

_FIND = """
SELECT id, tenant_id, language_detected, language_confidence::float8, language_at_us, language_told
FROM sms_tenants WHERE id = $1
"""

_MARK_TOLD = """
UPDATE sms_tenants SET language_told = $2, updated_at = now() WHERE id = $1 RETURNING language_detected
"""


@dataclass(frozen=True, slots=True)
class Tenant:
    """A renter and the language they are spoken to in; `language_told`: what their profile knows from us."""

    id: UUID
    tenant_id: str
    language: str
    language_confidence: float
    language_at_us: int
    language_told: str | None


async def remember_numbers(connection: Connection, used: Sequence[tuple[str, str, datetime]]) -> None:
    """Keep which tenant used which number, and when last: (tenant_id, canonical phone, used_at)."""
    await connection.execute(
        _UPSERT_NUMBERS, [each[0] for each in used], [each[1] for each in used], [each[2] for each in used]
    )


async def lock_tenants(connection: Connection, tenant_ids: Iterable[str]) -> dict[str, Tenant]:
    """Return the tenants by tenant_id, made when new, locked until the transaction ends."""
    wanted = sorted(set(tenant_ids))
    tenants = await _lock(connection, wanted)
    if len(tenants) < len(wanted):
        missing = [tenant_id for tenant_id in wanted if tenant_id not in tenants]
        await connection.execute(_ENSURE, [new_id() for _ in missing], missing)
        tenants = await _lock(connection, wanted)
    return tenants


async def _lock(connection: Connection, tenant_ids: Sequence[str]) -> dict[str, Tenant]:
    return {row[1]: Tenant(*row) for row in await connection.fetch(_LOCK, tenant_ids)}


async def save_languages(connection: Connection, changed: Sequence[Tenant]) -> None:
    """Write the language of locked tenants."""
    await connection.execute(
        _SAVE_LANGUAGES,
        [each.id for each in changed],
        [each.language for each in changed],
        [each.language_confidence for each in changed],
        [each.language_at_us for each in changed],
    )


async def find_tenant(connection: Connection, id_: UUID) -> Tenant | None:
    """Return one tenant by our id."""
    row = await connection.fetchrow(_FIND, id_)
    return None if row is None else Tenant(*row)


async def mark_language_told(connection: Connection, id_: UUID, *, language: str) -> str | None:
    """Note what the profile service knows now, lock the tenant, and return the language that holds at this moment."""
    current: str | None = await connection.fetchval(_MARK_TOLD, id_, language)
    return current
