"""What access control costs: the gate by itself, with a key and with a token; and the limits, as part of a send."""

import json
import subprocess
import sys
from collections.abc import Callable, Collection, Sequence

from benchmarks.errors import BenchmarkError
from benchmarks.lab import Lab, Measured
from benchmarks.report import median
from benchmarks.requests import API_KEY, phone_numbers
from benchmarks.sending import send_requests

_CALLS = 100_000
# Counted for every request and never reached.
_LIMITS = {"CLIENT_LIMIT": "900000000/1m", "NUMBER_LIMIT": "900000000/1h"}


def names() -> list[str]:
    return ["access_gate", "access_limits"]


def measure(lab: Lab, wanted: Collection[str]) -> None:
    """Measure what is wanted."""
    if "access_gate" in wanted:
        _measure_gate(lab)
    if "access_limits" in wanted:
        _measure_limits(lab)


def _measure_gate(lab: Lab) -> None:
    calls = min(_CALLS, lab.extent.run_requests * 5)
    with lab.postgres.fresh_database() as url:
        with lab.service(url, WORK_IN_PROCESS="false"):
            pass  # its first start makes the client that has the key
        runs = [_run_gate(url, calls) for _ in range(lab.extent.rounds)]
    lab.report.add(
        "access_gate",
        key_us=median(runs, lambda run: run["key_us"]),
        token_us=median(runs, lambda run: run["token_us"]),
        calls=calls,
        rounds=len(runs),
    )


def _run_gate(url: str, calls: int) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.gate", url, API_KEY, str(calls)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchmarkError(f"the gate cannot be measured: {done.stderr.strip().splitlines()[-1:]}")
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def _measure_limits(lab: Lab) -> None:
    """The same sends with limits off and on, in turns; what the limits add is compared with what a whole send takes."""
    phones = phone_numbers(20_000)
    without: list[Measured] = []
    with_limits: list[Measured] = []
    with (
        lab.postgres.fresh_database() as url,
        lab.service(url, WORK_IN_PROCESS="false") as plain,
        lab.service(url, WORK_IN_PROCESS="false", **_LIMITS) as limited,
    ):
        for service in (plain, limited):
            lab.measure(service, send_requests(phones, 3000, f"warm{service.port}"))
        for index in range(lab.extent.rounds):
            for service, runs in ((plain, without), (limited, with_limits)):
                requests = send_requests(phones, lab.extent.run_requests, f"round{index}-{service.port}")
                runs.append(lab.measure(service, requests))
                lab.postgres.settle(url)
    service_us = _difference(with_limits, without, lambda run: run.server_cpu_us)
    postgres_us = _difference(with_limits, without, lambda run: run.postgres_cpu_us)
    dispatch_ms = lab.report.figures.get("dispatch", {}).get("cpu_ms")
    whole_us = None
    accept_us = [each.server_cpu_us + each.postgres_cpu_us for each in without if each.postgres_cpu_us is not None]
    if isinstance(dispatch_ms, float) and accept_us and service_us is not None and postgres_us is not None:
        whole_us = sorted(accept_us)[len(accept_us) // 2] + dispatch_ms * 1000
    lab.report.add(
        "access_limits",
        added_service_us=service_us,
        added_postgres_us=postgres_us,
        of_send=None if whole_us is None else ((service_us or 0) + (postgres_us or 0)) / whole_us,
        per_s=median(with_limits, lambda run: run.replayed.per_second),
        per_s_without=median(without, lambda run: run.replayed.per_second),
        failed=sum(run.replayed.failed for run in (*without, *with_limits)),
    )


def _difference(
    runs: Sequence[Measured], others: Sequence[Measured], of: Callable[[Measured], float | None]
) -> float | None:
    """Return by how much the median of `runs` is above that of `others`."""
    first, second = median(runs, of), median(others, of)
    return None if first is None or second is None else first - second
