"""Processes that the benchmarks start, and what /proc says about the time and memory they take."""

import contextlib
import http.client
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.errors import BenchmarkError

_ROOT = Path(__file__).parent.parent
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR")  # nothing else: what a developer has exported must not count
_STOP_TIMEOUT_S = 20.0


@dataclass(frozen=True, slots=True)
class Server:
    """A child process that answers HTTP on 127.0.0.1:`port`. `ready_s`: from its start to its first good answer."""

    pid: int
    port: int
    ready_s: float


@contextlib.contextmanager
def serving(
    arguments: Sequence[str],
    *,
    port: int | None,
    ready_path: str | None,
    folder: Path,
    environment: Mapping[str, str] | None = None,
    timeout_s: float = 60.0,
) -> Iterator[Server]:
    """Run `python ARGUMENTS` in `folder` until the block ends; yields once `ready_path` is answered (below 500).

    With None, for what speaks no HTTP, it yields once the port takes connections; without a port, at once.
    Its output goes to a file in `folder`. Raises BenchmarkError, with the end of that output, when it does not come up.
    """
    log = folder / f"port-{port or 'none'}.log"
    kept = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    with log.open("ab") as output:
        started = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=folder,  # a .env of the project must not count either
            # This tree is measured, whichever one the environment was made for.
            env={**kept, "PYTHONPATH": os.pathsep.join(map(str, (_ROOT, _ROOT / "src"))), **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches us alone; we end the children in order
        )
    try:
        while port is not None and not _is_answering(port, ready_path):
            if process.poll() is not None or time.monotonic() - started > timeout_s:
                raise BenchmarkError(f"{' '.join(arguments)} did not come up: {_tail(log)}")
            time.sleep(0.005)
        yield Server(process.pid, port or 0, time.monotonic() - started)
    finally:
        process.terminate()
        try:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_STOP_TIMEOUT_S)
        finally:  # also when Ctrl-C is pressed once more
            process.kill()
            process.wait()


def free_port() -> int:
    """Return a TCP port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def cpu_seconds(pid: int | None) -> float | None:
    """Return the CPU time of a process and all its descendants, ended ones included; None for None.

    Unlike a rate it does not suffer from what else this machine is doing.
    """
    if pid is None:
        return None
    total, tree = 0, _process_times()
    unseen = [pid]
    while unseen:
        current = unseen.pop()
        if current in tree:
            total += tree[current][1]
            unseen += [child for child, (parent, _) in tree.items() if parent == current]
    return total / _TICKS_PER_S


def resident_mib(pid: int) -> float:
    """Return the resident memory of one process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise BenchmarkError(f"process {pid} has no memory: it has ended")


def parent_pid(pid: int) -> int | None:
    """Return the parent of a process, None when there is no such process here."""
    return _process_times().get(pid, (None, 0))[0]


def command_line(pid: int) -> str:
    """Return how a process calls itself, "" when there is no such process here."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
    except OSError:
        return ""


def _process_times() -> dict[int, tuple[int, int]]:
    """Return {pid: (parent, ticks of its own and of its ended children)}."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):  # it may end while we look
                # Behind the name, which may hold anything. Fields: proc(5).
                fields = (entry / "stat").read_text().rpartition(") ")[2].split()
                found[int(entry.name)] = int(fields[1]), sum(map(int, fields[11:15]))
    return found


def _is_answering(port: int, path: str | None) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        if path is None:
            connection.connect()
            return True
        connection.request("GET", path)
        return connection.getresponse().status < 500
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _tail(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1][:500] if lines else "it said nothing"
