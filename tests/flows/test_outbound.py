"""Texts that go out through the simulator's four providers, with the service and the simulator as processes."""

import asyncio
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pytest

from sms_foundation.core.config import LOCAL_PHONE_NUMBER
from sms_foundation.core.db import Database, DatabaseUrl
from tests.support.access import make_client, make_key
from tests.support.command_line import Result, assert_one_line, run_python
from tests.support.processes import Processes, ServiceProcess, eventually
from tests.support.sending import call, set_fault, start_simulator, summary, true_record

PHONE = "+14155550123"
PROVIDERS = {"twilio", "messagebird", "vonage", "telnyx"}


@dataclass(frozen=True)
class Stage:
    """The service, the simulator, and a shell beside them."""

    service: ServiceProcess
    simulator: ServiceProcess
    processes: Processes
    environment: dict[str, str]
    key: str

    async def send(self, message: str, *, to: str = PHONE, **more: object) -> str:
        """Have a message accepted; returns its id."""
        answer = await call(
            self.service, "POST", "/v1/sms/send", {"to": to, "message": message, **more}, token=self.key
        )
        assert answer.status == 202, answer.body
        return str(answer.json()["request_id"])

    async def history(self, message_id: str) -> dict[str, Any]:
        """Read everything about a message."""
        return dict((await call(self.service, "GET", f"/v1/sms/{message_id}", token=self.key)).json())

    async def until_delivered(self, *message_ids: str) -> list[dict[str, Any]]:
        """Wait until all of these are delivered, and return their histories."""
        found: list[dict[str, Any]] = []

        async def are_delivered() -> bool:
            while len(found) < len(message_ids):
                history = await self.history(message_ids[len(found)])
                if history["status"] != "delivered":
                    return False
                found.append(history)
            return True

        await eventually(are_delivered, f"{len(message_ids)} messages are delivered")
        return found

    async def run(self, *arguments: str, **variables: str) -> Result:
        """Run a command in another terminal of the same machine."""
        environment = self.processes.environment(**{**self.environment, **variables})
        return await run_python(["-m", "sms_foundation", *arguments], environment, self.processes.folder)


@pytest.fixture
async def stage(processes: Processes, database_url: DatabaseUrl, database: Database) -> Stage:
    """What `run` starts, on the test's own database, and open to nobody without a key."""
    port = processes.reserve_port()
    key = await make_key(database, await make_client(database))
    environment = {
        "DATABASE_URL": database_url.dsn,
        "OPEN_ACCESS": "false",
        "SMS_API_KEY": key,
        "UNKNOWN_SETTLE_S": "0.5",
        "WORK_POLL_S": "0.05",
        "PORT": str(port),
        "LOG_FORMAT": "json",
    }
    simulator = await start_simulator(processes, service_port=port)
    environment["SIMULATOR_URL"] = f"http://127.0.0.1:{simulator.port}"
    service = processes.serve(port=port, **environment)
    await service.until_ready()
    return Stage(service, simulator, processes, environment, key)


class TestHistory:
    async def test_of_a_delivered_text_shows_each_step_whoever_carried_it(self, stage: Stage) -> None:
        ids = {name: await stage.send(f"through {name}", provider=name) for name in PROVIDERS}

        histories = {each["provider"]: each for each in await stage.until_delivered(*ids.values())}

        assert histories.keys() == PROVIDERS
        for name, history in histories.items():
            assert history["request_id"] == ids[name]
            steps = [(each["event_status"], each["provider"]) for each in history["events"]]
            assert steps[0] == ("accepted", None)
            assert steps[-1] == ("delivered", name)
            (attempt,) = history["attempts"]
            assert (attempt["number"], attempt["provider"], attempt["outcome"]) == (1, name, "sent")
            assert attempt["reasons"] == {each: "chosen" if each == name else "not_asked_for" for each in PROVIDERS}
            assert attempt["weights"] == {name: 100}
            assert attempt["twilio_sid"] == history["twilio_sid"]
            assert history["created_at"] <= attempt["started_at"] <= attempt["finished_at"] <= history["ended_at"]
        twilio = [(each["event_status"], each["provider"]) for each in histories["twilio"]["events"]]
        assert twilio == [("accepted", None), ("queued", "twilio"), ("sent", "twilio"), ("delivered", "twilio")]

        phone = (await stage.simulator.get(f"/simulator/phones/{PHONE}")).json()
        assert {text["body"] for text in phone["received"]} == {f"through {name}" for name in PROVIDERS}
        assert {text["sender"] for text in phone["received"]} == {LOCAL_PHONE_NUMBER}
        # In the order of acceptance, though each took another way.
        assert [text["body"] for text in reversed(phone["received"])] == [f"through {name}" for name in ids]


class TestFailover:
    async def test_traffic_leaves_a_provider_that_fails_every_call_and_comes_back_when_it_recovers(
        self, stage: Stage, database: Database
    ) -> None:
        await set_fault(stage.simulator, "server_error", provider="twilio")
        phones = [f"+1415555{number:04d}" for number in range(40)]
        ids = [await stage.send("while it fails", to=phone) for phone in phones]
        histories = await stage.until_delivered(*ids)

        carriers = Counter(history["provider"] for history in histories)
        assert carriers.keys() == PROVIDERS - {"twilio"}
        assert min(carriers.values()) >= 8
        tried = [attempt for history in histories for attempt in history["attempts"] if attempt["provider"] == "twilio"]
        assert len(tried) >= 5
        assert {(each["outcome"], each["http_status"]) for each in tried} == {("absent", 503)}
        assert (await summary(stage.simulator))["duplicates"] == 0
        # From now on nobody tries it at all.
        (later,) = await stage.until_delivered(await stage.send("when it is known to fail"))
        assert [attempt["reasons"]["twilio"] for attempt in later["attempts"]] in (["circuit_open"], ["unhealthy"])
        shown = await stage.run("providers")
        assert shown.status == 0
        assert "twilio: circuit: closed -> open" in " ".join(shown.out.replace(" twilio  ", " twilio: ").split())

        await call(stage.simulator, "DELETE", "/simulator/faults")
        # Half a minute later, and the rest of an unhealthy provider over.
        await database.pool.execute("UPDATE sms_providers SET circuit_until = now(), unhealthy_until = NULL")
        await database.pool.execute("DELETE FROM sms_provider_windows")  # five minutes old by then

        async def is_back() -> bool:
            await stage.until_delivered(await stage.send("is it back?"))
            return bool(
                await database.pool.fetchval("SELECT circuit = 'closed' FROM sms_providers WHERE name = 'twilio'")
            )

        await eventually(is_back, "the circuit is closed again")
        await asyncio.sleep(1.1)  # states are cached for a second
        histories = await stage.until_delivered(*[await stage.send("it is back", to=phone) for phone in phones])

        carriers = Counter(history["provider"] for history in histories)
        assert carriers.keys() == PROVIDERS
        assert carriers["twilio"] >= 8
        assert not any(len(history["attempts"]) > 1 for history in histories)
        changes = await database.pool.fetch(
            "SELECT old, new, reason FROM sms_provider_changes WHERE provider = 'twilio' AND what = 'circuit' "
            "ORDER BY id"
        )
        assert [(row["old"], row["new"]) for row in changes] == [
            ("closed", "open"),
            ("open", "probing"),
            ("probing", "closed"),
        ]
        assert all(row["reason"] for row in changes)
        sent = [(row["recipient"], row["body"]) for row in await true_record(stage.simulator) if "?" not in row["body"]]
        assert len(set(sent)) == len(sent) == 81


class TestSendCommand:
    async def test_shows_each_step_until_the_text_is_delivered(self, stage: Stage) -> None:
        result = await stage.run("send", "--to", PHONE, "--provider", "twilio", "Your plumber comes at 10.")

        assert (result.status, result.err) == (0, "")
        first, *steps = result.lines
        assert first.startswith("accepted as ")
        assert first.endswith(": 1 x GSM-7")
        texts = [step.partition(" s  ")[2] for step in steps]
        assert texts[0] == "accepted"
        assert texts[1].startswith("attempt 1 through twilio: sent in ")
        assert texts[2:] == ["queued, says twilio", "sent, says twilio", "delivered, says twilio"]
        phone = (await stage.simulator.get(f"/simulator/phones/{PHONE}")).json()
        assert [text["body"] for text in phone["received"]] == ["Your plumber comes at 10."]
        shown = await stage.run("simulator", "--port", str(stage.simulator.port), "phone", PHONE)
        assert "Your plumber comes at 10." in shown.out

    async def test_says_why_a_text_did_not_arrive_or_was_refused_and_what_to_do(self, stage: Stage) -> None:
        await set_fault(stage.simulator, "carrier_error", number="+14155550199")
        to = ("send", "--to")

        lost, refused, token, nobody, stranger, later = await asyncio.gather(
            stage.run(*to, "+14155550199", "Hello"),
            stage.run(*to, "12", "Hello"),
            stage.run(*to, PHONE, "Hello", SMS_API_KEY="s3cr3t"),
            stage.run(*to, PHONE, "Hello", "--url", "http://127.0.0.1:1"),
            stage.run(*to, PHONE, "Hello", "--url", f"http://127.0.0.1:{stage.simulator.port}/monitor"),
            stage.run(*to, PHONE, "Hello", "--wait", "0"),
        )

        assert_one_line(lost, "undelivered")
        assert "says" in lost.lines[-1]
        assert_one_line(refused, "to: ", "is not a phone number")
        assert_one_line(token, "SMS_API_KEY")
        assert_one_line(nobody, "sms-foundation run", "--url")
        assert stranger.status == 1
        assert (later.status, len(later.lines)) == (0, 1)

    async def test_with_a_test_key_nothing_leaves_the_house(self, stage: Stage, database: Database) -> None:
        key = await make_key(database, "tests", is_test=True)

        sent, refused = await asyncio.gather(
            stage.run("send", "--to", PHONE, "--provider", "twilio", "A test.", SMS_API_KEY=key),
            stage.run("send", "--to", "+15005550012", "A test.", SMS_API_KEY=key),
        )

        assert sent.status == 0, sent
        steps = [line.partition(" s  ")[2] for line in sent.lines[1:]]
        assert steps[-1] == "delivered, says simulated"
        assert any(step.startswith("attempt 1 through simulated: sent") for step in steps)
        assert_one_line(refused, "undelivered", "Unreachable destination handset")
        await stage.until_delivered(await stage.send("no test"))
        assert [row["body"] for row in await true_record(stage.simulator)] == ["no test"]
