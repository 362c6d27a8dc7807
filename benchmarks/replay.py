"""The load generator: compiles `replay.c` when it is first used, runs it, and reads what it noted."""

import json
import math
import os
import shutil
import struct
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.errors import BenchmarkError

SOURCE = Path(__file__).with_name("replay.c")
_PROGRAM = Path(__file__).parent / "bin" / "replay"
_RESULT = struct.Struct("=II")
_PATIENCE_S = 60.0  # on top of the sending time; the program itself gives up 10 s after it


@dataclass(frozen=True, slots=True)
class Replayed:
    """What became of the requests that were sent, in their order. Status 0: no usable answer."""

    seconds: float
    statuses: Sequence[int]
    latencies_ms: Sequence[float]

    @property
    def succeeded(self) -> int:
        """How many were answered with 2xx."""
        return sum(map(is_success, self.statuses))

    @property
    def failed(self) -> int:
        return len(self.statuses) - self.succeeded

    @property
    def per_second(self) -> float:
        """Successful answers per second."""
        return self.succeeded / self.seconds if self.seconds else 0.0

    def status_counts(self) -> dict[str, int]:
        return {str(status): count for status, count in sorted(Counter(self.statuses).items())}


def is_success(status: int) -> bool:
    return 200 <= status < 300


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least `share` (0..1) of `values` do not exceed (nearest rank).

    Raises ValueError when there are none.
    """
    if not values:
        raise ValueError("no values")
    return sorted(values)[max(math.ceil(share * len(values)) - 1, 0)]


def write_requests(path: Path, requests: Iterable[bytes]) -> None:
    """Write raw HTTP requests as `replay` reads them."""
    with path.open("wb") as file:
        file.writelines(struct.pack("=I", len(request)) + request for request in requests)


def replay(requests: Sequence[bytes], *, port: int, connections: int, seconds: float, rate: float = 0.0) -> Replayed:
    """Send `requests` once each, in order, to 127.0.0.1:`port` until all are answered or `seconds` are over.

    With `rate` that many are sent per second, and latencies count from when a request was due; otherwise each
    connection sends the next one as soon as it has its answer. Raises BenchmarkError when nothing listens there.
    """
    program = compiled()
    with tempfile.TemporaryDirectory(prefix="sms-bench-") as folder:
        source, target = Path(folder, "requests"), Path(folder, "results")
        write_requests(source, requests)
        numbers = (str(connections), f"{seconds:.3f}", f"{rate:.3f}")
        done = subprocess.run(
            [str(program), "127.0.0.1", str(port), str(source), str(target), *numbers],
            capture_output=True,
            text=True,
            timeout=seconds + _PATIENCE_S,
            check=False,
        )
        if done.returncode != 0:
            raise BenchmarkError(f"the load generator failed: {done.stderr.strip()}")
        results = list(_RESULT.iter_unpack(target.read_bytes()))
    return Replayed(
        json.loads(done.stdout)["seconds"], [status for status, _ in results], [us / 1000 for _, us in results]
    )


def compiler() -> str | None:
    """Return the C compiler of this machine (CC, or cc), None when there is none."""
    return shutil.which(os.environ.get("CC") or "cc")


def compiled() -> Path:
    """Return the load generator, compiled anew when its source is newer. Raises BenchmarkError without a compiler."""
    if _PROGRAM.exists() and _PROGRAM.stat().st_mtime >= SOURCE.stat().st_mtime:
        return _PROGRAM
    cc = compiler()
    if cc is None:
        raise BenchmarkError("the load generator needs a C compiler: install cc (apt-get install gcc) or set CC")
    _PROGRAM.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=_PROGRAM.parent) as folder:
        unfinished = Path(folder, _PROGRAM.name)
        done = subprocess.run(
            [cc, "-O2", "-o", str(unfinished), str(SOURCE)], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise BenchmarkError(f"{cc} cannot compile {SOURCE.name}: {done.stderr.strip().splitlines()[0]}")
        unfinished.rename(_PROGRAM)  # at once, so that another process never runs half of it
    return _PROGRAM
