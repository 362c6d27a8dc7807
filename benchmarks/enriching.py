"""From a stored text to its tenant and language: how long it takes, and how much work it is."""

import contextlib
from collections.abc import Collection, Iterator

from benchmarks.lab import Lab
from benchmarks.processes import cpu_seconds, free_port, serving
from benchmarks.replay import percentile
from benchmarks.requests import phone_numbers

RATE_PER_S = 50
_MONITOR_ANSWERS_AFTER_MS = 20
_NUMBERS = 2000

# The moment of the commit, by the database's clock: the trigger is the transaction's last statement.
_WATCH = (
    "CREATE TABLE enriched (id uuid PRIMARY KEY, at timestamptz NOT NULL DEFAULT clock_timestamp())",
    "CREATE FUNCTION note_enriched() RETURNS trigger LANGUAGE plpgsql AS "
    "$$BEGIN INSERT INTO enriched (id) VALUES (NEW.id) ON CONFLICT (id) DO NOTHING; RETURN NULL; END$$",
    "CREATE CONSTRAINT TRIGGER note_enriched AFTER UPDATE OF language_detected ON sms_messages "
    "DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION note_enriched()",
)
_TAKEN_MS = """
SELECT extract(epoch FROM e.at - m.created_at)::float8 * 1000
FROM sms_messages AS m JOIN enriched AS e USING (id) WHERE m.provider_message_id = ANY($1)
"""


def names() -> list[str]:
    return ["enrichment_latency", "enrichment_cpu"]


def measure(lab: Lab, wanted: Collection[str]) -> None:
    """Measure what is wanted, each on a database and with a Monitor of its own."""
    if "enrichment_latency" in wanted:
        _measure_latency(lab)
    if "enrichment_cpu" in wanted:
        _measure_cpu(lab)


def _measure_latency(lab: Lab) -> None:
    """Texts at a steady rate, half of them from numbers that the Monitor knows; it is asked for every spelling."""
    phones = phone_numbers(_NUMBERS)
    seconds = 2 * lab.extent.paced_s
    with (
        lab.postgres.fresh_database() as url,
        _monitor(lab, _MONITOR_ANSWERS_AFTER_MS, "known") as monitor_url,
        lab.service(url, MONITOR_API_URL=monitor_url) as service,
    ):
        for statement in _WATCH:
            lab.postgres.query(statement, database=url)
        lab.measure(service, lab.texts.texts(RATE_PER_S, phones=phones).requests, rate=RATE_PER_S, seconds=2)
        texts = lab.texts.texts(int(RATE_PER_S * seconds), phones=phones)
        result = lab.measure(service, texts.requests, rate=RATE_PER_S, seconds=seconds + 1)
        lab.drain_backlog(url)
        taken_ms = [row[0] for row in lab.postgres.query(_TAKEN_MS, list(texts.sids), database=url)]
    lab.report.add(
        "enrichment_latency",
        p50_ms=percentile(taken_ms, 0.5),
        p95_ms=percentile(taken_ms, 0.95),
        p99_ms=percentile(taken_ms, 0.99),
        longest_ms=max(taken_ms),
        texts=len(taken_ms),
        failed=result.replayed.failed + len(texts.requests) - len(taken_ms),
    )


def _measure_cpu(lab: Lab) -> None:
    """Drain a backlog with no request coming in. Every text is from another number, and nobody knows any of them."""
    count = lab.extent.backlog_texts
    with (
        lab.postgres.fresh_database() as url,
        _monitor(lab, 0, "unknown") as monitor_url,
        lab.service(url, MONITOR_API_URL=monitor_url) as service,
    ):
        lab.measure(service, lab.texts.texts(1000, phones=phone_numbers(1000)).requests)
        lab.drain_backlog(url)
        phones = iter(phone_numbers(1000 + count)[1000:])
        requests = [request for phone in phones for request in lab.texts.texts(1, phones=[phone]).requests]
        lab.measure(service, requests, seconds=60)
        waiting = lab.backlog(url)
        before = cpu_seconds(service.pid), cpu_seconds(lab.postgres.pid)
        lab.drain_backlog(url)
        after = cpu_seconds(service.pid), cpu_seconds(lab.postgres.pid)
        stuck = lab.backlog(url)
    done = max(waiting - stuck, 1)
    own_ms, postgres_ms = (
        None if end is None or start is None else (end - start) * 1000 / done
        for start, end in zip(before, after, strict=True)
    )
    lab.report.add(
        "enrichment_cpu",
        service_cpu_ms=own_ms,
        postgres_cpu_ms=postgres_ms,
        cpu_ms=None if own_ms is None or postgres_ms is None else own_ms + postgres_ms,
        texts=done,
        stuck_until_lease_ends=stuck,
    )


@contextlib.contextmanager
def _monitor(lab: Lab, answers_after_ms: float, knows: str) -> Iterator[str]:
    """Run a Collections Monitor and yield its base URL."""
    port = free_port()
    with serving(
        ["-m", "benchmarks.monitor", str(port), str(answers_after_ms), knows],
        port=port,
        ready_path="/",
        folder=lab.folder,
    ):
        yield f"http://127.0.0.1:{port}"
