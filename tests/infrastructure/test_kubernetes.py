"""What must hold of the manifests: as written, and, where kubectl is installed, as every overlay makes them."""

import inspect
import re
from functools import cache
from typing import Any

import pytest

from sms_foundation.core.config import Settings
from sms_foundation.core.work import queue
from tests.infrastructure.files import ENVIRONMENTS, KUBERNETES, ROOT, read_all_yaml, read_yaml, run

BASE = KUBERNETES / "base"
MANIFESTS = [
    each
    for name in read_yaml(BASE / "kustomization.yaml")["resources"]
    for each in read_all_yaml((BASE / name).read_text())
]
COMPONENTS = ("api", "worker")
PROBES = ("startupProbe", "readinessProbe", "livenessProbe")


def find(kind: str, name: str, manifests: list[Any] | None = None) -> dict[str, Any]:
    (found,) = [
        each
        for each in (MANIFESTS if manifests is None else manifests)
        if (each["kind"], each["metadata"]["name"]) == (kind, name)
    ]
    return dict(found)


def all_of(kind: str) -> list[Any]:
    return [each for each in MANIFESTS if each["kind"] == kind]


def pod(component: str) -> dict[str, Any]:
    spec: dict[str, Any] = find("Deployment", f"sms-foundation-{component}")["spec"]["template"]["spec"]
    return spec


def labels(component: str) -> dict[str, str]:
    found: dict[str, str] = find("Deployment", f"sms-foundation-{component}")["spec"]["template"]["metadata"]["labels"]
    return found


@cache
def rendered(environment: str) -> list[Any]:
    return read_all_yaml(run("kubectl", "kustomize", str(KUBERNETES / "overlays" / environment)))


class TestPods:
    @pytest.mark.parametrize("component", COMPONENTS)
    def test_have_requests_and_limits(self, component: str) -> None:
        resources = pod(component)["containers"][0]["resources"]

        assert set(resources["requests"]) == {"cpu", "memory"}
        assert set(resources["limits"]) == {"cpu", "memory"}

    @pytest.mark.parametrize("component", COMPONENTS)
    def test_have_three_probes(self, component: str) -> None:
        container = pod(component)["containers"][0]

        paths = {name: container[name]["httpGet"]["path"] for name in PROBES}
        assert paths == {
            "startupProbe": "/health/startup",
            "readinessProbe": "/health/ready",
            "livenessProbe": "/health/live",
        }

    @pytest.mark.parametrize("component", COMPONENTS)
    def test_have_time_to_go(self, component: str) -> None:
        """preStop and the service's own shutdown fit in before the kill."""
        container = pod(component)["containers"][0]
        literals = read_yaml(BASE / "kustomization.yaml")["configMapGenerator"][0]["literals"]
        shutdown_s = int(dict(each.split("=", 1) for each in literals)["SHUTDOWN_TIMEOUT_S"])

        assert shutdown_s == Settings.model_fields["shutdown_timeout_s"].default
        pause_s = container["lifecycle"]["preStop"]["sleep"]["seconds"]
        assert pause_s + shutdown_s < pod(component)["terminationGracePeriodSeconds"]

    @pytest.mark.parametrize(
        "spec", [pod("api"), pod("worker"), find("Job", "sms-foundation-migrate")["spec"]["template"]["spec"]]
    )
    def test_are_restricted(self, spec: dict[str, Any]) -> None:
        container = spec["containers"][0]["securityContext"]

        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] == 10001
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["automountServiceAccountToken"] is False
        assert container == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }

    def test_requests_and_work_are_apart(self) -> None:
        values = {each: pod(each)["containers"][0]["env"] for each in COMPONENTS}

        assert values["api"] == [{"name": "WORK_IN_PROCESS", "value": "false"}]
        assert pod("worker")["containers"][0]["args"] == ["worker"]

    def test_the_worker_listens_where_it_is_asked(self) -> None:
        container = pod("worker")["containers"][0]
        (port,) = container["ports"]

        assert container["env"] == [{"name": "WORKER_PORT", "value": str(port["containerPort"])}]
        assert {container[probe]["httpGet"]["port"] for probe in PROBES} == {port["name"]}
        assert pod("api")["containers"][0]["ports"] == [port], "Prometheus asks all pods at the same port"
        assert f"PORT={port['containerPort']}" in (ROOT / "Dockerfile").read_text(), "what serve listens on"

    def test_the_workers_autoscaler_is_told_of_as_much_as_would_start_all_of_them(self) -> None:
        """The backlog is counted no further than this in each lane, so that counting stays cheap."""
        spec = find("HorizontalPodAutoscaler", "sms-foundation-worker")["spec"]
        (metric,) = spec["metrics"]
        counted = inspect.signature(queue.backlog).parameters["count_at_most"].default

        assert int(metric["external"]["target"]["averageValue"]) * spec["maxReplicas"] <= counted

    @pytest.mark.parametrize("component", COMPONENTS)
    def test_the_autoscaler_alone_says_how_many(self, component: str) -> None:
        assert "replicas" not in find("Deployment", f"sms-foundation-{component}")["spec"]


class TestSettings:
    def test_are_settings(self) -> None:
        known = {name.upper() for name in Settings.model_fields}
        for path in [BASE, *[KUBERNETES / "overlays" / name for name in ENVIRONMENTS]]:
            (generator,) = read_yaml(path / "kustomization.yaml")["configMapGenerator"]
            assert {each.partition("=")[0] for each in generator["literals"]} <= known

    def test_secrets_are_references(self) -> None:
        secret = {name.upper() for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)}
        literals = str([read_yaml(path)["configMapGenerator"] for path in KUBERNETES.rglob("kustomization.yaml")])

        assert all_of("Secret") == []
        assert {name for name in secret if re.search(rf"\b{name}=", literals)} == set()
        for each in all_of("ExternalSecret"):
            assert [set(entry) for entry in each["spec"]["data"]] == [{"secretKey", "remoteRef"}] * len(
                each["spec"]["data"]
            )

    def test_everything_the_pods_refer_to_is_made(self) -> None:
        made = {each["spec"]["target"]["name"] for each in all_of("ExternalSecret")}
        asked = set(re.findall(r"'secretName': '([\w-]+)'|'secretRef': \{'name': '([\w-]+)'", str(MANIFESTS)))

        assert {name for pair in asked for name in pair if name} == made

    def test_only_the_migration_gets_the_owners_password(self) -> None:
        assert "sms-foundation-migration" not in str([pod(each) for each in COMPONENTS])
        (last,) = find("Job", "sms-foundation-migrate")["spec"]["template"]["spec"]["containers"][0]["envFrom"][-1:]
        assert last == {"secretRef": {"name": "sms-foundation-migration"}}

    def test_signing_keys_are_where_the_service_looks(self) -> None:
        literals = read_yaml(BASE / "kustomization.yaml")["configMapGenerator"][0]["literals"]
        (mount,) = [each for each in pod("api")["containers"][0]["volumeMounts"] if each["name"] == "signing-keys"]

        assert f"SIGNING_KEY_PATH={mount['mountPath']}" in literals


class TestScaling:
    def test_the_api_by_cpu_and_memory(self) -> None:
        metrics = find("HorizontalPodAutoscaler", "sms-foundation-api")["spec"]["metrics"]

        assert {each["resource"]["name"] for each in metrics} == {"cpu", "memory"}

    def test_the_worker_by_what_waits(self) -> None:
        (metric,) = find("HorizontalPodAutoscaler", "sms-foundation-worker")["spec"]["metrics"]
        (rule,) = read_yaml(KUBERNETES / "prometheus-adapter.yaml")["rules"]["external"]

        assert metric["external"]["metric"]["name"] == rule["name"]["as"]
        assert 'sms_work_backlog{state="due"' in rule["metricsQuery"]

    @pytest.mark.parametrize("component", COMPONENTS)
    def test_a_drained_node_takes_one_at_a_time(self, component: str) -> None:
        budget = find("PodDisruptionBudget", f"sms-foundation-{component}")["spec"]

        assert budget["maxUnavailable"] == 1
        assert budget["selector"]["matchLabels"].items() <= labels(component).items()


class TestNetwork:
    def test_nothing_is_allowed_unless_it_is_listed(self) -> None:
        policy = find("NetworkPolicy", "nothing-by-default")["spec"]

        assert policy == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}

    def test_requests_come_from_the_gateway_and_only_to_the_api(self) -> None:
        policy = find("NetworkPolicy", "requests-from-the-gateway")["spec"]
        selected = policy["podSelector"]["matchLabels"].items()

        assert selected <= labels("api").items()
        assert not selected <= labels("worker").items()
        (rule,) = policy["ingress"]
        assert rule["from"] == [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "gateway"}}}]

    def test_calls_go_to_what_is_needed(self) -> None:
        rules = find("NetworkPolicy", "what-the-service-needs")["spec"]["egress"]
        ports = {port["port"] for rule in rules for port in rule["ports"]}

        assert ports == {53, 5432, 6543, 6379, 5671, 5672, 4222, 4318, 443}

    def test_the_clouds_metadata_is_out_of_reach(self) -> None:
        rules = find("NetworkPolicy", "what-the-service-needs")["spec"]["egress"]
        blocks = [each["ipBlock"] for rule in rules for each in rule["to"] if "ipBlock" in each]

        assert len(blocks) == 2
        for block in blocks:
            assert "169.254.0.0/16" in block["except"]

    def test_https_leads_outside_only(self) -> None:
        rules = find("NetworkPolicy", "what-the-service-needs")["spec"]["egress"]
        (https,) = [rule for rule in rules if rule["ports"] == [{"protocol": "TCP", "port": 443}]]

        assert {"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"} <= set(https["to"][0]["ipBlock"]["except"])


class TestServices:
    def test_traffic_reaches_the_api_and_not_the_workers(self) -> None:
        selector = find("Service", "sms-foundation")["spec"]["selector"].items()

        assert selector <= labels("api").items()
        assert not selector <= labels("worker").items()

    @pytest.mark.parametrize("component", COMPONENTS)
    def test_prometheus_finds_every_pod(self, component: str) -> None:
        service = find("Service", "sms-foundation-metrics")
        monitor = find("ServiceMonitor", "sms-foundation")["spec"]

        assert service["spec"]["selector"].items() <= labels(component).items()
        assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
        assert monitor["endpoints"][0]["port"] == service["spec"]["ports"][0]["name"]

    def test_metrics_come_under_the_name_that_the_alerts_ask_for(self) -> None:
        service = find("Service", "sms-foundation-metrics")
        label = find("ServiceMonitor", "sms-foundation")["spec"]["jobLabel"]

        assert service["metadata"]["labels"][label] == "sms-foundation"


class TestMigration:
    def test_is_a_job_that_runs_to_its_end(self) -> None:
        job = find("Job", "sms-foundation-migrate")["spec"]

        assert job["template"]["spec"]["containers"][0]["args"] == ["migrate"]
        assert job["template"]["spec"]["restartPolicy"] == "Never"


@pytest.mark.parametrize("name", read_yaml(BASE / "kustomization.yaml")["resources"])
def test_manifests_keep_to_the_schemas_of_kubernetes(name: str) -> None:
    run("kubernetes-validate", "--strict", "--quiet", "--kubernetes-version", "1.34", str(BASE / name))


class TestOverlays:
    @pytest.mark.parametrize("environment", ENVIRONMENTS)
    def test_name_the_image_by_digest(self, environment: str) -> None:
        (image,) = read_yaml(KUBERNETES / "overlays" / environment / "kustomization.yaml")["images"]

        assert re.fullmatch("sha256:[0-9a-f]{64}", image["digest"])
        assert "newTag" not in image

    @pytest.mark.parametrize("environment", ENVIRONMENTS)
    def test_every_pod_runs_that_image_in_the_namespace(self, environment: str) -> None:
        pods = [each for each in rendered(environment) if each["kind"] in ("Deployment", "Job")]

        assert len(pods) == 3
        for each in pods:
            assert each["metadata"]["namespace"] == "sms-foundation"
            assert "@sha256:" in each["spec"]["template"]["spec"]["containers"][0]["image"]

    @pytest.mark.parametrize("environment", ENVIRONMENTS)
    def test_every_pod_gets_the_settings_of_its_environment(self, environment: str) -> None:
        (settings,) = [each for each in rendered(environment) if each["kind"] == "ConfigMap"]
        app_env = {"dev": "development"}.get(environment, environment)

        assert settings["data"]["APP_ENV"] == app_env
        assert settings["data"]["PUBLIC_BASE_URL"].startswith("https://")
        for name in ("sms-foundation-api", "sms-foundation-worker"):
            container = find("Deployment", name, rendered(environment))["spec"]["template"]["spec"]["containers"][0]
            assert {"configMapRef": {"name": settings["metadata"]["name"]}} in container["envFrom"]

    def test_production_runs_in_three_zones(self) -> None:
        scalers = [each for each in rendered("production") if each["kind"] == "HorizontalPodAutoscaler"]

        assert [each["spec"]["minReplicas"] for each in scalers] == [3, 3]

    @pytest.mark.parametrize("environment", ENVIRONMENTS)
    def test_keep_to_the_schemas_of_kubernetes(self, environment: str, tmp_path: Any) -> None:
        path = tmp_path / "rendered.yaml"
        path.write_text(run("kubectl", "kustomize", str(KUBERNETES / "overlays" / environment)))

        run("kubernetes-validate", "--strict", "--quiet", "--kubernetes-version", "1.34", str(path))
