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
                found = re.match(r"(?:for .* do )?(?:\.venv/bin/)?sms-foundation ([a-z][^#;|]*)", line.strip())
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


class TestIssuers:
    @pytest.mark.parametrize("path", [DOCS / "access.md", DOCS.parent / ".env.example"], ids=lambda path: path.name)
    def test_every_example_is_a_valid_setting(self, path: Path) -> None:
        examples = re.findall(r"OUTSIDE_ISSUERS='?(\[.*?\])", path.read_text(), re.DOTALL)

        assert examples
        for example in examples:
            settings = make_settings(app_env="development", outside_issuers=example)
            assert [issuer.subject_claim for issuer in outside_issuers(settings).values()] == ["email"]


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
