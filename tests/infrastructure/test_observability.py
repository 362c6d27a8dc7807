"""Alert rules and dashboards speak of metrics that exist, and every alert says what to do."""

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import promql_parser
import pytest

from tests.infrastructure.files import OBSERVABILITY, ROOT, read_yaml, run
from tests.support.declared_metrics import declared

RULES: list[dict[str, Any]] = [
    rule for group in read_yaml(OBSERVABILITY / "alerts.yaml")["groups"] for rule in group["rules"]
]
DASHBOARDS = sorted((OBSERVABILITY / "dashboards").glob("*.json"))
# What Prometheus itself adds, and what its client exports for every Python process.
# Grafana's names of units. Source: @grafana/data, valueFormats/categories.ts
UNITS = {"short", "s", "ms", "bytes", "percentunit", "reqps", "none"}
_ADDED_LABELS = {"job", "instance", "le", "namespace"}
_FOREIGN = {
    "up": set(),
    "process_cpu_seconds_total": set(),
    "process_resident_memory_bytes": set(),
    "process_open_fds": set(),
}


@cache
def exported() -> dict[str, set[str]]:
    """Every series there is, and its labels."""
    return _FOREIGN | declared()


@cache
def parse(expression: str) -> promql_parser.Expr:
    """Read PromQL as Prometheus does. Raises ValueError for what is none, also where types do not fit."""
    return promql_parser.parse(expression.replace("$__rate_interval", "5m"))


def series(expression: str) -> list[tuple[str, set[str]]]:
    """Series that a PromQL expression asks for, each with the labels it selects by."""
    return [(node.name, {each.name for each in node.matchers.matchers}) for node in selectors(expression)]


def selectors(expression: str) -> list[promql_parser.VectorSelector]:
    found: list[promql_parser.VectorSelector] = []
    promql_parser.walk(
        parse(expression),
        lambda node: found.append(node) if isinstance(node, promql_parser.VectorSelector) else None,
    )
    return found


def grouped_by(expression: str) -> set[str]:
    """Labels that its aggregations keep."""
    found: set[str] = set()

    def note(node: promql_parser.Expr) -> None:
        if isinstance(node, promql_parser.AggregateExpr) and node.modifier is not None:
            found.update(node.modifier.labels)

    promql_parser.walk(parse(expression), note)
    return found


def check(expression: str) -> None:
    """Fail unless every metric and label of the expression exists."""
    found = series(expression)
    assert found, expression
    known = set().union(*(exported().get(name, set()) for name, _ in found)) | _ADDED_LABELS
    for name, labels in found:
        assert name in exported(), f"{name} is exported by nobody"
        assert labels <= exported()[name] | _ADDED_LABELS, f"{name} has no label {labels - exported()[name]}"
    assert grouped_by(expression) <= known


class TestSeries:
    def test_knows_what_the_service_exports(self) -> None:
        assert exported()["sms_webhooks_total"] == {"provider", "kind", "outcome"}
        assert exported()["sms_store_seconds_bucket"] == {"kind"}
        assert exported()["sms_pool_in_use"] == {"pool"}
        assert exported()["sms_failed_total"] == {"provider", "reason"}
        assert "sms_tenant_lookups_total" in exported()

    @pytest.mark.parametrize("wrong", ["sms_no_such_total", 'sms_webhooks_total{colour="red"}', "sum by (colour) (up)"])
    def test_notices_what_does_not_exist(self, wrong: str) -> None:
        with pytest.raises(AssertionError):
            check(wrong)

    @pytest.mark.parametrize("wrong", ["sum by (", "rate(up)", "up{job=~}", "histogram_quantile(up)", "up[5m] > 1"])
    def test_notices_what_is_no_expression(self, wrong: str) -> None:
        with pytest.raises(ValueError, match=r"\w"):
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
            "SmsPoolSaturated",
            "SmsQueueFull",
            "SmsServiceDown",
            "SmsWorkersDown",
            "SmsBacklogUnknown",
        } <= {rule["alert"] for rule in RULES}

    @pytest.mark.parametrize("fires", [True, False])
    def test_each_is_tested_to_fire_and_not_to_fire(self, fires: bool) -> None:
        tests = read_yaml(OBSERVABILITY / "alerts.test.yaml")["tests"]
        cases = [case for test in tests for case in test["alert_rule_test"]]

        tested = {case["alertname"] for case in cases if bool(case["exp_alerts"]) is fires}

        assert tested == {rule["alert"] for rule in RULES}

    @pytest.mark.parametrize("fires", [True, False])
    def test_each_is_tested_with_series_that_a_deployment_has_ended(self, fires: bool) -> None:
        """New processes begin with series of their own, or with none: no rule may be blind to that, or stuck."""
        tested = set()
        for test in read_yaml(OBSERVABILITY / "alerts.test.yaml")["tests"]:
            ended = {
                name
                for each in test["input_series"]
                if str(each["values"]).endswith("stale")
                for name, _ in series(each["series"])
            }
            cases = [each for each in test["alert_rule_test"] if bool(each["exp_alerts"]) is fires]
            tested |= {
                rule["alert"]
                for rule in RULES
                if rule["alert"] in {case["alertname"] for case in cases}
                and {name for name, _ in series(rule["expr"])} & ended
            }

        assert tested == {rule["alert"] for rule in RULES}

    def test_tests_feed_series_that_exist(self) -> None:
        for test in read_yaml(OBSERVABILITY / "alerts.test.yaml")["tests"]:
            for each in test["input_series"]:
                check(each["series"])

    def test_the_runbook_has_a_section_for_each_and_no_other(self) -> None:
        headings = re.findall(r"^## (.+)$", (ROOT / "docs" / "runbook.md").read_text(), re.MULTILINE)
        anchors = {rule["annotations"]["runbook"].partition("#")[2] for rule in RULES}

        assert {heading.lower() for heading in headings} == anchors

    def test_promtool_finds_that_they_fire_when_they_should(self) -> None:
        run("promtool", "check", "rules", "alerts.yaml", cwd=OBSERVABILITY)
        run("promtool", "test", "rules", "alerts.test.yaml", cwd=OBSERVABILITY)

    def test_promtool_can_read_the_configuration(self) -> None:
        run("promtool", "check", "config", "--syntax-only", "prometheus.yaml", cwd=OBSERVABILITY)


def dashboard(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def panels(path: Path) -> list[dict[str, Any]]:
    """Those that show something, without the rows that they stand in."""
    return [panel for panel in dashboard(path)["panels"] if panel["type"] != "row"]


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
        for panel in dashboard(path)["panels"]:
            at = panel["gridPos"]
            cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
            assert not cells & taken, panel["title"]
            assert max(x for x, _ in cells) < 24
            taken |= cells

    @pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
    def test_use_whichever_data_source_is_chosen(self, path: Path) -> None:
        assert {panel["datasource"]["uid"] for panel in panels(path)} == {"${datasource}"}

    @pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
    def test_are_what_grafana_reads(self, path: Path) -> None:
        board = dashboard(path)
        ids = [panel["id"] for panel in board["panels"]]

        assert board["schemaVersion"] == 39
        assert board["uid"] == f"sms-{path.stem}"
        assert len(set(ids)) == len(ids)
        assert [each["name"] for each in board["templating"]["list"]] == ["datasource", "job"]
        assert board["templating"]["list"][0]["type"] == "datasource"
        for panel in panels(path):
            assert panel["type"] in ("timeseries", "stat"), panel["title"]
            assert panel["fieldConfig"]["defaults"]["unit"] in UNITS, panel["title"]
            assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"]) > 0

    @pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
    def test_show_the_chosen_job_alone(self, path: Path) -> None:
        for panel in panels(path):
            for target in panel["targets"]:
                for selector in selectors(target["expr"]):
                    assert "$job" in {each.value for each in selector.matchers.matchers}, panel["title"]

    def test_have_names_of_their_own(self) -> None:
        assert len({dashboard(path)["title"] for path in DASHBOARDS}) == len(DASHBOARDS)

    def test_every_metric_of_ours_is_shown_somewhere(self) -> None:
        shown = {
            family(name)
            for path in DASHBOARDS
            for panel in panels(path)
            for target in panel["targets"]
            for name, _ in series(target["expr"])
        }

        assert {family(name) for name in declared()} - shown == set()


def family(name: str) -> str:
    return re.sub(r"_(bucket|sum|count)$", "", name)
