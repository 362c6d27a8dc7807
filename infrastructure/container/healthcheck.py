"""Is the process in this container alive? Exit status 0 or 1, for HEALTHCHECK; needs only the standard library.

Any answer of `serve` below 500 will do: whether it should get requests is asked of /health/ready. The other commands
listen on nothing, and are alive while they run.
"""

import http.client
import os
import sys
from pathlib import Path

_TIMEOUT_S = 2.0


def main() -> int:
    if b"serve" not in Path("/proc/1/cmdline").read_bytes().split(b"\0"):
        return 0
    connection = http.client.HTTPConnection("127.0.0.1", int(os.environ.get("PORT", "8080")), timeout=_TIMEOUT_S)
    try:
        connection.request("GET", "/health/live")
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        print(f"no answer: {type(error).__name__}")
        return 1
    print(f"status {status}")
    return 0 if status < 500 else 1


if __name__ == "__main__":
    sys.exit(main())
