"""Is the process in this container alive? Exit status 0 or 1, for HEALTHCHECK; needs only the standard library.

Any answer of `serve` below 500 will do: whether it should get requests is asked of /health/ready. The other commands
listen on nothing, and are alive while they run.
"""

import http.client
import os
import sys
from pathlib import Path

_TIMEOUT_S = 2.0


def is_healthy(command: bytes, port: int) -> bool:
    """Ask the service at `port`, if `command` (words separated by NUL, as in /proc) is one that has one."""
    if b"serve" not in command.replace(b"\0", b" ").split():
        return True
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", "/health/live")
        return connection.getresponse().status < 500
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    first = Path("/proc/1/cmdline").read_bytes()
    sys.exit(0 if is_healthy(first, int(os.environ.get("PORT", "8080"))) else 1)
