"""docs/security.md: every threat has what stops it and a test, and every test that is named exists."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "security.md").read_text()
ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in TEXT.splitlines()
    if line.startswith("| ") and not line.startswith("| threat ")
]
# Words of the threats that must have a line.
NEEDED = [
    "forged webhook",
    "replayed",
    "stolen key",
    "`alg` confusion",
    "SSRF through media and callback URLs",
    "SMS pumping",
    "Enumeration",
    "Sender names, ids and status words in logs",
    "Sender names in CSV",
    "huge conversation",
]


def names_in(path: str) -> set[str]:
    """The tests of a file, as `name` or `Class::name`."""
    found = set()
    for node in ast.parse((ROOT / path).read_text()).body:
        inner = node.body if isinstance(node, ast.ClassDef) else [node]
        prefix = f"{node.name}::" if isinstance(node, ast.ClassDef) else ""
        found |= {
            prefix + each.name
            for each in inner
            if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef) and each.name.startswith("test_")
        }
    return found


@pytest.mark.parametrize("row", ROWS, ids=[row[0][:60] for row in ROWS])
def test_a_threat_has_what_stops_it_and_tests_that_exist(row: list[str]) -> None:
    threat, stops, shown_by = row
    named = re.findall(r"`(tests/[\w/.]+\.py)::([\w:]+)`", shown_by)

    assert threat
    assert len(stops) > 20
    assert named
    assert len(named) == shown_by.count("`") // 2, "each is written as path::name"
    for path, name in named:
        assert name in names_in(path), f"{path}::{name}"


@pytest.mark.parametrize("words", NEEDED)
def test_what_everybody_asks_about_has_a_line(words: str) -> None:
    assert [row for row in ROWS if words in row[0]]


def test_no_test_is_named_outside_of_the_table() -> None:
    assert len(re.findall(r"tests/[\w/.]+\.py", TEXT)) == sum(row[2].count("tests/") for row in ROWS)
