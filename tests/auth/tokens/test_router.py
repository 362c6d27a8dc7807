"""Tokens over HTTP: an API key turned into one, what it is good for, and the keys by which anybody can check it."""

import base64
from datetime import UTC, datetime, timedelta

import httpx
import jwt
import pytest
from prometheus_client import REGISTRY

from sms_foundation.core.config import Settings
from sms_foundation.core.db import Database
from tests.support.access import bearer, make_client, make_key
from tests.support.api import Json, refused
from tests.support.service import BASE_URL, Service, make_settings
from tests.support.tokens import OURS

GRANT = {"grant_type": "client_credentials"}


@pytest.fixture
def settings() -> Settings:
    return make_settings(signing_key=OURS.pem, open_access=False, work_in_process=False)


@pytest.fixture
def api(service: Service) -> httpx.AsyncClient:
    return service.client


@pytest.fixture
async def key(database: Database) -> str:
    """A key of the client `reminder`, an operator."""
    return await make_key(database, await make_client(database, "reminder", roles=["operator"]))


async def ask(api: httpx.AsyncClient, key: str, client: str = "reminder", **form: str) -> httpx.Response:
    return await api.post("/auth/token", auth=(client, key), data=GRANT | form)


def failures(reason: str) -> float:
    return REGISTRY.get_sample_value("sms_auth_failures_total", {"reason": reason}) or 0.0


class TestKeys:
    async def test_hold_exactly_what_is_needed_to_check_a_token(self, api: httpx.AsyncClient, key: str) -> None:
        token = (await ask(api, key)).json()["access_token"]
        response = await api.get("/.well-known/jwks.json")

        assert response.headers["cache-control"] == "public, max-age=300"
        (published,) = response.json()["keys"]
        assert set(published) == {"kid", "kty", "alg", "use", "n", "e"}
        assert (published["kid"], published["kty"], published["alg"], published["use"]) == (
            OURS.kid,
            "RSA",
            "RS256",
            "sig",
        )
        checked = jwt.decode(
            token, jwt.PyJWK(published).key, algorithms=["RS256"], audience="sms-foundation", issuer=BASE_URL
        )
        assert checked["sub"] == "reminder"
        assert jwt.get_unverified_header(token)["kid"] == OURS.kid

    async def test_are_there_before_the_first_token(self, api: httpx.AsyncClient) -> None:
        assert [key["kid"] for key in (await api.get("/.well-known/jwks.json")).json()["keys"]] == [OURS.kid]


class TestToken:
    async def test_an_api_key_becomes_a_token_that_can_do_the_same(self, api: httpx.AsyncClient, key: str) -> None:
        response = await ask(api, key)
        answer = response.json()

        assert response.status_code == 200
        assert set(answer) == {"access_token", "token_type", "expires_in", "scope"}
        assert (answer["token_type"], answer["expires_in"]) == ("Bearer", 900)
        assert response.headers["cache-control"] == "no-store"
        me = (await api.get("/users/me", headers=bearer(answer["access_token"]))).json()
        assert me["client_id"] == "reminder"
        assert me["permissions"] == answer["scope"].split(" ")
        assert me == (await api.get("/users/me", headers=bearer(key))).json()

    async def test_client_and_key_may_stand_in_the_form(self, api: httpx.AsyncClient, key: str) -> None:
        form = GRANT | {"client_id": "reminder", "client_secret": key}

        assert (await api.post("/auth/token", data=form)).status_code == 200

    async def test_scope_confines_it(self, api: httpx.AsyncClient, key: str) -> None:
        answer = (await ask(api, key, scope="messages:read")).json()

        assert answer["scope"] == "messages:read"
        token = bearer(answer["access_token"])
        assert (await api.get("/users/me", headers=token)).json()["permissions"] == ["messages:read"]
        assert (await api.get("/v1/sms", headers=token)).status_code == 200
        refused(await api.post("/v1/sms/send", headers=token, json={}), 403, "sms.forbidden")

    @pytest.mark.parametrize("scope", ["clients:manage", "messages:read clients:manage", "everything"])
    async def test_scope_beyond_the_key_is_refused(self, api: httpx.AsyncClient, key: str, scope: str) -> None:
        refused(await ask(api, key, scope=scope), 400, "sms.validation_error", "scope")

    async def test_it_does_not_outlive_the_key(self, api: httpx.AsyncClient, database: Database) -> None:
        client = await make_client(database, "reminder")
        key = await make_key(database, client, expires_at=datetime.now(UTC) + timedelta(seconds=100))

        assert 90 <= (await ask(api, key)).json()["expires_in"] <= 100

    async def test_revoking_the_key_ends_its_tokens(self, api: httpx.AsyncClient, key: str, database: Database) -> None:
        token = bearer((await ask(api, key)).json()["access_token"])
        await database.pool.execute("UPDATE auth_api_keys SET revoked_at = now()")

        refused(await api.get("/users/me", headers=token), 401, "sms.unauthorized")

    async def test_of_a_test_key_it_is_one_for_tests(self, api: httpx.AsyncClient, database: Database) -> None:
        key = await make_key(database, await make_client(database, "reminder"), is_test=True)
        token = (await ask(api, key)).json()["access_token"]

        assert jwt.decode(token, options={"verify_signature": False})["test"] is True
        assert (await api.get("/users/me", headers=bearer(token))).json()["is_test"] is True

    async def test_the_networks_of_the_key_are_those_of_its_token(
        self, api: httpx.AsyncClient, key: str, database: Database
    ) -> None:
        token = bearer((await ask(api, key)).json()["access_token"])
        await database.pool.execute("UPDATE auth_api_keys SET networks = '{203.0.113.0/24}'")

        refused(await api.get("/users/me", headers=token), 401, "sms.unauthorized")

    async def test_repeated_with_an_idempotency_key_it_is_the_same(self, api: httpx.AsyncClient, key: str) -> None:
        basic = base64.b64encode(f"reminder:{key}".encode()).decode()
        headers = {"Authorization": f"Basic {basic}", "Idempotency-Key": "a-key"}
        first, again = [await api.post("/auth/token", headers=headers, data=GRANT) for _ in range(2)]

        assert again.json() == first.json()
        assert again.headers["x-idempotent-replayed"] == "true"

    @pytest.mark.parametrize(
        ("form", "field"),
        [
            ({}, "grant_type"),
            ({"grant_type": "password"}, "grant_type"),
            ({"grant_type": "authorization_code"}, "grant_type"),
        ],
    )
    async def test_other_grants_are_refused(self, api: httpx.AsyncClient, key: str, form: Json, field: str) -> None:
        response = await api.post("/auth/token", auth=("reminder", key), data=form)
        refused(response, 400, "sms.validation_error", field)

    @pytest.mark.parametrize(
        "body", [b"\xff", b"grant_type=client_credentials&grant_type=client_credentials", b"%ff=1", b"a=b&" * 100]
    )
    async def test_a_body_that_is_no_form_is_refused(self, api: httpx.AsyncClient, body: bytes) -> None:
        refused(await api.post("/auth/token", content=body), 400, "sms.validation_error")

    async def test_a_body_without_end_is_refused(self, api: httpx.AsyncClient) -> None:
        refused(await api.post("/auth/token", content=b"x" * 20_000), 413, "sms.payload_too_large")

    async def test_whatever_is_wrong_with_them_the_answer_is_the_same(
        self, api: httpx.AsyncClient, key: str, database: Database
    ) -> None:
        other = await make_key(database, await make_client(database, "other"))
        over = await make_key(database, "reminder", expires_at=datetime.now(UTC) - timedelta(seconds=1))
        elsewhere = await make_key(database, "reminder", networks=["203.0.113.0/24"])
        basic = {
            "without user": "Basic " + base64.b64encode(b"x").decode(),
            "no base64": "Basic !",
            "another scheme": "Bearer " + key,
        }
        answers = [
            *[await ask(api, each) for each in (other, over, elsewhere, key[:-1] + "!", "wrong", "")],
            await ask(api, key, client="another"),
            await api.post("/auth/token", data=GRANT),
            *[await api.post("/auth/token", data=GRANT, headers={"Authorization": each}) for each in basic.values()],
        ]

        errors = [refused(answer, 401, "sms.unauthorized") for answer in answers]
        assert {error["message"] for error in errors} == {"valid credentials are required"}
        assert not any("details" in error for error in errors)

    async def test_failures_are_counted_by_reason(self, api: httpx.AsyncClient, key: str) -> None:
        before = failures("checksum")
        await ask(api, key[:-1] + "!")

        assert failures("checksum") == before + 1


class TestLimits:
    @pytest.fixture
    def settings(self) -> Settings:
        return make_settings(signing_key=OURS.pem, open_access=False, failure_limit="3/1h")

    async def test_an_address_with_too_many_failures_is_refused_for_a_while(
        self, api: httpx.AsyncClient, key: str
    ) -> None:
        for _ in range(3):
            refused(await ask(api, "wrong"), 401, "sms.unauthorized")
        refused(await ask(api, "wrong"), 429, "sms.rate_limited")
        response = await ask(api, key)

        refused(response, 429, "sms.rate_limited")
        assert int(response.headers["retry-after"]) > 0


class TestWithoutSigningKey:
    @pytest.fixture
    def settings(self) -> Settings:
        return make_settings(
            app_env="staging", providers="[]", auto_migrate=False, client_limit="off", operations_networks="all"
        )

    async def test_tokens_are_not_available_and_keys_work(self, api: httpx.AsyncClient, key: str) -> None:
        error = refused(await ask(api, key), 503, "sms.not_configured")

        assert "SIGNING_KEY" in error["message"]
        assert (await api.get("/.well-known/jwks.json")).json() == {"keys": []}
        assert (await api.get("/users/me", headers=bearer(key))).status_code == 200


class TestOutage:
    async def test_of_the_database_is_a_503(self, api: httpx.AsyncClient, key: str, database: Database) -> None:
        await database.pool.execute("ALTER TABLE auth_signing_keys RENAME TO away")

        refused(await ask(api, key), 503, "sms.unavailable")
