"""The `sms-foundation` command, run to its end as an operator runs it."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import NamedTuple

NOWHERE = "postgresql://sms:s3cr3t@127.0.0.1:1/sms"


class Result(NamedTuple):
    """What a command line printed, and its exit status."""

    status: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


Command = tuple[dict[str, str], Sequence[str]]
Run = Callable[..., Awaitable[Result]]
RunAll = Callable[..., Awaitable[list[Result]]]


async def run_python(arguments: Sequence[str], environment: dict[str, str], folder: Path, given: bytes = b"") -> Result:
    """Run the interpreter with `arguments`, and `given` on its standard input."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        cwd=folder,
        env=environment,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate(given)
    assert process.returncode is not None
    return Result(process.returncode, out.decode(), err.decode())


def assert_one_line(result: Result, *words: str) -> None:
    """An error as an operator wants it: status 1, one line, on standard error, without secrets."""
    assert result.status == 1, result
    (line,) = result.err.splitlines()
    assert line.startswith("error: ")
    assert all(word in line for word in words), line
    assert "s3cr3t" not in result.err + result.out
