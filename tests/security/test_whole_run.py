"""Everything that goes in during a whole run, looked for in everything that comes out where it has no business.

What goes in: keys, tokens, passwords, invitations, signatures, the secrets of settings, texts, phone numbers, an
address of mail. What comes out: the logs of all processes, metrics, spans, errors, /docs, /openapi.json, /health, what
commands print, and what is answered to somebody who may not see content.
"""

import base64
import re
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, quote_plus

import orjson
import pytest

from sms_foundation.auth.keys.format import generate_key
from sms_foundation.auth.tokens.private_keys import generate_signing_key
from sms_foundation.core.config import LOCAL_ACCOUNT_SID, LOCAL_PHONE_NUMBER
from sms_foundation.core.db import Database
from sms_foundation.providers.twilio.signature import sign
from sms_foundation.simulator.monitor.tenants import make_tenants
from tests.support.collector import Collector
from tests.support.http_connection import Answer
from tests.support.processes import Process, Processes, ServiceProcess, eventually
from tests.support.service import BASE_URL, SMS_PATH, STATUS_PATH, status_form, text_form
from tests.support.tcp_gate import PASSWORD as DATABASE_PASSWORD
from tests.support.tcp_gate import TcpGate
from tests.support.tokens import sign_hs256

pytestmark = pytest.mark.slow

ADMIN_KEY = generate_key(is_test=False).text
SIGNING_KEY = generate_signing_key()
AUTH_TOKEN, PREVIOUS_AUTH_TOKEN = "a9f27c6be1d04835b6a1c2d3e4f50617", "77aa66bb55cc44dd33ee22ff11009988"
MONITOR_KEY, BEARER_OF_PROVIDER = "monitor-key-8c1f2e77d0", "bearer-of-a-provider-5b21"
PASSWORD, NEW_PASSWORD, WRONG_PASSWORD = "quartz-words-are-enough", "quartz-words-are-better", "quartz-words-are-wrong"
EMAIL = "quartz.person@example.com"
# No text goes in without this word, and no number but these.
WORD = "quartz"
TENANT = next(each for each in make_tenants() if each.texts_in == "es")
STRANGER, WHATSAPP, RECIPIENT = "+16465550199", "+447700900451", "+13125550147"
REFUSED, LIMITED, DENIED, SCHEDULED = "+15005550001", "+13125550148", "+13125550149", "+13125550150"
BATCHED = "+13125550151"
NUMBERS = [TENANT.texts_from, STRANGER, WHATSAPP, RECIPIENT, REFUSED, LIMITED, DENIED, SCHEDULED, BATCHED]
MEDIA_URL = f"https://media.example.com/{WORD}.jpg"


@dataclass
class Run:
    """What went in, and what came out by where."""

    secrets: set[str] = field(
        default_factory=lambda: {
            *(ADMIN_KEY, AUTH_TOKEN, PREVIOUS_AUTH_TOKEN, MONITOR_KEY, BEARER_OF_PROVIDER, DATABASE_PASSWORD),
            *(PASSWORD, NEW_PASSWORD, WRONG_PASSWORD),
            *SIGNING_KEY.pem.splitlines()[1:-1],
        }
    )
    places: dict[str, bytes] = field(default_factory=dict)
    statuses: set[int] = field(default_factory=set)

    def handed_out(self, secret: str) -> str:
        """Remember a secret that its owner was just given; of a token each part counts."""
        self.secrets |= {secret, *(part for part in secret.split(".")[1:] if len(part) > 20)}
        return secret


class Callers:
    """Whoever calls the service over HTTP, with good intentions or without."""

    def __init__(self, service: ServiceProcess, run: Run) -> None:
        self._service = service
        self._run = run

    async def ask(
        self, method: str, target: str, body: object = None, *, status: int, as_: str | None = ADMIN_KEY, **headers: str
    ) -> Any:
        """Send JSON (bytes as they are); errors are kept to be searched."""
        content = body if isinstance(body, bytes) else b"" if body is None else orjson.dumps(body)
        given = {"Content-Type": "application/json", **headers}
        if as_ is not None:
            given["Authorization"] = f"Bearer {as_}"
        async with self._service.connect() as connection:
            answer = await connection.request(method, target, content, given)
        self._keep(f"{method} {target}", answer)
        assert answer.status == status, (method, target, answer.status, answer.body)
        return answer.json() if answer.body.startswith((b"{", b"[")) else None

    async def show(self, target: str, *, as_: str) -> None:
        """GET what may hold nothing of all this, whoever asks."""
        async with self._service.connect() as connection:
            answer = await connection.get(target, Authorization=f"Bearer {as_}")
        assert answer.status == 200, (target, answer.body)
        self._run.places[f"what {target} shows"] = _whole(answer)

    async def webhook(
        self, path: str, pairs: list[tuple[str, str]], *, status: int, token: str = AUTH_TOKEN, **headers: str
    ) -> None:
        signature = sign(token, BASE_URL + path, pairs)
        self._run.secrets.add(signature)
        async with self._service.connect() as connection:
            answer = await connection.post_form(path, pairs, signature, **headers)
        self._keep(f"POST {path}", answer)
        assert answer.status == status, (path, answer.body)

    def _keep(self, what: str, answer: Answer) -> None:
        self._run.statuses.add(answer.status)
        if answer.status >= 400:
            # An error does not repeat what was sent; where the target itself holds it, that is not the answer's doing.
            self._run.places[f"error {len(self._run.places)}: {answer.status} to {what}"] = _whole(answer)


def _whole(answer: Answer) -> bytes:
    return orjson.dumps(answer.headers) + answer.body


async def _texts(callers: Callers) -> None:
    await callers.webhook(SMS_PATH, text_form("SM1", f"Hola, no hay {WORD}", sender=TENANT.texts_from), status=200)
    mms = text_form("MM1", f"{WORD} in a picture", sender=STRANGER, MediaUrl0=MEDIA_URL, NumMedia="1")
    await callers.webhook(SMS_PATH, mms, status=200, token=PREVIOUS_AUTH_TOKEN)
    whatsapp = text_form("SM2", WORD, sender=f"whatsapp:{WHATSAPP}", ProfileName=f"{WORD}\x1b[31m\nevent=forged")
    await callers.webhook(SMS_PATH, whatsapp, status=200)
    await callers.webhook(SMS_PATH, whatsapp, status=403, token="of-somebody-else-entirely")
    await callers.webhook(SMS_PATH, [*whatsapp, ("Padding", WORD * 60_000)], status=413)
    await callers.webhook(SMS_PATH, whatsapp[3:], status=400)
    await callers.webhook(SMS_PATH, whatsapp, status=415, **{"Content-Type": "text/plain"})
    failed = status_form("SM1", "undelivered", ErrorCode="30003", ErrorMessage=f"{WORD}: {WHATSAPP} is off")
    await callers.webhook(STATUS_PATH, failed, status=200)
    await callers.webhook(STATUS_PATH, status_form("SM-nobody", "teleported"), status=200)
    await callers.ask("POST", f"/{quote(STRANGER)}/{WORD}?number={quote(STRANGER)}", WORD, status=404)


async def _sends(callers: Callers, run: Run) -> list[str]:
    """Send everything in every way; returns the ids of what was accepted and is to come to an end."""

    def body(to: str, **more: object) -> dict[str, object]:
        return {"to": to, "message": f"Your {WORD} comes at 10", "metadata": {"about": WORD}, **more}

    await callers.ask(
        "POST", "/v1/number-rules", {"prefix": DENIED, "is_allowed": False, "note": "asked for it"}, status=200
    )
    sent = [await callers.ask("POST", "/v1/sms/send", body(to), status=202) for to in (RECIPIENT, REFUSED)]
    sent.append(await callers.ask("POST", "/sms/send", {"phone": RECIPIENT, "text": WORD}, status=202))
    later = await callers.ask("POST", "/v1/sms/send", body(SCHEDULED, send_at="2027-01-02T03:04:05Z"), status=202)
    sent += [await callers.ask("POST", "/v1/sms/send", body(LIMITED), status=202) for _ in range(3)]
    await callers.ask("POST", "/v1/sms/send", body(LIMITED), status=429)
    await callers.ask("POST", "/v1/sms/send", body(DENIED), status=403)
    await callers.ask("POST", "/v1/sms/send", body(WORD), status=400)
    await callers.ask("POST", "/v1/sms/send", body(RECIPIENT, sender_id=f"{WORD} {STRANGER}"), status=400)
    await callers.ask("POST", "/v1/sms/send", body(RECIPIENT, colour=f"{WORD} {STRANGER}"), status=400)
    await callers.ask("POST", "/v1/sms/send", f'{{"to": "{RECIPIENT}", {WORD}'.encode(), status=422)
    key = {"Idempotency-Key": "one-for-two"}
    sent.append(await callers.ask("POST", "/v1/sms/send", body(RECIPIENT), status=202, **key))
    await callers.ask("POST", "/v1/sms/send", body(STRANGER), status=422, **key)
    batch = {"messages": [body(BATCHED), body(DENIED), body(WORD), {"to": WORD, "colour": STRANGER}]}
    results = await callers.ask("POST", "/v1/sms/send/batch", batch, status=202)
    for each in results["results"]:
        if each["error"] is None:
            sent.append(each["sms"])
        else:
            run.places[f"error of number {each['index']} of a batch"] = orjson.dumps(each)
    await callers.ask("POST", f"/v1/sms/{later['id']}/cancel", status=200)
    return [each["id"] for each in sent]


async def _conversations(callers: Callers) -> None:
    known = quote(TENANT.texts_from)
    await callers.ask("GET", f"/conversations/{known}", status=200)
    filed = {"workflow_type": "repair", "workflow_id": "case-4711"}  # seen by everybody who may see conversations
    await callers.ask("PATCH", f"/conversations/{known}", filed, status=200)
    await callers.ask("PATCH", f"/conversations/{known}", {"colour": f"{WORD} {STRANGER}"}, status=400)
    await callers.ask("GET", f"/conversations?workflow_type={WORD}&limit={quote(STRANGER)}", status=400)
    await callers.ask("GET", f"/conversations/{known}?cursor={WORD}", status=400)
    await callers.ask("GET", f"/conversations/{quote('+12125550188')}", status=404)
    await callers.ask("GET", "/messages/MM1", status=200)
    await callers.ask("GET", f"/messages/{WORD}", status=404)
    place = {
        "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "tracestate": f"{WORD} {STRANGER} é",
    }
    odd = {"User-Agent": WORD, "Referer": f"https://{WORD}.example.com", "Cookie": WORD, "X-Request-ID": f"{WORD} é"}
    await callers.ask("GET", f"/conversations/{known}", status=200, **place, **odd)


async def _credentials(callers: Callers, run: Run) -> str:
    """Make, use and misuse credentials of all kinds; returns the key of somebody who may not see content."""
    await callers.ask("POST", "/v1/clients", {"id": "reports", "roles": ["viewer"]}, status=201)
    made = await callers.ask("POST", "/v1/keys", {"client_id": "reports", "name": "one"}, status=201)
    key = run.handed_out(made["key"])
    rotated = await callers.ask("POST", f"/v1/keys/{made['id']}/rotate", {}, status=201)
    viewer = run.handed_out(rotated["key"])
    for wrong in (generate_key(is_test=False).text, key[:-1] + "_", sign_hs256({"sub": WORD}, b"secret", kid=WORD)):
        await callers.ask("GET", "/v1/sms", status=401, as_=run.handed_out(wrong))
    form = f"grant_type=client_credentials&client_id=reports&client_secret={key}".encode()
    urlencoded = {"Content-Type": "application/x-www-form-urlencoded"}
    token = (await callers.ask("POST", "/auth/token", form, status=200, as_=None, **urlencoded))["access_token"]
    run.handed_out(token)
    await callers.ask("GET", "/v1/sms", status=200, as_=token)
    await callers.ask("GET", "/v1/clients", status=403, as_=token)
    await callers.ask("GET", "/v1/sms", status=401, as_=token[:-20] + "A" * 20)
    await callers.ask("POST", "/auth/token", form + b"x", status=401, as_=None, **urlencoded)
    return viewer


async def _people(callers: Callers, run: Run) -> None:
    invited = await callers.ask("POST", "/v1/invitations", {"email": EMAIL, "roles": ["operator"]}, status=201)
    joining = {"invitation": run.handed_out(invited["invitation"]), "password": PASSWORD, "display_name": WORD}
    first = await callers.ask("POST", "/auth/register", joining, status=201)
    await callers.ask("POST", "/auth/register", joining, status=401)
    await callers.ask("POST", "/auth/login", {"email": EMAIL, "password": WRONG_PASSWORD}, status=401)
    await callers.ask("POST", "/auth/login", {"email": EMAIL, "password": {WRONG_PASSWORD: EMAIL}}, status=400)
    refresh = {"refresh_token": run.handed_out(first["refresh_token"])}
    second = await callers.ask("POST", "/auth/refresh_token", refresh, status=200)
    me = run.handed_out(second["access_token"])
    change = {"current": PASSWORD, "new": NEW_PASSWORD}
    await callers.ask("POST", "/users/me/password", change, status=204, as_=me)
    await callers.ask("POST", "/users/me/password", change, status=401, as_=me)
    await callers.ask("POST", "/auth/refresh_token", refresh, status=401)
    for each in (first["access_token"], second["refresh_token"]):
        run.handed_out(each)


async def _commands(processes: Processes, settings: dict[str, str], run: Run) -> None:
    """Run commands that show what is there, and some that fail."""
    unreachable = settings | {"DATABASE_URL": f"postgresql://sms:{DATABASE_PASSWORD}@127.0.0.1:1/sms"}
    broken = settings | {"PROVIDERS": f'[{{"kind": "twilio", "auth_token": "{AUTH_TOKEN}", "weight": "x"}}]'}
    for arguments, environment, ends_well in (
        (["clients", "list"], settings, True),
        (["clients", "show", "reports"], settings, True),
        (["keys", "list"], settings, True),
        (["roles", "list"], settings, True),
        (["audit", "--limit", "1000"], settings, True),
        (["providers"], settings, True),
        (["signing-keys", "list"], settings, True),
        (["dead", "list"], settings, True),
        (["reconcile", "--since", "1h"], settings, True),
        (["migrate"], settings, True),
        (["clients", "list"], unreachable, False),
        (["serve", "--port", "1"], broken, False),
    ):
        process = processes.start(*arguments, **environment)
        status = await process.exit_code()
        assert (status == 0) == ends_well, (arguments, process.log)
        run.places[f"what the command {arguments} prints ({status})"] = process.log_path.read_bytes()


def _settings(gate: TcpGate, collector: Collector, *, simulator_port: int, port: int) -> dict[str, str]:
    simulator = f"http://127.0.0.1:{simulator_port}"
    providers = [
        {
            "kind": "twilio",
            "name": "twilio",
            "account_sid": LOCAL_ACCOUNT_SID,
            "auth_token": AUTH_TOKEN,
            "auth_token_previous": PREVIOUS_AUTH_TOKEN,
            "api_base_url": simulator,
            "senders": [LOCAL_PHONE_NUMBER],
        },
        {
            "kind": "http",
            "name": "regional",
            "weight": 0,
            "senders": [LOCAL_PHONE_NUMBER],
            "send_url": f"{simulator}/nowhere",
            "headers": {"Authorization": f"Bearer {BEARER_OF_PROVIDER}"},
            "body": {"to": "{to}", "text": "{body}"},
            "answer": {"message_id_path": "id"},
        },
    ]
    return {
        **collector.variables,
        "LOG_LEVEL": "DEBUG",
        "LOG_FORMAT": "json",
        "APP_ENV": "staging",
        "ADMIN_API_KEY": ADMIN_KEY,
        "SIGNING_KEY": SIGNING_KEY.pem,
        "PORT": str(port),
        "PUBLIC_BASE_URL": BASE_URL,
        "DATABASE_URL": gate.url,
        "PROVIDERS": orjson.dumps(providers).decode(),
        "MONITOR_API_URL": f"{simulator}/monitor",
        "MONITOR_API_KEY": MONITOR_KEY,
        "TENANT_PROFILE_API_URL": f"{simulator}/monitor",
        "NUMBER_LIMIT": "3/1h",
        "WORK_POLL_S": "0.1",
    }


async def _until_over(database: Database, ids: list[str]) -> None:
    async def is_over() -> bool:
        open_messages = await database.pool.fetchval(
            "SELECT count(*) FROM sms_messages WHERE id = ANY($1::uuid[]) AND ended_at IS NULL", ids
        )
        enriched = await database.pool.fetchval("SELECT count(*) FROM work WHERE kind = 'message_received'")
        return not open_messages and not enriched

    await eventually(is_over, "everything that was sent has come to an end")


async def _shown(callers: Callers, worker: ServiceProcess, run: Run, viewer: str) -> None:
    """Look at whatever can be looked at without permission to see content."""
    for target in ("/docs", "/redoc", "/openapi.json", "/health", "/health/ready", "/metrics"):
        await callers.show(target, as_=ADMIN_KEY)
    for target in ("/v1/sms?limit=100", "/conversations?limit=100", "/v1/number-rules"):
        await callers.show(target, as_=viewer)
    await callers.show(f"/conversations/{quote(TENANT.texts_from)}", as_=viewer)
    await callers.show("/messages/MM1", as_=viewer)
    for target in ("/v1/keys", "/v1/roles", "/v1/audit?limit=100"):
        await callers.show(target, as_=ADMIN_KEY)
    for target in ("/health", "/metrics"):
        run.places[f"what {target} of the worker shows"] = _whole(await worker.get(target))


@pytest.fixture
async def run(processes: Processes, gate: TcpGate, collector: Collector, database: Database) -> Run:
    """Everything, once."""
    run = Run()
    port, simulator_port = processes.reserve_port(), processes.reserve_port()
    settings = _settings(gate, collector, simulator_port=simulator_port, port=port)
    simulator = processes.serve_simulator(
        port=simulator_port, **settings | {"TWILIO_AUTH_TOKEN": AUTH_TOKEN, "TWILIO_ACCOUNT_SID": LOCAL_ACCOUNT_SID}
    )
    service = processes.serve(port=port, **settings | {"WORK_IN_PROCESS": "false"})
    worker = processes.work(**settings)
    for process in (simulator, service):
        await process.until_status("/docs", 200)
    await service.until_ready()
    await worker.until_ready()
    callers = Callers(service, run)
    await eventually(lambda: _is_known(service), "ADMIN_API_KEY is known")

    await _texts(callers)
    await _conversations(callers)
    ids = await _sends(callers, run)
    viewer = await _credentials(callers, run)
    await _people(callers, run)
    await _until_over(database, ids)
    await _commands(processes, settings, run)
    await _shown(callers, worker, run, viewer)

    named: dict[str, Process] = {"service": service, "worker": worker, "simulator": simulator}
    for name, process in named.items():
        process.signal(signal.SIGTERM)
        await process.exit_code()
        run.places[f"the log of the {name}"] = process.log_path.read_bytes()
    run.places["spans"] = b"\n".join(collector.bodies)
    return run


async def _is_known(service: ServiceProcess) -> bool:
    return (await service.get("/v1/clients", Authorization=f"Bearer {ADMIN_KEY}")).status == 200


def _spellings(secret: str) -> Iterator[bytes]:
    """A secret as it is, without what may be shown of a key, and as it looks in a URL, in JSON and in HTTP Basic."""
    bare = secret.split("_", 3)[3] if re.match(r"sf_(live|test)_", secret) else secret
    yield from {
        each.encode()
        for each in (
            bare,
            quote(bare, safe=""),
            quote_plus(bare),
            orjson.dumps(bare).decode()[1:-1],
        )
    }
    for before in ("", "x", "xx"):  # in base64 a text has three looks, by what stands before it
        yield base64.b64encode((before + bare).encode())[4:-4]


def _leaks(run: Run) -> Iterator[tuple[str, str]]:
    """Yield where something stands that has no business there, and what, as far as that may be shown."""
    for place, shown in run.places.items():
        for secret in run.secrets:
            if any(each in shown for each in _spellings(secret)):
                yield place, f"a secret: {secret[:8]}..."
        if WORD.encode() in shown.lower() and not _is_operators(place, shown):
            yield place, "a text"
        digits = re.sub(rb"[\s().%+\-]|%2B|%20", b"", shown)
        for number in NUMBERS:
            if number[-10:].encode() in digits:
                yield place, f"a number: ***{number[-4:]}"


class TestAWholeRun:
    async def test_shows_no_secret_text_or_number_where_it_has_no_business(self, run: Run) -> None:
        _assert_much_happened(run)

        assert list(_leaks(run)) == []


class TestTheSearch:
    @pytest.mark.parametrize(
        "shown",
        [
            f'{{"event":"x","key":"{ADMIN_KEY}"}}',
            f"Basic {base64.b64encode(f'rent:{ADMIN_KEY}'.encode()).decode()}",
            f"?token={quote(SIGNING_KEY.pem.splitlines()[3], safe='')}",
            f"postgresql://sms:{DATABASE_PASSWORD}@127.0.0.1/sms",
            "No hay Quartz en casa",
            f"to=({RECIPIENT[2:5]}) {RECIPIENT[5:8]}-{RECIPIENT[8:]}",
            f"/conversations/{quote(WHATSAPP)}",
        ],
        # Some hold secrets of this run: names of tests must be the same in every process.
        ids=["key", "Basic", "signing key", "database URL", "text", "number", "address"],
    )
    def test_finds_what_shows_in_any_spelling(self, shown: str) -> None:
        run = Run(places={"a place": shown.encode()})

        assert [place for place, _ in _leaks(run)] == ["a place"]

    def test_finds_nothing_in_what_may_be_shown(self) -> None:
        prefix = ADMIN_KEY.rpartition("_")[0]

        assert not list(_leaks(Run(places={"a place": f"key {prefix} texted ***{RECIPIENT[-4:]}".encode()})))


def _is_operators(place: str, shown: bytes) -> bool:
    """Tell whether the word stands there only as the name somebody gave to a role, a key or an account."""
    return place.startswith("what the command ['clients'") and WORD.encode() not in shown.replace(EMAIL.encode(), b"")


def _assert_much_happened(run: Run) -> None:
    """The search is worth nothing unless everything took place, and left its traces in each of the places."""
    assert run.statuses >= {200, 201, 202, 204, 400, 401, 403, 404, 413, 415, 422, 429}
    assert len(run.secrets) >= 40
    assert all(len(secret) >= 20 for secret in run.secrets)
    log = run.places["the log of the service"]
    for outcome in (
        b'"stored"',
        b'"applied"',
        b'"unmatched"',
        b'"invalid_signature"',
        b"auth.refused",
        b"http.request",
    ):
        assert outcome in log, outcome
    assert b"language.decided" in run.places["the log of the worker"]
    assert b"/v1/sms/send" in run.places["spans"]
    assert b"sms_webhooks_total" in run.places["what /metrics shows"]
    assert re.search(
        rb'sms_messages_sent_total\{[^}]*outcome=\\?"sent', run.places["what /metrics of the worker shows"]
    )
