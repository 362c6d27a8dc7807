"""What anybody can send makes no new label: every label is on a list, and so is every value of it."""

import re
from collections.abc import Iterator
from typing import get_args
from uuid import uuid4

import orjson
import pytest
from prometheus_client.parser import text_string_to_metric_families

from sms_foundation.access_rules import RULES
from sms_foundation.auth.refusals import Reason as Refusal
from sms_foundation.auth.tidying import TIDY_ACCESS
from sms_foundation.core.db import DatabaseUrl
from sms_foundation.core.http import HttpFailure
from sms_foundation.core.web.connection import Stall
from sms_foundation.core.work.queue import Priority
from sms_foundation.enrichment import jobs as enrichment_jobs
from sms_foundation.enrichment.findings import Lookup
from sms_foundation.enrichment.language.confidence import Language
from sms_foundation.enrichment.language.preference import Reason as LanguageReason
from sms_foundation.enrichment.tenants.errors import Failure
from sms_foundation.enrichment.tenants.metrics import LookupOutcome, ProfileOutcome
from sms_foundation.enrichment.tenants.remote import ServiceName
from sms_foundation.messaging import jobs as messaging_jobs
from sms_foundation.messaging.delivery import ReceiptOutcome
from sms_foundation.providers.errors import ErrorKind
from tests.support.access import ADMIN_KEY
from tests.support.declared_metrics import SOURCE, declared
from tests.support.http_connection import HttpConnection
from tests.support.processes import Processes, ServiceProcess, eventually, send_status, send_text

PROVIDERS = {"twilio", "messagebird", "vonage", "telnyx", "simulated"}
METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "other"}
STATUSES = set("200 201 202 204 307 400 401 403 404 405 409 413 415 422 429 499 500 502 503".split())
DOCUMENTS = {"/docs", "/docs/oauth2-redirect", "/redoc", "/openapi.json"}
ROUTES = {template for _, template in RULES} | DOCUMENTS | {"unmatched"}
ROUTES |= {f"/webhook/{provider}/{kind}" for provider in PROVIDERS for kind in ("sms", "status")}
KINDS = {
    value
    for module in (enrichment_jobs, messaging_jobs)
    for name, value in vars(module).items()
    if name.isupper() and isinstance(value, str)
} | {TIDY_ACCESS}
BATCHED = {"inbound", "outbound", "status"}


def literals(pattern: str) -> set[str]:
    """What stands in the source where this pattern has its group."""
    return {each for path in SOURCE.rglob("*.py") for each in re.findall(pattern, path.read_text())}


WEBHOOK_OUTCOMES = (
    {"stored", "duplicate", "timeout", "failed", *ReceiptOutcome}
    | literals(r'(?:NotAuthentic|WebhookParse)Error\(\s*"(\w+)"')
    | literals(r'code = "sms\.(\w+)"')
    | literals(r'code: ClassVar\[str\] = "sms\.(\w+)"')
)
SENT = {"sent", *ErrorKind}
POOLS = {"database", "work", "sender", "passwords", "redis", "monitor", "tenant_profile"}
POOLS |= {f"provider:{name}" for name in PROVIDERS}
QUEUES = set(
    "inbound inbound_found receipts outbound limits content_reads enrichment_loads findings send_begin_urgent "
    "send_begin send_finish send_release work_finish work_postpone sender_finish sender_postpone".split()
)
PRIORITIES = {each.name.lower() for each in Priority}
PUT_OFF = literals(r'_put_off\([\w.]+, "(\w+)"') | literals(r'MESSAGES_WAITING\.labels\("(\w+)"')

# Everything a label can be, by family; "" for a label that is the same everywhere.
VALUES: dict[tuple[str, str], set[str]] = {
    ("", "route"): ROUTES,
    ("", "method"): METHODS,
    ("", "status"): STATUSES,
    ("", "provider"): PROVIDERS,
    ("", "priority"): PRIORITIES,
    ("", "pool"): POOLS,
    ("", "queue"): QUEUES,
    ("", "limit"): {"client", "number", "address", "login"},
    ("", "language"): set(get_args(Language)),
    ("", "service"): set(ServiceName),
    ("sms_idempotent_requests", "outcome"): {"fresh", "replayed", "conflict", "running"},
    ("sms_auth_failures", "reason"): set(Refusal),
    ("sms_auth_lookups", "kind"): {"key", "session", "identity"},
    ("sms_commit_batch_size", "kind"): BATCHED,
    ("sms_store_seconds", "kind"): BATCHED,
    ("sms_messages_stored", "outcome"): {"stored", "duplicate"},
    ("sms_receipts_stored", "outcome"): set(ReceiptOutcome),
    ("sms_messages_accepted", "outcome"): {"accepted", "replayed", "conflict"},
    ("sms_messages_sent", "outcome"): SENT,
    ("sms_failed", "reason"): SENT,
    ("sms_messages_ended", "reason"): {"expired", "exhausted", "needs_a_person", "no_provider", *ErrorKind},
    ("sms_messages_put_off", "reason"): PUT_OFF,
    ("sms_provider_changes", "what"): {"circuit", "health", "weight"},
    ("sms_provider_changes", "new"): {"open", "half_open", "closed", "healthy", "unhealthy", *map(str, range(101))},
    ("sms_repaired", "kind"): {"status", "inbound"},
    ("sms_webhooks", "kind"): {"sms", "status"},
    ("sms_webhooks", "outcome"): WEBHOOK_OUTCOMES,
    ("sms_work_runs", "kind"): KINDS,
    ("sms_work_runs", "outcome"): {"done", "later", "again", "dead", "retry", "unrecorded"},
    ("sms_work_seconds", "kind"): KINDS,
    ("sms_work_backlog", "kind"): KINDS,
    ("sms_work_backlog", "state"): {"due", "scheduled", "leased", "dead"},
    ("sms_work_oldest_due_seconds", "kind"): KINDS,
    ("queue_lag", "kind"): KINDS,
    ("sms_http_connections_cut_off", "reason"): {"head_too_large"} | {f"{each}_too_slow" for each in Stall},
    ("sms_ready", "role"): {"api", "work"},
    ("sms_language_decisions", "reason"): set(LanguageReason),
    ("sms_numbers_enriched", "outcome"): set(Lookup),
    ("sms_tenant_lookups", "outcome"): set(LookupOutcome),
    ("sms_tenant_profile_updates", "outcome"): set(ProfileOutcome),
    ("sms_tenant_service_failures", "reason"): set(Failure),
    ("sms_pool_errors", "reason"): {"timeout", "failed", "full", *HttpFailure},
    ("sms_queue_errors", "reason"): {"full", "timeout", "failed"},
    ("otp_verifications", "outcome"): set(),
}


def allowed(family: str, label: str) -> set[str]:
    found = VALUES.get((family, label), VALUES.get(("", label)))
    assert found is not None, f"{family} has a label {label} whose values nobody has listed"
    return found


def label_sets(text: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Family and labels of everything of ours; buckets of one histogram are one."""
    seen: set[tuple[str, frozenset[tuple[str, str]]]] = set()
    for family in text_string_to_metric_families(text):
        if family.name.startswith(("python_", "process_")):
            continue
        for sample in family.samples:
            labels = frozenset((name, value) for name, value in sample.labels.items() if name != "le")
            if (family.name.removesuffix("_created"), labels) not in seen:
                seen.add((family.name.removesuffix("_created"), labels))
                yield family.name.removesuffix("_created"), dict(labels)


class TestDeclarations:
    def test_every_label_is_on_the_list(self) -> None:
        """Also of what no test makes happen: a new label needs an entry in VALUES, and with it a bound."""
        for series, labels in declared().items():
            for label in labels:
                allowed(re.sub(r"_(total|bucket|sum|count)$", "", series), label)

    def test_no_list_is_long(self) -> None:
        """The one long list, the routes, is that of our own code."""
        assert max(len(values) for key, values in VALUES.items() if key != ("", "route")) <= 120
        assert len(ROUTES) < 100


async def send_nasty_things(service: ServiceProcess, connection: HttpConnection) -> None:
    """Everything a stranger, a provider or a careless caller can choose, chosen at random."""
    wild = uuid4().hex
    number = "+1415555" + str(int(wild[:8], 16) % 9000 + 1000)
    json = {"Content-Type": "application/json", "Authorization": f"Bearer {ADMIN_KEY}", "X-Request-ID": wild}
    for method, path in (
        ("GET", f"/{wild}"),
        ("POST", f"/webhook/{wild}/sms"),
        ("POST", f"/webhook/twilio/{wild}"),
        ("GET", f"/webhook/twilio/sms/{number}?a={wild}"),
        ("PROPFIND", f"/{wild}"),
        ("MKCOL", "/v1/sms"),
        ("GET", f"/conversations/{number}"),
        ("PATCH", f"/conversations/{number}"),
        ("GET", f"/messages/{wild}"),
        ("GET", f"/v1/sms?status={wild}&number={number}"),
        ("POST", f"/v1/sms/{wild}/cancel"),
        ("PUT", f"/v1/roles/{wild}"),
        ("POST", f"/v1/clients/{wild}/disable"),
        ("DELETE", f"/v1/number-rules/{wild}"),
    ):
        await connection.request(method, path, orjson.dumps({"name": wild}), json)
    for headers in ({"Authorization": f"Bearer {wild}"}, {"Authorization": f"{wild} {wild}"}, {"X-API-Key": wild}):
        await connection.request("GET", "/v1/sms", headers={**headers, "User-Agent": wild})
    client = {"id": f"c-{wild[:12]}", "roles": ["operator"]}
    assert (await connection.request("POST", "/v1/clients", orjson.dumps(client), json)).status == 201
    for body in (
        {"to": number, "message": wild, "priority": wild},
        {"to": wild, "message": wild},
        {"to": number, "message": wild, "provider": wild},
        {"to": number, "message": wild, "metadata": {wild: wild}, "priority": "urgent"},
        {"to": number, "message": wild, "sender_id": wild[:11]},
    ):
        keyed = {**json, "Idempotency-Key": uuid4().hex}
        await connection.request("POST", "/v1/sms/send", orjson.dumps(body), keyed)
        await connection.request("POST", "/v1/sms/send", orjson.dumps(body), keyed)
    sid = "SM" + wild
    assert (await send_text(connection, sid, wild, sender=number, ToCountry=wild)).status == 200
    assert (await send_text(connection, sid, wild, sender=number)).status == 200
    await send_text(connection, "SM" + uuid4().hex, wild, sender=wild, AccountSid=wild)
    for status in (wild, "delivered", "failed"):
        await send_status(connection, "SM" + wild[::-1], status, ErrorCode=wild[:8])
    await connection.post_form(f"/webhook/twilio/sms?{wild}", [("Body", wild)], wild)


class TestWorker:
    @pytest.mark.slow
    async def test_a_worker_alone_shows_its_pools_and_queues_and_the_old_names(
        self, processes: Processes, database_url: DatabaseUrl
    ) -> None:
        worker = processes.work(DATABASE_URL=database_url.dsn)
        await worker.until_ready()

        text = (await worker.get("/metrics")).body.decode()

        shown = {(family, labels.get("pool", labels.get("queue", ""))) for family, labels in label_sets(text)}
        assert {("sms_pool_limit", name) for name in ("database", "work", "sender", "provider:twilio")} <= shown
        assert {("sms_queue_limit", name) for name in QUEUES - {"inbound", "outbound"}} <= shown
        assert "# TYPE queue_lag gauge" in text


class TestRun:
    @pytest.mark.slow
    async def test_strangers_add_no_label_and_a_second_crowd_adds_nothing_at_all(
        self, processes: Processes, database_url: DatabaseUrl
    ) -> None:
        service = processes.serve(DATABASE_URL=database_url.dsn, FAILURE_LIMIT="off")
        await service.until_ready()
        await service.get("/metrics")

        async def has_its_admin() -> bool:
            return (await service.get("/v1/clients", Authorization=f"Bearer {ADMIN_KEY}")).status == 200

        await eventually(has_its_admin, "the first admin has been made")

        async def crowd(times: int) -> set[tuple[str, frozenset[tuple[str, str]]]]:
            async with service.connect() as connection:
                for _ in range(times):
                    await send_nasty_things(service, connection)
            text = (await service.get("/metrics")).body.decode()
            return {(family, frozenset(labels.items())) for family, labels in label_sets(text)}

        first = await crowd(5)
        second = await crowd(25)

        for family, labels in second:
            for label, value in labels:
                assert value in allowed(family, label), f"{family}: {label}={value}"
        families = {family for family, _ in second}
        assert {"sms_messages_accepted", "sms_messages_stored", "sms_receipts_stored", "sms_auth_failures"} <= families
        edge = (
            "sms_http",
            "sms_webhooks",
            "sms_auth",
            "sms_messages_accepted",
            "sms_idempotent",
            "sms_pool",
            "sms_queue",
        )
        assert {each for each in second - first if each[0].startswith(edge)} == set()
        assert len(second) < 400
