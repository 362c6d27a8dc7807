"""The files of a deployment as data, and the programs that check them where they are installed."""

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import hcl2
import pytest
import yaml

ROOT = Path(__file__).parents[2]
INFRASTRUCTURE = ROOT / "infrastructure"
TERRAFORM = INFRASTRUCTURE / "terraform"
KUBERNETES = INFRASTRUCTURE / "kubernetes"
OBSERVABILITY = INFRASTRUCTURE / "observability"
WORKFLOWS = ROOT / ".github" / "workflows"
ENVIRONMENTS = ("dev", "staging", "production")


def read_yaml(path: Path) -> Any:
    """The only document of a file."""
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def read_all_yaml(text: str) -> list[Any]:
    """All documents of a text."""
    return [each for each in yaml.safe_load_all(text) if each is not None]


def run(program: str, *arguments: str, cwd: Path = ROOT) -> str:
    """Run a checking program and return what it printed; the test is skipped where it is not installed.

    With INFRASTRUCTURE_TOOLS=all, as in the pipeline, one that is missing is a failure.
    """
    beside_python = str(Path(sys.executable).parent)
    found = shutil.which(program, path=os.pathsep.join([beside_python, os.environ.get("PATH", "")]))
    if found is None:
        assert os.environ.get("INFRASTRUCTURE_TOOLS") != "all", f"{program} must be installed here"
        pytest.skip(f"{program} is not installed")
    done = subprocess.run([found, *arguments], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@cache
def terraform(*folder: str) -> dict[str, Any]:
    """Blocks of a Terraform module: `{"resource": {"type.name": {...}}, "variable": {"name": {...}}, ...}`."""
    blocks: dict[str, Any] = {}
    for path in sorted(TERRAFORM.joinpath(*folder).glob("*.tf")):
        with path.open(encoding="utf-8") as file:
            parsed = _unquote(hcl2.load(file))
        for kind, found in parsed.items():
            for block in found if isinstance(found, list) else []:
                _add(blocks.setdefault(kind, {}), kind, block)
    return blocks


def terraform_values(path: Path) -> dict[str, Any]:
    """Values of a .tfvars or .hcl file."""
    with path.open(encoding="utf-8") as file:
        values: dict[str, Any] = _unquote(hcl2.load(file))
    return {name: value for name, value in values.items() if not name.startswith("__")}


def _add(blocks: dict[str, Any], kind: str, block: dict[str, Any]) -> None:
    for name, body in block.items():
        if kind in ("resource", "data") and isinstance(body, dict):
            blocks.update({f"{name}.{each}": inner for each, inner in body.items() if not each.startswith("__")})
        elif not name.startswith("__"):
            blocks[name] = body


def _unquote(value: Any) -> Any:
    if isinstance(value, dict):
        return {_unquote(name): _unquote(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_unquote(each) for each in value]
    if isinstance(value, str) and len(value) > 1 and value[0] == value[-1] == '"':
        return value[1:-1]
    return value
