"""Limits as callers meet them: 429, Retry-After, the RateLimit headers, and batches of which a part is refused."""

import asyncio

import httpx
import pytest

from sms_foundation.core.config import Settings
from sms_foundation.core.db import Database, DatabaseUrl
from tests.support.access import bearer, make_client, make_key
from tests.support.api import Document, Json, refused
from tests.support.service import TENANT_PHONE, Service, make_settings, running_service

OTHER_PHONE = "+14155550199"
RATE_LIMIT_HEADERS = {"ratelimit-limit", "ratelimit-policy", "ratelimit-remaining", "ratelimit-reset"}


@pytest.fixture
def settings() -> Settings:
    return make_settings(work_in_process=False, client_limit="10/1h", number_limit="3/1h")


@pytest.fixture
async def api(service: Service, database: Database) -> httpx.AsyncClient:
    """A client that has used nothing."""
    service.client.headers.update(bearer(await make_key(database, await make_client(database, "campaigns"))))
    return service.client


async def as_client(service: Service, name: str, limit: str | None = None) -> dict[str, str]:
    return bearer(await make_key(service.database, await make_client(service.database, name, limit=limit)))


async def send(api: httpx.AsyncClient, to: str = TENANT_PHONE, **more: object) -> httpx.Response:
    return await api.post("/v1/sms/send", json={"to": to, "message": "Hello", **more})


async def send_batch(api: httpx.AsyncClient, *recipients: str) -> httpx.Response:
    return await api.post("/v1/sms/send/batch", json={"messages": [{"to": to, "message": "Hi"} for to in recipients]})


def phones(count: int) -> list[str]:
    return [f"+1415555{n:04}" for n in range(count)]


async def count(database: Database) -> int:
    return int(await database.pool.fetchval("SELECT count(*) FROM sms_messages"))


def left(response: httpx.Response) -> int:
    assert set(response.headers) >= RATE_LIMIT_HEADERS
    return int(response.headers["ratelimit-remaining"])


class TestClientLimit:
    async def test_every_answer_says_what_is_left_whatever_it_is(self, api: httpx.AsyncClient) -> None:
        answers = [
            await send(api),
            await api.get("/v1/sms"),
            await api.get("/v1/sms/00000000-0000-0000-0000-000000000000"),
            await send(api, to="nobody"),
            await api.post("/sms/send", json={"to": TENANT_PHONE, "body": "Hello"}),
        ]

        assert [each.status_code for each in answers] == [202, 200, 404, 400, 202]
        assert [left(each) for each in answers] == [9, 8, 7, 6, 5]
        assert answers[0].headers["ratelimit-limit"] == "10"
        assert answers[0].headers["ratelimit-policy"] == "10;w=3600"
        assert 0 < int(answers[0].headers["ratelimit-reset"]) <= 360

    async def test_one_too_many_is_429_with_retry_after_and_is_not_done(
        self, api: httpx.AsyncClient, database: Database
    ) -> None:
        answers = [await send(api, to=phone) for phone in phones(11)]

        assert [each.status_code for each in answers] == [202] * 10 + [429]
        error = refused(answers[-1], 429, "sms.rate_limited")
        assert "client" in error["message"]
        assert 300 < int(answers[-1].headers["retry-after"]) <= 360
        assert left(answers[-1]) == 0
        assert await count(database) == 10

    async def test_a_refused_client_is_refused_on_every_route_before_its_body_is_read(
        self, api: httpx.AsyncClient
    ) -> None:
        for _ in range(10):
            await api.get("/v1/sms")

        assert (await api.get("/conversations")).status_code == 429
        assert (await api.post("/v1/sms/send", content=b"{")).status_code == 429

    async def test_other_clients_go_on(self, api: httpx.AsyncClient, service: Service) -> None:
        for _ in range(11):
            answer = await api.get("/v1/sms")
        assert answer.status_code == 429

        assert (await api.get("/v1/sms", headers=await as_client(service, "other"))).status_code == 200

    async def test_clients_have_limits_of_their_own_or_none(self, api: httpx.AsyncClient, service: Service) -> None:
        own = await api.get("/v1/sms", headers=await as_client(service, "large", "500/1s"))
        none = await api.get("/v1/sms", headers=await as_client(service, "free", "off"))

        assert own.headers["ratelimit-policy"] == "500;w=1"
        assert not set(none.headers) & RATE_LIMIT_HEADERS

    async def test_two_instances_count_together(
        self, api: httpx.AsyncClient, settings: Settings, database_url: DatabaseUrl, database: Database
    ) -> None:
        async with running_service(settings, database_url, database) as other:
            other.client.headers.update({"Authorization": api.headers["Authorization"]})
            answers = [await (api, other.client)[n % 2].get("/v1/sms") for n in range(11)]

        assert [each.status_code for each in answers] == [200] * 10 + [429]

    async def test_the_developer_on_this_machine_has_no_limit(self, service: Service) -> None:
        answers = [await service.client.get("/v1/sms") for _ in range(12)]

        assert {each.status_code for each in answers} == {200}
        assert not set(answers[0].headers) & RATE_LIMIT_HEADERS


class TestBatches:
    async def test_count_their_messages(self, api: httpx.AsyncClient) -> None:
        assert left(await send_batch(api, *phones(6))) == 4
        assert left(await send_batch(api, TENANT_PHONE)) == 3

    async def test_one_for_which_there_is_no_room_is_429_and_nothing_of_it_is_stored(
        self, api: httpx.AsyncClient, database: Database
    ) -> None:
        await send_batch(api, *phones(6))
        answer = await send_batch(api, *phones(6))

        refused(answer, 429, "sms.rate_limited")
        assert left(answer) == 3  # the request itself was counted
        assert await count(database) == 6
        assert left(await send_batch(api, *phones(3))) == 0

    async def test_one_larger_than_the_limit_passes_only_for_a_client_that_has_used_nothing(
        self, api: httpx.AsyncClient, database: Database
    ) -> None:
        answer = await send_batch(api, *phones(25))
        again = await send_batch(api, *phones(25))

        assert (answer.status_code, left(answer)) == (202, 0)
        assert again.status_code == 429
        assert await count(database) == 25


class TestNumberLimit:
    @pytest.fixture
    async def api(self, api: httpx.AsyncClient, service: Service) -> httpx.AsyncClient:
        api.headers.update(await as_client(service, "free", "off"))
        return api

    async def test_one_too_many_to_a_number_is_429_and_not_stored(
        self, api: httpx.AsyncClient, database: Database
    ) -> None:
        answers = [await send(api) for _ in range(4)]

        assert [each.status_code for each in answers] == [202] * 3 + [429]
        error = refused(answers[-1], 429, "sms.rate_limited")
        assert "number" in error["message"]
        assert TENANT_PHONE[-4:] in error["message"]
        assert TENANT_PHONE[:8] not in answers[-1].text
        assert 1100 < int(answers[-1].headers["retry-after"]) <= 1200
        assert await count(database) == 3
        assert (await send(api, to=OTHER_PHONE)).status_code == 202

    async def test_all_clients_and_all_ways_in_count_together(self, api: httpx.AsyncClient, service: Service) -> None:
        other = await as_client(service, "other")
        await send(api)
        await api.post("/sms/send", json={"to": TENANT_PHONE, "body": "Hello"}, headers=other)
        await send_batch(api, TENANT_PHONE)

        assert (await api.post("/api/sms", json={"to": TENANT_PHONE, "body": "Hello"})).status_code == 429

    async def test_in_a_batch_those_over_it_fail_alone(self, api: httpx.AsyncClient, database: Database) -> None:
        answer = await send_batch(api, *[TENANT_PHONE] * 4, OTHER_PHONE, TENANT_PHONE)

        assert answer.status_code == 202
        results: list[Json] = answer.json()["results"]
        assert [each["status"] for each in results] == [202, 202, 202, 429, 202, 429]
        assert results[3]["error"]["code"] == "sms.rate_limited"
        assert 1100 < results[3]["error"]["details"]["retry_after_s"] <= 1200
        assert TENANT_PHONE[:8] not in str([each["error"] for each in results])
        assert await count(database) == 4

    async def test_a_repetition_is_answered_as_the_first_time_although_the_number_has_had_enough(
        self, api: httpx.AsyncClient
    ) -> None:
        first = await send(api, idempotency_key="k")
        batch = {"messages": [{"to": TENANT_PHONE, "message": "Hello", "idempotency_key": "k"}]}
        answers = [await send(api) for _ in range(3)]
        assert answers[-1].status_code == 429

        again = await send(api, idempotency_key="k")
        in_batch = await api.post("/v1/sms/send/batch", json=batch)

        assert (again.status_code, again.json()["id"]) == (202, first.json()["id"])
        assert again.headers["x-idempotent-replayed"] == "true"
        assert in_batch.json()["results"][0]["is_replay"]

    async def test_repetitions_use_up_nothing(self, api: httpx.AsyncClient) -> None:
        repeated = [await send(api, idempotency_key="k") for _ in range(4)]
        batch = {"messages": [{"to": TENANT_PHONE, "message": "Hello", "idempotency_key": "k"}] * 2}
        in_batch = await api.post("/v1/sms/send/batch", json=batch)
        others = [await send(api) for _ in range(3)]

        assert {each.json()["id"] for each in repeated} == {repeated[0].json()["id"]}
        assert [each["status"] for each in in_batch.json()["results"]] == [202, 202]
        assert [each.status_code for each in others] == [202, 202, 429]

    async def test_twins_at_the_same_moment_are_one_message(self, api: httpx.AsyncClient) -> None:
        twins = await asyncio.gather(*(send(api, idempotency_key="k") for _ in range(8)))
        others = [await send(api) for _ in range(3)]

        assert {each.json()["id"] for each in twins} == {twins[0].json()["id"]}
        assert [each.status_code for each in others] == [202, 202, 429]

    async def test_another_message_with_a_known_key_is_not_counted(self, api: httpx.AsyncClient) -> None:
        await send(api, idempotency_key="k")
        for n in range(4):
            answer = await send(api, idempotency_key="k", metadata={"n": str(n)})
            assert answer.status_code == 422

        assert [(await send(api)).status_code for _ in range(3)] == [202, 202, 429]

    async def test_a_repeated_batch_uses_up_nothing_but_requests_of_its_client(
        self, api: httpx.AsyncClient, service: Service
    ) -> None:
        api.headers.update(await as_client(service, "paying"))
        batch = {"messages": [{"to": to, "message": "Hello"} for to in (TENANT_PHONE, OTHER_PHONE)]}
        headers = {"Idempotency-Key": "k"}

        answers = [await api.post("/v1/sms/send/batch", json=batch, headers=headers) for _ in range(4)]
        others = [await send(api) for _ in range(3)]

        assert [each.headers.get("x-idempotent-replayed") for each in answers] == [None, "true", "true", "true"]
        assert {each.text for each in answers} == {answers[0].text}
        assert [left(each) for each in answers] == [8, 7, 6, 5]
        assert [each.status_code for each in others] == [202, 202, 429]

    async def test_another_batch_with_the_same_key_uses_up_nothing(self, api: httpx.AsyncClient) -> None:
        for n in range(4):
            batch = {"messages": [{"to": TENANT_PHONE, "message": f"Hello {n}"}]}
            answer = await api.post("/v1/sms/send/batch", json=batch, headers={"Idempotency-Key": "k"})
            assert answer.status_code == (422 if n else 202)

        assert [(await send(api)).status_code for _ in range(3)] == [202, 202, 429]

    async def test_a_wrong_request_is_not_counted(self, api: httpx.AsyncClient) -> None:
        for _ in range(5):
            assert (await send(api, priority="soon")).status_code == 400

        assert (await send(api)).status_code == 202

    async def test_a_client_is_charged_for_what_the_number_refuses(
        self, api: httpx.AsyncClient, service: Service
    ) -> None:
        api.headers.update(await as_client(service, "paying"))
        answers = [await send(api) for _ in range(4)]

        assert answers[-1].status_code == 429
        assert left(answers[-1]) == 6


class TestDocument:
    async def test_429_and_its_headers_are_in_the_api_document(self, service: Service) -> None:
        json = (await service.client.get("/openapi.json")).json()
        document = Document(json)

        for method, path in [("post", "/v1/sms/send"), ("post", "/sms/send"), ("get", "/conversations")]:
            answer = document.paths[path][method]["responses"]["429"]
            assert "Retry-After" in answer["description"]
            assert {name.lower() for name in answer["headers"]} == {*RATE_LIMIT_HEADERS, "retry-after"}


class TestTestKeys:
    @pytest.fixture
    async def free(self, service: Service) -> httpx.AsyncClient:
        service.client.headers.update(await as_client(service, "free", "off"))
        return service.client

    async def test_their_messages_do_not_use_up_what_a_phone_may_get(
        self, free: httpx.AsyncClient, database: Database
    ) -> None:
        test_key = bearer(await make_key(database, "free", is_test=True))
        body = {"to": TENANT_PHONE, "message": "Hello"}
        tests = [await free.post("/v1/sms/send", json=body, headers=test_key) for _ in range(4)]

        assert [each.status_code for each in tests] == [202, 202, 202, 429]
        assert (await send(free)).status_code == 202
