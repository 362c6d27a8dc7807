"""Texts and status callbacks as fast as they are taken, beside a bare route that only checks their signature.

All runs of one round follow each other closely, and the median of rounds counts, so that what else the machine does
falls on all of them alike. Ratios are made within a round.
"""

import contextlib
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qs, urlsplit

from benchmarks.database import seed_messages
from benchmarks.lab import Lab, Measured
from benchmarks.processes import Server, free_port, resident_mib, serving
from benchmarks.report import Figure, median
from benchmarks.requests import InboundRequests, phone_numbers, seeded_sid, status_callbacks

REFERENCE: Final = "inbound_64"
BARE: Final = "bare_64"
STATUS: Final = "status_64"
DELAYED: Final = "inbound_64_delay1ms"
_OUTGOING = "outgoing"
_OUTGOING_PHONES = 1000
_WARM_UP_REQUESTS = 3000


@dataclass(frozen=True, slots=True)
class Place:
    """A server under test; `database_url` None: it stores nothing."""

    server: Server
    database_url: str | None


Make = Callable[[int], InboundRequests]  # round number -> requests


@dataclass(frozen=True, slots=True)
class Run:
    """One kind of load on one server. `sids` of its requests must be stored when `stores_texts`."""

    place: Place
    make: Make
    stores_texts: bool = True


def names() -> list[str]:
    return [REFERENCE, BARE, "inbound_dup20", "inbound_100k_numbers", "inbound_one_number", STATUS, DELAYED, "memory"]


def measure(lab: Lab, wanted: Collection[str]) -> None:
    """Measure the wanted scenarios; those that are compared with others measure these, too."""
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(lab.postgres.fresh_database())
        service = stack.enter_context(lab.service(url))
        at_start_mib = resident_mib(service.pid)
        runs = _runs(lab, stack, service, url, {*wanted, REFERENCE})
        measured = _interleaved(lab, runs)
        if "memory" in wanted:
            lab.report.add("memory", after_start_mib=at_start_mib, after_load_mib=resident_mib(service.pid))
    for name, rounds in measured.items():
        lab.report.add(name, **_figures(rounds), **_compared(name, measured))


def _runs(lab: Lab, stack: contextlib.ExitStack, service: Server, url: str, wanted: Collection[str]) -> dict[str, Run]:
    place = Place(service, url)
    count = lab.extent.run_requests
    thousand, many, one = phone_numbers(1000), phone_numbers(100_000), phone_numbers(1)

    def plain(_round: int) -> InboundRequests:
        return lab.texts.texts(count, phones=thousand)

    runs: dict[str, Run] = {}
    if BARE in wanted:
        runs[BARE] = Run(Place(stack.enter_context(lab.bare_route()), None), plain)
    runs[REFERENCE] = Run(place, plain)
    if "inbound_dup20" in wanted:
        runs["inbound_dup20"] = Run(place, lambda _: lab.texts.texts(count, phones=thousand, duplicate_share=0.2))
    if "inbound_100k_numbers" in wanted:
        runs["inbound_100k_numbers"] = Run(place, lambda _: lab.texts.texts(count, phones=many))
    if "inbound_one_number" in wanted:
        runs["inbound_one_number"] = Run(place, lambda _: lab.texts.texts(count, phones=one))
    if STATUS in wanted:
        runs[STATUS] = Run(place, _status_maker(lab, url), stores_texts=False)
    if DELAYED in wanted:
        far_url = stack.enter_context(lab.postgres.fresh_database())  # its own, or both services would share the work
        delayed_url = stack.enter_context(delayed(lab, far_url, delay_ms=1.0))
        runs[DELAYED] = Run(Place(stack.enter_context(lab.service(delayed_url)), far_url), plain)
    return runs


def _status_maker(lab: Lab, database_url: str) -> Make:
    """Return a maker of callbacks for outgoing messages that are there already; every round has its own messages."""
    per_round = lab.extent.run_requests // 2
    phones = [f"+44{7_000_000_000 + index}" for index in range(_OUTGOING_PHONES)]
    each = -(-per_round * (lab.extent.rounds + 1) // len(phones))
    seed_messages(lab.postgres, database_url, phones=phones, each=each, direction="outbound", family=_OUTGOING)

    def make(round_number: int) -> InboundRequests:
        first = 1 + per_round * round_number
        sids = [seeded_sid(number, family=_OUTGOING) for number in range(first, first + per_round)]
        return InboundRequests(list(status_callbacks(sids)), [])

    return make


@contextlib.contextmanager
def delayed(lab: Lab, database_url: str, *, delay_ms: float) -> Iterator[str]:
    """Yield a URL of the same database whose every answer takes that much longer."""
    parts = urlsplit(database_url)
    socket_folder = parse_qs(parts.query).get("host", [""])[0]
    upstream = f"{socket_folder}/.s.PGSQL.5432" if socket_folder else f"{parts.hostname}:{parts.port or 5432}"
    port = free_port()
    with serving(
        ["-m", "benchmarks.delay_proxy", str(port), str(delay_ms), upstream],
        port=port,
        ready_path=None,
        folder=lab.folder,
    ):
        credentials = parts.netloc.rpartition("@")[0]
        query = "sslmode=disable" if socket_folder else parts.query
        yield parts._replace(netloc=f"{credentials}@127.0.0.1:{port}", query=query).geturl()


def _interleaved(lab: Lab, runs: dict[str, Run]) -> dict[str, list[Measured]]:
    measured: dict[str, list[Measured]] = {name: [] for name in runs}
    lost = 0
    for round_number in range(-1, lab.extent.rounds):  # the round before the first warms everything up
        order = list(runs.items())
        for name, run in order if round_number % 2 else reversed(order):
            made = run.make(round_number + 1)
            requests = made.requests if round_number >= 0 else made.requests[:_WARM_UP_REQUESTS]
            result = lab.measure(run.place.server, requests)
            if run.place.database_url is not None:
                if run.stores_texts:
                    lost += lab.count_lost(run.place.database_url, made.sids, result.replayed)
                lab.forget_backlog(run.place.database_url)
            if round_number >= 0:
                measured[name].append(result)
                lab.report.note(_line(f"{name}, round {round_number + 1}", result))
    lab.report.add("inbound", answered_not_stored=lost)
    return measured


def _line(name: str, result: Measured) -> str:
    postgres = "" if result.postgres_cpu_us is None else f", PostgreSQL {result.postgres_cpu_us:.0f} µs"
    return (
        f"{name}: {result.replayed.per_second:,.0f}/s, CPU {result.server_cpu_us:.0f} µs{postgres}, "
        f"p99 {result.latency_ms(0.99):.1f} ms"
    )


def _figures(rounds: Sequence[Measured]) -> dict[str, Figure]:
    return {
        "per_s": median(rounds, lambda each: each.replayed.per_second),
        "service_cpu_us": median(rounds, lambda each: each.server_cpu_us),
        "postgres_cpu_us": median(rounds, lambda each: each.postgres_cpu_us),
        "p50_ms": median(rounds, lambda each: each.latency_ms(0.5)),
        "p95_ms": median(rounds, lambda each: each.latency_ms(0.95)),
        "p99_ms": median(rounds, lambda each: each.latency_ms(0.99)),
        "failed": sum(each.replayed.failed for each in rounds),
        "rounds": len(rounds),
    }


def _compared(name: str, measured: dict[str, list[Measured]]) -> dict[str, Figure]:
    if name == BARE:
        return {}
    if name == REFERENCE:
        pairs = _pairs(measured, name, BARE)
        return {
            "of_bare": median(pairs, _rate_ratio),
            "cpu_of_bare": median(pairs, lambda pair: pair[0].server_cpu_us / pair[1].server_cpu_us),
        }
    return {f"of_{REFERENCE}": median(_pairs(measured, name, REFERENCE), _rate_ratio)}


def _pairs(measured: dict[str, list[Measured]], name: str, other: str) -> list[tuple[Measured, Measured]]:
    """Return what belongs to the same round; nothing when the other was not measured."""
    return list(zip(measured[name], measured.get(other, []), strict=False))


def _rate_ratio(pair: tuple[Measured, Measured]) -> float:
    return pair[0].replayed.per_second / pair[1].replayed.per_second
