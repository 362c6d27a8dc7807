"""The log of a whole eventful run, every process at DEBUG: all of it structured, none of it anybody's business."""

import asyncio
import re
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import orjson
import pytest

from sms_foundation.auth.keys.format import generate_key
from sms_foundation.core.config import LOCAL_ACCOUNT_SID
from sms_foundation.core.db import Database
from sms_foundation.providers.twilio.signature import sign
from sms_foundation.simulator.monitor.tenants import STRANGER_NUMBER, make_tenants
from tests.support.access import make_client, make_key
from tests.support.http_connection import Answer, HttpConnection
from tests.support.processes import Process, Processes, ServiceProcess, eventually
from tests.support.service import BASE_URL, SMS_PATH, STATUS_PATH, encode_form, status_form, text_form
from tests.support.tcp_gate import PASSWORD as DATABASE_PASSWORD
from tests.support.tcp_gate import TcpGate

AUTH_TOKEN = "a9f27c6be1d04835b6a1c2d3e4f50617"
PREVIOUS_AUTH_TOKEN = "77aa66bb55cc44dd33ee22ff11009988"
MONITOR_KEY = "monitor-key-8c1f2e"
WRONG_KEY = generate_key(is_test=False).text
SECRETS = [AUTH_TOKEN, PREVIOUS_AUTH_TOKEN, MONITOR_KEY, WRONG_KEY, WRONG_KEY.rpartition("_")[2], DATABASE_PASSWORD]

TENANTS = {
    language: next(each for each in make_tenants() if each.texts_in == language) for language in ("en", "es", "pt")
}
BODIES = {
    "en": "Zanzibar heating in my flat is broken since Tuesday",
    "es": "Zanzíbar: hola, no hay agua caliente en mi apartamento",
    "pt": "Zanzibar, bom dia, a torneira da cozinha não para de pingar",
}
WHATSAPP_NUMBER = "+447700900123"
BRAZILIAN_NUMBER = "+5511987654321"
NEW_NUMBERS = ["+16465550171", "+16465550172", "+16465550173"]
NUMBERS = [*(each.texts_from for each in TENANTS.values()), STRANGER_NUMBER, WHATSAPP_NUMBER, BRAZILIAN_NUMBER]
NUMBERS_NEVER_SEEN = ["+13105550144"]
MEDIA_URL = "https://api.twilio.com/2010-04-01/Accounts/AC1/Messages/MM1/Media/ME-zanzibar"


@dataclass
class Run:
    """What was done, and what was logged about it; `key` is the one that callers have."""

    key: str
    logs: dict[str, bytes] = field(default_factory=dict)
    signatures: list[str] = field(default_factory=list)
    requests: int = 0
    printed: str = ""

    @property
    def lines(self) -> list[bytes]:
        return [line for log in self.logs.values() for line in log.splitlines()]

    @property
    def events(self) -> list[dict[str, Any]]:
        return [orjson.loads(line) for line in self.lines]


class Callers:
    """Twilio and the calling services, over real HTTP."""

    def __init__(self, service: ServiceProcess, simulator: ServiceProcess, run: Run) -> None:
        self._service = service
        self._simulator = simulator
        self._run = run

    async def ask(self, method: str, target: str, body: bytes = b"", **headers: str) -> Answer:
        self._run.requests += 1
        async with self._service.connect() as connection:
            given = {"Authorization": f"Bearer {self._run.key}", **headers}
            return await connection.request(method, target, body, given)

    async def webhook(self, path: str, pairs: list[tuple[str, str]], *, token: str = AUTH_TOKEN, **more: str) -> Answer:
        self._run.requests += 1
        signature = sign(token, BASE_URL + path, pairs)
        self._run.signatures.append(signature)
        async with self._service.connect() as connection:
            return await connection.post_form(path, pairs, signature, **more)

    async def simulator(self, path: str, **content: object) -> Answer:
        async with HttpConnection(self._simulator.port) as connection:
            return await connection.request("POST", path, orjson.dumps(content), {"Content-Type": "application/json"})


async def _texts_of_all_kinds(callers: Callers) -> None:
    for language, tenant in TENANTS.items():
        for _ in range(2):  # the second one is answered from the cache
            answer = await callers.simulator(
                "/simulator/texts", **{"from": tenant.texts_from, "body": BODIES[language]}
            )
            assert answer.json()["is_delivered"], answer.body
    await callers.simulator("/simulator/texts", **{"from": STRANGER_NUMBER, "body": BODIES["es"]})
    mms = text_form("MM1", BODIES["pt"], sender=BRAZILIAN_NUMBER, MediaUrl0=MEDIA_URL, MediaContentType0="image/jpeg")
    assert (await callers.webhook(SMS_PATH, [*mms, ("NumMedia", "1")])).status == 200
    whatsapp = text_form("SM1", BODIES["en"], sender=f"whatsapp:{WHATSAPP_NUMBER}", WaId=WHATSAPP_NUMBER[1:])
    assert (await callers.webhook(SMS_PATH, whatsapp)).status == 200
    assert (await callers.webhook(SMS_PATH, whatsapp, token=PREVIOUS_AUTH_TOKEN)).status == 200
    odd = text_form("SM\x00\udcff\u2028odd", BODIES["es"], sender=f"{STRANGER_NUMBER}\n")
    assert (await callers.webhook(SMS_PATH, odd)).status in (200, 400)


async def _webhooks_that_are_refused(callers: Callers) -> None:
    form = text_form("SM2", BODIES["es"], sender=STRANGER_NUMBER)
    assert (await callers.webhook(SMS_PATH, form, token="somebody-else")).status == 403
    stranger = [(name, "AC" + "9" * 32 if name == "AccountSid" else value) for name, value in form]
    assert (await callers.webhook(SMS_PATH, stranger)).status == 403
    assert (await callers.webhook(SMS_PATH, form[3:])).status == 400
    assert (await callers.webhook(SMS_PATH, [*form, ("Padding", BODIES["es"] * 6000)])).status == 413
    unsigned = await callers.ask("POST", SMS_PATH, encode_form(form), **{"Content-Type": "text/plain"})
    assert unsigned.status == 415
    assert (await callers.ask("GET", f"{SMS_PATH}?From={quote(STRANGER_NUMBER)}&Body=Zanzibar")).status == 405
    assert (await callers.ask("POST", f"/{STRANGER_NUMBER}/Zanzibar")).status == 404


async def _statuses(callers: Callers) -> None:
    for sid in ("SM1", "SM-of-nobody"):
        for status in ("sent", "delivered", "queued", "sent"):
            form = status_form(sid, status, ErrorMessage=f"Zanzibar: {WHATSAPP_NUMBER} is off")
            assert (await callers.webhook(STATUS_PATH, form)).status == 200


def _spellings(number: str) -> Iterator[str]:
    digits = number[1:]
    yield from (
        number,
        digits,
        f"00{digits}",
        f"tel:{number}",
        f"+{digits[:1]} {digits[1:4]} {digits[4:7]} {digits[7:]}",
    )
    if number.startswith("+1"):
        yield from (
            digits[1:],
            f"({digits[1:4]}) {digits[4:7]}-{digits[7:]}",
            f"{digits[1:4]}.{digits[4:7]}.{digits[7:]}",
        )


async def _history(callers: Callers) -> None:
    for number in (*NUMBERS, *NUMBERS_NEVER_SEEN):
        for spelling in _spellings(number):
            for target in (quote(spelling), quote(spelling, safe="+ ()").replace(" ", "%20")):
                assert (await callers.ask("GET", f"/conversations/{target}")).status in (200, 404)
    assert (await callers.ask("GET", f"/conversations/whatsapp:{WHATSAPP_NUMBER}")).status == 200
    known = quote(TENANTS["es"].texts_from)
    assert (await callers.ask("GET", f"/conversations/{known}")).status == 200
    given = {"X-Request-ID": "call-of-the-maintenance-service-1"}
    answer = await callers.ask("GET", f"/conversations/{known}", **given)
    assert answer.headers["x-request-id"] == given["X-Request-ID"]
    patch = orjson.dumps({"workflow_type": "Zanzibar repair", "workflow_id": TENANTS["es"].texts_from})
    json_type = {"Content-Type": "application/json"}
    assert (await callers.ask("PATCH", f"/conversations/{known}", patch, **json_type)).status == 200
    for bad in (b'{"workflow_type": ["Zanzibar"]}', b'{"Zanzibar": "' + known.encode(), b"Zanzibar"):
        assert (await callers.ask("PATCH", f"/conversations/{known}", bad, **json_type)).status in (400, 422)
    for bad in (f"limit={TENANTS['es'].texts_from}", "cursor=Zanzibar", "since=Zanzibar", f"page={STRANGER_NUMBER}"):
        assert (await callers.ask("GET", f"/conversations/{known}?{bad}")).status == 400 or bad.startswith("since")
        await callers.ask("GET", f"/conversations?{bad}")
    assert (await callers.ask("GET", "/messages/SM1")).status == 200
    assert (await callers.ask("GET", f"/messages/{known}")).status == 404
    wrong = {"Authorization": f"Bearer {WRONG_KEY}"}
    assert (await callers.ask("GET", f"/conversations/{known}", **wrong)).status == 401
    for target in ("/health", "/metrics", "/openapi.json"):
        assert (await callers.ask("GET", target)).status == 200


async def _outages_of_the_monitor(callers: Callers, service: ServiceProcess, worker: Process) -> None:
    faults: list[dict[str, Any]] = [
        {"kind": "hang", "hang_s": 1},
        {"kind": "malformed_json"},
        {"kind": "status", "status": 500},
    ]
    for number, fault in zip(NEW_NUMBERS, faults, strict=True):
        await callers.simulator("/monitor/faults", share=1, **fault)
        form = text_form(f"SM-{fault['kind']}", BODIES["pt"], sender=number)
        assert (await callers.webhook(SMS_PATH, form)).status == 200
        await asyncio.sleep(0.1)  # one request at least

    async def is_noticed() -> bool:
        return "tenants.lookup.unavailable" in service.log + worker.log

    await eventually(is_noticed, "the Monitor's outage is logged")
    await callers.simulator("/monitor/faults")


async def _outages_of_the_database(callers: Callers, gate: TcpGate, database: Database) -> None:
    await database.pool.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND application_name = 'sms-foundation' AND pid <> pg_backend_pid()"
    )
    gate.freeze()
    await _meet_the_outage(callers, "SM41")
    gate.thaw()
    await gate.close()
    await _meet_the_outage(callers, "SM42")
    await gate.open()


async def _meet_the_outage(callers: Callers, sid: str) -> None:
    form = text_form(sid, BODIES["es"], sender=BRAZILIAN_NUMBER)
    assert (await callers.webhook(SMS_PATH, form)).status == 503
    assert (await callers.webhook(STATUS_PATH, status_form("SM1", "read"))).status == 503
    assert (await callers.ask("GET", f"/conversations/{quote(BRAZILIAN_NUMBER)}")).status == 503
    assert (await callers.ask("GET", "/health/ready")).status == 503


async def _until_done(database: Database) -> None:
    async def is_done() -> bool:
        return not await database.pool.fetchval("SELECT count(*) FROM work WHERE kind = 'message_received'")

    await eventually(is_done, "all texts are enriched")


@pytest.fixture
async def run(processes: Processes, gate: TcpGate, database: Database) -> Run:
    """Everything that can be logged, done once."""
    run = Run(key=await make_key(database, await make_client(database)))
    await gate.open()
    simulator_port, service_port = processes.reserve_port(), processes.reserve_port()
    settings = {
        "LOG_LEVEL": "DEBUG",
        "APP_ENV": "staging",
        "PORT": str(service_port),
        "PUBLIC_BASE_URL": BASE_URL,
        "DATABASE_URL": gate.url,
        "DATABASE_CONNECT_TIMEOUT_S": "0.5",
        "DATABASE_POOL_TIMEOUT_S": "0.5",
        "DATABASE_COMMAND_TIMEOUT_S": "0.5",
        "WEBHOOK_TIMEOUT_S": "1",
        "TWILIO_ACCOUNT_SID": LOCAL_ACCOUNT_SID,
        "TWILIO_AUTH_TOKEN": AUTH_TOKEN,
        "TWILIO_AUTH_TOKEN_PREVIOUS": PREVIOUS_AUTH_TOKEN,
        "MONITOR_API_URL": f"http://127.0.0.1:{simulator_port}/monitor",
        "TENANT_PROFILE_API_URL": f"http://127.0.0.1:{simulator_port}/monitor",
        "MONITOR_API_KEY": MONITOR_KEY,
        "MONITOR_TIMEOUT_S": "0.5",
        "WORK_LEASE_S": "2",
        "WORK_POLL_S": "0.1",
        "RECONCILE_INTERVAL_S": "1",
    }
    simulator = processes.serve_simulator(port=simulator_port, **settings)
    service = processes.serve(port=service_port, **settings)
    worker = processes.start("worker", **settings)
    for process in (simulator, service):
        await process.until_status("/docs", 200)
    await service.until_ready()

    callers = Callers(service, simulator, run)
    await _texts_of_all_kinds(callers)
    await _webhooks_that_are_refused(callers)
    await _statuses(callers)
    await _history(callers)
    await _outages_of_the_monitor(callers, service, worker)
    await _outages_of_the_database(callers, gate, database)
    await service.until_ready()
    await _until_done(database)
    reconcile = processes.start("reconcile", **settings)
    await reconcile.exit_code()
    named: dict[str, Process] = {"serve": service, "worker": worker, "simulator": simulator}
    for process in (service, worker, simulator):
        process.signal(signal.SIGTERM)
        await process.exit_code()
    run.logs = {name: process.log_path.read_bytes() for name, process in named.items()}
    run.printed = reconcile.log
    return run


class TestLogsOfAWholeRun:
    async def test_say_what_happened_and_nothing_that_is_private(self, run: Run) -> None:
        _assert_it_says_what_happened(run)
        _assert_every_line_is_structured(run)
        for line in run.lines:
            _assert_nothing_private(line.decode(), [*run.signatures, run.key.rpartition("_")[2]])
        _assert_nothing_private(run.printed, run.signatures)


def _assert_it_says_what_happened(run: Run) -> None:
    names = {event["event"] for event in run.events}
    assert names >= {
        "service.started",
        "worker.started",
        "http.request",
        "database.unavailable",
        "tenants.lookup.unavailable",
        "service.stopped",
        "worker.stopped",
    }
    outcomes = {event.get("outcome") for event in run.events}
    assert outcomes >= {"stored", "duplicate", "applied", "late", "unmatched", "timeout"}
    statuses = {event["status"] for event in run.events if event["event"] == "http.request"}
    assert statuses >= {200, 400, 401, 403, 404, 405, 413, 415, 503}
    masked = {event["phone"] for event in run.events if "phone" in event}
    assert masked >= {f"***{number[-4:]}" for number in (STRANGER_NUMBER, BRAZILIAN_NUMBER)}
    assert {event.get("twilio_sid") for event in run.events} >= {"SM1", "MM1"}
    assert {event.get("tenant_id") for event in run.events} >= {each.tenant_id for each in TENANTS.values()}


def _assert_every_line_is_structured(run: Run) -> None:
    for event in run.events:
        assert {"timestamp", "level", "event", "service"} <= event.keys(), event
        assert event["service"] == "sms-foundation"
        assert "\n" not in event["event"], event
        if event["event"] == "http.request":
            assert event["request_id"], event
            assert {"route", "method", "status", "elapsed_ms"} <= event.keys(), event
    served = [orjson.loads(line) for line in run.logs["serve"].splitlines()]
    ids = [event["request_id"] for event in served if event["event"] == "http.request"]
    assert ids.count("call-of-the-maintenance-service-1") == 1
    assert len(ids) == len(set(ids)) >= run.requests


def _assert_nothing_private(line: str, signatures: list[str]) -> None:
    assert "zanz" not in line.lower(), line
    for language in BODIES.values():
        assert not [word for word in re.findall(r"\w{7,}", language) if word.lower() in line.lower()], line
    for secret in (*SECRETS, *signatures):
        assert secret not in line, line
    without_separators = re.sub(r"[\s().%+-]|%2B|%20", "", line)
    for number in (*NUMBERS, *NEW_NUMBERS, *NUMBERS_NEVER_SEEN):
        national = number[-10:]
        assert national not in without_separators, line
