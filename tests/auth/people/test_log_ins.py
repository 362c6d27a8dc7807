"""Logging in, staying logged in, logging out: what works, what is refused, and that nobody learns why."""

import asyncio
import hashlib
from datetime import UTC, datetime, timedelta

import httpx
import jwt
import pytest
import time_machine
from prometheus_client import REGISTRY

from sms_foundation.auth.people.schemas import LoginAnswer
from sms_foundation.core.config import Settings
from sms_foundation.core.db import Database
from tests.support.access import bearer, make_client, make_key
from tests.support.api import Json, refused
from tests.support.people import EMAIL, PASSWORD, log_in, refresh, register
from tests.support.service import Service, make_settings
from tests.support.tokens import OURS

NOT_VALID = "valid credentials are required"


def failures(reason: str) -> float:
    return REGISTRY.get_sample_value("sms_auth_failures_total", {"reason": reason}) or 0.0


def accepted(response: httpx.Response) -> Json:
    assert response.status_code == 200, response.text
    assert response.headers["cache-control"] == "no-store"
    LoginAnswer.model_validate_json(response.content, extra="forbid")
    return dict(response.json())


def lookups() -> float:
    return REGISTRY.get_sample_value("sms_auth_lookups_total", {"kind": "session"}) or 0.0


async def who(api: httpx.AsyncClient, token: str) -> int:
    return (await api.get("/users/me", headers=bearer(token))).status_code


async def audit(database: Database) -> list[tuple[str, str, str]]:
    rows = await database.pool.fetch("SELECT actor, action, credential FROM auth_audit_log ORDER BY id")
    return [tuple(row) for row in rows if row["action"] != "invitation.create"]


class TestLogIn:
    async def test_gives_a_token_to_call_with_and_one_to_go_on_with(
        self, api: httpx.AsyncClient, database: Database
    ) -> None:
        person = await register(api, database)
        answer = accepted(await log_in(api))

        assert answer["client_id"] == person["client_id"]
        assert answer["expires_in"] == 900
        assert answer["refresh_token"].startswith("sf_refresh_")
        assert await who(api, answer["access_token"]) == 200
        claims = jwt.decode(answer["access_token"], options={"verify_signature": False})
        assert claims["sub"] == person["client_id"]
        expires_at = datetime.fromisoformat(answer["refresh_expires_at"])
        assert abs(expires_at - datetime.now(UTC) - timedelta(days=30)) < timedelta(minutes=1)

    async def test_does_not_depend_on_how_the_address_is_written(
        self, api: httpx.AsyncClient, database: Database
    ) -> None:
        await register(api, database)

        accepted(await log_in(api, f"  {EMAIL.upper()} "))

    async def test_does_not_depend_on_how_the_keyboard_composes_letters(
        self, api: httpx.AsyncClient, database: Database
    ) -> None:
        await register(api, database, password="contraseñas únicas")

        accepted(await log_in(api, password="contrasen\u0303as u\u0301nicas"))

    async def test_leaves_no_secret_in_the_database(self, api: httpx.AsyncClient, database: Database) -> None:
        await register(api, database)
        token = accepted(await log_in(api))["refresh_token"]
        tables = ("auth_clients", "auth_sessions", "auth_refresh_tokens", "auth_invitations", "auth_audit_log")
        stored = [str(await database.pool.fetchval(f"SELECT json_agg(t)::text FROM {table} AS t")) for table in tables]

        assert not any(secret in text for text in stored for secret in (token, PASSWORD, "sf_invite_"))
        assert await database.pool.fetchval(
            "SELECT count(*) FROM auth_refresh_tokens WHERE digest = $1", hashlib.sha256(token.encode()).digest()
        )
        assert "$argon2id$" in stored[0]

    async def test_is_in_the_audit_log_by_account_not_by_address(
        self, api: httpx.AsyncClient, database: Database
    ) -> None:
        person = (await register(api, database))["client_id"]
        accepted(await log_in(api))

        assert await audit(database) == [
            (person, "person.register", "invitation"),
            (person, "person.login", "password"),
        ]
        assert EMAIL not in await database.pool.fetchval("SELECT json_agg(a)::text FROM auth_audit_log AS a")

    async def test_repeated_with_an_idempotency_key_is_one_log_in(
        self, api: httpx.AsyncClient, database: Database
    ) -> None:
        await register(api, database)
        body = {"email": EMAIL, "password": PASSWORD}
        first, again = [
            await api.post("/auth/login", json=body, headers={"Idempotency-Key": "a-key"}) for _ in range(2)
        ]

        assert again.json() == first.json()
        assert await database.pool.fetchval("SELECT count(*) FROM auth_sessions") == 2  # one is the registration's

    async def test_whatever_is_wrong_the_answer_is_the_same(self, api: httpx.AsyncClient, database: Database) -> None:
        await register(api, database)
        await register(api, database, "disabled@example.com")
        await database.pool.execute("UPDATE auth_clients SET disabled_at = now() WHERE email LIKE 'disabled@%'")
        await make_client(database, "service")
        answers = [
            await log_in(api, password="wrong password!"),
            await log_in(api, password=""),
            await log_in(api, password=PASSWORD + " "),
            await log_in(api, password=PASSWORD.upper()),
            await log_in(api, email="nobody@example.com"),
            await log_in(api, email="no address"),
            await log_in(api, email="\x00@example.com"),
            await log_in(api, email="service"),
            await log_in(api, email="disabled@example.com"),
        ]
        errors = [refused(answer, 401, "sms.unauthorized") for answer in answers]

        assert {error["message"] for error in errors} == {NOT_VALID}
        assert not any("details" in error for error in errors)
        headers = [{name for name in answer.headers if name != "x-request-id"} for answer in answers]
        assert all(names == headers[0] for names in headers)

    async def test_operators_see_what_was_wrong(self, api: httpx.AsyncClient, database: Database) -> None:
        await register(api, database)
        before = failures("wrong_password"), failures("unknown_person")
        await log_in(api, password="wrong password!")
        await log_in(api, email="nobody@example.com")

        assert (failures("wrong_password"), failures("unknown_person")) == (before[0] + 1, before[1] + 1)

    @pytest.mark.parametrize(
        ("body", "fields"),
        [
            ({}, ("email", "password")),
            ({"email": EMAIL}, ("password",)),
            ({"email": EMAIL, "password": 1}, ("password",)),
            ({"email": EMAIL, "password": "x" * 1025}, ("password",)),
            ({"email": EMAIL, "password": PASSWORD, "more": 1}, ("more",)),
        ],
        ids=str,
    )
    async def test_of_the_wrong_shape_names_the_field(
        self, api: httpx.AsyncClient, body: Json, fields: tuple[str, ...]
    ) -> None:
        refused(await api.post("/auth/login", json=body), 400, "sms.validation_error", *fields)

    async def test_half_a_character_is_refused(self, api: httpx.AsyncClient) -> None:
        body = b'{"email": "ana@example.com", "password": "\\ud800 and some more"}'
        refused(await api.post("/auth/login", content=body), 400, "sms.validation_error", "password")

    @pytest.mark.parametrize("path", ["login", "register", "refresh_token", "logout"])
    async def test_bodies_that_cannot_be_read_are_refused(self, api: httpx.AsyncClient, path: str) -> None:
        refused(await api.post(f"/auth/{path}", content=b"{"), 422, "sms.malformed_request")
        refused(await api.post(f"/auth/{path}", content=b" " * 20_000), 413, "sms.payload_too_large")

    async def test_leaves_log_ins_that_are_over_to_be_looked_into(
        self, api: httpx.AsyncClient, database: Database
    ) -> None:
        """They are deleted a week after their end (`tidying`), and not earlier because somebody logs in."""
        await register(api, database)
        with time_machine.travel(datetime.now(UTC) + timedelta(days=31)):
            accepted(await log_in(api))

        assert await database.pool.fetchval("SELECT count(*) FROM auth_sessions") == 2
        assert await database.pool.fetchval("SELECT count(*) FROM auth_refresh_tokens") == 2


class TestRefresh:
    async def test_brings_new_tokens_for_the_same_log_in(self, api: httpx.AsyncClient, database: Database) -> None:
        first = await register(api, database)
        second = accepted(await refresh(api, first["refresh_token"]))
        third = accepted(await refresh(api, second["refresh_token"]))

        assert len({each["refresh_token"] for each in (first, second, third)}) == 3
        sessions = {
            jwt.decode(each["access_token"], options={"verify_signature": False})["sid"]
            for each in (first, second, third)
        }
        assert len(sessions) == 1
        assert [await who(api, each["access_token"]) for each in (first, second, third)] == [200] * 3

    async def test_of_a_spent_token_ends_the_whole_log_in(self, api: httpx.AsyncClient, database: Database) -> None:
        first = await register(api, database)
        second = accepted(await refresh(api, first["refresh_token"]))
        before = failures("refresh_reused")
        error = refused(await refresh(api, first["refresh_token"]), 401, "sms.unauthorized")

        assert error["message"] == NOT_VALID
        assert failures("refresh_reused") == before + 1
        refused(await refresh(api, second["refresh_token"]), 401, "sms.unauthorized")
        assert [await who(api, each["access_token"]) for each in (first, second)] == [401] * 2
        assert await database.pool.fetchval("SELECT end_reason FROM auth_sessions") == "reuse"
        assert (await audit(database))[-1] == (first["client_id"], "session.reuse", "refresh token")

    async def test_of_a_spent_token_leaves_other_log_ins_alone(
        self, api: httpx.AsyncClient, database: Database
    ) -> None:
        first = await register(api, database)
        other = accepted(await log_in(api))
        for _ in range(2):
            await refresh(api, first["refresh_token"])

        accepted(await refresh(api, other["refresh_token"]))

    async def test_of_the_same_token_at_the_same_time_has_one_winner_and_ends_the_log_in(
        self, api: httpx.AsyncClient, database: Database
    ) -> None:
        first = await register(api, database)
        answers = await asyncio.gather(*(refresh(api, first["refresh_token"]) for _ in range(5)))

        assert sorted(answer.status_code for answer in answers) == [200, 401, 401, 401, 401]
        (won,) = [answer.json() for answer in answers if answer.status_code == 200]
        refused(await refresh(api, won["refresh_token"]), 401, "sms.unauthorized")
        assert await who(api, won["access_token"]) == 401

    async def test_can_be_repeated_with_an_idempotency_key(self, api: httpx.AsyncClient, database: Database) -> None:
        first = await register(api, database)
        one, again = [await refresh(api, first["refresh_token"], **{"Idempotency-Key": "a-key"}) for _ in range(2)]

        assert again.json() == accepted(one)
        accepted(await refresh(api, one.json()["refresh_token"]))

    async def test_ends_by_itself_so_long_after_the_last(self, api: httpx.AsyncClient, database: Database) -> None:
        start = datetime.now(UTC)
        first = await register(api, database)
        with time_machine.travel(start + timedelta(days=29)):
            second = accepted(await refresh(api, first["refresh_token"]))
        with time_machine.travel(start + timedelta(days=58)):
            third = accepted(await refresh(api, second["refresh_token"]))
        before = failures("expired_refresh")
        with time_machine.travel(start + timedelta(days=89)):
            refused(await refresh(api, third["refresh_token"]), 401, "sms.unauthorized")

        assert failures("expired_refresh") == before + 1

    async def test_keeps_no_more_tokens_than_can_still_come(self, api: httpx.AsyncClient, database: Database) -> None:
        start = datetime.now(UTC)
        answer = await register(api, database)
        for day in (20, 40, 60):
            with time_machine.travel(start + timedelta(days=day)):
                answer = accepted(await refresh(api, answer["refresh_token"]))

        assert await database.pool.fetchval("SELECT count(*) FROM auth_refresh_tokens") == 2

    async def test_is_refused_to_a_disabled_account(self, api: httpx.AsyncClient, database: Database) -> None:
        first = await register(api, database)
        await database.pool.execute("UPDATE auth_clients SET disabled_at = now()")

        refused(await refresh(api, first["refresh_token"]), 401, "sms.unauthorized")

    @pytest.mark.parametrize("token", ["", "x", "sf_refresh_" + "A" * 43, "sf_refresh_" + "é" * 43, "sf_invite_A"])
    async def test_of_what_is_no_token_is_refused(self, api: httpx.AsyncClient, token: str) -> None:
        before = failures("unknown_refresh")
        refused(await refresh(api, token), 401, "sms.unauthorized")

        assert failures("unknown_refresh") == before + 1


class TestLogOut:
    async def test_ends_the_log_in_of_a_refresh_token(self, api: httpx.AsyncClient, database: Database) -> None:
        person = await register(api, database)
        response = await api.post("/auth/logout", json={"refresh_token": person["refresh_token"]})

        assert (response.status_code, response.content) == (204, b"")
        assert await who(api, person["access_token"]) == 401
        refused(await refresh(api, person["refresh_token"]), 401, "sms.unauthorized")
        assert (await audit(database))[-1] == (person["client_id"], "person.logout", "own log-in")

    @pytest.mark.parametrize("body", [b"", b"{}"])
    async def test_ends_the_log_in_of_an_access_token(
        self, api: httpx.AsyncClient, database: Database, body: bytes
    ) -> None:
        person, other = await register(api, database), accepted(await log_in(api))
        response = await api.post("/auth/logout", content=body, headers=bearer(person["access_token"]))

        assert response.status_code == 204
        assert await who(api, person["access_token"]) == 401
        assert await who(api, other["access_token"]) == 200

    async def test_repeating_it_changes_nothing(self, api: httpx.AsyncClient, database: Database) -> None:
        person = await register(api, database)
        body = {"refresh_token": person["refresh_token"]}
        statuses = [(await api.post("/auth/logout", json=body)).status_code for _ in range(3)]

        assert statuses == [204] * 3
        assert [action for _, action, _ in await audit(database)].count("person.logout") == 1

    async def test_with_what_is_not_valid_says_nothing_about_it(
        self, api: httpx.AsyncClient, database: Database
    ) -> None:
        key = await make_key(database, await make_client(database))
        answers = [
            await api.post("/auth/logout"),
            await api.post("/auth/logout", json={"refresh_token": "sf_refresh_" + "A" * 43}),
            await api.post("/auth/logout", json={"refresh_token": "x"}),
            await api.post("/auth/logout", headers=bearer("a.b.c")),
            await api.post("/auth/logout", headers=bearer(key)),
            await api.post("/auth/logout", headers={"Authorization": "Basic x"}),
        ]

        assert [answer.status_code for answer in answers] == [204] * 6

    async def test_of_nobody_writes_nothing_and_costs_others_nothing(
        self, api: httpx.AsyncClient, database: Database
    ) -> None:
        """What is known about credentials stays known, and no answer is kept."""
        ended, person = await register(api, database), accepted(await log_in(api))
        await api.post("/auth/logout", json={"refresh_token": ended["refresh_token"]})
        assert await who(api, person["access_token"]) == 200
        looked_up = lookups()
        for number, body in enumerate(
            (
                {},
                {"refresh_token": "x"},
                {"refresh_token": "sf_refresh_" + "A" * 43},
                {"refresh_token": ended["refresh_token"]},
            )
        ):
            for headers in ({}, {"Idempotency-Key": f"key-{number}"}):
                assert (await api.post("/auth/logout", json=body, headers=headers)).status_code == 204
            with_token = bearer(ended["access_token"]) | {"Idempotency-Key": f"token-{number}"}
            assert (await api.post("/auth/logout", headers=with_token)).status_code == 204

        assert await who(api, person["access_token"]) == 200
        assert lookups() == looked_up
        assert await database.pool.fetchval("SELECT count(*) FROM idempotency_keys") == 0

    async def test_of_one_that_is_over_does_not_try_to_end_it(self, api: httpx.AsyncClient, database: Database) -> None:
        body = {"refresh_token": (await register(api, database))["refresh_token"]}
        await api.post("/auth/logout", json=body)
        async with database.transaction() as connection:
            await connection.execute("LOCK TABLE auth_sessions IN EXCLUSIVE MODE")  # to be read only
            assert (await api.post("/auth/logout", json=body)).status_code == 204

    async def test_forgets_the_log_in_that_ended_and_no_other(self, api: httpx.AsyncClient, database: Database) -> None:
        person, other = await register(api, database), accepted(await log_in(api))
        assert [await who(api, each["access_token"]) for each in (person, other)] == [200, 200]
        looked_up = lookups()
        await api.post("/auth/logout", json={"refresh_token": person["refresh_token"]})

        assert await who(api, other["access_token"]) == 200
        assert lookups() == looked_up
        assert await who(api, person["access_token"]) == 401

    async def test_is_counted_by_reason(self, api: httpx.AsyncClient, database: Database) -> None:
        person = await register(api, database)
        reasons = ("unknown_refresh", "session_ended", "malformed", "missing")
        before = [failures(reason) for reason in reasons]
        for _ in range(2):
            await api.post("/auth/logout", json={"refresh_token": person["refresh_token"]})
        await api.post("/auth/logout", json={"refresh_token": "x"})
        await api.post("/auth/logout", headers=bearer("x"))
        await api.post("/auth/logout")

        assert [failures(reason) - count for reason, count in zip(reasons, before, strict=True)] == [1, 1, 1, 1]


class TestLimits:
    @pytest.fixture
    def settings(self) -> Settings:
        return make_settings(
            signing_key=OURS.pem, open_access=False, work_in_process=False, failure_limit="6/1h", login_limit="3/1h"
        )

    async def test_tries_for_one_person_are_limited_right_or_wrong(
        self, api: httpx.AsyncClient, database: Database
    ) -> None:
        await register(api, database)
        await register(api, database, "other@example.com")
        for _ in range(3):
            refused(await log_in(api, password="wrong password!"), 401, "sms.unauthorized")
        response = await log_in(api)

        refused(response, 429, "sms.rate_limited")
        assert int(response.headers["retry-after"]) > 0
        accepted(await log_in(api, "other@example.com"))

    async def test_strangers_elsewhere_lock_nobody_out(
        self, api: httpx.AsyncClient, service: Service, database: Database
    ) -> None:
        await register(api, database)
        for number in range(5):
            async with service.calling_from(f"198.51.100.{number}") as stranger:
                refused(await log_in(stranger, password="wrong password!"), 401, "sms.unauthorized")

        accepted(await log_in(api))

    async def test_log_outs_with_wrong_tokens_count_as_failures(
        self, api: httpx.AsyncClient, database: Database
    ) -> None:
        body = {"refresh_token": "sf_refresh_" + "A" * 43}
        answers = [(await api.post("/auth/logout", json=body)).status_code for _ in range(8)]

        assert answers == [204] * 6 + [429] * 2

    async def test_log_outs_with_nothing_do_not(self, api: httpx.AsyncClient, database: Database) -> None:
        assert {(await api.post("/auth/logout")).status_code for _ in range(8)} == {204}

    async def test_failures_from_one_address_are_limited_whoever_they_are_for(
        self, api: httpx.AsyncClient, database: Database
    ) -> None:
        person = await register(api, database)
        for number in range(6):
            refused(await log_in(api, f"nobody-{number}@example.com"), 401, "sms.unauthorized")
        refused(await log_in(api, "nobody-7@example.com"), 429, "sms.rate_limited")

        refused(await log_in(api), 429, "sms.rate_limited")
        refused(await refresh(api, person["refresh_token"]), 429, "sms.rate_limited")
        assert await who(api, person["access_token"]) == 200
