"""The language detector by itself: time and memory to get ready, texts per second. More in `benchmarks.language`."""

import json
import subprocess
import sys
from collections.abc import Collection

from benchmarks.lab import Lab


def names() -> list[str]:
    return ["language"]


def measure(lab: Lab, wanted: Collection[str]) -> None:
    """Measure in processes of their own: one started from here would begin with our memory as its highest."""
    if "language" in wanted:
        done = subprocess.run([sys.executable, "-m", "benchmarks.language"], check=True, capture_output=True)
        lines = {line["figure"]: line for line in map(json.loads, done.stdout.splitlines())}
        ready = lines["ready"]
        lab.report.add(
            "language",
            ready_s=ready["ready_s"],
            memory_added_mib=ready["memory_added_mib"],
            per_s=lines["speed"]["texts_per_s"],
        )
