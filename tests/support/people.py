"""People, as they come to the API: invited, registered, logged in."""

from collections.abc import Sequence
from datetime import timedelta

import httpx

from sms_foundation.auth.people.invitations import create_invitation
from sms_foundation.auth.roles.granting import COMMAND_LINE
from sms_foundation.core.db import Database
from tests.support.api import Json

EMAIL, PASSWORD = "ana@example.com", "four words are enough"


async def invite(database: Database, email: str = EMAIL, *, roles: Sequence[str] | None = ("viewer",)) -> str:
    """Invite somebody, from the command line; returns the invitation."""
    async with database.transaction() as connection:
        made = await create_invitation(connection, COMMAND_LINE, email=email, roles=roles, lifetime=timedelta(hours=72))
    return made.text


async def register(
    api: httpx.AsyncClient,
    database: Database,
    email: str = EMAIL,
    password: str = PASSWORD,
    *,
    roles: Sequence[str] | None = ("viewer",),
) -> Json:
    """Invite somebody, who accepts; returns what they are answered."""
    body = {"invitation": await invite(database, email, roles=roles), "password": password}
    response = await api.post("/auth/register", json=body)
    assert response.status_code == 201, response.text
    return dict(response.json())


async def log_in(api: httpx.AsyncClient, email: str = EMAIL, password: str = PASSWORD) -> httpx.Response:
    return await api.post("/auth/login", json={"email": email, "password": password})


async def refresh(api: httpx.AsyncClient, token: str, **headers: str) -> httpx.Response:
    return await api.post("/auth/refresh_token", json={"refresh_token": token}, headers=headers)
