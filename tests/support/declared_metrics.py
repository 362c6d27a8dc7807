"""The metrics of the service as its source declares them, whether a test made them happen or not."""

import ast
from functools import cache
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src" / "sms_foundation"
_SUFFIXES = {"Counter": ("_total",), "Gauge": ("",), "Histogram": ("_bucket", "_sum", "_count")}


@cache
def declared() -> dict[str, set[str]]:
    """Every series the service exports, with the labels it has (of a histogram, without `le`)."""
    found: dict[str, set[str]] = {}
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                # `CounterMetricFamily` and its like are made at the moment of a scrape.
                kind = node.func.id.removesuffix("MetricFamily")
                if kind in _SUFFIXES and node.args and isinstance(node.args[0], ast.Constant):
                    name = str(node.args[0].value).removesuffix("_total")
                    found |= {name + suffix: _labels(node) for suffix in _SUFFIXES[kind]}
    return found


def _labels(call: ast.Call) -> set[str]:
    given = call.args[2:3] + [each.value for each in call.keywords if each.arg in ("labels", "labelnames")]
    return set(ast.literal_eval(given[0])) if given else set()
