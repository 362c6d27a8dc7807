"""`python -m benchmarks`: measure everything, or what --only names; JSON lines on standard output."""

import argparse
import dataclasses
import os
import platform
import signal
import sys
import tempfile
from collections.abc import Callable, Collection
from pathlib import Path

from benchmarks import access, enriching, history, inbound, pace, recognising, sending, starting
from benchmarks.database import lend_server
from benchmarks.errors import BenchmarkError
from benchmarks.lab import QUICK, Extent, Lab
from benchmarks.replay import compiled
from benchmarks.report import Report
from benchmarks.requests import TextMaker
from benchmarks.targets import TARGETS

FAMILIES: tuple[tuple[Callable[[], list[str]], Callable[[Lab, Collection[str]], None]], ...] = (
    (inbound.names, inbound.measure),
    (pace.names, pace.measure),
    (enriching.names, enriching.measure),
    (sending.names, sending.measure),
    (access.names, access.measure),  # after sending, whose figures it compares with
    (starting.names, starting.measure),
    (recognising.names, recognising.measure),
    (history.names, history.measure),  # last: its million rows leave the server with writing to do
)
SCENARIOS = [name for names, _ in FAMILIES for name in names()]


def main() -> None:
    """Measure and print; exit status 1 with one line when that is impossible."""
    arguments = _parser().parse_args()
    if unknown := sorted({*arguments.only} - {*SCENARIOS}):
        sys.exit(f"error: no such scenario: {', '.join(unknown)}; there are {', '.join(SCENARIOS)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # unwinds, and so ends every process we started
    extent = QUICK if arguments.quick else Extent()
    if arguments.rounds:
        extent = dataclasses.replace(extent, rounds=arguments.rounds)
    report = Report(sys.stderr if arguments.markdown else sys.stdout)
    try:
        machine = _measure(report, extent, arguments.only or SCENARIOS)
    except BenchmarkError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    report.judge(TARGETS)
    print(
        f"{machine}\n\n{report.table(TARGETS)}\n\n{report.details()}",
        file=sys.stdout if arguments.markdown else sys.stderr,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure the service from outside.")
    parser.add_argument(
        "--only",
        type=lambda names: names.split(","),
        default=[],
        metavar="NAME,...",
        help=f"scenarios to measure: {', '.join(SCENARIOS)}",
    )
    parser.add_argument(
        "--quick", action="store_true", help="one short round of each: does it work? no figures to keep"
    )
    parser.add_argument("--rounds", type=int, metavar="N", help="repeat each measurement; medians count")
    parser.add_argument(
        "--markdown",
        action="store_true",
        help="tables on standard output, for docs/benchmarks.md; JSON lines elsewhere",
    )
    return parser


def _measure(report: Report, extent: Extent, wanted: Collection[str]) -> str:
    """Measure every family that has a wanted scenario; return what the machine is."""
    compiled()  # before anything is started: it may be impossible
    with lend_server() as postgres, tempfile.TemporaryDirectory(prefix="sms-bench-") as folder:
        database = postgres.describe()
        cpu, cores = _cpu_model(), os.cpu_count()
        report.add(
            "meta",
            cpu=cpu,
            cores=cores,
            python=platform.python_version(),
            load_average=os.getloadavg()[0],
            **{f"postgres_{name}": value for name, value in database.items()},
        )
        lab = Lab(postgres, Path(folder), report, extent, TextMaker())
        for names, measure in FAMILIES:
            if {*names()} & {*wanted}:
                measure(lab, wanted)
    return (
        f"{cores} cores of {cpu}, Python {platform.python_version()}, PostgreSQL {database['server_version']} "
        f"({database['origin']}, fsync {database['fsync']}, shared_buffers {database['shared_buffers']}) beside it, "
        f"medians of {extent.rounds} rounds"
    )


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


if __name__ == "__main__":
    main()
