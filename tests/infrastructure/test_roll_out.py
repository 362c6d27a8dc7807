"""Traffic moves step by step, and back at the first sign of trouble."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.infrastructure.files import ROOT

COMMAND = [sys.executable, "-u", str(ROOT / "scripts" / "roll_out.py")]
OLD_IMAGE = "registry.example.com/sms@sha256:" + "1" * 64
NEW_IMAGE = "registry.example.com/sms@sha256:" + "2" * 64

WORKERS = "beta run worker-pools update sms-workers --quiet --container=worker --image="


class Monitoring:
    """Answers as Cloud Monitoring does: how many requests a revision has had, by class of status."""

    def __init__(self) -> None:
        self.counts = {"2xx": 1000}
        self.asked: list[dict[str, list[str]]] = []
        monitoring = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                assert self.headers["Authorization"] == "Bearer a-token"
                monitoring.asked.append(parse_qs(urlsplit(self.path).query))
                self.send_response(200)
                self.end_headers()
                self.wfile.write(json.dumps({"timeSeries": monitoring.series()}).encode())

            def log_message(self, *_: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def series(self) -> list[dict[str, Any]]:
        return [
            {
                "metric": {"labels": {"response_code_class": name}},
                "points": [{"value": {"int64Value": str(count - 1)}}, {"value": {"int64Value": "1"}}],
            }
            for name, count in self.counts.items()
        ]


@pytest.fixture
def monitoring() -> Iterator[Monitoring]:
    monitoring = Monitoring()
    yield monitoring
    monitoring.server.shutdown()
    monitoring.server.server_close()


class Cloud:
    """A project with one service, revision sms-1 of which gets all traffic."""

    def __init__(self, folder: Path, monitoring: Monitoring) -> None:
        self._state = folder / "state.json"
        self._monitoring = monitoring
        self.outputs = folder / "outputs"
        state = {"traffic": {"sms-1": 100}, "tags": {}, "images": {"sms-1": OLD_IMAGE}, "asked": [], "shares": []}
        self._state.write_text(json.dumps(state | {"refuses": []}))
        programs = folder / "bin"
        programs.mkdir()
        (programs / "gcloud").write_text(
            f'#!/bin/sh\nexec {sys.executable} {ROOT / "tests/infrastructure/gcloud.py"} "$@"\n'
        )
        (programs / "gcloud").chmod(0o755)
        self._environment = {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "GCLOUD_STATE": str(self._state),
            "GITHUB_OUTPUT": str(self.outputs),
            "GCP_PROJECT": "example",
            "GCP_REGION": "us-central1",
            "GCP_SERVICE": "sms",
            "GCP_MIGRATION_JOB": "sms-migrate",
            "GCP_WORKER_POOL": "sms-workers",
        }

    def __getattr__(self, name: str) -> Any:
        return json.loads(self._state.read_text())[name]

    def refuse(self, *beginnings: str) -> None:
        self._state.write_text(json.dumps(json.loads(self._state.read_text()) | {"refuses": beginnings}))

    def roll_out(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        if arguments[0] == "shift":
            address = f"http://127.0.0.1:{self._monitoring.server.server_port}"
            arguments = (*arguments, "--watch-s", "0", "--monitoring-url", address)
        return subprocess.run(
            [*COMMAND, *arguments], env=self._environment | environment, capture_output=True, text=True, check=False
        )

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*COMMAND, *arguments],
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )


@pytest.fixture
def cloud(tmp_path: Path, monitoring: Monitoring) -> Cloud:
    return Cloud(tmp_path, monitoring)


class TestDeploy:
    def test_migrates_first_and_gives_the_new_revision_no_traffic(self, cloud: Cloud) -> None:
        done = cloud.roll_out("deploy", "--image", NEW_IMAGE)

        assert done.returncode == 0, done.stderr
        migrated = next(
            i for i, each in enumerate(cloud.asked) if each.startswith("run jobs execute sms-migrate --wait")
        )
        deployed = next(i for i, each in enumerate(cloud.asked) if each.startswith("run deploy sms"))
        assert any(
            each.startswith(f"run jobs update sms-migrate --image={NEW_IMAGE}") for each in cloud.asked[:migrated]
        )
        assert migrated < deployed
        assert "--no-traffic" in cloud.asked[deployed]
        assert cloud.asked[deployed].endswith(f"--container=service --image={NEW_IMAGE}")
        assert cloud.traffic == {"sms-1": 100}
        assert cloud.tags == {"previous": "sms-1", "candidate": "sms-2"}

    def test_tells_the_workflow_where_the_candidate_answers(self, cloud: Cloud) -> None:
        cloud.roll_out("deploy", "--image", NEW_IMAGE)

        assert cloud.outputs.read_text() == "candidate_url=https://candidate---sms.example.com\n"

    def test_a_migration_that_fails_ends_it(self, cloud: Cloud) -> None:
        cloud.refuse("run jobs execute")

        done = cloud.roll_out("deploy", "--image", NEW_IMAGE)

        assert (done.returncode, cloud.images) == (1, {"sms-1": OLD_IMAGE})

    def test_takes_no_image_by_tag(self, cloud: Cloud) -> None:
        done = cloud.roll_out("deploy", "--image", "registry.example.com/sms:latest")

        assert (done.returncode, cloud.asked) == (1, [])


class TestShift:
    @pytest.fixture(autouse=True)
    def deployed(self, cloud: Cloud) -> None:
        cloud.roll_out("deploy", "--image", NEW_IMAGE)

    def test_goes_step_by_step(self, cloud: Cloud) -> None:
        done = cloud.roll_out("shift")

        assert done.returncode == 0, done.stderr
        assert cloud.shares == [{"sms-2": 10, "sms-1": 90}, {"sms-2": 50, "sms-1": 50}, {"sms-2": 100}]

    def test_workers_follow_when_all_went_well(self, cloud: Cloud) -> None:
        cloud.roll_out("shift")

        wanted = f"beta run worker-pools update sms-workers --quiet --container=worker --image={NEW_IMAGE}"
        assert cloud.asked[-1] == wanted

    def test_without_workers_there_are_none_to_follow(self, cloud: Cloud) -> None:
        cloud.roll_out("shift", GCP_WORKER_POOL="none")

        assert not [each for each in cloud.asked if "worker-pools" in each]

    def test_looks_at_the_new_revisions_own_requests(self, cloud: Cloud, monitoring: Monitoring) -> None:
        cloud.roll_out("shift")

        assert len(monitoring.asked) == 3
        assert 'resource.labels.revision_name="sms-2"' in monitoring.asked[0]["filter"][0]

    def test_too_many_errors_send_all_traffic_back(self, cloud: Cloud, monitoring: Monitoring) -> None:
        monitoring.counts = {"2xx": 970, "5xx": 30}

        done = cloud.roll_out("shift", "--max-error-ratio", "0.02")

        assert done.returncode == 1
        assert "30 of 1000 requests failed" in done.stderr
        assert cloud.shares == [{"sms-2": 10, "sms-1": 90}, {"sms-1": 100}]
        assert not [each for each in cloud.asked if "worker-pools" in each]

    def test_a_few_requests_say_nothing_about_a_share(self, cloud: Cloud, monitoring: Monitoring) -> None:
        monitoring.counts = {"2xx": 5, "5xx": 1}

        assert cloud.roll_out("shift").returncode == 0

    def test_a_check_that_fails_sends_all_traffic_back(self, cloud: Cloud) -> None:
        done = cloud.roll_out("shift", "--check", f"{sys.executable} -c 'raise SystemExit(1)'")

        assert done.returncode == 1
        assert cloud.traffic == {"sms-1": 100}

    def test_whatever_goes_wrong_sends_all_traffic_back(self, cloud: Cloud, monitoring: Monitoring) -> None:
        monitoring.counts = {"2xx": 1}
        cloud.refuse("auth print-access-token")

        done = cloud.roll_out("shift")

        assert done.returncode == 1
        assert cloud.traffic == {"sms-1": 100}

    def test_workers_that_could_not_be_moved_are_put_back_with_the_traffic(
        self, cloud: Cloud, monitoring: Monitoring
    ) -> None:
        cloud.refuse(f"{WORKERS}{NEW_IMAGE}")

        done = cloud.roll_out("shift")

        assert done.returncode == 1
        assert done.stderr.startswith("error: all traffic is back at sms-1: gcloud beta run worker-pools update: ")
        assert cloud.traffic == {"sms-1": 100}
        assert cloud.asked[-1] == f"{WORKERS}{OLD_IMAGE}"

    def test_workers_that_cannot_be_put_back_either_are_named(self, cloud: Cloud, monitoring: Monitoring) -> None:
        cloud.refuse(WORKERS)

        done = cloud.roll_out("shift")

        assert done.returncode == 1
        assert done.stderr.startswith("error: all traffic is back at sms-1, but the workers may not be: gcloud ")
        assert cloud.traffic == {"sms-1": 100}

    def test_workers_that_nobody_has_touched_are_left_alone(self, cloud: Cloud, monitoring: Monitoring) -> None:
        monitoring.counts = {"2xx": 900, "5xx": 100}

        assert cloud.roll_out("shift").returncode == 1

        assert not [each for each in cloud.asked if each.startswith("beta run worker-pools")]

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_a_cancelled_workflow_sends_all_traffic_back(self, cloud: Cloud, number: signal.Signals) -> None:
        with cloud.start("shift", "--watch-s", "3600") as shift:
            assert shift.stdout
            assert shift.stdout.readline() == "sms-2 gets 10 %\n"
            shift.send_signal(number)
            assert shift.wait() == 1

        assert cloud.traffic == {"sms-1": 100}

    @pytest.mark.parametrize("percents", ["50,10,100", "10,50", "0,100", "10,10,100"])
    def test_steps_rise_to_all(self, cloud: Cloud, percents: str) -> None:
        assert cloud.roll_out("shift", "--percents", percents).returncode == 2
        assert cloud.shares == []


class TestRollback:
    @pytest.fixture(autouse=True)
    def deployed(self, cloud: Cloud) -> None:
        cloud.roll_out("deploy", "--image", NEW_IMAGE)
        cloud.roll_out("shift")

    def test_goes_back_to_the_revision_before_workers_included(self, cloud: Cloud) -> None:
        done = cloud.roll_out("rollback")

        assert done.returncode == 0, done.stderr
        assert cloud.traffic == {"sms-1": 100}
        assert cloud.asked[-1] == f"{WORKERS}{OLD_IMAGE}"

    def test_goes_to_the_revision_that_is_named(self, cloud: Cloud) -> None:
        cloud.roll_out("rollback", "--to", "sms-2")

        assert cloud.traffic == {"sms-2": 100}
