"""The API of clients, keys and roles as an admin, or somebody with less, uses it."""

from collections.abc import Sequence

import httpx

from sms_foundation.core.db import Database
from tests.support.access import bearer, make_client, make_key
from tests.support.api import Json
from tests.support.service import Service


class Caller:
    """Somebody with a key."""

    def __init__(self, api: httpx.AsyncClient, key: str) -> None:
        self._api = api
        self.key = key

    async def call(self, method: str, path: str, json: object = None, **headers: str) -> httpx.Response:
        """Call with the key; `Idempotency_Key` and the like are headers."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self._api.request(method, path, json=json, headers=bearer(self.key) | given)

    async def get(self, path: str, **params: object) -> Json:
        """GET what must be there."""
        response = await self._api.get(path, params=params, headers=bearer(self.key))  # type: ignore[arg-type]
        assert response.status_code == 200, response.text
        return dict(response.json())

    async def do(self, method: str, path: str, json: object = None, *, status: int = 200) -> Json:
        """Do what must succeed."""
        response = await self.call(method, path, json)
        assert response.status_code == status, response.text
        return dict(response.json()) if response.content else {}


async def make_caller(
    service: Service, name: str, *, roles: Sequence[str] = ("admin",), scopes: Sequence[str] | None = None
) -> Caller:
    """Make a client with a key and return it as a caller."""
    await make_client(service.database, name, roles=roles)
    return Caller(service.client, await make_key(service.database, name, scopes=scopes))


async def audit(database: Database) -> list[tuple[str, str, str, str]]:
    """Return actor, action, kind and id of everything that was done, in order."""
    rows = await database.pool.fetch(
        "SELECT actor, action, target_kind, target FROM auth_audit_log ORDER BY created_at, id"
    )
    return [tuple(row) for row in rows]
