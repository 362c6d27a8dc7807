"""The pipeline's promises, read from its files."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.infrastructure.files import INFRASTRUCTURE, ROOT, WORKFLOWS, read_yaml, run

PATHS = sorted(WORKFLOWS.glob("*.yaml"))
ON = True  # the key `on`, as YAML 1.1 reads it
CI = read_yaml(WORKFLOWS / "ci.yaml")
DEPLOY = read_yaml(WORKFLOWS / "deploy.yaml")
ROLLBACK = read_yaml(WORKFLOWS / "rollback.yaml")


def steps(job: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = job.get("steps", [])
    return found


def commands(job: dict[str, Any]) -> str:
    return "\n".join(each.get("run", "") for each in steps(job))


def actions(path: Path) -> list[str]:
    return re.findall(r"uses: (\S+.*)$", path.read_text(), re.MULTILINE)


class TestEveryWorkflow:
    @pytest.mark.parametrize("path", PATHS, ids=lambda path: path.name)
    def test_keeps_to_githubs_schema(self, path: Path) -> None:
        command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows", str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)

        assert done.returncode == 0, done.stdout + done.stderr

    def test_what_keeps_them_new_keeps_to_githubs_schema(self) -> None:
        path = str(WORKFLOWS.parent / "dependabot.yaml")
        command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.dependabot", path]
        done = subprocess.run(command, capture_output=True, text=True, check=False)

        assert done.returncode == 0, done.stdout + done.stderr
        assert "package-ecosystem: github-actions" in (WORKFLOWS.parent / "dependabot.yaml").read_text()

    @pytest.mark.parametrize("path", PATHS, ids=lambda path: path.name)
    def test_pins_actions_by_commit_and_says_which_version_that_is(self, path: Path) -> None:
        foreign = [each for each in actions(path) if not each.startswith("./")]

        assert foreign
        assert [each for each in foreign if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", each)] == []

    def test_one_action_has_one_commit_everywhere(self) -> None:
        pinned: dict[str, set[str]] = {}
        for path in PATHS:
            for each in actions(path):
                name, _, commit = each.partition("@")
                pinned.setdefault(name, set()).add(commit)

        assert {name: found for name, found in pinned.items() if len(found) > 1} == {}

    @pytest.mark.parametrize("path", PATHS, ids=lambda path: path.name)
    def test_may_read_and_nothing_else_unless_a_job_needs_more(self, path: Path) -> None:
        workflow = read_yaml(path)

        assert workflow["permissions"] == {"contents": "read"}
        for job in workflow["jobs"].values():
            assert set(job.get("permissions", {}).items()) <= {("contents", "read"), ("id-token", "write")}

    @pytest.mark.parametrize("path", PATHS, ids=lambda path: path.name)
    def test_every_job_ends_some_time(self, path: Path) -> None:
        jobs = read_yaml(path)["jobs"].items()

        assert [name for name, job in jobs if "uses" not in job and "timeout-minutes" not in job] == []

    @pytest.mark.parametrize("path", PATHS, ids=lambda path: path.name)
    def test_leaves_no_token_in_the_checked_out_folder(self, path: Path) -> None:
        for job in read_yaml(path)["jobs"].values():
            for step in steps(job):
                if step.get("uses", "").startswith("actions/checkout"):
                    assert step["with"] == {"persist-credentials": False}

    @pytest.mark.parametrize("path", PATHS, ids=lambda path: path.name)
    def test_lets_no_input_be_read_as_a_command(self, path: Path) -> None:
        for job in read_yaml(path)["jobs"].values():
            assert not re.search(r"\$\{\{ *(inputs|github\.event|vars|secrets|needs|steps)\b", commands(job))

    def test_zizmor_finds_nothing(self) -> None:
        run("zizmor", "--offline", "--no-progress", "--min-severity", "medium", ".github")


class TestCi:
    def test_runs_before_a_merge_and_before_a_deployment(self) -> None:
        assert set(CI[ON]) == {"pull_request", "workflow_call"}

    def test_tests_every_python_on_both_databases(self) -> None:
        matrix = CI["jobs"]["check"]["strategy"]["matrix"]

        assert matrix == {"python": ["3.11", "3.12", "3.13"], "database": ["embedded", "service"]}

    def test_runs_what_developers_run_and_reports_coverage(self) -> None:
        job = CI["jobs"]["check"]

        assert "make check" in commands(job)
        assert "coverage report --format=markdown" in commands(job)

    def test_migrates_up_down_and_up(self) -> None:
        wanted = ["sms-foundation migrate", "sms-foundation migrate --to base", "sms-foundation migrate"]

        assert [each["run"] for each in steps(CI["jobs"]["migrations"]) if "run" in each][-3:] == wanted

    def test_builds_weighs_starts_and_scans_the_image(self) -> None:
        job = CI["jobs"]["image"]

        assert any("build-push-action" in each.get("uses", "") for each in steps(job))
        assert "docker export" in commands(job)
        assert "-lt 200000000" in commands(job)
        assert "compose" in commands(job)
        (scan,) = [each for each in steps(job) if "scan-action" in each.get("uses", "")]
        assert scan["with"]["severity-cutoff"] == "critical"

    def test_checks_what_tests_do_without(self) -> None:
        text = commands(CI["jobs"]["infrastructure"])

        for program in ("hadolint", "checkov", "zizmor", "terraform validate", "terraform test", "kubernetes-validate"):
            assert program in text

    def test_its_programs_have_versions(self) -> None:
        lines = [line for line in (INFRASTRUCTURE / "tools.txt").read_text().splitlines() if line and line[0] != "#"]

        assert {line.partition("==")[0] for line in lines} == {
            "checkov",
        }
        assert all("==" in line for line in lines)

    def test_audits_dependencies(self) -> None:
        assert "make audit" in commands(CI["jobs"]["audit"])


class TestDeploy:
    def test_happens_on_main_after_everything_else_passed(self) -> None:
        assert DEPLOY[ON] == {"push": {"branches": ["main"]}}
        assert DEPLOY["jobs"]["ci"]["uses"] == "./.github/workflows/ci.yaml"
        assert DEPLOY["jobs"]["build"]["needs"] == "ci"

    def test_is_never_cut_short_by_the_next(self) -> None:
        assert DEPLOY["concurrency"] == {"group": "deploy", "cancel-in-progress": False}

    @pytest.mark.parametrize("name", ["build", "staging", "production"])
    def test_logs_in_without_a_key_that_lies_somewhere(self, name: str) -> None:
        job = DEPLOY["jobs"][name]
        (login,) = [each for each in steps(job) if "google-github-actions/auth" in each.get("uses", "")]

        assert set(login["with"]) == {"workload_identity_provider", "service_account"}
        assert job["permissions"]["id-token"] == "write"

    def test_builds_once_and_names_the_image_by_digest(self) -> None:
        job = DEPLOY["jobs"]["build"]
        (build,) = [each for each in steps(job) if each.get("id") == "build"]

        assert "push-by-digest=true" in build["with"]["outputs"]
        assert job["outputs"]["digest"] == "${{ steps.build.outputs.digest }}"
        for name in ("staging", "production"):
            images = [each["env"]["IMAGE"] for each in steps(DEPLOY["jobs"][name]) if "IMAGE" in each.get("env", {})]
            assert [image.endswith("@${{ needs.build.outputs.digest }}") for image in images] == [True]

    def test_records_what_was_built(self) -> None:
        (build,) = [each for each in steps(DEPLOY["jobs"]["build"]) if each.get("id") == "build"]
        given = {line.partition("=")[0] for line in build["with"]["build-args"].splitlines()}

        assert given == {"VERSION", "REVISION", "CREATED", "SOURCE", "BUILD_BASE", "RUNTIME_BASE"}
        assert given <= set(re.findall(r"^ARG (\w+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE))

    def test_builds_on_bases_by_digest(self, tmp_path: Path) -> None:
        """The very step, with a `docker` that knows one digest for every name."""
        (bases,) = [each for each in steps(DEPLOY["jobs"]["build"]) if each.get("id") == "bases"]
        docker, outputs = tmp_path / "docker", tmp_path / "outputs"
        docker.write_text('#!/bin/sh\nprintf "%s %s\\n" "$1 $2 $3" "$4" >> asked\necho sha256:0123\n')
        docker.chmod(0o755)
        (tmp_path / "Dockerfile").write_text((ROOT / "Dockerfile").read_text())
        environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "GITHUB_OUTPUT": str(outputs)}
        subprocess.run(["bash", "-euo", "pipefail", "-c", bases["run"]], cwd=tmp_path, env=environment, check=True)

        assert outputs.read_text().splitlines() == [
            "BUILD_BASE=python:3.13-trixie@sha256:0123",
            "RUNTIME_BASE=python:3.13-slim-trixie@sha256:0123",
        ]

    def test_tries_staging_with_signed_webhooks_before_and_after_it_gets_traffic(self) -> None:
        texts = [each.get("run", "") for each in steps(DEPLOY["jobs"]["staging"])]

        deployed = next(i for i, text in enumerate(texts) if "roll_out.py deploy" in text)
        tried = next(i for i, text in enumerate(texts) if text.startswith("python scripts/smoke.py"))
        shifted = next(i for i, text in enumerate(texts) if "roll_out.py shift" in text)
        assert deployed < tried < shifted
        assert "--read-only" not in texts[tried]
        assert '--check "python scripts/smoke.py' in texts[shifted]

    def test_production_waits_for_staging_and_for_a_person(self) -> None:
        job = DEPLOY["jobs"]["production"]

        assert job["needs"] == ["build", "staging"]
        assert job["environment"]["name"] == "production"

    def test_production_gets_traffic_step_by_step(self) -> None:
        (command,) = [each["run"] for each in steps(DEPLOY["jobs"]["production"]) if "shift" in each.get("run", "")]

        assert "--percents 10,50,100" in command
        assert "--max-error-ratio 0.02" in command
        assert "scripts/smoke.py --read-only" in command

    @pytest.mark.parametrize("name", ["staging", "production"])
    def test_a_cancelled_deployment_goes_back(self, name: str) -> None:
        """Only the step's first process is told: a shell in between would keep it to itself."""
        (command,) = [each["run"] for each in steps(DEPLOY["jobs"][name]) if "shift" in each.get("run", "")]

        assert command.startswith("exec python scripts/roll_out.py shift")

    @pytest.mark.parametrize(
        "path", [WORKFLOWS / "deploy.yaml", WORKFLOWS / "rollback.yaml"], ids=lambda path: path.name
    )
    def test_calls_scripts_with_options_they_have(self, path: Path) -> None:
        text = path.read_text()
        sources = {name: (ROOT / "scripts" / f"{name}.py").read_text() for name in ("roll_out", "smoke")}

        options = re.findall(r"scripts/(roll_out|smoke)\.py([^\n\"]*)", text)
        assert options
        for name, rest in options:
            assert {each for each in re.findall(r"--[a-z-]+", rest) if f'"{each}"' not in sources[name]} <= {"--check"}


class TestRollback:
    def test_is_started_by_hand(self) -> None:
        assert set(ROLLBACK[ON]) == {"workflow_dispatch"}
        assert set(ROLLBACK[ON]["workflow_dispatch"]["inputs"]) == {"environment", "revision"}

    def test_goes_through_the_same_script_and_looks_afterwards(self) -> None:
        texts = commands(ROLLBACK["jobs"]["rollback"])

        assert texts.index("roll_out.py rollback") < texts.index("scripts/smoke.py --read-only")
