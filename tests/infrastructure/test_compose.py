"""What `docker compose up` starts on a developer's machine."""

import subprocess
import sys
from typing import Any

import pytest

from sms_foundation.core.config import Settings
from tests.infrastructure.files import INFRASTRUCTURE, ROOT, read_yaml

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

        assert set(SERVICES[name]["environment"]) - known == set()

    def test_requests_come_only_after_the_migration(self) -> None:
        for name in ("service", "worker"):
            assert SERVICES[name]["depends_on"]["migrate"]["condition"] == "service_completed_successfully"
        assert SERVICES["migrate"]["command"] == ["migrate"]

    def test_the_work_is_done_by_the_worker(self) -> None:
        assert SERVICES["service"]["environment"]["WORK_IN_PROCESS"] == "false"
        assert SERVICES["worker"]["environment"]["WORK_IN_PROCESS"] == "true"

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


class TestDevelopment:
    @pytest.mark.parametrize("name", ["service", "worker"])
    def test_a_changed_source_starts_a_new_process(self, name: str) -> None:
        service = DEVELOPMENT[name]

        assert service["entrypoint"][0] == "watchfiles"
        assert service["command"] == ["sms-foundation serve", "/source"]
        assert service["volumes"] == ["../src:/source:ro"]
        assert service["environment"]["PYTHONPATH"] == "/source"


@pytest.mark.parametrize(
    "name", ["infrastructure/compose.yaml", "infrastructure/compose.dev.yaml", ".github/compose.ci.yaml"]
)
def test_files_keep_to_the_compose_specification(name: str) -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(ROOT / name)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
