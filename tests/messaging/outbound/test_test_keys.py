"""A test key never reaches a real provider: its sends go to the simulated one, marked as such; live ones never do."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from sms_foundation.core.clock import utc_now
from sms_foundation.core.db import Database, DatabaseUrl
from sms_foundation.core.work.queue import Priority, Work
from sms_foundation.messaging.delivery import ReceiptStore
from sms_foundation.messaging.ingest import MessageStore
from sms_foundation.messaging.jobs import SEND_MESSAGE, SEND_TEST_MESSAGE
from sms_foundation.messaging.outbound.health import CircuitState, ProviderState
from sms_foundation.messaging.outbound.pace import Pace
from sms_foundation.messaging.outbound.placing import Draft, Placer
from sms_foundation.messaging.outbound.policy import SendingPolicy
from sms_foundation.messaging.outbound.provider_states import ProviderStates
from sms_foundation.messaging.outbound.reconcile import Reconciliation, Report
from sms_foundation.messaging.outbound.routing import Choice
from sms_foundation.messaging.outbound.store import AttemptOutcome, DueMessage, PastAttempt
from sms_foundation.providers.base import MessageStatus
from sms_foundation.providers.config import ProviderConfig
from sms_foundation.providers.simulated.adapter import SIMULATED, SIMULATED_SENDER
from tests.support.access import bearer, make_client, make_key
from tests.support.api import Json, refused
from tests.support.outbound import (
    PHONE,
    SENDER,
    HttpProvider,
    ScriptedRates,
    accept,
    attempts,
    events,
    expire_leases,
    http_providers,
    make_due,
    message,
    outcomes,
    phones,
    refusing,
    request,
    sending,
    status,
    until_status,
    until_taken,
    work_rows,
)
from tests.support.processes import eventually
from tests.support.service import Service, make_settings, running_service

UNREACHABLE, OPTED_OUT, NOT_A_NUMBER = "+15005550012", "+15005550004", "+15005550001"
TAKEN_AT_THE_THIRD_CALL, NEVER_TAKEN, SILENT = "+15005550013", "+15005550014", "+15005550015"


@dataclass
class Stage:
    """A running service with two real providers, and one client that has a live and a test key."""

    service: Service
    a: HttpProvider
    b: HttpProvider
    live: dict[str, str]
    test: dict[str, str]

    @property
    def database(self) -> Database:
        return self.service.database

    async def call(self, method: str, path: str, headers: dict[str, str], body: object = None) -> httpx.Response:
        return await self.service.client.request(method, path, headers=headers, json=body)

    async def send(self, headers: dict[str, str], message: str = "Hello", **more: object) -> Json:
        response = await self.call("POST", "/v1/sms/send", headers, {"to": PHONE, "message": message, **more})
        assert response.status_code == 202, response.text
        return dict(response.json())

    async def show(self, message_id: str) -> Json:
        return dict((await self.call("GET", f"/v1/sms/{message_id}", self.live)).json())

    async def until(self, message_id: str, *wanted: str) -> Json:
        await until_status(self.database, UUID(message_id), *wanted)
        return await self.show(message_id)

    def reached(self) -> list[str]:
        """What the real providers were asked for, of whatever sort."""
        calls = [each.body for provider in (self.a, self.b) for each in provider.handed]
        return calls + [each for provider in (self.a, self.b) for each in provider.asked]


@pytest.fixture
async def stage(database: Database, database_url: DatabaseUrl) -> AsyncIterator[Stage]:
    client = await make_client(database, "rent")
    live = bearer(await make_key(database, client))
    test = bearer(await make_key(database, client, is_test=True))
    async with http_providers(a := HttpProvider("a"), b := HttpProvider("b")):
        settings = make_settings(providers=orjson.dumps([a.entry, b.entry]).decode(), unknown_settle_s=0.2)
        async with running_service(settings, database_url, database) as service:
            yield Stage(service, a, b, live, test)


class TestEverySend:
    async def test_with_a_test_key_goes_to_the_simulated_provider_and_to_no_other(self, stage: Stage) -> None:
        soon = (datetime.now(UTC) + timedelta(seconds=0.3)).isoformat()
        sent = [
            await stage.send(stage.test),
            await stage.send(stage.test, provider="a", sender_id=SENDER),
            await stage.send(stage.test, provider="b", priority="urgent", to="+14155550124"),
            await stage.send(stage.test, priority="bulk", idempotency_key="k", content_retention="hash"),
            await stage.send(stage.test, send_at=soon, to="+14155550125"),
        ]
        for path, to, text in (
            ("/sms/send", "to", "body"),
            ("/api/sms", "phone", "text"),
            ("/messages/send", "to", "body"),
        ):
            answer = await stage.call("POST", path, stage.test, {to: PHONE, text: "Hi"})
            assert answer.status_code == 202
            sent.append({"request_id": answer.json()["id"], "is_test": True})
        messages = [{"to": PHONE, "message": "one"}, {"to": PHONE, "message": "two", "provider": "a"}]
        batch = await stage.call("POST", "/v1/sms/send/batch", stage.test, {"messages": messages})
        sent += [each["sms"] for each in batch.json()["results"]]

        assert all(each["is_test"] is True for each in sent)
        for each in sent:
            shown = await stage.until(each["request_id"], "delivered")
            assert (shown["is_test"], shown["provider"], shown["client_id"]) == (True, SIMULATED, "rent")
            [attempt] = shown["attempts"]
            assert (attempt["provider"], attempt["reasons"]) == (SIMULATED, {SIMULATED: "chosen"})
            assert [event["event_status"] for event in shown["events"]] == ["accepted", "delivered"]
        assert stage.reached() == []

    async def test_with_a_live_key_of_the_same_client_goes_to_real_ones_and_never_there(self, stage: Stage) -> None:
        sent = [await stage.send(stage.live, str(number), to=phone) for number, phone in enumerate(phones(6))]
        await until_taken(stage.database, *(UUID(each["request_id"]) for each in sent))
        shown = [await stage.show(each["request_id"]) for each in sent]
        assert {each["provider"] for each in shown} == {"a", "b"}
        assert not any(each["is_test"] for each in (*sent, *shown))
        assert not any(SIMULATED in each["attempts"][0]["reasons"] for each in shown)

    async def test_is_from_the_sender_asked_for_or_the_one_of_tests(self, stage: Stage) -> None:
        asked = await stage.send(stage.test, sender_id="ACME")
        other = await stage.send(stage.test)
        assert (await stage.until(asked["request_id"], "delivered"))["from_number"] == "ACME"
        assert (await stage.until(other["request_id"], "delivered"))["from_number"] == SIMULATED_SENDER

    async def test_may_wait_for_its_end(self, stage: Stage) -> None:
        waiting = stage.test | {"Prefer": "wait=10"}
        answer = await stage.send(waiting)
        assert (answer["status"], answer["twilio_sid"][:3]) == ("delivered", "SIM")
        body = {"to": NOT_A_NUMBER, "message": "Hello"}
        error = refused(await stage.call("POST", "/v1/sms/send", waiting, body), 400, "sms.refused")
        assert error["details"]["category"] == "invalid_recipient"

    async def test_simulated_provider_cannot_be_asked_for(self, stage: Stage) -> None:
        for headers in (stage.live, stage.test):
            body = {"to": PHONE, "message": "Hello", "provider": SIMULATED}
            refused(await stage.call("POST", "/v1/sms/send", headers, body), 400, "sms.validation_error", "provider")

    async def test_needs_no_configured_provider(self, database: Database, database_url: DatabaseUrl) -> None:
        key = bearer(await make_key(database, await make_client(database), is_test=True))
        settings = make_settings(app_env="development")
        async with running_service(settings, database_url, database) as service:
            answer = await service.client.post("/v1/sms/send", json={"to": PHONE, "message": "Hi"}, headers=key)
            await until_status(database, UUID(answer.json()["request_id"]), "delivered")


class TestHistory:
    async def test_shows_tests_among_the_others_and_marked(self, stage: Stage) -> None:
        test, live = await stage.send(stage.test, "a test"), await stage.send(stage.live, "no test")
        page = (await stage.call("GET", f"/conversations/{PHONE}", stage.live)).json()
        assert [(each["message_content"], each["is_test"]) for each in page["messages"]] == [
            ("no test", False),
            ("a test", True),
        ]
        for answer, is_test in ((test, True), (live, False)):
            shown = (await stage.call("GET", f"/messages/{answer['request_id']}", stage.live)).json()
            assert shown["is_test"] is is_test

    async def test_list_has_both_only_tests_or_only_others(self, stage: Stage) -> None:
        await stage.send(stage.test, "a test")
        await stage.send(stage.live, "no test")

        async def listed(**query: str) -> list[tuple[str, bool]]:
            response = await stage.service.client.get("/v1/sms", params=query, headers=stage.live)
            assert response.status_code == 200, response.text
            return [(each["message"], each["is_test"]) for each in response.json()["messages"]]

        assert await listed() == [("no test", False), ("a test", True)]
        assert await listed(is_test="true") == [("a test", True)]
        assert await listed(is_test="false") == [("no test", False)]
        assert await listed(is_test="true", direction="inbound") == []
        response = await stage.service.client.get("/v1/sms", params={"is_test": "perhaps"}, headers=stage.live)
        refused(response, 400, "sms.validation_error", "is_test")


class TestNumbers:
    async def test_that_something_happens_to(self, stage: Stage) -> None:
        ids = {
            number: (await stage.send(stage.test, to=number))["request_id"]
            for number in (NOT_A_NUMBER, OPTED_OUT, UNREACHABLE, "+15005550011", SILENT)
        }
        undelivered = await stage.until(ids[UNREACHABLE], "undelivered")
        assert (undelivered["error_code"], undelivered["error_message"]) == ("30003", "Unreachable destination handset")
        assert undelivered["ended_at"] is not None
        for number, code in ((NOT_A_NUMBER, "21211"), (OPTED_OUT, "21610")):
            shown = await stage.until(ids[number], "failed")
            assert (shown["error_code"], shown["attempts"][0]["outcome"]) == (code, "refused")
        assert (await stage.until(ids["+15005550011"], "sent"))["ended_at"] is None
        shown = await stage.until(ids[SILENT], "delivered")
        assert [each["event_status"] for each in shown["events"]] == ["accepted", "unknown", "delivered"]
        assert stage.reached() == []

    async def test_that_are_tried_again(self, database: Database, database_url: DatabaseUrl) -> None:
        patient, hopeless = await accept(
            database,
            request(TAKEN_AT_THE_THIRD_CALL, is_test=True, client_id="x"),
            request(NEVER_TAKEN, is_test=True, client_id="y"),
        )
        async with http_providers(a := HttpProvider("a")), sending(database_url, [a], is_running=False) as process:
            for _ in range(8):
                await make_due(database)
                await process.run(await process.claim())
        assert await outcomes(database, patient) == [(SIMULATED, "failed")] * 2 + [(SIMULATED, "sent")]
        assert await status(database, patient) == "delivered"
        assert await outcomes(database, hopeless) == [(SIMULATED, "failed")] * 6
        assert await status(database, hopeless) == "failed"
        assert a.handed == []


class TestRetry:
    async def test_with_a_live_key_never_makes_a_live_message_of_a_test(self, stage: Stage) -> None:
        for body in ({"to": NOT_A_NUMBER}, {"to": OPTED_OUT, "provider": "a"}):
            sent = await stage.send(stage.test, **body)
            await stage.until(sent["request_id"], "failed")
            await stage.call("POST", f"/v1/sms/{sent['request_id']}/retry", stage.live)
            await stage.service.finish_work(SEND_TEST_MESSAGE, SEND_MESSAGE)
            shown = await stage.show(sent["request_id"])
            assert (shown["status"], shown["is_test"]) == ("failed", True)
            assert [each["provider"] for each in shown["attempts"]] == [SIMULATED, SIMULATED]
        assert stage.reached() == []

    async def test_with_a_test_key_brings_a_test_back(self, stage: Stage) -> None:
        sent = await stage.send(stage.test, to=NEVER_TAKEN)

        async def was_given_up() -> bool:
            await make_due(stage.database)
            return await status(stage.database, UUID(sent["request_id"])) == "failed"

        await eventually(was_given_up, "the message is given up")
        await stage.database.pool.execute("UPDATE sms_messages SET to_number = $1", TAKEN_AT_THE_THIRD_CALL)
        response = await stage.call("POST", f"/v1/sms/{sent['request_id']}/retry", stage.test)
        assert (response.status_code, response.json()["is_test"]) == (200, True)
        await stage.until(sent["request_id"], "delivered")
        assert stage.reached() == []


class TestControlWithATestKey:
    @pytest.fixture
    async def scheduled(self, stage: Stage) -> tuple[str, str]:
        """A live message for tomorrow, and a test."""
        later = (datetime.now(UTC) + timedelta(days=1)).isoformat()
        live, test = [await stage.send(headers, send_at=later) for headers in (stage.live, stage.test)]
        return live["request_id"], test["request_id"]

    async def test_of_a_live_message_is_as_if_there_were_none(self, stage: Stage, scheduled: tuple[str, str]) -> None:
        live, _ = scheduled
        before = await stage.show(live)
        moved = {"send_at": (datetime.now(UTC) + timedelta(days=2)).isoformat()}
        for method, path, body in (("PATCH", "", moved), ("POST", "/cancel", None), ("POST", "/retry", None)):
            response = await stage.call(method, f"/v1/sms/{live}{path}", stage.test, body)
            nobody = await stage.call(method, f"/v1/sms/01a1f942-d8ca-72d7-8729-30bcf12788d0{path}", stage.test, body)
            assert refused(response, 404, "sms.not_found")["message"] == nobody.json()["error"]["message"]
        assert await stage.show(live) == before

    async def test_of_a_test_works_as_of_any(self, stage: Stage, scheduled: tuple[str, str]) -> None:
        _, test = scheduled
        at = (datetime.now(UTC) + timedelta(days=2)).replace(microsecond=0)
        moved = await stage.call("PATCH", f"/v1/sms/{test}", stage.test, {"send_at": at.isoformat()})
        assert moved.json()["send_at"] == at.isoformat().replace("+00:00", "Z")
        assert (await stage.call("POST", f"/v1/sms/{test}/cancel", stage.test)).json()["status"] == "canceled"
        assert [row["ref_id"] for row in await work_rows(stage.database) if row["ref_id"] == UUID(test)] == []

    async def test_canceled_before_it_went_leaves_no_work(self, database: Database, database_url: DatabaseUrl) -> None:
        key = bearer(await make_key(database, await make_client(database), is_test=True))
        settings = make_settings(work_in_process=False)
        async with running_service(settings, database_url, database) as service:
            answer = await service.client.post("/v1/sms/send", json={"to": PHONE, "message": "Hi"}, headers=key)
            id_ = answer.json()["request_id"]
            assert [row["kind"] for row in await work_rows(database) if row["ref_id"] == UUID(id_)] == [
                SEND_TEST_MESSAGE
            ]
            assert (await service.client.post(f"/v1/sms/{id_}/cancel", headers=key)).status_code == 200
        assert [row for row in await work_rows(database) if row["ref_id"] == UUID(id_)] == []


class TestIdempotency:
    @pytest.mark.parametrize("is_test_first", [True, False])
    async def test_key_of_a_test_is_no_replay_with_a_live_key_nor_the_reverse(
        self, stage: Stage, is_test_first: bool
    ) -> None:
        first, second = (stage.test, stage.live) if is_test_first else (stage.live, stage.test)
        sent = await stage.send(first, idempotency_key="k")
        body = {"to": PHONE, "message": "Hello"}
        for path in ("/v1/sms/send", "/sms/send"):
            response = await stage.call("POST", path, second | {"Idempotency-Key": "k"}, body)
            refused(response, 422, "sms.idempotency_conflict")
        keyed = {"messages": [body | {"idempotency_key": "k"}]}
        [item] = (await stage.call("POST", "/v1/sms/send/batch", second, keyed)).json()["results"]
        assert item["status"] == 422
        again = await stage.call("POST", "/v1/sms/send", first, body | {"idempotency_key": "k"})
        assert again.headers["x-idempotent-replayed"] == "true"
        assert (again.json()["request_id"], again.json()["is_test"]) == (sent["request_id"], is_test_first)
        assert await stage.database.pool.fetchval("SELECT count(*) FROM sms_messages") == 1


class TestOrder:
    async def test_neither_waits_for_the_other_at_the_same_phone(
        self, database: Database, database_url: DatabaseUrl
    ) -> None:
        async with http_providers(a := HttpProvider("a", answer=refusing("busy", 503))):
            stuck, test = await accept(database, request(content="stuck"), request(content="test", is_test=True))
            async with sending(database_url, [a]):
                await until_status(database, test, "delivered")
                assert await status(database, stuck) in ("accepted", "sending", "queued")
        async with http_providers(a := HttpProvider("a")):
            await database.pool.execute("DELETE FROM work")
            stuck, live = await accept(
                database, request(NEVER_TAKEN, "stuck", is_test=True), request(NEVER_TAKEN, "live", client_id="z")
            )
            async with sending(database_url, [a]):
                await until_taken(database, live)
            assert [each.body for each in a.handed] == ["live"]
            assert (await message(database, stuck))["provider_message_id"] is None

    async def test_tests_to_one_phone_keep_theirs(self, database: Database, database_url: DatabaseUrl) -> None:
        ids = await accept(database, *(request(content=str(number), is_test=True) for number in range(5)))
        async with http_providers(a := HttpProvider("a")), sending(database_url, [a]):
            for id_ in ids:
                await until_status(database, id_, "delivered")
        at = [(await attempts(database, id_))[0]["started_at"] for id_ in ids]
        assert at == sorted(at)
        assert len(set(at)) == 5

    async def test_tests_go_while_every_real_provider_is_down(
        self, database: Database, database_url: DatabaseUrl
    ) -> None:
        async with http_providers(a := HttpProvider("a", answer=refusing("suspended", 403))):
            await accept(database, *(request(phone) for phone in phones(20)))
            tests = await accept(database, *(request(phone, is_test=True) for phone in phones(20)))
            async with sending(database_url, [a]):
                for id_ in tests:
                    await until_status(database, id_, "delivered")


class TestDeath:
    async def test_between_attempt_and_outcome_is_found_out_without_a_real_provider(
        self, database: Database, database_url: DatabaseUrl
    ) -> None:
        requests = [request(is_test=True), request("+14155550124", is_test=True, provider="a")]
        ids = await accept(database, *requests)
        policy = SendingPolicy(settle_after=timedelta(0))
        async with http_providers(a := HttpProvider("a"), b := HttpProvider("b")):
            async with sending(database_url, [a, b], is_running=False) as dying:
                for work in await dying.claim():
                    await dying.begin(work)
            await expire_leases(database)
            async with sending(database_url, [a, b], policy=policy):
                for id_ in ids:
                    await until_status(database, id_, "delivered")
        for id_ in ids:
            assert await outcomes(database, id_) == [(SIMULATED, "sent")]
            assert await events(database, id_) == ["unknown", "delivered"]
        assert (a.handed, a.asked, b.handed, b.asked) == ([], [], [], [])

    async def test_of_one_that_would_not_have_been_taken_is_tried_again(
        self, database: Database, database_url: DatabaseUrl
    ) -> None:
        (id_,) = await accept(database, request(NOT_A_NUMBER, is_test=True))
        async with http_providers(a := HttpProvider("a")):
            async with sending(database_url, [a], is_running=False) as dying:
                for work in await dying.claim():
                    await dying.begin(work)
            await expire_leases(database)
            async with sending(
                database_url, [a], policy=SendingPolicy(settle_after=timedelta(0)), is_running=False
            ) as p:
                for _ in range(3):
                    await make_due(database)
                    await p.run(await p.claim())
        assert await outcomes(database, id_) == [(SIMULATED, "absent"), (SIMULATED, "refused")]
        assert (a.handed, a.asked) == ([], [])


class TestGuards:
    async def test_database_refuses_to_note_a_real_provider_for_a_test_and_the_reverse(
        self, database: Database
    ) -> None:
        live, test = await accept(database, request(), request(is_test=True))
        for id_, provider in ((test, "a"), (live, SIMULATED)):
            with pytest.raises(asyncpg.CheckViolationError, match="is_test"):
                await database.pool.execute("UPDATE sms_messages SET provider = $2 WHERE id = $1", id_, provider)

    async def test_row_of_work_that_an_older_process_released_sends_no_test_for_real(
        self, database: Database, database_url: DatabaseUrl
    ) -> None:
        (id_,) = await accept(database, request(is_test=True))
        await database.pool.execute("UPDATE work SET kind = $1, order_key = $2", SEND_MESSAGE, f"{PHONE}/1")
        async with http_providers(a := HttpProvider("a")), sending(database_url, [a]):
            await until_status(database, id_, "delivered")
        assert (await outcomes(database, id_), a.handed) == ([(SIMULATED, "sent")], [])


class TestWhatIsTheSame:
    async def test_phone_that_opted_out_gets_no_tests_and_time_runs_out(
        self, database: Database, database_url: DatabaseUrl
    ) -> None:
        await database.pool.execute(
            "INSERT INTO sms_opt_outs (phone_number_canonical, sender, source) VALUES ($1, $2, 'keyword')",
            PHONE,
            SENDER,
        )
        opted_out, late = await accept(
            database,
            request(is_test=True),
            request("+14155550124", is_test=True, expires_at=utc_now() - timedelta(seconds=1)),
        )
        async with http_providers(a := HttpProvider("a")), sending(database_url, [a]):
            await until_status(database, opted_out, "failed")
            await until_status(database, late, "expired")
        assert (await message(database, opted_out))["error_code"] == "opted_out"
        assert a.handed == []

    async def test_number_that_refuses_tests_is_not_opted_out(
        self, database: Database, database_url: DatabaseUrl
    ) -> None:
        (test,) = await accept(database, request(OPTED_OUT, is_test=True))
        async with http_providers(a := HttpProvider("a")), sending(database_url, [a]):
            await until_status(database, test, "failed")
            assert await database.pool.fetchval("SELECT count(*) FROM sms_opt_outs") == 0
            (live,) = await accept(database, request(OPTED_OUT, client_id="z"))
            await until_taken(database, live)
        assert len(a.handed) == 1


class TestReconciliation:
    async def test_asks_no_real_provider_about_tests_and_does_not_stumble_over_them(
        self, database: Database, database_url: DatabaseUrl, receipts: ReceiptStore, messages: MessageStore
    ) -> None:
        silent, forgetful = await accept(
            database,
            request("+15005550011", is_test=True),
            request("+14155550124", is_test=True, content_retention="hash"),
        )
        async with http_providers(a := HttpProvider("a")), sending(database_url, [a]) as process:
            await until_status(database, silent, "sent")
            await until_status(database, forgetful, "delivered")
            await database.pool.execute("UPDATE sms_messages SET poll_at = now() WHERE poll_at IS NOT NULL")
            carriers = process.dispatcher._providers
            reconciliation = Reconciliation(
                database,
                carriers,
                process.states,
                receipts,
                messages,
                SendingPolicy(),
                every=timedelta(minutes=15),
                default_region="US",
            )
            report = Report()
            await reconciliation.redact_due(report)
            await reconciliation.poll_due(report)
            await reconciliation.fetch_inbound(utc_now() - timedelta(hours=1), report)

        assert (report.asked, report.unanswered, report.repaired_statuses, report.errors) == (1, 0, 0, {})
        assert (a.handed, a.asked) == ([], [])
        assert (await message(database, forgetful))["message_content"].startswith("sha256:")
        assert (await message(database, silent))["poll_at"] > utc_now()

    @pytest.fixture
    async def receipts(self, database: Database) -> AsyncIterator[ReceiptStore]:
        store = ReceiptStore(database, timeout_s=20)
        yield store
        await store.close()

    @pytest.fixture
    async def messages(self, database: Database) -> AsyncIterator[MessageStore]:
        store = MessageStore(
            database, lease_token=UUID(int=1), lease=timedelta(seconds=60), room=lambda: 0, timeout_s=20
        )
        yield store
        await store.close()


class TestOperations:
    async def test_tests_that_fail_are_no_trouble_of_ours(self, stage: Stage) -> None:
        def ended() -> float:
            return sum(
                sample.value
                for metric in REGISTRY.collect()
                for sample in metric.samples
                if sample.name == "sms_messages_ended_total"
            )

        before = ended()
        sent = await stage.send(stage.test, to=NEVER_TAKEN)
        await stage.send(stage.test, to=NOT_A_NUMBER)

        async def is_dead() -> bool:
            await make_due(stage.database)
            states = {row["ref_id"]: row["state"] for row in await work_rows(stage.database)}
            return states.get(UUID(sent["request_id"])) == "dead"

        await eventually(is_dead, "the message is given up")
        health = (await stage.call("GET", "/health", {})).json()
        work, providers = health["dependencies"]["work"], health["dependencies"]["providers"]
        assert (work["state"], work["dead"]) == ("ok", 0)
        states = {name: each["state"] for name, each in providers["providers"].items()}
        assert states == {"a": "available", "b": "available"}
        assert ended() == before

    async def test_simulated_provider_has_no_state_and_no_webhooks(self, stage: Stage) -> None:
        await stage.until((await stage.send(stage.test))["request_id"], "delivered")
        rows = await stage.database.pool.fetch("SELECT name FROM sms_providers ORDER BY name")
        assert [row["name"] for row in rows] == ["a", "b"]
        assert (await stage.service.client.post(f"/webhook/{SIMULATED}/sms")).status_code == 404
        paths = (await stage.service.client.get("/openapi.json")).json()["paths"]
        assert not [path for path in paths if SIMULATED in path]


NAMES = ("a", "b", "c")
CONFIGS = st.lists(
    st.builds(
        ProviderConfig,
        name=st.sampled_from(NAMES),
        weight=st.sampled_from((0, 1, 100)),
        senders=st.sampled_from(((), (SENDER,), (SENDER, "ACME"))),
        countries=st.none() | st.sampled_from((frozenset({"US"}), frozenset({"DE"}))),
        has_media=st.booleans(),
        allows_short_codes=st.booleans(),
        sender_rates=st.just({"*": None}),
    ),
    unique_by=lambda config: config.name,
    max_size=3,
)
STATES = st.builds(
    ProviderState,
    circuit=st.sampled_from((CircuitState.CLOSED, CircuitState.OPEN)),
    circuit_until=st.just(datetime(2100, 1, 1, tzinfo=UTC)),  # nothing to probe: that is the database's to allow
    unhealthy_until=st.none() | st.just(datetime(2100, 1, 1, tzinfo=UTC)),
)


def _failed(provider: str) -> PastAttempt:
    return PastAttempt(1, provider, SENDER, AttemptOutcome.FAILED, datetime(2026, 11, 20, tzinfo=UTC), 5.0, None)


@st.composite
def due_messages(draw: Callable[..., Any]) -> DueMessage:
    number = draw(st.integers(1, 2**64))
    return DueMessage(
        id=UUID(int=number),
        status=MessageStatus.ACCEPTED,
        provider_message_id=None,
        recipient=draw(st.sampled_from((PHONE, "+4915735980000", "12345", NOT_A_NUMBER))),
        sender=draw(st.sampled_from((None, SENDER, "ACME"))),
        provider=draw(st.sampled_from((None, *NAMES, "gone"))),
        content="Hi",
        media_urls=draw(st.sampled_from(((), ("https://m/1",)))),
        num_segments=draw(st.integers(0, 3)),
        priority=draw(st.sampled_from(Priority)),
        client_id="rent",
        content_retention="full",
        is_test=draw(st.booleans()),
        wanted_at=datetime(2026, 11, 20, tzinfo=UTC),
        left_s=draw(st.sampled_from((None, 5.0))),
        is_opted_out=False,
        attempts=tuple(map(_failed, draw(st.lists(st.sampled_from(NAMES), max_size=2)))),
        requeued_at=None,
    )


class TestPlacing:
    @given(configs=CONFIGS, states=st.lists(STATES, min_size=3, max_size=3), messages=st.lists(due_messages()))
    async def test_tests_are_placed_at_the_simulated_provider_and_live_ones_at_any_other_or_none(
        self, database: Database, configs: list[ProviderConfig], states: list[ProviderState], messages: list[DueMessage]
    ) -> None:
        known = ProviderStates(database, [config.name for config in configs])
        for config, state in zip(configs, states, strict=False):
            known._cache.states[config.name] = state
        placer = Placer(configs, known, Pace(ScriptedRates([]), configs))
        drafts = [
            Draft(Work(index, SEND_MESSAGE, each.id, 1, UUID(int=1)), each, None) for index, each in enumerate(messages)
        ]

        left_out = await placer.place(drafts)

        for draft in drafts:
            if draft.message.is_test:
                assert isinstance(draft.choice, Choice)
                assert draft.choice.provider == SIMULATED
                assert draft.work.id not in left_out
            else:
                assert draft.choice is None or draft.choice.provider in {config.name for config in configs}
                assert (draft.choice is None) == (draft.work.id in left_out)
