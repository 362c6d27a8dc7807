"""Messages sent through a service that runs as a process, and what the simulator knows of them."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from sms_foundation.core.config import LOCAL_ACCOUNT_SID, LOCAL_AUTH_TOKEN, LOCAL_PHONE_NUMBER
from sms_foundation.core.local_accounts import LOCAL_MESSAGEBIRD_ACCESS_KEY, LOCAL_MESSAGEBIRD_SIGNING_KEY
from tests.support.http_connection import Answer, HalfAnswerError, RefusedError
from tests.support.processes import Processes, ServiceProcess, eventually

_JSON = {"Content-Type": "application/json"}


def unlimited_providers(simulator: ServiceProcess) -> str:
    """PROVIDERS: the simulator's Twilio and MessageBird, which can both be asked what they have; no rates."""
    url = f"http://127.0.0.1:{simulator.port}"
    common = {"senders": [LOCAL_PHONE_NUMBER], "rate_per_s": None, "sender_rates": {"*": None}}
    twilio = {"account_sid": LOCAL_ACCOUNT_SID, "auth_token": LOCAL_AUTH_TOKEN, "api_base_url": url}
    messagebird = {
        "access_key": LOCAL_MESSAGEBIRD_ACCESS_KEY,
        "signing_key": LOCAL_MESSAGEBIRD_SIGNING_KEY,
        "api_base_url": f"{url}/messagebird",
    }
    accounts = [
        {"kind": "twilio", "name": "twilio", **twilio, **common},
        {"kind": "messagebird", "name": "messagebird", **messagebird, **common},
    ]
    return orjson.dumps(accounts).decode()


async def start_simulator(processes: Processes, *, service_port: int, **environment: str) -> ServiceProcess:
    """Start the simulator of a service that is, or will be, on `service_port`."""
    simulator = processes.serve_simulator(port=processes.reserve_port(), PORT=str(service_port), **environment)
    await simulator.until_status("/simulator/received/summary", 200)
    return simulator


async def call(
    service: ServiceProcess, method: str, target: str, body: object = None, *, token: str | None = None
) -> Answer:
    """Send one JSON request over a connection of its own."""
    headers = _JSON if token is None else _JSON | {"Authorization": f"Bearer {token}"}
    async with service.connect() as connection:
        return await connection.request(method, target, b"" if body is None else orjson.dumps(body), headers)


async def set_fault(simulator: ServiceProcess, kind: str, **values: object) -> None:
    """Let the simulator's providers misbehave from now on."""
    answer = await call(simulator, "POST", "/simulator/faults", {"kind": kind, **values})
    assert answer.status == 201, answer.body


@dataclass(frozen=True)
class Text:
    """One message to be sent; no two have the same body."""

    recipient: str
    place: int
    body: str


class Campaign:
    """`total` messages to `phones` phones; each phone's are handed in one after the other, until they are accepted."""

    def __init__(self, total: int, phones: int) -> None:
        numbers = [f"+1415555{number:04d}" for number in range(phones)]
        self.texts = [
            Text(numbers[index % phones], index // phones, f"{index // phones}: your message {index}")
            for index in range(total)
        ]
        self.accepted: dict[str, str] = {}
        """Our id of a message, by its body."""
        self.refusals = 0

    async def hand_in(self, service: ServiceProcess, *, connections: int = 8) -> None:
        """Have all messages accepted, over some connections, through whatever dies meanwhile."""
        by_phone: dict[str, list[Text]] = defaultdict(list)
        for text in self.texts:
            by_phone[text.recipient].append(text)
        lines = list(by_phone.values())
        async with asyncio.TaskGroup() as group:
            for start in range(connections):
                group.create_task(self._hand_in(service, lines[start::connections]))

    async def _hand_in(self, service: ServiceProcess, lines: Sequence[Sequence[Text]]) -> None:
        async with service.connect() as connection:
            for place in range(max(map(len, lines), default=0)):
                for line in lines:
                    for text in line[place : place + 1]:
                        answer = None
                        while answer is None:
                            try:
                                answer = await connection.request("POST", "/v1/sms/send", _body(text), _JSON)
                            except (RefusedError, HalfAnswerError):  # it was killed; the key makes this safe
                                self.refusals += 1
                                await asyncio.sleep(0.05)
                        assert answer.status == 202, answer.body
                        self.accepted[text.body] = answer.json()["request_id"]


def _body(text: Text) -> bytes:
    return orjson.dumps({"to": text.recipient, "message": text.body, "idempotency_key": text.body.replace(" ", "-")})


async def summary(simulator: ServiceProcess) -> dict[str, Any]:
    """Read the true record's figures."""
    return dict((await simulator.get("/simulator/received/summary")).json())


async def until_sent(simulator: ServiceProcess, count: int) -> None:
    """Wait until the providers have accepted `count` messages."""

    async def are_enough() -> bool:
        return bool((await summary(simulator))["accepted"] >= count)

    await eventually(are_enough, f"{count} messages are sent")


async def true_record(simulator: ServiceProcess) -> list[dict[str, Any]]:
    """Read everything that providers accepted, in the order in which they did."""
    rows: list[dict[str, Any]] = []
    after: int | None = -1
    while after is not None:
        page = (await simulator.get(f"/simulator/received?limit=10000&after={after}")).json()
        rows += page["received"]
        after = page["next_after"]
    return rows


def assert_each_once_and_in_order(campaign: Campaign, record: Sequence[dict[str, Any]]) -> None:
    """What phones got is exactly the campaign: nothing lost, nothing twice, each phone's in the order of acceptance."""
    sent = [(row["recipient"], row["body"]) for row in record]
    assert len(set(sent)) == len(sent), "a message was sent twice"
    assert set(sent) == {(text.recipient, text.body) for text in campaign.texts}
    by_phone: dict[str, list[str]] = defaultdict(list)
    for recipient, body in sent:
        by_phone[recipient].append(body)
    expected: dict[str, list[str]] = defaultdict(list)
    for text in campaign.texts:
        expected[text.recipient].append(text.body)
    assert by_phone == expected
