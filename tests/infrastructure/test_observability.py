"""Alert rules and dashboards speak of metrics that exist, and every alert says what to do."""

import ast
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.infrastructure.files import OBSERVABILITY, ROOT, read_yaml, run

RULES: list[dict[str, Any]] = [
    rule for group in read_yaml(OBSERVABILITY / "alerts.yaml")["groups"] for rule in group["rules"]
]
DASHBOARDS = sorted((OBSERVABILITY / "dashboards").glob("*.json"))
# What Prometheus itself adds, and what its client exports for every Python process.
_ADDED_LABELS = {"job", "instance", "le", "namespace"}
_FOREIGN = {
    "up": set(),
    "process_cpu_seconds_total": set(),
    "process_resident_memory_bytes": set(),
    "process_open_fds": set(),
}
_SUFFIXES = {"Counter": [""], "Gauge": [""], "Histogram": ["_bucket", "_sum", "_count"]}


@cache
def declared() -> dict[str, set[str]]:
    """Every series the service exports, and its labels."""
    found: dict[str, set[str]] = dict(_FOREIGN)
    for path in (ROOT / "src").rglob("metrics.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _SUFFIXES:
                name = ast.literal_eval(node.args[0])
                labels = set(ast.literal_eval(node.args[2])) if len(node.args) > 2 else set()
                if node.func.id == "Counter":
                    name = name.removesuffix("_total") + "_total"
                found |= {name + suffix: labels for suffix in _SUFFIXES[node.func.id]}
    return found


def series(expression: str) -> list[tuple[str, set[str]]]:
    """Series that a PromQL expression asks for, each with the labels it selects by."""
    found = re.findall(
        r"\b((?:sms|process|up)[a-z_]*)\b(?:\{([^}]*)\})?", re.sub(r'"[^"]*"(?![^{]*\})', "", expression)
    )
    return [(name, set(re.findall(r"(\w+)\s*[=!]~?", labels))) for name, labels in found]


def grouped_by(expression: str) -> set[str]:
    return {label.strip() for group in re.findall(r"by \(([^)]*)\)", expression) for label in group.split(",")}


def check(expression: str) -> None:
    """Fail unless every metric and label of the expression exists."""
    found = series(expression)
    assert found, expression
    known = set().union(*(declared().get(name, set()) for name, _ in found)) | _ADDED_LABELS
    for name, labels in found:
        assert name in declared(), f"{name} is exported by nobody"
        assert labels <= declared()[name] | _ADDED_LABELS, f"{name} has no label {labels - declared()[name]}"
    assert grouped_by(expression) <= known


class TestSeries:
    def test_knows_what_the_service_exports(self) -> None:
        assert declared()["sms_webhooks_total"] == {"provider", "kind", "outcome"}
        assert declared()["sms_store_seconds_bucket"] == {"kind"}
        assert "sms_tenant_lookups_total" in declared()

    @pytest.mark.parametrize("wrong", ["sms_no_such_total", 'sms_webhooks_total{colour="red"}', "sum by (colour) (up)"])
    def test_notices_what_does_not_exist(self, wrong: str) -> None:
        with pytest.raises(AssertionError):
            check(wrong)


class TestAlerts:
    @pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
    def test_asks_for_metrics_that_exist(self, rule: dict[str, Any]) -> None:
        check(rule["expr"])

    @pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
    def test_says_how_bad_it_is_and_what_to_do(self, rule: dict[str, Any]) -> None:
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert rule["annotations"]["summary"]
        path, _, anchor = rule["annotations"]["runbook"].partition("#")
        headings = re.findall(r"^## (.+)$", (ROOT / path).read_text(), re.MULTILINE)
        assert anchor in {heading.lower().replace(" ", "-") for heading in headings}

    def test_there_is_one_for_everything_that_must_not_go_unnoticed(self) -> None:
        assert {
            "SmsErrorRateHigh",
            "SmsBacklogOld",
            "SmsSignatureFailures",
            "SmsProviderUnavailable",
            "SmsRepaired",
            "SmsNoInbound",
        } <= {rule["alert"] for rule in RULES}

    def test_each_has_a_unit_test(self) -> None:
        tests = read_yaml(OBSERVABILITY / "alerts.test.yaml")["tests"]
        tested = {case["alertname"] for test in tests for case in test["alert_rule_test"] if case["exp_alerts"]}

        assert tested == {rule["alert"] for rule in RULES}

    def test_promtool_finds_that_they_fire_when_they_should(self) -> None:
        run("promtool", "check", "rules", "alerts.yaml", cwd=OBSERVABILITY)
        run("promtool", "test", "rules", "alerts.test.yaml", cwd=OBSERVABILITY)

    def test_promtool_can_read_the_configuration(self) -> None:
        run("promtool", "check", "config", "--syntax-only", "prometheus.yaml", cwd=OBSERVABILITY)


def panels(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(path.read_text())["panels"]
    return found


class TestDashboards:
    def test_there_are_four(self) -> None:
        assert [path.stem for path in DASHBOARDS] == ["delivery", "providers", "service", "work-queue"]

    @pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
    def test_show_metrics_that_exist(self, path: Path) -> None:
        for panel in panels(path):
            for target in panel["targets"]:
                check(target["expr"])

    @pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
    def test_name_their_lines_by_labels_that_are_left(self, path: Path) -> None:
        for panel in panels(path):
            for target in panel["targets"]:
                shown = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
                assert shown <= grouped_by(target["expr"]) | {"instance"}, panel["title"]

    @pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
    def test_panels_have_room(self, path: Path) -> None:
        taken: set[tuple[int, int]] = set()
        for panel in panels(path):
            at = panel["gridPos"]
            cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
            assert not cells & taken, panel["title"]
            assert max(x for x, _ in cells) < 24
            taken |= cells

    @pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
    def test_use_whichever_data_source_is_chosen(self, path: Path) -> None:
        assert {panel["datasource"]["uid"] for panel in panels(path)} == {"${datasource}"}

    def test_every_metric_of_ours_is_shown_somewhere(self) -> None:
        shown = {
            name
            for path in DASHBOARDS
            for panel in panels(path)
            for target in panel["targets"]
            for name, _ in series(target["expr"])
        }
        families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in declared() if name.startswith("sms_")}

        assert families - {re.sub(r"_(bucket|sum|count)$", "", name) for name in shown} == set()
