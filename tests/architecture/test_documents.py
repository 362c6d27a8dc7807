"""What the documents show must work as it stands."""

import re
from pathlib import Path

import pytest

from sms_foundation.providers.registry import parse_provider_configs

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
