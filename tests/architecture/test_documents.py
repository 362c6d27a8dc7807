"""What the documents show must work as it stands."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from sms_foundation import cli
from sms_foundation.auth.tokens.issuers import outside_issuers
from sms_foundation.core.config import Settings
from sms_foundation.privacy.decisions import DECISIONS
from sms_foundation.providers.registry import parse_provider_configs
from tests.support.service import make_settings

DOCS = Path(__file__).parents[2] / "docs"
_PROVIDER_LISTS = re.findall(r"```json\n(\[.*?\])\n```", (DOCS / "providers.md").read_text(), re.DOTALL)


class TestProviders:
    @pytest.mark.parametrize("example", _PROVIDER_LISTS)
    def test_every_example_is_a_valid_setting(self, example: str) -> None:
        variables = dict.fromkeys(re.findall(r"\$\{(\w+)\}", example), "a-secret-value")
        # What stands for a key there is no key; all else is meant as it is.
        example = example.replace('"public_key": "..."', '"public_key": "73EpKHowOWdiOAaLVzljWTX0jALrL6S7prlu/DwlSj4="')

        assert parse_provider_configs(example, variables=variables)

    def test_there_are_examples(self) -> None:
        assert len(_PROVIDER_LISTS) == 2


def shown() -> Iterator[tuple[str, bool]]:
    """Yield every `sms-foundation ...` of the documents, and whether it stands in a block, to be copied."""
    for path in [DOCS.parent / "README.md", *sorted(DOCS.rglob("*.md"))]:
        text = path.read_text()
        blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
        for is_block, lines in ((True, "\n".join(blocks).splitlines()), (False, re.findall(r"`([^`\n]*)`", text))):
            for line in lines:
                found = re.match(
                    r"(?:for .* do )?(?:[A-Z_]+=\S+ )*(?:\.venv/bin/)?sms-foundation ([a-z][^#;|]*)", line.strip()
                )
                if found and "..." not in found[1]:
                    yield found[1].strip(), is_block


COMMANDS = sorted({line for line, is_block in shown() if is_block})
NAMED = sorted({line for line, is_block in shown() if not is_block})


def find(words: list[str]) -> tuple[Any, list[str]]:
    """Return the command that `words` begin with the name of, and the words that are left for it."""
    command: Any = typer.main.get_command(cli._app)
    while words and hasattr(command, "get_command") and not words[0].startswith("-"):
        found = command.get_command(None, words[0])
        assert found is not None, f"there is no command {words[0]}"
        command, words = found, words[1:]
    return command, words


# Variables of other programs, and of the commands themselves.
_NOT_OURS = {"RESTORED_URL", "PGDATABASE", "MAX_CONNECTIONS"}
# OpenTelemetry's own, read by its SDK alone.
_OF_OPEN_TELEMETRY = "OTEL_"


class TestIssuers:
    @pytest.mark.parametrize("path", [DOCS / "access.md", DOCS.parent / ".env.example"], ids=lambda path: path.name)
    def test_every_example_is_a_valid_setting(self, path: Path) -> None:
        examples = re.findall(r"OUTSIDE_ISSUERS='?(\[.*?\])", path.read_text(), re.DOTALL)

        assert examples
        for example in examples:
            settings = make_settings(app_env="development", outside_issuers=example)
            assert [issuer.subject_claim for issuer in outside_issuers(settings).values()] == ["email"]


def slug(heading: str) -> str:
    """Return the anchor that GitHub gives a heading."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


PAGES = sorted(DOCS.rglob("*.md"))


class TestPages:
    @pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
    def test_every_link_leads_somewhere(self, page: Path) -> None:
        for link in re.findall(r"\]\((?!https?:)([^)\s]+)\)", page.read_text()):
            name, _, anchor = link.partition("#")
            target = page.parent / name if name else page
            assert target.exists(), link
            if anchor:
                assert anchor in {slug(each) for each in re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)}

    @pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
    def test_no_table_is_torn(self, page: Path) -> None:
        """An empty line ends a table: what follows would be text."""
        text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
        for table in re.findall(r"(?:^ *\|.*\n)+", text, re.MULTILINE):
            rows = table.splitlines()
            assert re.fullmatch(r" *\|(?:-+\|)+", rows[1] if len(rows) > 1 else ""), rows[0]
            cells = {len(re.findall(r"(?<!\\)\|", re.sub(r"`[^`]*`", "", row))) for row in rows}
            assert len(cells) == 1, rows[0]


class TestSettings:
    @pytest.mark.parametrize("name", ["operations.md", "privacy.md"])
    def test_every_one_that_is_named_is_one(self, name: str) -> None:
        text = (DOCS / name).read_text()
        quoted = "\n".join([*re.findall(r"```sh\n(.*?)```", text, re.DOTALL), *re.findall(r"`([^`\n]+)`", text)])
        named = set(re.findall(r"(?<![\w./-])[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+(?![\w/-])", quoted))

        assert named
        ours = {each for each in named if not each.startswith(_OF_OPEN_TELEMETRY)}
        assert {each for each in ours if each.lower() not in Settings.model_fields} <= _NOT_OURS


class TestPrivacy:
    def test_says_of_every_table_what_becomes_of_it(self) -> None:
        rows = [line for line in (DOCS / "privacy.md").read_text().splitlines() if line.startswith("| `")]
        told = {table: row for row in rows for table in re.findall(r"`(\w+)`", row.split("|")[1])}

        for table, decision in DECISIONS.items():
            assert decision in told[table]


class TestCommands:
    @pytest.mark.parametrize("line", COMMANDS)
    def test_every_one_to_be_copied_can_be_typed_as_it_stands(self, line: str) -> None:
        command, words = find(shlex.split(line))

        command.make_context("sms-foundation", words)  # reads every option and argument, and does nothing

    @pytest.mark.parametrize("line", NAMED)
    def test_every_one_that_is_mentioned_is_there(self, line: str) -> None:
        find(shlex.split(line))

    def test_there_are_many(self) -> None:
        assert len(COMMANDS) > 15
        assert len(NAMED) > 10
