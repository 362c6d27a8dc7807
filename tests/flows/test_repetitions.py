"""Every POST and PATCH of the API can be repeated: the second time it does nothing, and is answered as the first."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from sms_foundation.access_rules import RULES
from sms_foundation.core.config import Settings
from sms_foundation.core.db import Database
from sms_foundation.core.ids import new_id
from tests.support.access import bearer, make_client, make_key
from tests.support.api import refused
from tests.support.service import TENANT_PHONE, Service, make_settings

Body = dict[str, Any] | None
PASSWORD, NEXT_PASSWORD = "correct horse battery", "staple correct horse"
MESSAGE: Body = {"to": TENANT_PHONE, "message": "Hello"}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Everybody needs a key, and nothing happens in the background."""
    return make_settings(work_in_process=False, open_access=False, sms_data_dir=tmp_path)


class Caller:
    """Makes every request twice with one key, and holds the second answer against the first."""

    def __init__(self, client: httpx.AsyncClient, headers: dict[str, str]) -> None:
        self._client = client
        self._headers = headers
        self.made: set[tuple[str, str]] = set()
        """Method and path template of what was repeated."""

    async def twice(
        self,
        method: str,
        template: str,
        body: Body = None,
        *,
        form: Body = None,
        headers: dict[str, str] | None = None,
        **path: str,
    ) -> Any:
        """Return the answer's JSON, None without."""
        named = (self._headers if headers is None else headers) | {"Idempotency-Key": str(new_id())}
        first, again = [
            await self._client.request(method, template.format_map(path), json=body, data=form, headers=named)
            for _ in range(2)
        ]
        assert first.is_success, (template, first.text)
        assert "x-idempotent-replayed" not in first.headers, template
        assert (again.status_code, again.content) == (first.status_code, first.content), template
        assert again.headers["x-idempotent-replayed"] == "true", template
        await self._refuses_another(method, template, body, form, named, path)
        self.made.add((method, template))
        return first.json() if first.content else None

    async def _refuses_another(
        self, method: str, template: str, body: Body, form: Body, named: dict[str, str], path: dict[str, str]
    ) -> None:
        changes = _change_of(body or form or {})
        if not changes:  # nothing of it can be different and still be understood
            return
        other: dict[str, Any] = {"data": {**form, **changes}} if form else {"json": {**(body or {}), **changes}}
        response = await self._client.request(method, template.format_map(path), headers=named, **other)
        refused(response, 422, "sms.idempotency_conflict")


def _change_of(body: dict[str, Any]) -> dict[str, Any]:
    """Return another value for one of the fields, of the same kind."""
    others: dict[str, Any] = {
        "message": "Another",
        "text": "Another",
        "messages": [MESSAGE, MESSAGE],
        "workflow_id": "2",
        "send_at": (datetime.now(UTC) + timedelta(days=3)).isoformat(),
        "was_not_sent": False,
        "note": "another",
        "display_name": "Another",
        "request_limit": "5/1s",
        "subject": "2",
        "name": "another",
        "grace_s": 5,
        "email": "another@example.com",
    }
    return (
        {"scope": "messages:read"} if "grant_type" in body else {name: others[name] for name in body if name in others}
    )


@pytest.fixture
async def caller(service: Service, database: Database) -> Caller:
    return Caller(service.client, bearer(await make_key(database, await make_client(database, "tests"))))


async def send_and_control(caller: Caller, database: Database) -> None:
    await caller.twice("POST", "/v1/sms/send", MESSAGE)
    for template in ("/sms/send", "/api/sms", "/messages/send"):
        await caller.twice("POST", template, MESSAGE)
    await caller.twice("POST", "/v1/sms/send/batch", {"messages": [MESSAGE]})
    await caller.twice("POST", "/v1/sms/preview", {"message": "“Hello”"})
    await caller.twice("PATCH", "/conversations/{phone_number}", {"workflow_id": "1"}, phone_number=TENANT_PHONE)
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    made = await caller.twice("POST", "/v1/sms/send", {"to": TENANT_PHONE, "message": "Later", "send_at": tomorrow})
    later = {"send_at": (datetime.now(UTC) + timedelta(days=2)).isoformat()}
    await caller.twice("PATCH", "/v1/sms/{request_id}", later, request_id=made["id"])
    await caller.twice("POST", "/v1/sms/{request_id}/cancel", request_id=made["id"])
    await database.pool.execute("UPDATE sms_messages SET delivery_status = 'failed' WHERE id = $1", made["id"])
    await caller.twice("POST", "/v1/sms/{request_id}/retry", {"was_not_sent": True}, request_id=made["id"])


async def manage(caller: Caller) -> None:
    client = {"id": "billing", "roles": ["operator"], "display_name": "Billing"}
    await caller.twice("POST", "/v1/clients", client)
    await caller.twice("PATCH", "/v1/clients/{client_id}", {"request_limit": "9/1s"}, client_id="billing")
    identity = {"issuer": "https://accounts.google.com", "subject": "1"}
    await caller.twice("POST", "/v1/clients/{client_id}/identities", identity, client_id="billing")
    for verb in ("disable", "enable"):
        await caller.twice("POST", f"/v1/clients/{{client_id}}/{verb}", client_id="billing")
    key = await caller.twice("POST", "/v1/keys", {"client_id": "billing", "name": "production"})
    secret = {"grant_type": "client_credentials", "client_id": "billing", "client_secret": key["key"]}
    await caller.twice("POST", "/auth/token", form=secret, headers={})
    await caller.twice("POST", "/v1/keys/{key_id}/rotate", {"grace_s": 60}, key_id=key["id"])
    await caller.twice("POST", "/v1/keys/{key_id}/revoke", key_id=key["id"])
    await caller.twice("POST", "/v1/number-rules", {"prefix": "+1900", "is_allowed": False, "note": "dear"})


async def log_in_and_out(caller: Caller) -> None:
    invited = await caller.twice("POST", "/v1/invitations", {"email": "ana@example.com", "roles": ["viewer"]})
    new = {"invitation": invited["invitation"], "password": PASSWORD, "display_name": "Ana"}
    await caller.twice("POST", "/auth/register", new, headers={})
    session = await caller.twice("POST", "/auth/login", {"email": "ana@example.com", "password": PASSWORD}, headers={})
    session = await caller.twice("POST", "/auth/refresh_token", {"refresh_token": session["refresh_token"]}, headers={})
    change = {"current": PASSWORD, "new": NEXT_PASSWORD}
    await caller.twice("POST", "/users/me/password", change, headers=bearer(session["access_token"]))
    await caller.twice("POST", "/auth/logout", {"refresh_token": session["refresh_token"]}, headers={})


async def test_every_request_that_changes_something_is_done_once(caller: Caller, database: Database) -> None:
    await send_and_control(caller, database)
    await manage(caller)
    await log_in_and_out(caller)
    assert caller.made == {route for route in RULES if route[0] in ("POST", "PATCH")}
