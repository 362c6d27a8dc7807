"""No secret of access control shows anywhere but in the one answer that hands it to its owner."""

import re
from typing import Any
from urllib.parse import quote

import orjson
import pytest

from sms_foundation.auth.keys.format import generate_key
from sms_foundation.core.db import Database, DatabaseUrl
from tests.support.http_connection import Answer
from tests.support.processes import Processes, ServiceProcess

pytestmark = pytest.mark.slow

PASSWORD, NEW_PASSWORD, WRONG_PASSWORD = "four-words-are-enough", "other-words-are-better", "no-words-at-all-here"
EMAIL = "ana.secret@example.com"
COLUMNS = """
SELECT table_name, column_name FROM information_schema.columns
WHERE table_schema = 'public' AND data_type IN ('text', 'jsonb', 'ARRAY', 'bytea')
"""


class Session:
    """Calls a service, and keeps every secret it hands out and every answer that should hold none."""

    def __init__(self, service: ServiceProcess, admin_key: str) -> None:
        self._service = service
        self._admin_key = admin_key
        self.secrets = [admin_key, PASSWORD, NEW_PASSWORD, WRONG_PASSWORD]
        self.answers: list[Answer] = []

    async def call(
        self, method: str, path: str, body: object = None, *, status: int, as_: str | None = None, **headers: str
    ) -> Any:
        """Send JSON, as the admin unless told otherwise; returns the answer's JSON, without keeping it."""
        content = b"" if body is None else orjson.dumps(body)
        common = {"Content-Type": "application/json", "Authorization": f"Bearer {as_ or self._admin_key}"}
        async with self._service.connect() as connection:
            answer = await connection.request(method, path, content, common | headers)
        assert answer.status == status, (path, answer.body)
        if status >= 400 or method == "GET":
            self.answers.append(answer)
        return answer.json() if answer.body and answer.body.startswith((b"{", b"[")) else None

    async def handed_out(self, secret: str) -> str:
        """Remember a secret that was just received."""
        self.secrets.append(secret)
        return secret


async def _services(session: Session) -> None:
    await session.call("POST", "/v1/clients", {"id": "rent", "roles": ["operator"]}, status=201)
    made = await session.call(
        "POST", "/v1/keys", {"client_id": "rent", "name": "one"}, status=201, **{"Idempotency-Key": "make-a-key"}
    )
    key = await session.handed_out(made["key"])
    rotated = await session.call("POST", f"/v1/keys/{made['id']}/rotate", {}, status=201)
    await session.handed_out(rotated["key"])
    wrong = await session.handed_out(generate_key(is_test=False).text)
    await session.call("GET", "/v1/sms", status=401, as_=wrong)
    await session.call("GET", "/v1/sms", status=401, as_=key[:-1] + "_")
    await session.call("GET", f"/v1/sms?number={quote(wrong)}", status=200)
    form = f"grant_type=client_credentials&client_id=rent&client_secret={key}".encode()
    async with session._service.connect() as connection:
        answer = await connection.request(
            "POST", "/auth/token", form, {"Content-Type": "application/x-www-form-urlencoded"}
        )
    assert answer.status == 200, answer.body
    token = await session.handed_out(answer.json()["access_token"])
    await session.call("GET", "/v1/sms", status=200, as_=token)
    await session.call("GET", "/v1/clients", status=403, as_=token)
    head, claims, signature = token.split(".")
    session.secrets += [claims, signature]
    await session.call("GET", "/v1/sms", status=401, as_=f"{head}.{claims}.{signature[::-1]}")


async def _people(session: Session) -> None:
    invited = await session.call("POST", "/v1/invitations", {"email": EMAIL, "roles": ["viewer"]}, status=201)
    invitation = await session.handed_out(invited["invitation"])
    tokens = await session.call("POST", "/auth/register", {"invitation": invitation, "password": PASSWORD}, status=201)
    await session.call("POST", "/auth/register", {"invitation": invitation, "password": PASSWORD}, status=401)
    await session.call("POST", "/auth/login", {"email": EMAIL, "password": WRONG_PASSWORD}, status=401)
    await session.call("POST", "/auth/login", {"email": EMAIL, "password": {"is": WRONG_PASSWORD}}, status=400)
    for name in ("access_token", "refresh_token"):
        await session.handed_out(tokens[name])
    fresh = await session.call("POST", "/auth/refresh_token", {"refresh_token": tokens["refresh_token"]}, status=200)
    for name in ("access_token", "refresh_token"):
        await session.handed_out(fresh[name])
    me = fresh["access_token"]
    await session.call("GET", "/users/me", status=200, as_=me)
    change = {"current": PASSWORD, "new": NEW_PASSWORD}
    await session.call("POST", "/users/me/password", change, status=204, as_=me)
    await session.call("POST", "/auth/refresh_token", {"refresh_token": tokens["refresh_token"]}, status=401)


async def _everything_shown(session: Session) -> None:
    for path in ("/v1/clients", "/v1/keys", "/v1/roles", "/v1/invitations", "/v1/audit", "/openapi.json", "/health"):
        await session.call("GET", path, status=200)
    for path in ("/metrics", "/docs", "/.well-known/jwks.json"):
        await session.call("GET", path, status=200)


async def _stored(database: Database) -> str:
    """Return everything that stands in the database as text."""
    texts = []
    for table, column in await database.pool.fetch(COLUMNS):
        rows = await database.pool.fetch(f'SELECT "{column}"::text FROM "{table}"')
        texts += [row[0] for row in rows if row[0]]
    return "\n".join(texts)


async def test_secrets_show_in_the_answers_that_hand_them_out_and_nowhere_else(
    processes: Processes, database_url: DatabaseUrl, database: Database
) -> None:
    admin_key = generate_key(is_test=False).text
    service = processes.serve(
        DATABASE_URL=database_url.dsn,
        ADMIN_API_KEY=admin_key,
        OPEN_ACCESS="false",
        LOG_LEVEL="DEBUG",
        LOG_FORMAT="json",
    )
    await service.until_ready()
    await _until_known(service, admin_key)
    session = Session(service, admin_key)
    await _services(session)
    await _people(session)
    await _everything_shown(session)

    places = {"the log": service.log, "the database": await _stored(database)}
    places |= {f"answer {index}": each.body.decode() for index, each in enumerate(session.answers)}
    assert len(session.secrets) >= 15
    assert all(len(secret) >= 20 for secret in session.secrets)
    for place, text in places.items():
        shown = [secret[:12] for secret in session.secrets if secret in text or _end(secret) in text]
        assert shown == [], place
    assert "ana.secret" not in service.log
    for private in ("PRIVATE KEY", '"d":', '"p":'):
        assert private not in "".join(places.values())


def _end(secret: str) -> str:
    """Return the part of a key that is secret: what comes before may be shown."""
    return secret.rpartition("_")[2] if re.match(r"sf_(live|test)_", secret) else secret


async def _until_known(service: ServiceProcess, key: str) -> None:
    """The first start makes its admin beside everything else."""
    for _ in range(600):
        async with service.connect() as connection:
            answer = await connection.request("GET", "/v1/clients", b"", {"X-API-Key": key})
        if answer.status == 200:
            return
    raise AssertionError("the service does not know ADMIN_API_KEY")
