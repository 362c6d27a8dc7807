"""Messages that go out: how fast they are accepted, how fast and at what cost they are sent, how soon urgent ones go.

The provider is a stand-in that answers every send after 50 ms and sets no rate.
"""

import contextlib
import json
import time
import urllib.request
from collections.abc import Collection, Iterator, Sequence

from benchmarks.errors import BenchmarkError
from benchmarks.lab import Lab
from benchmarks.processes import Server, cpu_seconds, free_port, resident_mib, serving
from benchmarks.replay import percentile
from benchmarks.report import median
from benchmarks.requests import ACCOUNT_SID, API_KEY, AUTH_TOKEN, BASE_URL, OUR_NUMBER, phone_numbers

_PROVIDER_ANSWERS_AFTER_MS = 50
_BATCH = 1000
_BULK = 100_000
_URGENT_PER_S = 10
# Few calls at once, so that the provider's 50 ms are what limits a process, not its CPU.
_CALLS_AT_ONCE = 12
_PATIENCE_S = 180.0

_NOT_SENT = "SELECT count(*) FROM sms_messages WHERE sent_at IS NULL"
_SENT_WITHIN = """
SELECT extract(epoch FROM max(sent_at) - min(a.started_at))::float8, count(*)
FROM sms_messages AS m JOIN sms_send_attempts AS a ON a.message_id = m.id
"""
_COMPLETE = """
SELECT count(*) FROM sms_messages AS m
WHERE (SELECT count(*) FROM sms_send_attempts AS a WHERE a.message_id = m.id AND a.outcome = 'sent') = 1
  AND EXISTS (SELECT FROM sms_message_status_events AS e WHERE e.message_id = m.id)
"""


def names() -> list[str]:
    return ["accept_64", "dispatch", "dispatch_two_workers", "urgent"]


def measure(lab: Lab, wanted: Collection[str]) -> None:
    """Measure what is wanted, each on a database of its own."""
    if "accept_64" in wanted:
        _measure_accepting(lab)
    if "dispatch" in wanted:
        _measure_dispatching(lab)
    if "dispatch_two_workers" in wanted:
        _measure_two_workers(lab)
    if "urgent" in wanted:
        _measure_urgent(lab)


def _measure_accepting(lab: Lab) -> None:
    """Sends with idempotency keys from 64 connections; the work rows wait for a worker that is not there."""
    phones = phone_numbers(20_000)
    with lab.postgres.fresh_database() as url, lab.service(url, WORK_IN_PROCESS="false") as service:
        lab.measure(service, send_requests(phones, 3000, "warm"))
        runs = []
        for index in range(lab.extent.rounds):
            requests = send_requests(phones, lab.extent.run_requests, f"round{index}")
            runs.append(lab.measure(service, requests))
            lab.postgres.settle(url)
        stored = lab.postgres.query(
            "SELECT (SELECT count(*) FROM sms_messages), (SELECT count(*) FROM work WHERE kind = 'send_message')",
            database=url,
        )[0]
        lab.report.add(
            "accept_64",
            per_s=median(runs, lambda run: run.replayed.per_second),
            p50_ms=median(runs, lambda run: run.latency_ms(0.5)),
            p99_ms=median(runs, lambda run: run.latency_ms(0.99)),
            service_cpu_us=median(runs, lambda run: run.server_cpu_us),
            postgres_cpu_us=median(runs, lambda run: run.postgres_cpu_us),
            failed=sum(run.replayed.failed for run in runs),
            messages_without_work=stored[0] - stored[1],
            memory_mib=resident_mib(service.pid),
        )


def _measure_dispatching(lab: Lab) -> None:
    """One worker sends what is waiting; then a steady 200/s are accepted and sent by one process."""
    count = lab.extent.run_requests // 2
    with lab.postgres.fresh_database() as url, _provider(lab) as provider:
        with lab.service(url, WORK_IN_PROCESS="false", PROVIDERS=_providers(provider)) as service:
            _fill(service, phone_numbers(count), "normal")
        with _worker(lab, url, provider) as worker:
            before = cpu_seconds(worker.pid), cpu_seconds(lab.postgres.pid)
            _wait_until_sent(lab, url)
            after = cpu_seconds(worker.pid), cpu_seconds(lab.postgres.pid)
        seconds, sent = lab.postgres.query(_SENT_WITHIN, database=url)[0]
        complete = lab.postgres.query(_COMPLETE, database=url)[0][0]
    own_ms, postgres_ms = (
        None if end is None or start is None else (end - start) * 1000 / sent
        for start, end in zip(before, after, strict=True)
    )
    lab.report.add(
        "dispatch",
        per_s=sent / seconds,
        worker_cpu_ms=own_ms,
        postgres_cpu_ms=postgres_ms,
        cpu_ms=None if own_ms is None or postgres_ms is None else own_ms + postgres_ms,
        messages=sent,
        without_attempt_or_event=sent - complete,
    )


def _measure_two_workers(lab: Lab) -> None:
    """The same backlog, sent by one worker and by two, each with so few calls at once that the provider limits it."""
    rates = [_rate_of_workers(lab, workers) for workers in (1, 2)]
    lab.report.add("dispatch_two_workers", one_per_s=rates[0], two_per_s=rates[1], of_one=rates[1] / rates[0])


def _rate_of_workers(lab: Lab, workers: int) -> float:
    count = max(lab.extent.run_requests // 8, 500) * workers
    with lab.postgres.fresh_database() as url, _provider(lab) as provider:
        with lab.service(url, WORK_IN_PROCESS="false", PROVIDERS=_providers(provider)) as service:
            _fill(service, phone_numbers(count), "normal")
        with contextlib.ExitStack() as stack:
            for _ in range(workers):
                stack.enter_context(_worker(lab, url, provider, SEND_CONCURRENCY=str(_CALLS_AT_ONCE)))
            _wait_until_sent(lab, url)
        seconds, sent = lab.postgres.query(_SENT_WITHIN, database=url)[0]
        return float(sent / seconds)


def _measure_urgent(lab: Lab) -> None:
    """Urgent messages while a hundred thousand bulk ones wait and are being sent, by the process that accepts them."""
    bulk = min(_BULK, lab.extent.run_requests * 5)
    urgent = int(_URGENT_PER_S * lab.extent.paced_s)
    with lab.postgres.fresh_database() as url, _provider(lab) as provider:
        with lab.service(url, WORK_IN_PROCESS="false", PROVIDERS=_providers(provider)) as service:
            _fill(service, phone_numbers(bulk), "bulk")
        with lab.service(url, PROVIDERS=_providers(provider)) as service:
            time.sleep(2)
            asked: dict[str, float] = {}
            phones = phone_numbers(bulk + urgent)[bulk:]
            for index, phone in enumerate(phones):
                body = f"urgent {index}"
                asked[body] = time.time()
                _post(service, "/v1/sms/send", {"to": phone, "message": body, "priority": "urgent"})
                time.sleep(max(asked[body] + 1 / _URGENT_PER_S - time.time(), 0))
            time.sleep(1)
            arrived = json.loads(_get(f"{provider}/urgent"))
            waiting = lab.postgres.query(_NOT_SENT, database=url)[0][0]
    taken_ms = [(arrived[body] - at) * 1000 for body, at in asked.items() if body in arrived]
    lab.report.add(
        "urgent",
        p50_ms=percentile(taken_ms, 0.5),
        p99_ms=percentile(taken_ms, 0.99),
        longest_ms=max(taken_ms),
        messages=len(taken_ms),
        lost=len(asked) - len(taken_ms),
        bulk_still_waiting=waiting,
    )


def send_requests(phones: Sequence[str], count: int, keys: str) -> list[bytes]:
    return [
        _request("/v1/sms/send", {"to": phones[index % len(phones)], "message": "Your plumber comes at 10."}, key)
        for index in range(count)
        if (key := f"{keys}-{index}")
    ]


def _request(path: str, body: object, key: str) -> bytes:
    content = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: sms.example.com\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(content)}\r\nAuthorization: Bearer {API_KEY}\r\nIdempotency-Key: {key}\r\n\r\n"
    )
    return head.encode() + content


def _fill(service: Server, phones: Sequence[str], priority: str) -> None:
    """Accept one message per phone."""
    for start in range(0, len(phones), _BATCH):
        messages = [
            {"to": phone, "message": "Your plumber comes at 10.", "priority": priority}
            for phone in phones[start : start + _BATCH]
        ]
        answer = json.loads(_post(service, "/v1/sms/send/batch", {"messages": messages}))
        if answer["refused"]:
            raise BenchmarkError(f"{answer['refused']} messages of a batch were refused")


def _post(service: Server, path: str, body: object) -> bytes:
    request = urllib.request.Request(
        f"http://127.0.0.1:{service.port}{path}",
        data=json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {API_KEY}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310  # ours, on this machine
        content: bytes = response.read()
        return content


def _get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=60) as response:  # noqa: S310
        content: bytes = response.read()
        return content


def _wait_until_sent(lab: Lab, url: str) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while lab.postgres.query(_NOT_SENT, database=url)[0][0]:
        if time.monotonic() > deadline:
            raise BenchmarkError("the worker does not send what is waiting")
        time.sleep(0.1)


def _providers(provider_url: str) -> str:
    return json.dumps(
        [
            {
                "kind": "twilio",
                "name": "twilio",
                "account_sid": ACCOUNT_SID,
                "auth_token": AUTH_TOKEN,
                "senders": [OUR_NUMBER],
                "sender_rates": {"*": None},
                "rate_per_s": None,
                "max_connections": 256,
                "api_base_url": provider_url,
            }
        ]
    )


@contextlib.contextmanager
def _provider(lab: Lab) -> Iterator[str]:
    """Run the stand-in and yield its base URL."""
    port = free_port()
    with serving(
        ["-m", "benchmarks.provider", str(port), str(_PROVIDER_ANSWERS_AFTER_MS)],
        port=port,
        ready_path="/",
        folder=lab.folder,
    ):
        yield f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def _worker(lab: Lab, url: str, provider_url: str, **settings: str) -> Iterator[Server]:
    """Run `sms-foundation worker`, which has no port of its own."""
    environment = {
        "APP_ENV": "local",
        "DATABASE_URL": url,
        "PUBLIC_BASE_URL": BASE_URL,
        "PROVIDERS": _providers(provider_url),
        **settings,
    }
    with serving(
        ["-m", "sms_foundation", "worker"], port=None, ready_path=None, folder=lab.folder, environment=environment
    ) as server:
        yield server
