"""How long a text takes to its committed answer when the service is not driven to its limit."""

from collections.abc import Collection

from benchmarks.lab import Lab, Measured
from benchmarks.report import median
from benchmarks.requests import phone_numbers

RATE_PER_S = 200
_WARM_UP_REQUESTS = 2000


def names() -> list[str]:
    return ["inbound_rate200", "inbound_c1"]


def measure(lab: Lab, wanted: Collection[str]) -> None:
    """Measure latency at a fixed rate, and over a single connection."""
    phones = phone_numbers(1000)
    extent = lab.extent
    with lab.postgres.fresh_database() as url, lab.service(url) as service:
        lab.measure(service, lab.texts.texts(_WARM_UP_REQUESTS, phones=phones).requests)
        lab.forget_backlog(url)
        rounds: dict[str, list[Measured]] = {name: [] for name in names() if name in wanted}
        lost = 0
        for _ in range(extent.rounds):
            for name in rounds:
                is_paced = name == "inbound_rate200"
                texts = lab.texts.texts(
                    int(RATE_PER_S * extent.paced_s) if is_paced else extent.run_requests // 4, phones=phones
                )
                result = lab.measure(
                    service,
                    texts.requests,
                    connections=64 if is_paced else 1,
                    seconds=extent.paced_s + 1 if is_paced else extent.run_s,
                    rate=RATE_PER_S if is_paced else 0.0,
                )
                lost += lab.count_lost(url, texts.sids, result.replayed)
                rounds[name].append(result)
                lab.report.note(f"{name}: p50 {result.latency_ms(0.5):.2f} ms, p99 {result.latency_ms(0.99):.2f} ms")
                lab.forget_backlog(url)
    for name, results in rounds.items():
        lab.report.add(
            name,
            per_s=median(results, lambda each: each.replayed.per_second),
            p50_ms=median(results, lambda each: each.latency_ms(0.5)),
            p95_ms=median(results, lambda each: each.latency_ms(0.95)),
            p99_ms=median(results, lambda each: each.latency_ms(0.99)),
            service_cpu_us=median(results, lambda each: each.server_cpu_us),
            failed=sum(each.replayed.failed for each in results),
            rounds=len(results),
        )
    lab.report.add("pace", answered_not_stored=lost)
