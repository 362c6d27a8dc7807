"""From the start of the command to readiness, when everything has been there before."""

from collections.abc import Collection
from statistics import median

from benchmarks.lab import Lab
from benchmarks.processes import free_port, serving


def names() -> list[str]:
    return ["start_given", "start_embedded"]


def measure(lab: Lab, wanted: Collection[str]) -> None:
    """Start `sms-foundation serve` repeatedly; the first start, which creates and migrates, does not count."""
    if "start_given" in wanted:
        with lab.postgres.fresh_database() as url:
            _report(lab, "start_given", {"DATABASE_URL": url})
    if "start_embedded" in wanted:
        _report(lab, "start_embedded", {"SMS_DATA_DIR": str(lab.folder / "embedded")})


def _report(lab: Lab, name: str, environment: dict[str, str]) -> None:
    seconds = [_start(lab, environment) for _ in range(1 + max(lab.extent.rounds, 2))]
    lab.report.add(name, ready_s=median(seconds[1:]), first_s=seconds[0], longest_s=max(seconds[1:]))


def _start(lab: Lab, environment: dict[str, str]) -> float:
    port = free_port()
    with serving(
        ["-m", "sms_foundation", "serve", "--port", str(port)],
        port=port,
        ready_path="/health/ready",
        folder=lab.folder,
        environment={"APP_ENV": "local", **environment},
    ) as server:
        return server.ready_s
