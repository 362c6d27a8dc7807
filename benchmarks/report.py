"""What was measured and whether it is enough: JSON lines while it runs, a Markdown table at the end."""

import json
import statistics
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TextIO, TypeVar

T = TypeVar("T")
Figure = float | int | str | None


@dataclass(frozen=True, slots=True)
class Target:
    """A figure that the service should reach: `value` of `scenario`, at least or at most `limit`."""

    claim: str
    scenario: str
    value: str
    limit: float
    unit: str = ""
    is_floor: bool = False

    def is_met_by(self, measured: float) -> bool:
        return measured >= self.limit if self.is_floor else measured <= self.limit

    @property
    def wanted(self) -> str:
        return f"{'≥' if self.is_floor else '≤'} {self.limit:g} {self.unit}".rstrip()


@dataclass(slots=True)
class Report:
    """Collects figures by scenario and prints each scenario as one JSON line."""

    output: TextIO = field(default_factory=lambda: sys.stdout)
    figures: dict[str, dict[str, Figure]] = field(default_factory=dict)

    def add(self, scenario: str, **values: Figure) -> None:
        """Print and keep the figures of one scenario, rounded to what they are worth."""
        rounded = {name: rounded_figure(value) for name, value in values.items()}
        self.figures.setdefault(scenario, {}).update(rounded)
        self._print({"scenario": scenario, **rounded})

    def judge(self, targets: Iterable[Target]) -> None:
        """Print one line per target whose figure was measured."""
        for target, measured in self._reached(targets):
            self._print(
                {
                    "target": target.claim,
                    "wanted": target.wanted,
                    "measured": measured,
                    "met": target.is_met_by(measured),
                }
            )

    def table(self, targets: Iterable[Target]) -> str:
        """Return the targets whose figure was measured as a Markdown table."""
        rows = [
            f"| {target.claim} | {target.wanted} | {measured:,g} | {_verdict(is_met=target.is_met_by(measured))} |"
            for target, measured in self._reached(targets)
        ]
        return "\n".join(["| figure | target | measured | met |", "|---|---|---|---|", *rows])

    def details(self) -> str:
        """Return every figure that was measured as a Markdown table."""
        rows = [
            f"| {scenario} | {', '.join(f'{name} {value}' for name, value in values.items())} |"
            for scenario, values in self.figures.items()
            if scenario != "meta"
        ]
        return "\n".join(["| scenario | figures |", "|---|---|", *rows])

    def note(self, text: str) -> None:
        """Tell whoever watches what is going on."""
        print(text, file=sys.stderr, flush=True)

    def _reached(self, targets: Iterable[Target]) -> list[tuple[Target, float]]:
        found = ((target, self.figures.get(target.scenario, {}).get(target.value)) for target in targets)
        return [(target, measured) for target, measured in found if isinstance(measured, int | float)]

    def _print(self, line: dict[str, object]) -> None:
        print(json.dumps(line, ensure_ascii=False), file=self.output, flush=True)


def _verdict(*, is_met: bool) -> str:
    return "yes" if is_met else "**no**"


def rounded_figure(value: Figure) -> Figure:
    """Return a float with four significant digits, anything else as it is."""
    return float(f"{value:.4g}") if isinstance(value, float) else value


def median(rounds: Sequence[T], of: Callable[[T], float | None]) -> float | None:
    """Return the median over rounds, None when a round could not tell."""
    values = [value for value in map(of, rounds) if value is not None]
    return statistics.median(values) if len(values) == len(rounds) and values else None
