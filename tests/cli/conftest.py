"""Commands run in a folder of their own, alone or several in one process."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.command_line import Command, Result, Run, RunAll, run_python


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "SMS_DATA_DIR": str(tmp_path / "data"), "COLUMNS": "120"}


@pytest.fixture
def run(environment: dict[str, str], tmp_path: Path) -> Run:
    """Run one command line."""

    async def run(*arguments: str, **variables: str) -> Result:
        return await run_python(["-m", "sms_foundation", *arguments], environment | variables, tmp_path)

    return run


@pytest.fixture
def run_all(environment: dict[str, str], tmp_path: Path) -> RunAll:
    """Run several command lines in one process, each a list of arguments, or a pair of variables and arguments."""

    async def run_all(*commands: Sequence[str] | Command, **variables: str) -> list[Result]:
        child = str(Path(__file__).with_name("several_commands.py"))
        pairs = [command if isinstance(command, tuple) else ({}, command) for command in commands]
        result = await run_python([child], environment | variables, tmp_path, json.dumps(pairs).encode())
        assert result.status == 0, result.err
        return [Result(*each) for each in json.loads(result.out)]

    return run_all
