"""Is the process in this container alive? Exit status 0 or 1, for HEALTHCHECK; needs only the standard library.

Any answer of `serve`, or of `worker` with a WORKER_PORT, below 500 will do: whether it should get something to do is
asked of /health/ready. The other commands listen on nothing, and are alive while they run.
"""

import http.client
import os
import sys
from collections.abc import Mapping
from pathlib import Path

_TIMEOUT_S = 2.0


def port_of(command: bytes, environment: Mapping[str, str]) -> int | None:
    """Return the port that `command` (words separated by NUL, as in /proc) listens on, None when it has none."""
    words = command.replace(b"\0", b" ").split()
    if b"serve" in words:
        return int(environment.get("PORT", "8080"))
    if b"worker" in words and environment.get("WORKER_PORT"):
        return int(environment["WORKER_PORT"])
    return None


def is_healthy(port: int) -> bool:
    """Ask whoever listens at `port`."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", "/health/live")
        return connection.getresponse().status < 500
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    found = port_of(Path("/proc/1/cmdline").read_bytes(), os.environ)
    sys.exit(0 if found is None or is_healthy(found) else 1)
