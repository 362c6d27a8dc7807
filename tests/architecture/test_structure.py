"""What the layout promises, beyond the import layers that import-linter checks."""

import ast
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "sms_foundation"
SOURCES = sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(path: Path) -> Iterator[str]:
    """Top-level names of everything that `path` imports, wherever in the file."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.partition(".")[0]


def importers(*modules: str) -> set[str]:
    return {name_of(path) for path in SOURCES if not set(modules).isdisjoint(imports(path))}


@cache
def tracked_files() -> list[Path]:
    """What a clone holds, and what is about to be committed."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: nobody can say which files belong to it")
    command = ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True).stdout
    return [path for name in listed.split("\0") if name and (path := ROOT / name).is_file()]


class TestPackages:
    @pytest.mark.parametrize("path", [path for path in SOURCES if path.name == "__init__.py"], ids=name_of)
    def test_each_says_in_at_most_eight_lines_what_it_is(self, path: Path) -> None:
        docstring = ast.get_docstring(tree(path))

        assert docstring
        assert len(docstring.splitlines()) <= 8

    def test_each_module_says_what_it_is(self) -> None:
        silent = {name_of(path) for path in SOURCES if not ast.get_docstring(tree(path))}

        assert silent == set()

    def test_none_is_a_drawer_for_odds_and_ends(self) -> None:
        assert not {path.stem for path in SOURCES} & {"utils", "util", "helpers", "common", "misc"}


class TestImports:
    def test_the_environment_is_read_in_one_place(self) -> None:
        readers = {
            name_of(path)
            for path in SOURCES
            for node in ast.walk(tree(path))
            if (isinstance(node, ast.Attribute) and node.attr in {"environ", "environb", "getenv", "putenv"})
            or (isinstance(node, ast.alias) and node.name in {"environ", "getenv"})
        }

        assert readers == {"core/config.py"}

    def test_the_web_framework_stays_at_the_edge(self) -> None:
        allowed = re.compile(
            r"app\.py|core/web/\w+\.py|webhooks/\w+\.py|(\w+/)+router\.py|simulator/app\.py|simulator/rest/(\w+/)*\w+\.py"
        )

        assert {name for name in importers("fastapi", "starlette") if not allowed.fullmatch(name)} == set()

    def test_http_clients_are_opened_where_outside_services_are_called(self) -> None:
        """aiohttp for what is called often, which docs/adr explains; httpx for the simulator's own command line,
        and for the keys of outside issuers, fetched every ten minutes."""
        assert importers("aiohttp") <= {"core/http.py", "simulator/posting.py"}
        assert importers("httpx") <= {"simulator/control_client.py", "auth/tokens/jwks.py"}
        assert importers("requests", "urllib3", "twilio") == set()

    def test_the_database_toolkit_is_for_migrations(self) -> None:
        allowed = re.compile(r"core/schema\.py|(\w+/)+models\.py|migrations/(\w+/)*\w+\.py")

        assert {name for name in importers("sqlalchemy", "alembic") if not allowed.fullmatch(name)} == set()

    def test_none_hides_in_a_function_or_behind_type_checking(self) -> None:
        hidden = {
            f"{name_of(path)}:{node.lineno}"
            for path in SOURCES
            for outer in ast.walk(tree(path))
            if isinstance(outer, ast.FunctionDef | ast.AsyncFunctionDef | ast.If | ast.Try)
            for node in ast.walk(outer)
            if isinstance(node, ast.Import | ast.ImportFrom)
        }

        assert hidden == set()


class TestFiles:
    @pytest.mark.parametrize("path", sorted(ROOT.glob("requirements*.txt")), ids=lambda path: path.name)
    def test_locked_requirements_hold_versions_and_no_addresses(self, path: Path) -> None:
        lines = [line for line in path.read_text().splitlines() if line.strip() and not line.startswith("#")]

        assert len(lines) > 20
        for line in lines:
            assert re.fullmatch(r"[a-z0-9][a-z0-9._-]*(\[[a-z0-9,_-]+\])?==[\w.!+]+( ; .+)?", line), line
            assert "://" not in line

    def test_the_readme_begins_with_the_two_commands(self) -> None:
        text = (ROOT / "README.md").read_text(encoding="utf-8")
        first = re.search(r"```\w*\n(.*?)```", text, re.DOTALL)

        assert first, "the README shows no commands"
        commands = [line.partition("#")[0].strip() for line in first[1].splitlines() if line.startswith("make ")]
        assert commands[:2] == ["make run", "make test"]
        assert text.index("make run") < 1500

    def test_what_ci_runs_is_what_a_developer_runs(self) -> None:
        assert "make check" in (ROOT / ".ci" / "run").read_text()
        assert re.search(r"^check: .*\btest\b", (ROOT / "Makefile").read_text(), re.MULTILINE)

    def test_ci_reports_known_weaknesses_of_the_locked_dependencies(self) -> None:
        makefile = (ROOT / "Makefile").read_text()
        recipe = makefile[makefile.index("\naudit:") :].split("\n\n")[0]

        assert "pip-audit -r requirements.txt" in recipe
        assert "|| \\\n" in recipe, "it reports, and never fails a build"
        assert "make audit" in (ROOT / ".ci" / "run").read_text()
        assert "make audit" in (ROOT / ".github" / "workflows" / "ci.yaml").read_text()

    def test_none_names_a_folder_of_somebodys_machine(self) -> None:
        machine_path = re.compile(rb"(?<![\w.~-])/(?:work|root|Users|home/\w+)/\w")
        naming = {
            path.relative_to(ROOT).as_posix() for path in tracked_files() if machine_path.search(path.read_bytes())
        }

        assert naming == set()

    def test_no_secret_file_is_among_them(self) -> None:
        names = {path.relative_to(ROOT).as_posix() for path in tracked_files()}

        assert ".env" not in names
        assert ".env.example" in names
