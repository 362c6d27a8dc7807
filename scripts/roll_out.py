"""Bring an image to Cloud Run, move the traffic to it step by step, and back at the first sign of trouble.

    roll_out.py deploy --image REGISTRY/sms-foundation@sha256:...   migrations, then a revision without traffic
    roll_out.py shift --check "python scripts/smoke.py ..."         10 %, 50 %, 100 %; back if a check fails
    roll_out.py rollback [--to REVISION]                            all traffic to the revision before

Which project, region, service, job and worker pool is told by options or by GCP_PROJECT, GCP_REGION, GCP_SERVICE,
GCP_MIGRATION_JOB and GCP_WORKER_POOL, as `terraform output github_variables` prints them. Works through `gcloud`, which
must be logged in. Migrations never take away what the revision before needs, so going back needs none.
"""

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

_CANDIDATE = "candidate"
_PREVIOUS = "previous"
# As Terraform names it. Beside it there may be a collector of metrics, whose image is Terraform's business.
_CONTAINER = "service"
# Fewer requests say nothing about a share.
_FEWEST_REQUESTS = 20


class RollOutError(Exception):
    """What went wrong, for a person."""


@dataclass(frozen=True)
class Traffic:
    """Where requests go: percent by revision, and the revisions that have a tag, each with its own URL."""

    percents: dict[str, int]
    tags: dict[str, str]
    tag_urls: dict[str, str]

    @property
    def main(self) -> str:
        """The revision that gets most requests."""
        if not self.percents:
            raise RollOutError("no revision gets traffic: this service was never deployed")
        return max(self.percents, key=lambda revision: self.percents[revision])


class CloudRun:
    """One service on Cloud Run, with the job and the workers that belong to it, by way of gcloud."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._project: str = options.project
        self._region: str = options.region
        self.service: str = options.service
        self._job: str = options.migration_job
        self._worker_pool: str = options.worker_pool

    def traffic(self) -> Traffic:
        told = json.loads(self._gcloud("run", "services", "describe", self.service, "--format=json"))
        targets: list[dict[str, Any]] = told.get("status", {}).get("traffic", [])
        return Traffic(
            percents={each["revisionName"]: each["percent"] for each in targets if each.get("percent")},
            tags={each["tag"]: each["revisionName"] for each in targets if "tag" in each},
            tag_urls={each["tag"]: each["url"] for each in targets if "tag" in each},
        )

    def migrate(self, image: str) -> None:
        """Run the migrations of `image` to their end."""
        self._gcloud("run", "jobs", "update", self._job, f"--image={image}")
        self._gcloud("run", "jobs", "execute", self._job, "--wait")

    def deploy_without_traffic(self, image: str) -> None:
        command = ("run", "deploy", self.service, "--no-traffic", f"--tag={_CANDIDATE}")
        self._gcloud(*command, container=(f"--container={_CONTAINER}", f"--image={image}"))

    def deploy_workers(self, image: str) -> None:
        if self._worker_pool not in ("", "none"):
            command = ("beta", "run", "worker-pools", "update", self._worker_pool)
            self._gcloud(*command, container=("--container=worker", f"--image={image}"))

    def image_of(self, revision: str) -> str:
        told = json.loads(self._gcloud("run", "revisions", "describe", revision, "--format=json"))
        images: dict[str, str] = {each.get("name", _CONTAINER): each["image"] for each in told["spec"]["containers"]}
        return images[_CONTAINER]

    def send_traffic(self, percents: dict[str, int]) -> None:
        wanted = ",".join(f"{revision}={percent}" for revision, percent in percents.items() if percent)
        self._gcloud("run", "services", "update-traffic", self.service, f"--to-revisions={wanted}")

    def set_tag(self, tag: str, revision: str) -> None:
        self._gcloud("run", "services", "update-traffic", self.service, f"--update-tags={tag}={revision}")

    def requests_of(self, revision: str, since: datetime, monitoring_url: str) -> dict[str, int]:
        """Return how many requests `revision` has answered, by class of status ("2xx", "5xx")."""
        labels = f'resource.labels.service_name="{self.service}" AND resource.labels.revision_name="{revision}"'
        query = {
            "filter": f'metric.type="run.googleapis.com/request_count" AND {labels}',
            "interval.startTime": since.isoformat(),
            "interval.endTime": datetime.now(UTC).isoformat(),
        }
        url = f"{monitoring_url}/v3/projects/{self._project}/timeSeries?{urllib.parse.urlencode(query)}"
        token = self._gcloud("auth", "print-access-token").strip()
        request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})  # noqa: S310
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310  # Google's address, or a test's
            return _count_by_class(json.load(answer).get("timeSeries", []))

    def _gcloud(self, *arguments: str, container: Sequence[str] = ()) -> str:
        """Return what gcloud prints. What is said of one container comes last, or it would be said of all."""
        where = [] if arguments[0] == "auth" else [f"--project={self._project}", f"--region={self._region}", "--quiet"]
        command = ["gcloud", *arguments, *where, *container]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RollOutError(f"gcloud {' '.join(arguments[:4])}: {done.stderr.strip()}")
        return done.stdout


def _count_by_class(series: Iterable[dict[str, Any]]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for each in series:
        status_class = each["metric"]["labels"]["response_code_class"]
        counts[status_class] = counts.get(status_class, 0) + sum(
            int(point["value"]["int64Value"]) for point in each["points"]
        )
    return counts


def deploy(run: CloudRun, options: argparse.Namespace) -> None:
    """Bring the schema up to date, then make a revision of the image that gets no traffic yet."""
    if "@sha256:" not in options.image:
        raise RollOutError("name the image by digest: what a tag means may change between two steps")
    run.set_tag(_PREVIOUS, run.traffic().main)
    run.migrate(options.image)
    run.deploy_without_traffic(options.image)
    url = run.traffic().tag_urls[_CANDIDATE]
    print(f"{run.service}: the candidate answers at {url} and gets no traffic yet")
    _tell_workflow({"candidate_url": url})


def shift(run: CloudRun, options: argparse.Namespace) -> None:
    """Move the traffic to the candidate, and then the workers. Whatever goes wrong on the way, all of it goes back."""
    traffic = run.traffic()
    candidate, previous = traffic.tags[_CANDIDATE], traffic.tags[_PREVIOUS]
    has_touched_workers = False
    try:
        for percent in options.percents:
            since = datetime.now(UTC)
            run.send_traffic({candidate: percent, previous: 100 - percent})
            print(f"{candidate} gets {percent} %")
            time.sleep(options.watch_s)
            _check(options.check)
            _check_errors(run.requests_of(candidate, since - timedelta(seconds=60), options.monitoring_url), options)
        has_touched_workers = True
        run.deploy_workers(run.image_of(candidate))
    except BaseException as error:  # also Ctrl-C, and a workflow that was cancelled
        _let_nothing_interrupt()
        why = str(error) or type(error).__name__
        run.send_traffic({previous: 100})
        if has_touched_workers:
            _put_workers_back(run, previous, why)
        raise RollOutError(f"all traffic is back at {previous}: {why}") from error


def rollback(run: CloudRun, options: argparse.Namespace) -> None:
    """Send all traffic, and the workers, back to the revision before, or to the one that is named."""
    revision = options.to or run.traffic().tags.get(_PREVIOUS)
    if not revision:
        raise RollOutError("no revision is tagged as the one before: name one with --to")
    run.send_traffic({revision: 100})
    run.deploy_workers(run.image_of(revision))
    print(f"all traffic is at {revision}")


def _put_workers_back(run: CloudRun, previous: str, why: str) -> None:
    """Give the workers the image of `previous` again: a change of theirs that failed may have been done by half."""
    try:
        run.deploy_workers(run.image_of(previous))
    except RollOutError as error:
        raise RollOutError(f"all traffic is back at {previous}, but the workers may not be: {error} ({why})") from error


def _let_nothing_interrupt() -> None:
    """Ignore what a cancelled workflow sends next: it asks twice before it kills, and going back takes some seconds."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _check(command: str | None) -> None:
    if command is None:
        return
    done = subprocess.run(shlex.split(command), capture_output=True, text=True, check=False)
    print(done.stdout, end="")
    if done.returncode:
        raise RollOutError(f"a check failed: {(done.stdout + done.stderr).strip()}")


def _check_errors(requests: dict[str, int], options: argparse.Namespace) -> None:
    total, failed = sum(requests.values()), requests.get("5xx", 0)
    print(f"{failed} of {total} requests failed")
    if total >= _FEWEST_REQUESTS and failed / total > options.max_error_ratio:
        raise RollOutError(f"{failed} of {total} requests failed")


def _tell_workflow(outputs: dict[str, str]) -> None:
    if path := os.environ.get("GITHUB_OUTPUT"):
        with Path(path).open("a") as file:
            file.writelines(f"{name}={value}\n" for name, value in outputs.items())


def _percents(text: str) -> list[int]:
    percents = [int(each) for each in text.split(",")]
    if percents != sorted(set(percents)) or percents[0] < 1 or percents[-1] != 100:
        raise argparse.ArgumentTypeError("rising percents that end at 100, such as 10,50,100")
    return percents


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("project", "region", "service", "migration-job", "worker-pool"):
        variable = f"GCP_{name.upper().replace('-', '_')}"
        parser.add_argument(f"--{name}", default=os.environ.get(variable, ""), help=f"[default: {variable}]")
    actions = parser.add_subparsers(required=True)
    one = actions.add_parser("deploy")
    one.add_argument("--image", required=True)
    one.set_defaults(act=deploy)
    one = actions.add_parser("shift")
    one.add_argument("--percents", type=_percents, default=[10, 50, 100], help="[default: 10,50,100]")
    one.add_argument("--watch-s", type=float, default=300.0, help="how long each step is watched [default: 300]")
    one.add_argument("--max-error-ratio", type=float, default=0.02, help="[default: 0.02]")
    one.add_argument("--check", help="command that must succeed after each step")
    one.add_argument("--monitoring-url", default="https://monitoring.googleapis.com", help=argparse.SUPPRESS)
    one.set_defaults(act=shift)
    one = actions.add_parser("rollback")
    one.add_argument("--to", help="[default: the revision before the last deployment]")
    one.set_defaults(act=rollback)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parse(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        options.act(CloudRun(options), options)
    except RollOutError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
