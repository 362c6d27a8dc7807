"""What `docker compose up` starts on a developer's machine."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dotenv import dotenv_values

from sms_foundation.core.config import Settings
from sms_foundation.core.db import DatabaseUrl
from tests.infrastructure.files import INFRASTRUCTURE, ROOT, read_yaml
from tests.support.processes import Processes, ServiceProcess, eventually, script

COMPOSE = INFRASTRUCTURE / "compose.yaml"
SERVICES: dict[str, dict[str, Any]] = read_yaml(COMPOSE)["services"]
DEVELOPMENT: dict[str, dict[str, Any]] = read_yaml(INFRASTRUCTURE / "compose.dev.yaml")["services"]
OURS = ["migrate", "service", "worker", "simulator"]


class TestServices:
    def test_all_that_belongs_to_it_starts(self) -> None:
        always = {name for name, each in SERVICES.items() if "profiles" not in each}

        assert always == {*OURS, "postgres", "prometheus", "grafana"}

    def test_what_is_optional_has_a_profile_of_its_own(self) -> None:
        profiles = {name: each["profiles"] for name, each in SERVICES.items() if "profiles" in each}

        assert profiles == {name: [name] for name in ("redis", "rabbitmq", "nats", "jaeger")}

    @pytest.mark.parametrize("name", OURS)
    def test_ours_run_without_rights_on_a_read_only_file_system(self, name: str) -> None:
        service = SERVICES[name]

        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["tmpfs"] == ["/tmp"]

    @pytest.mark.parametrize("name", OURS)
    def test_ours_are_given_only_settings_that_exist(self, name: str) -> None:
        known = {field.upper() for field in Settings.model_fields}

        assert set(SERVICES[name]["environment"]) - known == {"OTEL_EXPORTER_OTLP_ENDPOINT"}

    def test_requests_come_only_after_the_migration(self) -> None:
        for name in ("service", "worker"):
            assert SERVICES[name]["depends_on"]["migrate"]["condition"] == "service_completed_successfully"
        assert SERVICES["migrate"]["command"] == ["migrate"]

    def test_the_work_is_done_by_the_worker(self) -> None:
        assert SERVICES["service"]["environment"]["WORK_IN_PROCESS"] == "false"
        assert SERVICES["worker"]["command"] == ["worker"]

    def test_every_container_of_ours_has_time_to_end(self) -> None:
        grace_s = {name: int(SERVICES[name]["stop_grace_period"].removesuffix("s")) for name in OURS}

        assert min(grace_s.values()) > Settings.model_fields["shutdown_timeout_s"].default

    def test_everything_stays_on_this_machine(self) -> None:
        ports = [port for each in [*SERVICES.values(), *DEVELOPMENT.values()] for port in each.get("ports", [])]

        assert ports
        assert [port for port in ports if not port.startswith("127.0.0.1:")] == []

    def test_images_are_of_a_version_not_of_the_day(self) -> None:
        images = {each["image"] for name, each in SERVICES.items() if name not in OURS}

        assert {image for image in images if image.partition(":")[2] in ("", "latest")} == set()

    def test_what_is_mounted_is_there(self) -> None:
        volumes = [volume for each in SERVICES.values() for volume in each.get("volumes", [])]
        files = [volume.split(":")[0] for volume in volumes if volume.startswith(".")]

        assert len(files) == 5
        assert [file for file in files if not (COMPOSE.parent / file).exists()] == []

    def test_grafana_finds_the_dashboards_where_it_is_told_to_look(self) -> None:
        mounts = dict(volume.split(":")[:2] for volume in SERVICES["grafana"]["volumes"])
        provider = read_yaml(INFRASTRUCTURE / "observability/grafana/dashboards.yaml")["providers"][0]
        home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]

        assert mounts["./observability/dashboards"] == provider["options"]["path"]
        assert (INFRASTRUCTURE / "observability/dashboards" / home.rpartition("/")[2]).exists()

    def test_prometheus_asks_service_and_worker_where_they_listen(self) -> None:
        (job,) = read_yaml(INFRASTRUCTURE / "observability/prometheus.yaml")["scrape_configs"]
        (names,) = job["dns_sd_configs"]

        assert (names["names"], names["port"]) == (["service", "worker"], 8080)
        assert SERVICES["worker"]["environment"]["WORKER_PORT"] == "8080"
        assert "PORT=8080" in (ROOT / "Dockerfile").read_text()


class TestProfiles:
    """A file for each says everything that has to change with the profile."""

    @pytest.mark.parametrize("name", ["redis", "jaeger"])
    def test_the_service_uses_what_the_profile_starts(self, name: str) -> None:
        values = dict(dotenv_values(INFRASTRUCTURE / "profiles" / f"{name}.env"))
        environment = SERVICES["service"]["environment"]

        assert values.pop("COMPOSE_PROFILES") == name
        assert values
        for variable in values:
            assert f"${{{variable}:-" in environment[variable]

    def test_redis_is_asked_where_it_answers(self) -> None:
        url = dotenv_values(INFRASTRUCTURE / "profiles" / "redis.env")["REDIS_URL"]

        assert url == "redis://redis:6379/0"
        assert SERVICES["service"]["depends_on"]["redis"] == {"condition": "service_healthy", "required": False}

    def test_spans_go_to_jaegers_port_for_otlp_over_http(self) -> None:
        assert SERVICES["service"]["environment"]["OTEL_EXPORTER_OTLP_ENDPOINT"] == "http://jaeger:4318"
        assert "opentelemetry-exporter-otlp-proto-http" in (ROOT / "Dockerfile").read_text()

    def test_without_them_nothing_is_asked_for(self) -> None:
        environment = SERVICES["service"]["environment"]

        assert (environment["REDIS_URL"], environment["TRACING"]) == ("${REDIS_URL:-}", "${TRACING:-false}")


class TestDevelopment:
    @pytest.mark.parametrize(("name", "command"), [("service", "serve"), ("worker", "worker")])
    def test_a_changed_source_starts_a_new_process(self, name: str, command: str) -> None:
        service = DEVELOPMENT[name]

        assert service["entrypoint"][0] == "watchfiles"
        assert service["command"] == [f"sms-foundation {command}", "/source"]
        assert service["volumes"] == ["../src:/source:ro"]
        assert service["environment"]["PYTHONPATH"] == "/source"


class TestReloading:
    @pytest.fixture
    def processes(self, tmp_path: Path) -> Iterator[Processes]:
        processes = Processes(tmp_path)
        yield processes
        processes.end()

    @pytest.mark.slow
    async def test_what_is_edited_is_what_runs_next(self, processes: Processes, database_url: DatabaseUrl) -> None:
        """The very command of compose.dev.yaml, on a copy of the sources."""
        source = processes.folder / "source"
        shutil.copytree(ROOT / "src", source, ignore=shutil.ignore_patterns("__pycache__"))
        service, port = DEVELOPMENT["service"], processes.reserve_port()
        command = [each.replace("/source", str(source)) for each in [*service["entrypoint"], *service["command"]]]
        environment = processes.environment(
            PATH=f"{script().parent}:{os.environ['PATH']}",
            PYTHONPATH=service["environment"]["PYTHONPATH"].replace("/source", str(source)),
            DATABASE_URL=database_url.dsn,
            PORT=str(port),
        )
        process = ServiceProcess(command, environment, processes.folder, processes.folder / "reloading.log", port)
        try:
            await process.until_ready()
            module = source / "sms_foundation" / "cli" / "serve.py"
            module.write_text(module.read_text() + "\nprint('this line is new', flush=True)\n")

            async def runs_the_new_line() -> bool:
                return "this line is new" in process.log

            await eventually(runs_the_new_line, "a new process runs what was edited")
            await process.until_ready()
        finally:
            process.end()


@pytest.mark.parametrize(
    "name", ["infrastructure/compose.yaml", "infrastructure/compose.dev.yaml", ".github/compose.ci.yaml"]
)
def test_files_keep_to_the_compose_specification(name: str) -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(ROOT / name)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
