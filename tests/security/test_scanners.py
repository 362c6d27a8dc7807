"""bandit and pip-audit: clean, and everything that is left out is explained."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PYPROJECT = (ROOT / "pyproject.toml").read_text()
SKIPPED = tomllib.loads(PYPROJECT)["tool"]["bandit"]["skips"]
# Left to nobody: why, stands beside them.
WITHOUT_RULE_OF_RUFF = {"B404", "B405"}


def bandit(*targets: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bandit", "--quiet", "--configfile", str(ROOT / "pyproject.toml"), "--recursive"]
    return subprocess.run([*command, *targets], capture_output=True, text=True, check=False, cwd=ROOT)


class TestBandit:
    def test_has_nothing_to_say_about_what_is_shipped(self) -> None:
        result = bandit("src", "scripts", "infrastructure")

        assert result.returncode == 0, result.stdout

    @pytest.mark.parametrize(
        "source",
        [
            "import os\nos.system(f'rm {name}')\n",
            "import pickle\npickle.loads(body)\n",
            "import yaml\nyaml.load(text)\n",
            "import subprocess\nsubprocess.run(command, shell=True)\n",
            "import ssl\nssl._create_unverified_context()\n",
            "eval(text)\n",
            "import hashlib\nhashlib.md5(password)\n",
            "is_admin = False  # \u202e checked below \u2066\n",
        ],
        ids=["system", "pickle", "yaml", "shell", "unverified", "eval", "md5", "text turned around"],
    )
    def test_still_finds_what_must_not_be(self, tmp_path: Path, source: str) -> None:
        (tmp_path / "bad.py").write_text(source, encoding="utf-8")

        assert bandit(str(tmp_path)).returncode == 1

    def test_every_exclusion_has_a_reason_beside_it(self) -> None:
        (section,) = re.findall(r"\[tool\.bandit\]\n(.*?)\n\n", PYPROJECT, re.DOTALL)
        explained = {
            name
            for line in section.splitlines()
            if re.search(r"# .{20,}$", line)
            for name in re.findall(r'"(B\d+)"', line.partition("#")[0])
        }

        assert explained == {*SKIPPED}

    def test_every_exclusion_is_looked_at_by_ruff_unless_it_says_why_not(self) -> None:
        lint = tomllib.loads(PYPROJECT)["tool"]["ruff"]["lint"]
        assert "S" in lint["select"]
        # S603 alone is off for all of it, with a reason of its own.
        assert {each for each in lint["ignore"] if each.startswith("S") and each[1].isdigit()} == {"S603"}
        for name in {*SKIPPED} - WITHOUT_RULE_OF_RUFF:
            rule = subprocess.run(
                [sys.executable, "-m", "ruff", "rule", name.replace("B", "S")],
                capture_output=True,
                text=True,
                check=False,
            )
            assert rule.returncode == 0, name
            assert "preview" not in rule.stdout.partition("\n\n")[0], name


def test_the_audit_never_takes_what_it_could_not_ask_for_clean() -> None:
    """Asked where there is no list of weaknesses, pip-audit passes over every package and ends well, unless strict."""
    (command,) = re.findall(r"pip-audit .*", (ROOT / "Makefile").read_text())

    assert "--strict" in command
