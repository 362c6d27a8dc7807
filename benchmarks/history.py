"""Reading conversations back: the newest page, and pages far behind it, in a table of a million messages.

Ten conversations hold 25,000 messages each, the others 20; all pages are read from the ten, so that the depth of the
page is the only difference.
"""

import http.client
import itertools
import json
from collections.abc import Collection, Sequence
from urllib.parse import quote

from benchmarks.database import seed_messages
from benchmarks.lab import Lab, Measured
from benchmarks.processes import Server
from benchmarks.report import median
from benchmarks.requests import API_KEY, history_read, phone_numbers

_LONG, _LONG_EACH, _SHORT_EACH = 10, 25_000, 20
_PAGE_SIZE = 20
_DEEP_PAGE = 1000
_CONNECTIONS = 16
_DIFFERENT_PAGES = 20  # per conversation, around the depth in question
_WARM_UP_REQUESTS = 2000


def names() -> list[str]:
    return ["history_first", "history_page1000", "history_cursor1000"]


def measure(lab: Lab, wanted: Collection[str]) -> None:
    """Measure pages per second; the deep ones are compared with the first."""
    total = lab.extent.history_messages
    numbers = phone_numbers(_LONG + max(total - _LONG * _LONG_EACH, 0) // _SHORT_EACH)
    long, short = numbers[:_LONG], numbers[_LONG:]
    with lab.postgres.fresh_database() as url:
        lab.report.note(f"history: writing {_LONG * _LONG_EACH + len(short) * _SHORT_EACH:,} messages")
        for family, phones, each in (("long", long, _LONG_EACH), ("short", short, _SHORT_EACH)):
            if phones:
                seed_messages(lab.postgres, url, phones=phones, each=each, direction="inbound", family=family)
        lab.postgres.settle(url)
        with lab.service(url) as service:
            rounds = _rounds(lab, service, long, {*wanted, "history_first"})
    first = rounds["history_first"]
    for name, results in rounds.items():
        ratios = [a.replayed.per_second / b.replayed.per_second for a, b in zip(results, first, strict=True)]
        lab.report.add(
            name,
            per_s=median(results, lambda each: each.replayed.per_second),
            of_first=median(ratios, float),
            service_cpu_us=median(results, lambda each: each.server_cpu_us),
            postgres_cpu_us=median(results, lambda each: each.postgres_cpu_us),
            p50_ms=median(results, lambda each: each.latency_ms(0.5)),
            p99_ms=median(results, lambda each: each.latency_ms(0.99)),
            failed=sum(each.replayed.failed for each in results),
            rounds=len(results),
        )


def _rounds(lab: Lab, service: Server, phones: Sequence[str], wanted: Collection[str]) -> dict[str, list[Measured]]:
    queries = {
        "history_first": {phone: [f"limit={_PAGE_SIZE}"] for phone in phones},
        "history_page1000": {
            phone: [f"limit={_PAGE_SIZE}&page={_DEEP_PAGE + nth}" for nth in range(_DIFFERENT_PAGES)]
            for phone in phones
        },
        "history_cursor1000": {
            phone: [
                f"limit={_PAGE_SIZE}&cursor={_cursor(service, phone, _DEEP_PAGE + n)}" for n in range(_DIFFERENT_PAGES)
            ]
            for phone in phones
        },
    }
    requests = {name: _requests(queries[name], lab.extent.run_requests) for name in names() if name in wanted}
    rounds: dict[str, list[Measured]] = {name: [] for name in requests}
    for each in requests.values():
        lab.measure(service, each[:_WARM_UP_REQUESTS], connections=_CONNECTIONS)
    for round_number in range(lab.extent.rounds):
        for name in requests if round_number % 2 else reversed(requests):
            result = lab.measure(service, requests[name], connections=_CONNECTIONS)
            rounds[name].append(result)
            lab.report.note(
                f"{name}, round {round_number + 1}: {result.replayed.per_second:,.0f}/s, "
                f"CPU {result.server_cpu_us:.0f} µs, p99 {result.latency_ms(0.99):.1f} ms"
            )
    return rounds


def _requests(queries: dict[str, list[str]], count: int) -> list[bytes]:
    different = [history_read(phone, query) for phone, each in queries.items() for query in each]
    return list(itertools.islice(itertools.cycle(different), count))


def _cursor(service: Server, phone: str, page: int) -> str:
    """Return the cursor that leads to `page`: the one that the page before it hands out."""
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=10)
    try:
        connection.request(
            "GET",
            f"/conversations/{quote(phone, safe='')}?limit={_PAGE_SIZE}&page={page - 1}",
            headers={"Authorization": f"Bearer {API_KEY}"},
        )
        cursor: str = json.loads(connection.getresponse().read())["next_cursor"]
        return cursor
    finally:
        connection.close()
