"""What must hold of the cloud, read from the Terraform files. The pipeline validates them with the provider as well."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from sms_foundation.core.config import Settings
from tests.infrastructure.files import ENVIRONMENTS, TERRAFORM, run, terraform, terraform_values

MODULES = sorted(path.name for path in (TERRAFORM / "modules").iterdir())
SERVICE = terraform("modules", "service")["resource"]
RUN = SERVICE["google_cloud_run_v2_service.service"]
TEMPLATE = RUN["template"][0]
CONTAINER = TEMPLATE["containers"][0]
JOB = SERVICE["google_cloud_run_v2_job.migrate"]["template"][0]["template"][0]
POOL = SERVICE["google_cloud_run_v2_worker_pool.workers"]
TEXTS = {path.relative_to(TERRAFORM).as_posix(): path.read_text() for path in TERRAFORM.rglob("*.tf*")}


def environment_blocks(container: dict[str, Any]) -> list[dict[str, Any]]:
    return [each["env"] for each in container["dynamic"] if "env" in each]


class TestService:
    def test_cpu_is_never_taken_away(self) -> None:
        """Work runs after the response: `cpu_idle` would stop it there."""
        assert CONTAINER["resources"][0]["cpu_idle"] is False

    def test_at_least_one_instance_runs(self) -> None:
        scale = terraform("modules", "service")["variable"]["scale"]

        assert TEMPLATE["scaling"][0]["min_instance_count"] == "${var.scale.min_instances}"
        assert "min_instances = optional(number, 1)" in TEXTS["modules/service/variables.tf"]
        assert any("var.scale.min_instances >= 1" in each["condition"] for each in scale["validation"])

    def test_says_how_many_requests_an_instance_takes(self) -> None:
        assert TEMPLATE["max_instance_request_concurrency"] == "${var.scale.concurrency}"

    def test_is_started_and_watched_by_probes(self) -> None:
        assert CONTAINER["startup_probe"][0]["http_get"][0]["path"] == "/health/startup"
        assert CONTAINER["liveness_probe"][0]["http_get"][0]["path"] == "/health/live"

    def test_runs_as_an_account_without_a_role_in_the_project(self) -> None:
        assert TEMPLATE["service_account"] == "${google_service_account.runtime.email}"
        in_project = {name: each for name, each in SERVICE.items() if name.startswith("google_project_iam")}
        assert list(in_project) == ["google_project_iam_member.writes_metrics"]
        assert in_project["google_project_iam_member.writes_metrics"]["count"].startswith(
            "${var.metrics_collector == null"
        )
        roles = {each["role"] for name, each in SERVICE.items() if "_iam_member" in name}
        assert roles == {"roles/secretmanager.secretAccessor", "roles/run.invoker", "roles/monitoring.metricWriter"}

    def test_leaves_image_and_traffic_to_the_pipeline(self) -> None:
        ignored = " ".join(str(each) for each in RUN["lifecycle"][0]["ignore_changes"])

        assert "template[0].containers[0].image" in ignored
        assert "traffic" in ignored

    def test_an_image_is_named_by_digest(self) -> None:
        (validation,) = terraform("modules", "service")["variable"]["image"]["validation"]

        assert "@sha256:" in validation["condition"]


class TestSecrets:
    @pytest.mark.parametrize("container", [CONTAINER, JOB["containers"][0], POOL["template"][0]["containers"][0]])
    def test_come_by_reference(self, container: dict[str, Any]) -> None:
        plain, secret = environment_blocks(container)

        assert plain["content"][0]["value"] == "${env.value}"
        reference = secret["content"][0]["value_source"][0]["secret_key_ref"][0]
        assert reference["secret"] == "${env.value.secret}"
        assert "value" not in secret["content"][0]

    def test_no_value_is_created_or_read_by_terraform(self) -> None:
        """Either would write it into the state."""
        for name, text in TEXTS.items():
            assert "google_secret_manager_secret_version" not in text, name
            assert not re.search(r"random_password|google_service_account_key|tls_private_key", text), name

    def test_a_setting_that_looks_like_one_is_refused(self) -> None:
        validations = terraform("modules", "service")["variable"]["settings"]["validation"]
        pattern = re.search(r'regex\("([^"]*)"', str(validations[0]["condition"]))
        assert pattern
        secret = {name for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)}

        assert {name for name in secret if not re.search(pattern[1], name.upper())} == set()

    def test_only_settings_that_exist_are_made_up(self) -> None:
        known = {name.upper() for name in Settings.model_fields}
        named = set(re.findall(r"^\s+([A-Z][A-Z_]+)\s*=", TEXTS["modules/service/locals.tf"], re.MULTILINE))

        assert {"APP_ENV", "PUBLIC_BASE_URL", "OPERATIONS_NETWORKS"} <= named
        assert named <= known

    def test_only_migrations_may_read_the_owners_password(self) -> None:
        runtime = SERVICE["google_secret_manager_secret_iam_member.runtime"]
        migration = SERVICE["google_secret_manager_secret_iam_member.migration"]

        assert "migration" not in str(runtime["for_each"])
        assert "local.migration_secrets" in str(migration["for_each"])


class TestMigrations:
    def test_are_a_job_of_the_same_image(self) -> None:
        assert JOB["containers"][0]["args"] == ["migrate"]
        assert JOB["containers"][0]["image"] == "${var.image}"


class TestWorkers:
    def test_are_optional_and_take_the_work_off_the_service(self) -> None:
        assert POOL["count"] == "${local.has_workers ? 1 : 0}"
        assert POOL["template"][0]["containers"][0]["args"] == ["worker"]
        assert "WORK_IN_PROCESS" in str(environment_blocks(CONTAINER)[0]["for_each"])

    def test_are_started_and_watched_by_probes_at_the_port_they_listen_on(self) -> None:
        worker = POOL["template"][0]["containers"][0]

        asked = {name: worker[f"{name}_probe"][0]["http_get"][0] for name in ("startup", "liveness")}
        assert {each["path"] for each in asked.values()} == {"/health/startup", "/health/live"}
        assert {each["port"] for each in asked.values()} == {8080}
        assert '{WORKER_PORT = "8080"}' in environment_blocks(worker)[0]["for_each"]

    def test_probes_are_known_to_the_provider(self) -> None:
        """It takes those of a worker pool since 7.5."""
        for path in ("versions.tf", "modules/service/versions.tf", "modules/edge/versions.tf"):
            assert 'version = "~> 7.6"' in TEXTS[path]


class TestMetricsCollector:
    @pytest.mark.parametrize("template", [TEMPLATE, POOL["template"][0]], ids=["service", "worker"])
    def test_is_optional_and_stands_beside_the_service_and_every_worker(self, template: dict[str, Any]) -> None:
        (collector,) = [each["containers"] for each in template["dynamic"] if "containers" in each]

        assert collector["for_each"] == "${var.metrics_collector[*]}"
        assert collector["content"][0]["image"] == "${containers.value.image}"

    def test_finds_metrics_where_it_looks_for_them(self) -> None:
        """It asks port 8080 of its own instance, which is within OPERATIONS_NETWORKS."""
        settings = environment_blocks(POOL["template"][0]["containers"][0])[0]["for_each"]

        assert CONTAINER["ports"][0]["container_port"] == 8080
        assert '{WORKER_PORT = "8080"}' in settings
        assert '"127.0.0.0/8"' in TEXTS["modules/service/locals.tf"]

    def test_the_pipeline_changes_the_services_image_and_not_the_collectors(self) -> None:
        pipeline = (TERRAFORM.parents[1] / "scripts" / "roll_out.py").read_text()

        assert TEMPLATE["containers"][0]["name"] == "service"
        assert '_CONTAINER = "service"' in pipeline
        assert POOL["template"][0]["containers"][0]["name"] == "worker"
        assert '"--container=worker"' in pipeline


class TestEdge:
    def test_the_allowlist_covers_the_webhook_paths_and_nothing_else(self) -> None:
        policy = TEXTS["modules/edge/cloud_armor.tf"]

        assert "request.path.startsWith('/webhook/')" in policy
        assert "chunklist(var.webhook_allowlist, 4)" in policy  # five conditions are all an expression may have

    def test_nothing_goes_past_it(self) -> None:
        assert RUN["ingress"].startswith('${var.load_balancer ? "INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER"')


class TestWatching:
    def test_readiness_is_asked_from_outside(self) -> None:
        check = SERVICE["google_monitoring_uptime_check_config.ready"]["http_check"][0]

        assert (check["path"], check["use_ssl"]) == ("/health/ready", True)

    def test_the_uptime_checks_addresses_are_let_in(self) -> None:
        assert "google_monitoring_uptime_check_ips" in TEXTS["modules/service/locals.tf"]

    def test_every_counted_event_is_one_that_the_service_logs(self) -> None:
        events = set(re.findall(r'\\"([a-z]+\.[a-z_]+)\\"', TEXTS["modules/service/log_metrics.tf"]))
        sources = "\n".join(path.read_text() for path in (TERRAFORM.parents[1] / "src").rglob("*.py"))

        assert len(events) >= 4
        assert {event for event in events if f'"{event}"' not in sources} == set()

    def test_every_alert_names_a_section_of_the_runbook(self) -> None:
        runbook = (TERRAFORM.parents[1] / "docs" / "runbook.md").read_text()
        text = TEXTS["modules/service/alerts.tf"]
        sections = set(re.findall(r'section = "(\w+)"', text)) | set(re.findall(r"local\.runbook\} (\w+)\.", text))

        assert len(sections) >= 8
        assert {section for section in sections if f"## {section}\n" not in runbook} == set()

    def test_every_counted_event_has_an_alert(self) -> None:
        metrics = set(re.findall(r"^    (\w+) = \{$", TEXTS["modules/service/log_metrics.tf"], re.MULTILINE))
        alerts = set(re.findall(r"^    (\w+)\s+= \{ threshold", TEXTS["modules/service/alerts.tf"], re.MULTILINE))

        assert metrics == alerts


class TestPipelineAccess:
    def test_one_repository_one_branch_one_environment(self) -> None:
        provider = terraform("modules", "pipeline")["resource"]["google_iam_workload_identity_pool_provider.github"]

        assert "assertion.sub ==" in provider["attribute_condition"]
        assert "refs/heads/main" in provider["attribute_condition"]
        assert (
            "repo:${var.github.repository}:environment:${var.github.environment}" in TEXTS["modules/pipeline/main.tf"]
        )

    def test_changes_nothing_but_this_service(self) -> None:
        project_wide = terraform("modules", "pipeline")["resource"]["google_project_iam_member.watch"]

        assert set(re.findall(r"roles/[\w.]+", str(project_wide["for_each"]))) == {
            "roles/run.viewer",
            "roles/monitoring.viewer",
        }


class TestEnvironments:
    def test_differ_only_in_variables(self) -> None:
        files = {
            path.relative_to(TERRAFORM / "environments").as_posix() for path in TERRAFORM.rglob("environments/*/*")
        }

        assert files == {f"{name}/{file}" for name in ENVIRONMENTS for file in ("terraform.tfvars", "backend.hcl")}

    @pytest.mark.parametrize("name", ENVIRONMENTS)
    def test_set_only_variables_there_are_and_all_that_are_needed(self, name: str) -> None:
        values = terraform_values(TERRAFORM / "environments" / name / "terraform.tfvars")
        variables = terraform()["variable"]
        needed = {each for each, body in variables.items() if "default" not in body}

        assert set(values) <= set(variables)
        assert needed <= set(values)

    @pytest.mark.parametrize("name", ENVIRONMENTS)
    def test_hold_no_secret(self, name: str) -> None:
        values = terraform_values(TERRAFORM / "environments" / name / "terraform.tfvars")

        for secret in values["secrets"].values():
            assert set(secret) - {"__comments__"} <= {"secret", "version"}
            assert re.fullmatch(r"sms-[a-z-]+", secret["secret"])

    def test_the_state_is_remote_and_apart(self) -> None:
        buckets = [
            terraform_values(TERRAFORM / "environments" / name / "backend.hcl")["bucket"] for name in ENVIRONMENTS
        ]

        assert "gcs" in str(terraform()["terraform"])
        assert len(set(buckets)) == 3

    def test_only_a_playground_may_be_destroyed(self) -> None:
        protected = {
            name: terraform_values(TERRAFORM / "environments" / name / "terraform.tfvars").get(
                "deletion_protection", True
            )
            for name in ENVIRONMENTS
        }

        assert protected == {"dev": False, "staging": True, "production": True}


class TestModules:
    @pytest.mark.parametrize("folder", [(), *[("modules", name) for name in MODULES]], ids=str)
    def test_every_variable_and_output_says_what_it_is(self, folder: tuple[str, ...]) -> None:
        blocks = terraform(*folder)

        for kind in ("variable", "output"):
            for name, body in blocks.get(kind, {}).items():
                assert body["description"], name
                assert kind == "output" or body["type"], name

    @pytest.mark.parametrize("folder", [(), *[("modules", name) for name in MODULES]], ids=str)
    def test_every_variable_is_used(self, folder: tuple[str, ...]) -> None:
        text = "\n".join(path.read_text() for path in TERRAFORM.joinpath(*folder).glob("*.tf"))

        assert [name for name in terraform(*folder).get("variable", {}) if f"var.{name}" not in text] == []

    @pytest.mark.parametrize("folder", [(), *[("modules", name) for name in MODULES]], ids=str)
    def test_every_module_says_which_versions_it_needs(self, folder: tuple[str, ...]) -> None:
        text = TERRAFORM.joinpath(*folder, "versions.tf").read_text()

        assert 'required_version = ">= 1.7"' in text
        assert 'source  = "hashicorp/google"' in text

    def test_the_webhook_urls_are_printed(self) -> None:
        assert "webhook_urls" in terraform()["output"]
        assert "/webhook/${provider}/sms" in TEXTS["modules/service/outputs.tf"]
        assert "/webhook/${provider}/status" in TEXTS["modules/service/outputs.tf"]
        assert "#rc=5&rp=all" in TEXTS["modules/service/outputs.tf"]

    def test_the_pipeline_is_told_what_it_reads(self) -> None:
        printed = set(re.findall(r"^    ([A-Z_]+)\s+=", TEXTS["outputs.tf"], re.MULTILINE))
        workflows = "\n".join(path.read_text() for path in (TERRAFORM.parents[1] / ".github/workflows").glob("*.yaml"))

        assert set(re.findall(r"vars\.([A-Z_]+)", workflows)) - {"DEPLOY_ENABLED"} == printed


@pytest.fixture
def variables(tmp_path: Path) -> Path:
    """The variables of an environment and how they reach the module `service`, without what needs the provider."""
    (call,) = re.findall(r'^module "service" \{\n.*?^\}\n', TEXTS["main.tf"], re.MULTILINE | re.DOTALL)
    (tmp_path / "modules" / "service").mkdir(parents=True)
    (tmp_path / "main.tf").write_text(re.sub(r"^  depends_on = .*\n", "", call, flags=re.MULTILINE))
    for name in ("variables.tf", "modules/service/variables.tf"):
        (tmp_path / name).write_text(TEXTS[name])
    run("terraform", "init", "-input=false", cwd=tmp_path)
    return tmp_path


class TestTerraform:
    def test_files_are_formatted(self, tmp_path: Path) -> None:
        shutil.copytree(TERRAFORM, tmp_path / "terraform", ignore=shutil.ignore_patterns(".terraform*"))

        run("terraform", "fmt", "-check", "-recursive", cwd=tmp_path / "terraform")

    @pytest.mark.parametrize("name", ENVIRONMENTS)
    def test_takes_the_variables_of_every_environment(self, variables: Path, name: str) -> None:
        run("terraform", "plan", f"-var-file={TERRAFORM}/environments/{name}/terraform.tfvars", cwd=variables)

    @pytest.mark.parametrize(
        ("value", "complaint"),
        [
            ("scale={min_instances=0}", "At least one instance must always run"),
            ('scale={cpu="0.5"}', "at least one whole CPU"),
            ("image=registry.example.com/sms:latest", "must be named by digest"),
            ("environment=local", "they never run in the cloud"),
            ('settings={MONITOR_API_KEY="in the clear"}', "That is a secret"),
            ('settings={DATABASE_URL="postgresql://sms:in-the-clear@db"}', "That is a secret"),
            ('settings={WORK_IN_PROCESS="false"}', "follow from other variables"),
            ('secrets={DATABASE_URL={secret="a"},PROVIDERS={secret="b"}}', "the first key would stand in the logs"),
            ('secrets={DATABASE_URL={secret="a"},ADMIN_API_KEY={secret="b"}}', "nothing could be received or sent"),
            ('webhook_allowlist=["everybody"]', "Networks such as"),
        ],
    )
    def test_refuses_what_would_not_be_safe(self, variables: Path, value: str, complaint: str) -> None:
        settings = f"-var-file={TERRAFORM}/environments/staging/terraform.tfvars"
        command = ["terraform", "plan", "-no-color", settings, f"-var={value}"]
        done = subprocess.run(command, cwd=variables, capture_output=True, text=True, check=False)

        assert done.returncode == 1
        assert complaint in " ".join(done.stderr.replace("│", " ").split())


def test_dashboards_and_state_are_not_mixed_up() -> None:
    assert [path.name for path in TERRAFORM.rglob("*.tfstate*")] == []
    assert json.dumps(sorted(MODULES)) == '["edge", "pipeline", "service"]'
