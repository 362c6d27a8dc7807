"""How a command that runs until it is told to stop ends: with exit status 0, and after every `with` block has ended."""

import signal
from types import FrameType
from typing import NoReturn

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def end_on_signals() -> None:
    """Let SIGTERM and SIGINT raise SystemExit in the main thread; while that cleans up, further ones are ignored.

    uvicorn takes the signals while it serves and raises them again afterwards: with the system's own handlers that
    would kill the process before the embedded database and the simulator are ended.
    """
    for number in _SIGNALS:
        signal.signal(number, _end)


def _end(_number: int, _frame: FrameType | None) -> NoReturn:
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    raise SystemExit(0)
